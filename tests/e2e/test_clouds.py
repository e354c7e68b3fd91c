"""Bedrock and Vertex in the real program: credentials found or missing, and SDKs that nobody has to wait for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmbench.messages import Sample
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.credentials import environment
from tests.e2e.program import KEY, SECONDS, Place, ended

ALONE = {"GROQ_API_KEY": KEY, "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
"""Nothing but groq's key, on a machine that is no cloud's."""

_DRIVER = """
import atexit, json, sys, time
packages, imported = set(sys.argv.pop(1).split(",")), {}
def note(event, args):
    if event == "import" and args[0].partition(".")[0] in packages:
        imported[args[0]] = time.perf_counter_ns()
sys.addaudithook(note)
target = sys.argv.pop(1)
atexit.register(lambda: open(target, "w").write(json.dumps(imported)))
from llmbench.__main__ import main
sys.exit(main())
"""
"""The program, with a note of when it first asked for each module of some packages."""

SDKS = ("openai", "anthropic", "aioboto3", "aiobotocore", "boto3", "botocore", "google")


def streaming_and_clouds(place: Place) -> None:
    """Configure streams that go on while the clouds' lanes do all that they do."""
    place.configure(
        groq=[f"m{number}-sim-ttft20-gap20-tok100" for number in range(2)],
        bedrock=["us.amazon.nova-sim-ttft30-gap5", "us.anthropic.claude-sim-ttft30-gap5"],
        vertex=["gemini-sim-ttft30-gap5", "claude-sim-ttft30-gap5", "meta/llama-sim-ttft30-gap5-maas"],
    )
    config = place.folder / "config.toml"
    config.write_text(config.read_text().replace("max_tokens = 16", "max_tokens = 100"))


def run_noting_imports(place: Place, env: Mapping[str, str]) -> dict[str, int]:
    """Run what is due; return when each module of the SDKs was imported, on the clock of all stamps."""
    target = place.folder / "imports.json"
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, ",".join(SDKS), str(target), "--headless", "--once"],
        cwd=place.folder,
        env=place.environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    imported: dict[str, int] = json.loads(target.read_text())
    return imported


def test_sdks_are_imported_before_anything_is_measured(
    place: Place, simulator: SpawnedSimulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No module of any SDK is imported once the first request is out; what streams all the while is not flagged."""
    since = simulator.counts().requests
    clouds = environment(tmp_path_factory.mktemp("clouds"), simulator.url)
    streaming_and_clouds(place)
    imported = run_noting_imports(place, {"GROQ_API_KEY": KEY, **clouds})
    measured = [record for record in simulator.requests(since=since) if record.model is not None]
    first = min(record.arrival_ns for record in measured)

    assert {name.partition(".")[0] for name in imported} == set(SDKS)
    assert {name for name, at in imported.items() if at > first} == set()
    rows = place.samples()
    assert len(rows) == len(measured) == 7
    streams = [row for row in rows if row.provider == "groq"]
    assert [row.resolution for row in streams] == ["fine", "fine"]
    assert all(beside(row, streams) for row in rows)


def beside(row: Sample, streams: list[Sample]) -> bool:
    """Say whether the row's run began while one of the streams went on."""
    return any(stream.run_ts <= row.run_ts <= stream.gen_ts for stream in streams)


def test_lanes_without_credentials_are_down_and_the_others_are_measured(place: Place) -> None:
    """Each says which variables to set; the other lane's run is stored; the exit code is 1."""
    place.configure(groq=["sim-ttft5-gap1"], bedrock=["us.amazon.nova-sim"], vertex=["gemini-sim"])
    done = place.run("--headless", "--once", env=ALONE | {"AWS_REGION": "us-east-1"})
    problems = " / ".join(line["message"] for line in done.lines() if line["level"] == "error")

    assert done.code == 1
    assert [outcome.provider for outcome in place.outcomes()] == ["groq"]
    assert "bedrock is down: " in problems
    assert "AWS_ACCESS_KEY_ID" in problems
    assert "vertex is down: " in problems
    assert "GOOGLE_APPLICATION_CREDENTIALS" in problems


def test_a_profile_that_is_nowhere_closes_one_lane(place: Place) -> None:
    """AWS_PROFILE breaks the SDK before it looks at anything else; the sentence names the variable to remove."""
    place.configure(groq=["sim-ttft5-gap1"], bedrock=["us.amazon.nova-sim"])
    env = ALONE | {"AWS_REGION": "us-east-1", "AWS_PROFILE": "gone"}
    done = place.run("--headless", "--once", env=env)
    (problem, *_) = [line["message"] for line in done.lines() if line["level"] == "error"]

    assert done.code == 1
    assert [outcome.provider for outcome in place.outcomes()] == ["groq"]
    assert problem.startswith("bedrock is down: AWS_PROFILE names the profile 'gone'")
    assert "unset AWS_PROFILE" in problem


def test_config_check_finds_what_is_missing(place: Place, tmp_path: Path, simulator: SpawnedSimulator) -> None:
    """Before anything is measured: one sentence for each cloud, exit code 2; with credentials all is well."""
    place.configure(bedrock=["us.amazon.nova-sim"], vertex=["gemini-sim"])
    with (
        place.started("config", "check", env=ALONE | {"AWS_REGION": "us-east-1"}) as without,
        place.started("config", "check", env=environment(tmp_path, simulator.url)) as with_all,
    ):
        bad, good = ended(without), ended(with_all)

    assert bad.code == 2
    assert "providers.bedrock: " in bad.err
    assert "AWS_ACCESS_KEY_ID" in bad.err
    assert "providers.vertex: " in bad.err
    assert "GOOGLE_APPLICATION_CREDENTIALS" in bad.err
    assert "Traceback" not in bad.err
    assert (good.code, good.err) == (0, "")
