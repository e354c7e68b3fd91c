"""`llmbench keys`: making, listing and revoking the keys of a bridge."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from llmbench.bridge.keys import KeyRing
from tests.cli.conftest import Program, Result

KEY = re.compile(r"llmb_([0-9a-f]{8})_[A-Za-z0-9_-]{43}\n")


def keys_file(program: Program) -> Path:
    return program.home / "data" / "llmbench" / "keys.json"


def new(program: Program, *arguments: str) -> tuple[str, str]:
    """Make a key; return its id and the key."""
    found = KEY.fullmatch(program.ok("keys", "new", *arguments).out)
    assert found is not None
    return found[1], found[0].strip()


def test_a_key_is_shown_once(program: Program) -> None:
    """Alone on standard output, for a script; what to do with it is on standard error, without it."""
    result = program.ok("keys", "new", "eu-1")
    found = KEY.fullmatch(result.out)
    assert found is not None
    assert found[0].strip() not in result.err
    assert "INGEST_API_KEY and RUNNER_CONFIG_TOKEN" in result.err
    assert f"llmbench keys revoke {found[1]}" in result.err
    assert found[0].strip() not in keys_file(program).read_text() + program.ok("keys", "list").out
    assert stat.S_IMODE(keys_file(program).stat().st_mode) == 0o600


def test_keys_are_listed_made_and_revoked(program: Program, narrow: Callable[[Result], None]) -> None:
    """Revoked ones stay in the list; JSON has everything but the digest."""
    first, _ = new(program, "eu-1")
    second, key = new(program, "us-1", "--scope", "read")
    ring = KeyRing(keys_file(program), {})
    assert ring.find(key.encode()) is not None

    assert program.ok("keys", "revoke", second).out == f"key {second} of us-1 is revoked\n"
    assert ring.find(key.encode()) is None
    listed = program.ok("keys", "list")
    narrow(listed)
    cells = [re.split(r"  +", line.strip()) for line in listed.lines()[2:]]
    assert [(row[0], row[1], row[2], row[4].split()[0]) for row in cells] == [
        (first, "eu-1", "ingest,worklist", "valid"),
        (second, "us-1", "read", "revoked"),
    ]
    documents = [json.loads(line) for line in program.ok("keys", "list", "--json").lines()]
    assert [(one["id"], one["scopes"], one["revoked_at"] is None) for one in documents] == [
        (first, ["ingest", "worklist"], True),
        (second, ["read"], False),
    ]
    assert "digest" not in documents[0]


def test_no_key_is_no_error(program: Program) -> None:
    """The list is empty, and says how to make one."""
    result = program.ok("keys", "list", "--json")
    assert (result.out, result.err) == ("", "no key was made yet: llmbench keys new RUNNER makes one\n")


def test_the_file_is_where_the_configuration_says(program: Program) -> None:
    """From the folder of config.toml on."""
    program.configure('[server]\nkeys_file = "secret/ring.json"\n')
    new(program, "eu-1")
    assert (program.home / "secret" / "ring.json").exists()
    assert not keys_file(program).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["new"], "RUNNER"),
        (["new", "a b"], "no id of a runner"),
        (["new", ""], "no id of a runner"),
        (["new", "../x"], "no id of a runner"),
        (["new", "a", "--scope", "ingest,all"], "'all' is nothing that a key allows: use some of ingest,worklist,read"),
        (["new", "a", "--scope", ","], "an empty list"),
        (["revoke", "12345678"], "no key has the id '12345678'"),
        (["revoke", "llmb_12345678_secretsecret"], "give those alone"),
        (["lst"], "did you mean 'list'"),
    ],
)
def test_wrong_words_are_told(program: Program, arguments: list[str], sentence: str) -> None:
    """In a sentence, without a word of what may be a key."""
    told = program.refused("keys", *arguments)
    assert sentence in told
    assert "secretsecret" not in told


def test_a_third_key_is_refused(program: Program) -> None:
    """Two are enough to replace one by the other."""
    new(program, "eu-1")
    new(program, "eu-1")
    assert "has 2 valid keys already" in program.refused("keys", "new", "eu-1")


def test_a_file_that_can_not_be_used_is_told(program: Program) -> None:
    """Whatever the action, with what to do, and it is left as it is."""
    new(program, "eu-1")
    keys_file(program).write_text("{}")
    for arguments in (["list"], ["new", "b"], ["revoke", "12345678"]):
        assert "is damaged" in program.refused("keys", *arguments)
    keys_file(program).chmod(0o604)
    assert "chmod 600" in program.refused("keys", "list")
