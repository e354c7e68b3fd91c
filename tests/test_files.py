"""Replacing a file: whole or not at all, and for its owner's eyes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from llmbench.files import replace_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_file_is_its_owners(tmp_path: Path, mask: int) -> None:
    """Whatever the process's mask is, nobody else reads it; and nothing else is left beside it."""
    before = os.umask(mask)
    try:
        replace_file(tmp_path / "known.json", b"{}")
    finally:
        os.umask(before)
    assert ((tmp_path / "known.json").read_bytes(), mode(tmp_path / "known.json")) == (b"{}", 0o600)
    assert names(tmp_path) == ["known.json"]


def test_an_open_file_that_everybody_could_read_is_replaced(tmp_path: Path) -> None:
    """The new one is the owner's alone; whoever reads the old one at the time reads it to its end."""
    path = tmp_path / "known.json"
    path.write_bytes(b"old " * 1000)
    path.chmod(0o666)
    with path.open("rb") as reader:
        assert reader.read(4) == b"old "
        replace_file(path, b"new")
        assert reader.read() == b"old " * 999
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)


def test_all_of_it_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced under another name first, and the folder after the change of names."""
    path, really, seen = tmp_path / "known.json", os.fsync, []
    path.write_bytes(b"old")

    def watched(descriptor: int) -> None:
        found = os.fstat(descriptor)
        seen.append(
            (stat.S_ISDIR(found.st_mode), found.st_size if stat.S_ISREG(found.st_mode) else 0, path.read_bytes())
        )
        really(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    replace_file(path, b"new content")
    assert seen == [(False, 11, b"old"), (True, 0, b"new content")]


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """The disk is full: the error is told, the old content stays with its mode, and no part of the new one does."""
    path = tmp_path / "known.json"
    path.write_bytes(b"old")
    path.chmod(0o640)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"new")
    assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"old", 0o640, ["known.json"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is made for it."""
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none" / "known.json", b"new")
    assert names(tmp_path) == []
