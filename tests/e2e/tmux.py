"""A real terminal for tests: a program in a pane of a tmux of its own, whose screen can be read and typed into."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.program import turns

SECONDS = 30.0

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")

_SCRIPT = """\
trap : INT  # as an interactive shell, this outlives a Ctrl-C
stty -a > before
sh -c 'echo $$ > pid; exec "$@"' program {command}
echo $? > code
stty -a > after
echo end of the program
exec cat
"""
"""What runs in the pane: the program between two looks at the modes of the terminal; then it stays to be looked at."""


class Pane:
    """A program on a terminal."""

    def __init__(self, folder: Path, tmux: Sequence[str]) -> None:
        self._folder = folder
        self._tmux = tmux

    def text(self) -> str:
        """Return what stands on the screen."""
        return self._run("capture-pane", "-p", "-t", "0")

    def until(self, *wanted: str, seconds: float = SECONDS) -> str:
        """Wait until all of these stand on the screen; return it."""
        shown = ""
        try:
            for _ in turns(seconds):
                shown = self.text()
                if all(one in shown for one in wanted):
                    return shown
        except AssertionError as error:
            raise AssertionError(f"{error}: waiting for {wanted} on\n{shown}") from None
        raise AssertionError("turns ends by raising")

    def press(self, *keys: str) -> None:
        """Type keys, by tmux's names."""
        self._run("send-keys", "-t", "0", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-t", "0", "-x", str(columns), "-y", str(rows))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Take the terminal away."""
        self._run("kill-server")

    @property
    def pid(self) -> int:
        return int(self._read("pid"))

    @property
    def alternate(self) -> bool:
        """Whether the program has the terminal's other screen."""
        return self._flags("alternate_on") == "1"

    def exit_code(self) -> int:
        """Wait for the end of the program; return its exit code as the shell has it."""
        self.until("end of the program")
        return int(self._read("code"))

    def assert_restored(self) -> None:
        """The modes are as before, the first screen is back with its cursor, and no key or mouse is reported."""
        assert self._read("after") == self._read("before")
        assert self._flags("alternate_on", "cursor_flag", "mouse_any_flag", "wrap_flag") == "0 1 0 1"

    def _flags(self, *names: str) -> str:
        return self._run("display-message", "-p", "-t", "0", " ".join(f"#{{{name}}}" for name in names)).strip()

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text()

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], capture_output=True, encoding="utf-8", timeout=20, check=True)
        return done.stdout


@contextmanager
def pane(
    command: Sequence[str], folder: Path, env: Mapping[str, str], size: tuple[int, int] = (100, 30)
) -> Iterator[Pane]:
    """Run a command in this folder on a terminal of so many columns and rows; all of it is killed in the end."""
    (folder / "script").write_text(_SCRIPT.format(command=shlex.join(command)), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="llmb") as near:  # the address of a socket is short
        tmux = ("tmux", "-S", f"{near}/t", "-f", os.devnull)
        columns, rows = map(str, size)
        start = [*tmux, "new-session", "-d", "-x", columns, "-y", rows, "-c", str(folder), "exec sh ./script"]
        subprocess.run(start, env={**env, "SHELL": "/bin/sh"}, timeout=20, check=True)
        try:
            yield Pane(folder, tmux)
        finally:
            subprocess.run([*tmux, "kill-server"], timeout=20, check=False, capture_output=True)
