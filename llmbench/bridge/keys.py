"""Who may talk to the bridge: keys, each of one runner, of which only digests are kept.

A key is ``llmb_<id>_<secret>``: eight hexadecimal digits that tell it from others, in public, and 32 random bytes in
URL-safe base64. Deployments of earlier days have one key for all runners, in the environment: a shared one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmbench.bridge.keys_file import SCOPES, Key, KeysUnusable, Scope, Seen, changing, look, read
from llmbench.secrets import Secret, Secrets

__all__ = [
    "SCOPES",
    "SHARED",
    "Grant",
    "Key",
    "KeyRefused",
    "KeyRing",
    "KeysUnusable",
    "Scope",
    "new",
    "read",
    "revoke",
    "shared_keys",
]

SHARED: Mapping[str, Scope] = {"INGEST_API_KEY": "ingest", "RUNNER_CONFIG_TOKEN": "worklist"}
"""Environment variable of the bridge that holds a key of earlier deployments → what that allows."""

MOST_VALID = 2
"""So many valid keys may a runner have at once: the one in use, and the one that is to replace it."""

_FORM = re.compile(rb"llmb_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NOBODYS = b"\0" * 32
"""No key has this digest: what stands in for an unknown key's, so that it takes as long to refuse one."""


class KeyRefused(Exception):
    """A key can't be made or revoked as it was asked. The message says why, and what to do."""


class Grant(msgspec.Struct, frozen=True):
    """What a key that was presented allows. ``runner`` is None for a shared key, which may speak for any runner."""

    key_id: str
    runner: str | None
    scopes: frozenset[Scope]


class _Kept(NamedTuple):
    digest: bytes
    grant: Grant


class _Read(NamedTuple):
    seen: Seen | None
    keys: Mapping[bytes, _Kept]


class KeyRing:
    """The keys of a file, and the shared ones. What is made or revoked in the file holds at once.

    If the file can't be used nobody is let in, not even with a shared key, and `problem` says why: a ring that was read
    before may have keys that are revoked by now. No file is no error, and no key.
    """

    def __init__(self, path: Path, shared: Mapping[Scope, Secret]) -> None:
        self._path = path
        self._shared = _shared(shared)
        self._read: _Read | None = None
        self.problem: str | None = None
        """Why nobody is let in, as of the last `find` or `check`; None if all is well."""

    def check(self) -> None:
        """Read the file if it has changed. Raises `KeysUnusable`."""
        self._current()

    def find(self, presented: bytes) -> Grant | None:
        """Return what a key allows, None if it is not known, was revoked, or the file can't be used. Never raises.

        The same is done for a known id as for an unknown one.
        """
        digest = hashlib.sha256(presented).digest()
        try:
            keys = self._current()
        except KeysUnusable:
            return None
        form = _FORM.fullmatch(presented)
        kept = keys.get(form[1]) if form else None
        own = kept.grant if kept is not None else None
        is_own = hmac.compare_digest(kept.digest if kept is not None else _NOBODYS, digest)
        shared = [one.grant for one in self._shared if hmac.compare_digest(one.digest, digest)]
        return own if is_own else next(iter(shared), None)

    def _current(self) -> Mapping[bytes, _Kept]:
        """Return the keys as the file has them now. Raises `KeysUnusable`.

        Several threads may be here at once: what is remembered is replaced as a whole, so that no older keys are ever
        taken for those of a newer file.
        """
        try:
            seen, known = look(self._path), self._read
            if known is None or seen is None or seen != known.seen:
                # Looked at before it is read: what is changed in between is read again next time.
                self._read = known = _Read(seen, self._valid())
        except KeysUnusable as error:
            self._read = None
            self.problem = str(error)
            raise
        self.problem = None
        return known.keys

    def _valid(self) -> Mapping[bytes, _Kept]:
        return {
            key.id.encode(): _Kept(bytes.fromhex(key.digest), Grant(key.id, key.runner, frozenset(key.scopes)))
            for key in read(self._path)
            if key.revoked_at is None
        }


def shared_keys(secrets: Secrets) -> dict[Scope, Secret]:
    """Return the shared keys that the environment holds. Raises `llmbench.secrets.SecretError`."""
    found = {scope: secrets.get(name) for name, scope in SHARED.items()}
    return {scope: secret for scope, secret in found.items() if secret is not None}


def _shared(shared: Mapping[Scope, Secret]) -> list[_Kept]:
    """Return the shared keys; one value for several scopes is one key."""
    scopes: dict[bytes, set[Scope]] = {}
    for scope, secret in shared.items():
        value = secret.reveal().encode("utf-8", "surrogatepass")
        scopes.setdefault(hashlib.sha256(value).digest(), set()).add(scope)
    return [
        _Kept(digest, Grant(f"shared-{'-'.join(sorted(allowed))}", None, frozenset(allowed)))
        for digest, allowed in scopes.items()
    ]


def new(path: Path, runner: str, scopes: Sequence[Scope], now: datetime) -> tuple[Key, Secret]:
    """Make a key of a runner; return how it is kept, and the key itself, which nobody can find out again.

    Raises `KeyRefused` if the runner has two valid ones, and `KeysUnusable`.
    """
    with changing(path) as keys:
        valid = [key.id for key in keys if key.runner == runner and key.revoked_at is None]
        if len(valid) >= MOST_VALID:
            raise KeyRefused(
                f"runner {runner!r} has {len(valid)} valid keys already ({', '.join(valid)}): revoke the one that is "
                f"not in use any more, with llmbench keys revoke {valid[0]}"
            )
        taken = {key.id for key in keys}
        key_id = next(one for one in iter(lambda: secrets.token_hex(4), None) if one not in taken)
        text = f"llmb_{key_id}_{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip('=')}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        key = Key(id=key_id, runner=runner, scopes=ordered, digest=digest, created_at=now)
        keys.append(key)
    return key, Secret(text)


def revoke(path: Path, key_id: str, now: datetime) -> Key:
    """Revoke a key for good; one that is revoked already stays as it is. Raises `KeyRefused` and `KeysUnusable`."""
    with changing(path) as keys:
        place = next((number for number, key in enumerate(keys) if key.id == key_id), None)
        if place is None:
            raise KeyRefused(f"no key has the id {key_id!r:.80}: llmbench keys list shows those that there are")
        revoked = keys[place]
        if revoked.revoked_at is None:
            keys[place] = revoked = msgspec.structs.replace(revoked, revoked_at=now)
    return revoked
