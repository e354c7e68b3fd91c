"""From the command line to a command, and from whatever it raises to an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import cast

from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.parser import Parser, build

_MODULES = {
    "headless": "llmbench.cli.headless",
    "bench": "llmbench.cli.bench",
    "demo": "llmbench.cli.demo",
    "models": "llmbench.cli.models",
    "results": "llmbench.cli.results",
    "config": "llmbench.cli.configuration",
    "calibrate": "llmbench.cli.calibrate",
    "simulate": "llmbench.cli.simulate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Wrong usage exits at once, with code 2."""
    parser = build()
    options = parser.parse_args(arguments)
    command = _command(parser, options.command, headless=options.headless)
    _check_engine_options(parser, options.command, once=options.once, limit=options.limit, providers=options.providers)
    try:
        run = cast("Callable[[object], int]", importlib.import_module(_MODULES[command]).run)
        return int(run(options))
    except CommandError as error:
        sys.stderr.write(f"llmbench: {error}\n")
        return error.code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _forget_stdout()
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001  the outermost seam: code 1 would say that a run failed
        traceback.print_exc()
        sys.stderr.write("llmbench: this is a fault of llmbench itself; report it with the lines above\n")
        return ExitCode.BUG


def _command(parser: Parser, command: str | None, *, headless: bool) -> str:
    if headless and command is not None:
        parser.error(f"--headless and the command {command!r} exclude each other")
    if command is None and not headless:
        parser.print_help(sys.stderr)
        sys.exit(ExitCode.USAGE)
    return command or "headless"


def _check_engine_options(
    parser: Parser, command: str | None, *, once: bool, limit: int | None, providers: list[str] | None
) -> None:
    if command is not None and (once or limit is not None or providers is not None):
        parser.error(f"--once, --providers and --limit belong to --headless, not to {command!r}")
    if limit is not None and not once:
        parser.error("--limit needs --once: the engine itself never leaves a model out")


def _forget_stdout() -> None:
    """Whoever read our output is gone; keep the interpreter from complaining when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
