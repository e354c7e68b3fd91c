"""The file that an engine without a terminal has as its standard output and error, kept from growing without bound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

LIMIT_BYTES = 10 * 1024 * 1024
"""Once a file has these, a new one begins. With the one before that is twice as much on the disk, and a line."""

_STANDARD = (1, 2)


def open_log(path: Path) -> int:
    """Return a descriptor of the file, to append to; one that is made is its owner's alone. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def put_aside(path: Path) -> None:
    """Keep the file as the old one, in the place of the one before. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.1"))


class LogFile:
    """A file that is open as ``descriptors`` of this process already, and all that they are."""

    def __init__(self, path: Path, *, limit: int = LIMIT_BYTES, descriptors: Sequence[int] = _STANDARD) -> None:
        self._path = path
        self._limit = limit
        self._descriptors = tuple(descriptors)

    def make_room(self) -> None:
        """Begin a new file if this one is full. If there can be none, the old one grows, and the next call tries again.

        Nothing is lost: what is written meanwhile, by whomever, goes into the one or the other.
        """
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptors[0]).st_size >= self._limit:
                self._begin_anew()

    def _begin_anew(self) -> None:
        put_aside(self._path)
        new = open_log(self._path)
        try:
            for descriptor in self._descriptors:
                os.dup2(new, descriptor)
        finally:
            os.close(new)
