"""Keys: only who has one gets in, what is revoked is out at once, and a file that can't be trusted lets nobody in."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.bridge import keys
from llmbench.bridge.keys import SCOPES, Grant, KeyRefused, KeyRing, KeysUnusable, Scope, shared_keys
from llmbench.secrets import Secret, SecretError, Secrets
from tests.stores.documents import NOON, moment

BOTH: tuple[Scope, ...] = ("ingest", "worklist")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys.json"


def made(path: Path, runner: str = "eu-1", scopes: tuple[Scope, ...] = BOTH) -> bytes:
    return keys.new(path, runner, scopes, NOON)[1].reveal().encode()


def test_a_key_lets_its_runner_in(path: Path) -> None:
    """With what it was made for, and for nobody else."""
    ring = KeyRing(path, {})
    key = made(path)
    other = made(path, "us-1", ("read",))

    assert ring.find(key) == Grant(key[5:13].decode(), "eu-1", frozenset(BOTH))
    assert ring.find(other) == Grant(other[5:13].decode(), "us-1", frozenset({"read"}))
    assert ring.problem is None


def test_x1_no_wrong_key_gets_in(path: Path) -> None:
    """None, a part of one, one with another secret, one of another instance's file, its digest."""
    key, ring = made(path), KeyRing(path, {"ingest": Secret("the shared one")})
    elsewhere = made(path.with_name("others.json"))
    wrong = [b"", key[:-1], key + b"=", key + b"\n", key[:14] + elsewhere[14:], elsewhere, key.upper(), b" " + key]

    assert [ring.find(one) for one in (*wrong, hashlib.sha256(key).hexdigest().encode())] == [None] * (len(wrong) + 1)
    assert ring.find(key) is not None


