"""From the command line to a command, and from whatever it raises to an exit code."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from llmbench.cli import output
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.parser import LOG_FILE, UNTIL_STDIN_CLOSES, Parser, build

_MODULES = {
    "headless": "llmbench.cli.headless",
    "tui": "llmbench.cli.tui",
    "bench": "llmbench.cli.bench",
    "demo": "llmbench.cli.demo",
    "models": "llmbench.cli.models",
    "results": "llmbench.cli.results",
    "errors": "llmbench.cli.errors",
    "health": "llmbench.cli.health",
    "store": "llmbench.cli.store_copy",
    "ingest": "llmbench.cli.ingest",
    "keys": "llmbench.cli.keys",
    "spool": "llmbench.cli.spool",
    "config": "llmbench.cli.configuration",
    "doctor": "llmbench.cli.doctor",
    "calibrate": "llmbench.cli.calibrate",
    "simulate": "llmbench.cli.simulate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Wrong usage exits at once, with code 2."""
    try:
        return _run(arguments)
    except CommandError as error:
        output.note(f"llmbench: {error}")
        return error.code
    except output.OutputError as error:
        output.note(f"llmbench: {error}")
        return ExitCode.UNREACHABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        output.forget_stdout()
        return 128 + signal.SIGPIPE
    except FileNotFoundError as error:
        if _folder_exists():
            return _bug(error)
        output.note("llmbench: the current folder was deleted: change to another one, or give absolute paths")
        return ExitCode.USAGE
    except Exception as error:  # noqa: BLE001  the outermost seam: code 1 would say that a run failed
        return _bug(error)


def _bug(error: Exception) -> ExitCode:
    output.note("".join(traceback.format_exception(error)))
    output.note("llmbench: this is a fault of llmbench itself; report it with the lines above")
    return ExitCode.BUG


def _folder_exists() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _run(arguments: Sequence[str] | None) -> int:
    parser = build()
    options = parser.parse_args(arguments)
    _check_engine_options(parser, options)
    command = _command(parser, options.command, headless=options.headless)
    run = cast("Callable[[object], int]", importlib.import_module(_MODULES[command]).run)
    return int(run(options))


def _command(parser: Parser, command: str | None, *, headless: bool) -> str:
    if headless and command is not None:
        parser.error(f"--headless and the command {command!r} exclude each other")
    if command is None and not headless:
        output.note(parser.format_help().rstrip("\n"))
        sys.exit(ExitCode.USAGE)
    return command or "headless"


def _check_engine_options(parser: Parser, options: argparse.Namespace) -> None:
    given = {
        "--once": options.once,
        "--providers": options.providers is not None,
        "--limit": options.limit is not None,
        LOG_FILE: options.log_file is not None,
        UNTIL_STDIN_CLOSES: options.until_stdin_closes,
    }
    names = [name for name, is_given in given.items() if is_given]
    if options.command is not None and names:
        belong = "belongs" if len(names) == 1 else "belong"
        parser.error(f"{' and '.join(names)} {belong} to --headless, not to {options.command!r}")
    if names and not options.headless:
        parser.error(f"{names[0]} needs --headless")
    if options.limit is not None and not options.once:
        parser.error("--limit needs --once: the engine itself never leaves a model out")
