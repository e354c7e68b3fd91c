"""Every command and option, in one place that imports nothing heavy: printing help must not load an SDK."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmbench import __version__
from llmbench.cli.exits import ExitCode

EXIT_CODES = """\
exit codes: 0 all well; 1 something failed or is down; 2 wrong usage or configuration;
3 something needed can't be reached; 70 a bug in llmbench; 128+n ended by signal n"""


class Parser(argparse.ArgumentParser):
    """Errors in one sentence, with the nearest known word."""

    def error(self, message: str) -> NoReturn:
        words = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  the only way argparse tells its commands
                words += list(action.choices)
        sys.stderr.write(f"llmbench: {_plain(message)}{_nearest(message, words)}; see {self.prog} --help\n")
        sys.exit(ExitCode.USAGE)


def _plain(message: str) -> str:
    if found := re.match(r"argument \S+: invalid choice: (.+?) \(choose from (.*)\)", message, re.DOTALL):
        return f"{found[1]} is not a command: use one of {found[2].replace(chr(39), '')}"
    if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        return f"unknown argument {found[1].split()[0]!r}"
    return message


def _nearest(message: str, words: Sequence[str]) -> str:
    asked = re.search(r"(?:unrecognized arguments: |invalid choice: ')([^\s']+)", message)
    found = difflib.get_close_matches(asked[1], words, n=1) if asked else []
    return f" (did you mean {found[0]!r}?)" if found else ""


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return value


def port(text: str) -> int:
    """Parse a port; 0 lets the system choose."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> int:
    """Parse a duration such as ``90s``, ``24h`` or ``7d``; seconds are returned."""
    if not (found := re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write a number and s, m, h or d, such as 24h")
    return int(found[1]) * _UNITS[found[2]]


def names(text: str) -> list[str]:
    """Parse a comma-separated list."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("the list is empty: separate names by commas")
    return found


def model_ref(text: str) -> tuple[str, str]:
    """Parse ``provider/model_id``; the id may hold slashes and colons."""
    provider, slash, model_id = text.partition("/")
    if not slash or not provider or not model_id.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} names no model: write provider/model_id, such as openai/gpt-4o-mini"
        )
    return provider, model_id


def _config(parser: argparse._ActionsContainer, default: Any = argparse.SUPPRESS) -> None:
    """Add ``--config``; a command's own does not unset one that stood before the command."""
    text = "configuration file (default: ./config.toml, then the user's)"
    parser.add_argument("--config", type=Path, metavar="PATH", default=default, help=text)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def build() -> Parser:
    """Return the parser. ``command`` in the result is the command's name, with its subcommand behind a blank."""
    parser = Parser(
        prog="llmbench",
        description="Measures LLM APIs continuously, with stamps taken by the kernel.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llmbench {__version__}")
    engine = parser.add_argument_group("the engine (llmbench --headless)")
    engine.add_argument("--headless", action="store_true", help="measure every enabled model, for ever, and log")
    engine.add_argument("--once", action="store_true", help="measure what is due now, then end")
    engine.add_argument("--providers", type=names, metavar="A,B", help="only these providers")
    engine.add_argument("--limit", type=positive, metavar="N", help="with --once: at most N runs")
    _config(engine, default=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _bench(commands)
    _demo(commands)
    _models(commands)
    _results(commands)
    _configuration(commands)
    _calibrate(commands)
    _simulate(commands)
    return parser


def _add(commands: Any, name: str, text: str) -> Parser:
    parser: Parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    return parser


def _bench(commands: Any) -> None:
    bench = _add(commands, "bench", "measure models now and compare them")
    bench.add_argument("models", type=model_ref, nargs="+", metavar="PROVIDER/MODEL")
    bench.add_argument("--runs", type=positive, default=5, metavar="N", help="runs of each model (default 5)")
    bench.add_argument("--concurrency", type=positive, default=1, metavar="C", help="runs at a time (default 1)")
    bench.add_argument(
        "--profile", metavar="NAME", help="what to ask, a table of [profiles] (default: the model's own)"
    )
    bench.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")
    _config(bench)


def _demo(commands: Any) -> None:
    demo = _add(commands, "demo", "benchmark every provider, simulated on this machine; no keys needed")
    demo.add_argument("--db", type=Path, metavar="FILE", help="SQLite file to store into (default: ./llmbench-demo.db)")
    demo.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")


def _models(commands: Any) -> None:
    models = _add(commands, "models", "list and change the catalogue of models to measure")
    actions = models.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    listing = _add(actions, "list", "list the catalogue")
    listing.add_argument("--provider", metavar="P", help="only this provider")
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--enabled", action="store_true", help="only enabled models")
    which.add_argument("--disabled", action="store_true", help="only disabled models, with the reason")
    _one_model(actions, "show", "show one model, its last runs and its errors")
    add = _one_model(actions, "add", "add a model")
    add.add_argument("--profile", metavar="NAME", help="what to ask it, a table of [profiles]")
    add.add_argument("--display-name", metavar="TEXT", help="the name to show")
    _one_model(actions, "enable", "measure a model again")
    disable = _one_model(actions, "disable", "measure a model no more; its row and its past stay")
    disable.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever wonders later")
    for action in actions.choices.values():
        _json(action)
        _config(action)


def _one_model(actions: Any, name: str, text: str) -> Parser:
    parser = _add(actions, name, text)
    parser.add_argument("model", type=model_ref, metavar="PROVIDER/MODEL")
    return parser


def _results(commands: Any) -> None:
    results = _add(commands, "results", "list stored outcomes, newest first")
    results.add_argument("--since", type=duration, default=duration("24h"), metavar="24h", help="how far back")
    results.add_argument("--provider", metavar="P", help="only this provider")
    results.add_argument("--model", metavar="M", help="only this model: its id, or provider/model_id")
    # A name of its own: the engine has an option --limit, too.
    results.add_argument("--limit", type=positive, metavar="N", dest="most", help="at most N outcomes")
    results.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")
    _config(results)


def _configuration(commands: Any) -> None:
    config = _add(commands, "config", "check or show the configuration")
    actions = config.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    _config(_add(actions, "check", "check the file and the environment, and say all that is wrong"))
    _config(_add(actions, "show", "show the configuration as it takes effect; secrets are never shown"))


def _calibrate(commands: Any) -> None:
    calibrate = _add(commands, "calibrate", "measure llmbench's own error against a server with known timing")
    calibrate.add_argument("--streams", type=positive, default=32, metavar="N", help="streams at a time (default 32)")
    _json(calibrate)


def _simulate(commands: Any) -> None:
    simulate = _add(commands, "simulate", "serve simulated providers on this machine")
    simulate.add_argument("--port", type=port, default=8788, metavar="N", help="port (default 8788; 0: any free one)")
    simulate.add_argument("--record", type=Path, metavar="FILE", help="write each request seen as a line of JSON")
    simulate.add_argument("--menu", action="store_true", help="list the words that a model's name may hold, and end")
    simulate.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM), for https")
    simulate.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
