"""The dashboard as a person has it: `llmbench tui` in a terminal of its own, of which every byte is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_CHUNK = 64 * 1024
_SECONDS = 20.0
_MARK = re.compile(rb"mk(\d{6})")


class Seen(NamedTuple):
    """A mark that was drawn for the first time, and when (`time.monotonic_ns`)."""

    number: int
    at_ns: int


class Viewer:
    """A dashboard that is attached to an engine's socket. Its terminal is read as fast as it is written."""

    def __init__(self, socket: Path, *, columns: int, rows: int, environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        command = [sys.executable, "-m", "llmbench", "tui", "--attach", str(socket)]
        environment = environment | {"TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, close_fds=True
        )
        os.close(slave)
        self.written = 0
        """Bytes that it has drawn."""
        self.seen: list[Seen] = []
        self._tail = b""
        self._known: set[int] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, _CHUNK)
            except OSError:  # its end of the terminal is closed
                return
            if not data:
                return
            now = time.monotonic_ns()
            self.written += len(data)
            found = self._tail + data
            for match in _MARK.finditer(found):
                if (number := int(match[1])) not in self._known:
                    self._known.add(number)
                    self.seen.append(Seen(number, now))
            self._tail = found[-16:]

    def until_drawn(self) -> None:
        """Wait until it has drawn a screen or two."""
        end = time.monotonic() + _SECONDS
        while self.written < 4096:
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the dashboard draws nothing:\n{self._tail!r}")
            time.sleep(0.05)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resident(self) -> int:
        """Return the memory that it has, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kilobytes) * 1024

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(_SECONDS)
        os.close(self._master)


@contextmanager
def watching(socket: Path, environment: dict[str, str], *, columns: int = 120, rows: int = 36) -> Iterator[Viewer]:
    """Have a dashboard watch the engine with this socket."""
    viewer = Viewer(socket, columns=columns, rows=rows, environment=environment)
    try:
        viewer.until_drawn()
        yield viewer
    finally:
        viewer.kill()
