"""`llmbench ingest`, as a user meets it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import httpx
import pytest

from llmbench.ingestion import wire_form
from tests.cli.conftest import Program
from tests.stores.documents import envelope, sample

LISTEN = ("ingest", "--listen", "127.0.0.1:0")


def test_without_a_key_it_does_not_start(program: Program) -> None:
    """A bridge that could let nobody in says how to make a key."""
    assert "llmbench keys new RUNNER" in program.refused(*LISTEN)


def test_revoked_keys_are_none(program: Program) -> None:
    """Keys that were revoked let nobody in either."""
    key = program.ok("keys", "new", "runner-1").out
    program.ok("keys", "revoke", key.split("_")[1])
    assert "no key is let in" in program.refused(*LISTEN)


def test_bridge_into_a_bridge(program: Program) -> None:
    """A bridge does not put what it takes into another bridge."""
    variables = {"INGEST_API_URL": "http://127.0.0.1:9", "INGEST_API_KEY": "shared-key-0123456789"}
    assert "another bridge" in program.refused(*LISTEN, env=variables)


@pytest.mark.parametrize("place", ["8787", "127.0.0.1:99999", "localhost", "a b:1", ":8787"])
def test_place_that_is_none(program: Program, place: str) -> None:
    """What is no address and port is refused as such."""
    assert "127.0.0.1:8787" in program.refused("ingest", "--listen", place)


def test_damaged_keys(program: Program) -> None:
    """A file of keys that can't be read is told of before anything starts."""
    program.ok("keys", "new", "runner-1")
    path: Path = program.home / "data" / "llmbench" / "keys.json"
    path.write_text("{", encoding="utf-8")
    assert "keys.json" in program.refused(*LISTEN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_takes_runs_until_it_is_stopped(program: Program, number: signal.Signals) -> None:
    """It says where it listens, stores what runners send, and ends with code 0 when it is told to."""
    key = program.ok("keys", "new", "runner-1").out.strip()
    run = sample()
    with program.started(*LISTEN) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())["message"]
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found is not None
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        answer = httpx.post(f"{found[0]}/ingest", content=wire_form(envelope(run)), headers=headers, trust_env=False)
        assert answer.json() == {"id": run.id, "status": "stored"}
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
        assert number.name in rest
        assert key not in first + rest
    assert json.loads(program.ok("results", "--since", "9999d", "--json").out)["_id"] == run.id


def test_port_that_is_taken(program: Program) -> None:
    """A port that another program has ends the command with code 3 and a sentence."""
    program.ok("keys", "new", "runner-1")
    with program.started(*LISTEN) as process:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        said = program.run("ingest", "--listen", found[0])
    assert (said.code, "another program has this port" in said.err) == (3, True)


def test_plain_http_for_others_is_warned_of(program: Program) -> None:
    """Where other machines can reach it, it warns that keys come in the clear."""
    program.ok("keys", "new", "runner-1")
    with program.started("ingest", "--listen", "0.0.0.0:0") as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
    assert (line["level"], "TLS" in line["message"]) == ("warning", True)
