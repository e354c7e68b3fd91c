"""The log file of an engine without a terminal: full, it makes way for a new one, and no line is lost."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from llmbench.log_file import LogFile, open_log
from llmbench.logs import logging_to

LIMIT = 10_000
logger = logging.getLogger("llmbench.tests")


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """Yield two descriptors of the file, as a process's output and error are."""
    first = open_log(path)
    both = (first, os.dup(first))
    try:
        yield both
    finally:
        for descriptor in both:
            os.close(descriptor)


def lines(path: Path) -> list[str]:
    return [msgspec.json.decode(line)["message"] for line in path.read_bytes().splitlines()]


def test_a_full_file_is_kept_and_a_new_one_begins(tmp_path: Path) -> None:
    """One old file, each hardly over the limit and its owner's alone; the lines go on where they ended."""
    path, old = tmp_path / "engine.log", tmp_path / "engine.log.1"
    with opened(path) as both:
        file = LogFile(path, limit=LIMIT, descriptors=both)
        with (
            os.fdopen(both[0], "w", closefd=False) as stream,
            logging_to(stream, json=True, make_room=file.make_room),
        ):
            for number in range(1000):
                logger.info("line %d", number)
        os.write(both[1], b'{"message":"error"}\n')

    kept = lines(old) + lines(path)
    assert kept == [*(f"line {number}" for number in range(1000 - len(kept) + 1, 1000)), "error"]
    assert LIMIT <= old.stat().st_size < LIMIT + 200
    assert path.stat().st_size < LIMIT + 200
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_place_for_a_new_file_the_old_one_goes_on(tmp_path: Path) -> None:
    """No line is lost, and a new one begins once it can."""
    folder = tmp_path / "spool"
    folder.mkdir()
    path = folder / "engine.log"
    with opened(path) as both:
        file = LogFile(path, limit=1, descriptors=both)
        os.write(both[0], b"first\n")
        folder.rename(tmp_path / "moved")
        file.make_room()
        os.write(both[0], b"second\n")
        assert (tmp_path / "moved" / "engine.log").read_text() == "first\nsecond\n"
        (tmp_path / "moved").rename(folder)
        file.make_room()
        os.write(both[1], b"third\n")
    assert (path.read_text(), (folder / "engine.log.1").read_text()) == ("third\n", "first\nsecond\n")
