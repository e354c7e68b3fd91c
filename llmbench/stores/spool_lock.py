"""The spool's place: whose folder it is, what it is mounted from, and the lock that lets in one engine at a time.

The lock is the kernel's (`flock`) on a file of its own, so it ends with the process, however that ends. The file says
who has it, and up to which row the spool was told to be durable: a spool that ends before that has lost something.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from llmbench.files import make_folder
from llmbench.stores.base import StoreUnusable

# fmt: off
_IN_THE_KERNEL = (
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "smb", "smb2", "smb3", "smbfs",
)
_IN_USER_SPACE = (
    "beegfs", "ceph", "cephfs", "curlftpfs", "davfs2", "gcsfuse", "glusterfs", "mount.s3", "mountpoint-s3",
    "rclone", "s3fs", "smbnetfs", "sshfs",
)
# fmt: on

NETWORK_FILESYSTEMS = frozenset((*_IN_THE_KERNEL, *(f"fuse.{name}" for name in _IN_USER_SPACE)))
"""Types, as the kernel names them, of which locks or syncs may not mean what they say."""

_NAME = "spool.lock"
_MOUNTS = Path("/proc/self/mountinfo")
_LINE = "pid {pid:010d}\ncommitted {committed:020d}\n"
_PATTERN = re.compile(rb"pid (\d{10})\ncommitted (\d{20})\n")
_LENGTH = len(_LINE.format(pid=0, committed=0))


class SpoolInUse(StoreUnusable):
    """Another process has the spool. ``pid`` is None if its id can't be read."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        who = "another process" if pid is None else f"the process with the id {pid}"
        super().__init__(
            f"Spool in '{folder}' is in use by {who}; stop that one, or set spool.folder to another folder"
        )
        self.pid = pid


def prepare_folder(folder: Path) -> None:
    """Make the folder (mode 0700) if there is none; refuse one that is no place for a spool. Raises `StoreUnusable`."""
    make_folder(folder)
    owner, user = folder.stat().st_uid, os.geteuid()
    if owner != user:
        raise StoreUnusable(
            f"Data folder '{folder}' belongs to the user with the id {owner}, and llmbench runs as {user}; "
            "set spool.folder to a folder of your own, or change its owner"
        )
    kind = network_filesystem(folder)
    if kind is not None:
        raise StoreUnusable(
            f"Data folder '{folder}' is on a network filesystem ({kind}), where a spool can lose what it promised to "
            "keep; set spool.folder to one on a local disk"
        )


def network_filesystem(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network filesystem that a folder is on; None if it is local or nobody can tell.

    ``mounts`` is in the format of proc(5), ``/proc/pid/mountinfo``. A folder is on the mount with the longest path
    that leads to it, and of several on one path on the last.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None  # not Linux
    place = folder.resolve()
    found = [mount for mount in map(_mount, lines) if mount is not None and place.is_relative_to(mount[0])]
    best = max(enumerate(found), key=lambda one: (len(one[1][0].parts), one[0]), default=None)
    kind = None if best is None else best[1][1]
    return kind if kind in NETWORK_FILESYSTEMS else None


def _mount(line: str) -> tuple[Path, str] | None:
    fields, separator, rest = line.partition(" - ")
    parts = fields.split(" ")
    if not separator or len(parts) < 5:
        return None
    point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[4])
    return Path(point), rest.split(" ")[0]


class SpoolLock:
    """The lock on the spool in a folder, held from `acquire` to `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self._descriptor: int | None = None
        self.committed = 0
        """The highest ``seq`` that was told to be durable, as far as the file knows."""

    def acquire(self) -> None:
        """Take the lock and say who has it. Raises `SpoolInUse`."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _ = _read(descriptor)
            os.close(descriptor)
            raise SpoolInUse(self._folder, pid) from None
        self._descriptor = descriptor
        _, self.committed = _read(descriptor)
        self._write()

    def note_committed(self, seq: int) -> None:
        """Remember that all up to this ``seq`` is durable; call it only after that.

        Not synced: after a power failure it may say less than the truth, never more.
        """
        if seq > self.committed:
            self.committed = seq
            with contextlib.suppress(OSError):  # it is an aid: what says less than the truth does no harm
                self._write()

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _write(self) -> None:
        assert self._descriptor is not None, "the lock is held"
        os.pwrite(self._descriptor, _LINE.format(pid=os.getpid(), committed=self.committed).encode(), 0)


def _read(descriptor: int) -> tuple[int | None, int]:
    """Return the process id and the last durable ``seq``; None and 0 for a file that is new or was cut by a crash."""
    match = _PATTERN.fullmatch(os.pread(descriptor, _LENGTH, 0))
    return (None, 0) if match is None else (int(match[1]), int(match[2]))


def committed(folder: Path) -> int:
    """Return up to which ``seq`` the spool in a folder was told to be durable; 0 if there is none. Nothing is made."""
    try:
        descriptor = os.open(folder / _NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        return _read(descriptor)[1]
    finally:
        os.close(descriptor)
