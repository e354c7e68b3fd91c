"""The file of keys: JSON, mode 0600, replaced as a whole under a lock, so that two who change it lose nothing."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from llmbench.files import make_folder, replace_file

Scope = Literal["ingest", "worklist", "read"]
"""``ingest``: post runs, errors and listings. ``worklist``: ask what to run. ``read``: health, metrics, live events."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

_VERSION = 1


class KeysUnusable(Exception):
    """The file of keys can't be used. The message says why, and what to do."""


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is kept; ``digest`` is the SHA-256 of the whole key, in hexadecimal."""

    id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}\Z")]
    runner: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: tuple[Scope, ...]
    digest: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    created_at: datetime
    revoked_at: datetime | None = None


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: int
    keys: list[Key]


class Seen(NamedTuple):
    """What tells one state of the file from another; None stands for no file."""

    device: int
    inode: int
    changed: int
    modified: int
    size: int
    mode: int
    owner: int


def look(path: Path) -> Seen | None:
    """Return the state of the file, None if there is none. Raises `KeysUnusable` if that can't be told."""
    try:
        return _seen(path.stat())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _seen(found: os.stat_result) -> Seen:
    return Seen(
        found.st_dev,
        found.st_ino,
        found.st_ctime_ns,
        found.st_mtime_ns,
        found.st_size,
        found.st_mode,
        found.st_uid,
    )


def read(path: Path) -> list[Key]:
    """Return the keys of a file, oldest first; none if there is no file. Raises `KeysUnusable`."""
    try:
        with path.open("rb") as file:
            _check_safe(path, os.fstat(file.fileno()))
            content = file.read()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return _decoded(path, content)


def _unreadable(path: Path, error: Exception) -> KeysUnusable:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return KeysUnusable(f"file of keys '{path}' can't be read ({reason}): correct server.keys_file, or its rights")


def _check_safe(path: Path, found: os.stat_result) -> None:
    """Raise `KeysUnusable` if others could have read the file, or put another in its place."""
    if not stat.S_ISREG(found.st_mode):
        raise KeysUnusable(f"file of keys '{path}' is no file: correct server.keys_file")
    if found.st_uid != os.geteuid():
        raise KeysUnusable(
            f"file of keys '{path}' belongs to the user with the id {found.st_uid}, and llmbench runs as "
            f"{os.geteuid()}: run 'llmbench keys' as the user who runs the bridge, or change the owner"
        )
    if found.st_mode & 0o077:
        raise KeysUnusable(
            f"file of keys '{path}' is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"chmod 600 '{path}', and make new keys if others may have changed it"
        )
    if path.parent.stat().st_mode & 0o022:
        raise KeysUnusable(
            f"folder of keys '{path.parent}' can be written by other users: close it to them (chmod go-w), or choose "
            "a folder of its own for server.keys_file"
        )


def _decoded(path: Path, content: bytes) -> list[Key]:
    try:
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise KeysUnusable(
            f"file of keys '{path}' is damaged ({error}): restore it, or delete it and make new keys"
        ) from error
    if found.version != _VERSION:
        raise KeysUnusable(f"file of keys '{path}' is of version {found.version}: use the llmbench that wrote it")
    if len({key.id for key in found.keys}) != len(found.keys):
        raise KeysUnusable(f"file of keys '{path}' is damaged (two keys have one id): restore it, or make new keys")
    return found.keys


@contextmanager
def changing(path: Path) -> Iterator[list[Key]]:
    """Yield the keys, to be changed in place, and write them if nothing is raised. Raises `KeysUnusable`.

    Whoever else wants to change them waits.
    """
    try:
        make_folder(path.parent)
        with _locked(path):
            keys = read(path)
            yield keys
            replace_file(path, msgspec.json.format(msgspec.json.encode(_File(version=_VERSION, keys=keys)), indent=1))
    except OSError as error:
        raise KeysUnusable(
            f"file of keys '{path}' can't be written ({error.strerror}): correct server.keys_file, or its rights"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
