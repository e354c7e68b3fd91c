"""Where a spool may be, and that only one engine has it."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import msgspec
import pytest

from llmbench.stores import spool_lock
from llmbench.stores.base import StoreUnusable
from llmbench.stores.spool import Spool, SpoolInUse
from llmbench.stores.spool_schema import refusal
from tests.stores.spooling import contents, crashed_spool, filled, opened_spool, reopened
from tests.stores.test_sqlite_faults import lines, running

HOLD = """
import sys, anyio
from pathlib import Path
from llmbench.stores.spool import Spool

async def main():
    await Spool(Path(sys.argv[1])).open()
    print("open", flush=True)
    sys.stdin.readline()

anyio.run(main)
"""


def _modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


def _sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "passing", "what_to_do"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True, "(No space left on device); make room on its disk"),
        (_sqlite_error(sqlite3.SQLITE_FULL), True, "make room on its disk"),
        (_sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), True, "make room on its disk"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), False, "file system: '/x'); set spool.folder to one on"),
        (_sqlite_error(sqlite3.SQLITE_READONLY), False, "set spool.folder to one on a local disk"),
    ],
    ids=str,
)
def test_a_full_disk_asks_for_room_and_a_wrong_place_for_another(
    error: sqlite3.Error | OSError, passing: bool, what_to_do: str
) -> None:
    """What may pass is told apart from what a setting has to mend, and the sentence says what to do."""
    refused = refusal(Path("spool.db"), error)
    assert (isinstance(refused, StoreUnusable), what_to_do in str(refused)) == (not passing, True)


class TestPlace:
    """One engine, on a disk of its own."""

    async def test_two_in_a_process(self, tmp_path: Path) -> None:
        """A second one is refused with the first one's process id, and does no harm to it."""
        async with opened_spool(tmp_path) as spool:
            with pytest.raises(SpoolInUse, match=rf"in use by the process with the id {os.getpid()};"):
                await Spool(tmp_path).open()
            await filled(spool, 1)

    async def test_two_processes(self, tmp_path: Path) -> None:
        """The lock is another process's as long as that runs, and nobody's once it was killed."""
        with running(HOLD, tmp_path) as process:
            assert next(lines(process)) == "open\n"
            with pytest.raises(SpoolInUse) as caught:
                await Spool(tmp_path).open()
            assert caught.value.pid == process.pid
            process.kill()
            process.wait()
            async with opened_spool(tmp_path) as spool:
                await filled(spool, 1)

    async def test_modes(self, tmp_path: Path) -> None:
        """Whatever the umask, folders are 0700 and files 0600 from the start."""
        before = os.umask(0)
        try:
            async with opened_spool(tmp_path / "new" / "data") as spool:
                await filled(spool, 1)
                files = _modes(tmp_path / "new" / "data")
        finally:
            os.umask(before)
        assert files == dict.fromkeys(("spool.db", "spool.db-wal", "spool.lock"), 0o600)
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "new/data")] == [0o700, 0o700]

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
    async def test_foreign_folder(self, tmp_path: Path) -> None:
        """A folder of another user is refused, and nothing is made in it."""
        os.chown(tmp_path, 12345, -1)
        with pytest.raises(StoreUnusable, match="belongs to the user with the id 12345"):
            await Spool(tmp_path).open()
        assert contents(tmp_path) == {}
        assert not (tmp_path / "spool.lock").exists()

    @pytest.mark.parametrize(
        ("folder", "kind"),
        [
            ("/srv/data", "nfs4"),
            ("/srv/data/local/llmbench", None),
            ("/srv/database", None),
            ("/mnt/with space/x", "fuse.sshfs"),
            ("/over", None),
        ],
    )
    def test_network_filesystems(self, tmp_path: Path, folder: str, kind: str | None) -> None:
        """What a folder is mounted from is told by its nearest mount point, of several on one the last."""
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
            "23 22 0:40 / /srv/data rw shared:1 master:2 - nfs4 host:/export rw\n"
            "24 23 8:1 / /srv/data/local rw - xfs /dev/sda1 rw\n"
            "25 22 0:41 / /mnt/with\\040space rw - fuse.sshfs host: rw\n"
            "26 22 0:42 / /over rw - cifs //host/share rw\n"
            "27 22 0:43 / /over rw - tmpfs tmpfs rw\n"
            "28 22 broken\n"
        )
        assert spool_lock.network_filesystem(Path(folder), mounts) == kind

    async def test_refused_on_a_network_filesystem(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There the spool does not start, and says which kind of filesystem it is."""
        monkeypatch.setattr(spool_lock, "network_filesystem", lambda _: "nfs4")
        with pytest.raises(StoreUnusable, match=r"is on a network filesystem \(nfs4\)"):
            await Spool(tmp_path).open()

    async def test_lock_file_that_was_cut(self, tmp_path: Path) -> None:
        """A power failure may leave the lock's file without content: that is no damage to the spool."""
        folder, ids = await crashed_spool(tmp_path, 3)
        (folder / "spool.lock").write_bytes(b"")
        assert await reopened(folder) == ([], set(ids), set())

    async def test_marker_that_was_edited(self, tmp_path: Path) -> None:
        """A report of damage that can't be read is damage to be acknowledged, too."""
        (tmp_path / "spool.damage.json").write_bytes(msgspec.json.encode({"a": 1}))
        async with opened_spool(tmp_path) as spool:
            assert [damage.what for damage in spool.damages] == ["spool.damage.json can't be read"]
            await spool.acknowledge_damage()
            assert spool.damages == []
