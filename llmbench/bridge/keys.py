"""Who may talk to the bridge: keys, each of one runner, of which only digests are kept.

A key is ``llmb_<id>_<secret>``: eight hexadecimal digits that tell it from others, in public, and 32 random bytes in
URL-safe base64. Deployments of earlier days have one key for all runners, in the environment: a shared one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from llmbench.secrets import Secret

Scope = Literal["ingest", "worklist", "read"]
"""``ingest``: post runs, errors and listings. ``worklist``: ask what to run. ``read``: health, metrics, live events."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


class KeysUnusable(Exception):
    """The file of keys can't be used. The message says why, and what to do."""


class KeyRefused(Exception):
    """A key can't be made or revoked as it was asked. The message says why, and what to do."""


class Grant(msgspec.Struct, frozen=True):
    """What a key that was presented allows. ``runner`` is None for a shared key, which may speak for any runner."""

    key_id: str
    runner: str | None
    scopes: frozenset[Scope]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept; ``digest`` is the SHA-256 of the whole key, in hexadecimal."""

    id: str
    runner: str
    scopes: tuple[Scope, ...]
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None


class KeyRing:
    """The keys of a file, and the shared ones. What is made or revoked in the file holds at once.

    If the file can't be used nobody is let in, not even with a shared key, and `problem` says why.
    """

    def __init__(self, path: Path, shared: Mapping[Scope, Secret]) -> None:
        self._path = path
        self._shared = dict(shared)
        self.problem: str | None = None
        """Why nobody is let in, as of the last `find` or `check`; None if all is well."""

    def check(self) -> None:
        """Read the file. Raises `KeysUnusable`; a file that is not there has no keys, and is no error."""
        read(self._path)

    def find(self, presented: bytes) -> Grant | None:
        """Return what a key allows, None if it is not known, was revoked, or the file can't be used. Never raises."""
        digest = hashlib.sha256(presented).digest()
        for key in read(self._path):
            if key.revoked_at is None and hmac.compare_digest(bytes.fromhex(key.digest), digest):
                return Grant(key.id, key.runner, frozenset(key.scopes))
        scopes = frozenset(
            scope for scope, secret in self._shared.items() if hmac.compare_digest(secret.reveal().encode(), presented)
        )
        return Grant("shared", None, scopes) if scopes else None


def read(path: Path) -> list[Key]:
    """Return the keys of a file, oldest first; none if there is no file. Raises `KeysUnusable`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Key])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise KeysUnusable(f"file of keys '{path}' can't be read: {error}") from error


def new(path: Path, runner: str, scopes: Sequence[Scope], now: datetime) -> tuple[Key, Secret]:
    """Make a key of a runner; return how it is kept, and the key itself, which nobody can find out again.

    Raises `KeyRefused` if the runner has two valid ones, and `KeysUnusable`.
    """
    key_id = secrets.token_hex(4)
    text = f"llmb_{key_id}_{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = Key(id=key_id, runner=runner, scopes=tuple(scopes), digest=digest, created_at=now)
    path.write_bytes(msgspec.json.encode([*read(path), key]))
    return key, Secret(text)


def revoke(path: Path, key_id: str, now: datetime) -> Key:
    """Revoke a key for good; one that is revoked already stays as it is. Raises `KeyRefused` and `KeysUnusable`."""
    keys = {key.id: key for key in read(path)}
    if key_id not in keys:
        raise KeyRefused(f"no key has the id {key_id!r:.80}: llmbench keys list shows those that there are")
    keys[key_id] = msgspec.structs.replace(keys[key_id], revoked_at=keys[key_id].revoked_at or now)
    path.write_bytes(msgspec.json.encode(list(keys.values())))
    return keys[key_id]