@settings(max_examples=200, deadline=None)
@given(presented=st.binary() | st.from_regex(rb"llmb_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_x2_any_bytes_are_refused_without_an_error(presented: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is no ASCII, too, and whether or not it has the form of a key."""
    assert _ring(tmp_path_factory).find(presented) is None


_RINGS: list[KeyRing] = []


def _ring(factory: pytest.TempPathFactory) -> KeyRing:
    if not _RINGS:
        path = factory.mktemp("keys") / "keys.json"
        made(path)
        _RINGS.append(KeyRing(path, {"ingest": Secret("a shared key, žluťoučký"), "worklist": Secret("\udcff")}))
    return _RINGS[0]


def test_x1_an_unknown_id_takes_the_same_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many digests are compared, whatever is presented, so that time does not tell which ids there are."""
    key, ring = made(path), KeyRing(path, {"ingest": Secret("a"), "worklist": Secret("b")})
    compared: list[int] = []
    really = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(len(one) + len(other))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for presented in (key, key[:-4] + b"AAAA", b"llmb_00000000_" + key[14:], b"", b"a"):
        ring.find(presented)
        assert compared == [64, 64, 64]
        compared.clear()


def test_a_key_is_kept_as_a_digest_only(path: Path) -> None:
    """In a file, and in a folder, that nobody else can read, whatever the umask."""
    before = os.umask(0)
    try:
        key, secret = keys.new(path, "eu-1", BOTH, NOON)
    finally:
        os.umask(before)

    kept = path.read_text()
    assert secret.reveal()[14:] not in kept
    assert key.digest in kept
    assert key.digest == hashlib.sha256(secret.reveal().encode()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_what_changes_in_the_file_holds_at_once(path: Path) -> None:
    """For a bridge that is running: new keys, revoked ones, and a file that is gone."""
    ring = KeyRing(path, {})
    ring.check()
    first = made(path)
    assert ring.find(first) is not None
    second = made(path)
    assert ring.find(second) is not None

    revoked = keys.revoke(path, first[5:13].decode(), moment(1))
    assert revoked.revoked_at == moment(1)
    assert (ring.find(first), ring.find(second) is not None) == (None, True)
    assert keys.revoke(path, revoked.id, moment(2)) == revoked

    path.unlink()
    assert (ring.find(second), ring.problem) == (None, None)


def test_two_keys_of_a_runner_are_valid_at_once(path: Path) -> None:
    """To replace one by the other; a third one is refused until one is revoked."""
    first, second = made(path), made(path)
    with pytest.raises(KeyRefused, match=f"2 valid keys already.*keys revoke {first[5:13].decode()}"):
        made(path)
    assert len(keys.read(path)) == 2
    keys.revoke(path, second[5:13].decode(), NOON)
    assert KeyRing(path, {}).find(made(path)) is not None
    made(path, "another runner")


def test_no_key_has_an_unknown_id(path: Path) -> None:
    """To revoke what is not there is an error, not silence."""
    with pytest.raises(KeyRefused, match="no key has the id '00000000': llmbench keys list"):
        keys.revoke(path, "00000000", NOON)


def test_of_many_who_change_the_file_at_once_none_is_lost(path: Path) -> None:
    """Each waits for the other, and a reader never sees half a file."""
    ring = KeyRing(path, {})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: made(path, f"runner-{number}"), range(24)))
        assert all(ring.find(key) is not None for key in found)
    assert len(keys.read(path)) == 24


# shared keys


def test_shared_keys_are_of_no_runner() -> None:
    """They allow what their variables are for; one value for both is one key."""
    two = shared_keys(Secrets({"INGEST_API_KEY": "one ", "RUNNER_CONFIG_TOKEN": "two", "OPENAI_API_KEY": "three"}))
    ring = KeyRing(Path("/nonexistent/keys.json"), two)
    assert ring.find(b"one") == Grant("shared-ingest", None, frozenset({"ingest"}))
    assert ring.find(b"two") == Grant("shared-worklist", None, frozenset({"worklist"}))
    assert ring.find(b"three") is None

    same = shared_keys(Secrets({"INGEST_API_KEY": "one", "RUNNER_CONFIG_TOKEN": "one"}))
    both = KeyRing(Path("/nonexistent/keys.json"), same).find(b"one")
    assert both == Grant("shared-ingest-worklist", None, frozenset({"ingest", "worklist"}))
    assert shared_keys(Secrets({"INGEST_API_KEY": " "})) == {}
    assert KeyRing(Path("/nonexistent/keys.json"), {}).find(b"") is None
    with pytest.raises(SecretError):
        shared_keys(Secrets({"INGEST_API_KEY": "ž"}))


# a file that can't be trusted


def _key(**changes: Any) -> dict[str, Any]:
    key = {"id": "00000000", "runner": "a", "scopes": ["ingest"], "digest": "0" * 64, "created_at": NOON}
    return {**key, **changes}


DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"[" * 100_000,
    *(
        msgspec.json.encode({"version": 1, "keys": [key]})
        for key in (
            _key(id="../../00"),
            _key(digest="00"),
            _key(scopes=["everything"]),
            _key(runner=None),
            _key(scope="ingest"),
            {},
        )
    ),
    msgspec.json.encode({"version": 1, "keys": [_key(), _key(digest="1" * 64)]}),
]


@pytest.fixture
def running(path: Path) -> Iterator[tuple[KeyRing, bytes]]:
    """A ring that has let somebody in, and that key."""
    ring, key = KeyRing(path, {"ingest": Secret("shared")}), made(path)
    assert (ring.find(key) is not None, ring.find(b"shared") is not None) == (True, True)
    yield ring, key
    assert ring.problem is not None
    assert (ring.find(key), ring.find(b"shared")) == (None, None)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:60].decode(errors="replace"))
def test_a_damaged_file_lets_nobody_in(running: tuple[KeyRing, bytes], path: Path, content: bytes) -> None:
    """Nor does what was read before go on to hold; the reason is told, and nothing is written over the file."""
    path.write_bytes(content)
    with pytest.raises(KeysUnusable, match="damaged"):
        running[0].check()
    with pytest.raises(KeysUnusable, match="damaged"):
        made(path)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_left_alone(running: tuple[KeyRing, bytes], path: Path) -> None:
    """It may say what this version does not understand."""
    path.write_bytes(b'{"version": 2, "keys": []}')
    with pytest.raises(KeysUnusable, match="version 2"):
        running[0].check()


def test_a_file_that_others_can_read_lets_nobody_in(running: tuple[KeyRing, bytes], path: Path) -> None:
    """Who can read it could have been given more; the sentence says what to do."""
    path.chmod(0o640)
    with pytest.raises(KeysUnusable, match=r"open to other users \(mode 0640\): chmod 600"):
        running[0].check()


def test_a_folder_that_others_can_write_lets_nobody_in(running: tuple[KeyRing, bytes], path: Path) -> None:
    """They could put another file in its place."""
    path.parent.chmod(0o770)
    made_elsewhere = path.with_name("new")
    made_elsewhere.write_bytes(path.read_bytes())
    made_elsewhere.chmod(0o600)
    made_elsewhere.replace(path)
    with pytest.raises(KeysUnusable, match="can be written by other users"):
        running[0].check()


def test_a_folder_in_the_place_of_the_file_lets_nobody_in(running: tuple[KeyRing, bytes], path: Path) -> None:
    """Nor does anything else that is no file."""
    path.unlink()
    path.mkdir()
    with pytest.raises(KeysUnusable, match="can't be read"):
        running[0].check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_lets_nobody_in(running: tuple[KeyRing, bytes], path: Path) -> None:
    """That one could change it."""
    os.chown(path, 12345, -1)
    with pytest.raises(KeysUnusable, match="belongs to the user with the id 12345"):
        running[0].check()


def test_a_file_that_is_mended_lets_in_again(path: Path) -> None:
    """Without a restart."""
    ring, key = KeyRing(path, {}), made(path)
    path.chmod(0o644)
    assert ring.find(key) is None
    path.chmod(0o600)
    assert ring.find(key) is not None
    assert ring.problem is None


def test_the_scopes_of_the_command_are_those_of_the_keys() -> None:
    """The parser has the words a second time, since it imports nothing heavy."""
    from llmbench.cli.key_arguments import scopes

    assert scopes(",".join(SCOPES)) == list(SCOPES)
