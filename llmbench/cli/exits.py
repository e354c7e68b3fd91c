"""What the exit code says, and the one exception that ends a command with a sentence."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import NoReturn


class ExitCode(IntEnum):
    """Exit codes, as the README lists them; 128 + n says that signal n ended the program."""

    OK = 0
    UNHEALTHY = 1
    """It ran, but something failed: a run, a lane, the store."""
    USAGE = 2
    """A wrong option, argument or configuration."""
    UNREACHABLE = 3
    """Something needed can't be reached: a store that does not answer, a port that is taken, an output that can't be
    written."""
    SPOOL = 4
    """The spool can't be trusted: a write to its file failed. The next start checks it."""
    BUG = 70


def end_now(code: int) -> NoReturn:
    """End the process without waiting for its threads: for when one of them may wait for long, and for nothing."""
    os._exit(code)


class CommandError(Exception):
    """Ends the command. The message says what is wrong and what to do, in sentences for a person."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code
