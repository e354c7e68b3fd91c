"""Every command and option, in one place that imports nothing heavy: printing help must not load an SDK."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from llmbench import __version__
from llmbench.cli import output
from llmbench.cli.arguments import (
    address,
    counted_by,
    duration,
    key_id,
    model_ref,
    names,
    outcome_id,
    path,
    place,
    port,
    runner_id,
    scopes,
    state,
    up_to,
)
from llmbench.cli.exits import ExitCode

EXIT_CODES = """\
exit codes: 0 all well; 1 something failed or is down; 2 wrong usage or
configuration; 3 something needed can't be reached; 4 the spool can't be
trusted; 70 a bug in llmbench; 128+n ended by signal n"""

LOG_FILE = "--log-file"
"""Of an engine that a window starts: the file that its output is. It sees to it that it stays small."""

UNTIL_STDIN_CLOSES = "--until-stdin-closes"
"""Of an engine that is there for one window alone: its end is the engine's."""

_COLUMNS = """\
Times are local time. The outcome of a failed run is the kind of its error. The
column flags says what makes a row's figures less sharp than others':
  coarse      more than 1 % of the chunks may be stamped over 1 ms off
  user clock  stamped by llmbench itself, not by the kernel as bytes came in
  no usage    the provider did not say how many tokens it sent: the chunks are
              counted in their place"""


_STATES = """\
The states of a provider, as far back as --since says:
  ok       it had a success
  failing  it had errors only
  silent   it had no run, though it is enabled and has models to be measured"""


_KEYS_OF_TUI = """\
q leaves; an engine that was there before goes on, and of one that was started
here it is asked what to do with it. ? tells what other keys do."""


class Parser(argparse.ArgumentParser):
    """Errors in one sentence, with the nearest known word."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments. An unknown one is an error of the command that it was given to."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.named(options).error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def named(self, options: argparse.Namespace) -> Parser:
        """Return the parser of the command or action that the options name, or this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  the only way argparse tells its commands
                chosen: Parser | None = action.choices.get(getattr(options, action.dest) or "")
                return self if chosen is None else chosen.named(options)
        return self

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write help and version as all data is written: argparse itself swallows errors."""
        output.text(message)

    def error(self, message: str) -> NoReturn:
        words = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  the only way argparse tells its commands
                words += list(action.choices)
        output.note(f"llmbench: {_plain(message)}{_nearest(message, words)}; see {self.prog} --help")
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


_MOST_RUNS = 100_000
_MOST_STREAMS = 4096
_MOST_OUTCOMES = 1_000_000


def _config(parser: argparse._ActionsContainer, default: Any = argparse.SUPPRESS) -> None:
    """Add ``--config``; a command's own does not unset one that stood before the command."""
    text = "configuration file (default: ./config.toml, then the user's)"
    parser.add_argument("--config", type=path, metavar="PATH", default=default, help=text)


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
    engine.add_argument("--limit", type=up_to(_MOST_OUTCOMES), metavar="N", help="with --once: at most N runs")
    engine.add_argument(LOG_FILE, type=path, help=argparse.SUPPRESS)
    engine.add_argument(UNTIL_STDIN_CLOSES, action="store_true", help=argparse.SUPPRESS)
    _config(engine, default=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _tui(commands)
    _bench(commands)
    _demo(commands)
    _models(commands)
    _results(commands)
    _errors(commands)
    _health(commands)
    _store(commands)
    _ingest(commands)
    _keys(commands)
    _spool(commands)
    _configuration(commands)
    doctor = _add(commands, "doctor", "check the configuration, the credentials, the store and this machine")
    _json(doctor)
    _config(doctor)
    _calibrate(commands)
    _simulate(commands)
    return parser


def _add(commands: Any, name: str, text: str) -> Parser:
    parser: Parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    return parser


def _tui(commands: Any) -> None:
    tui = _add(commands, "tui", "watch an engine: the one that runs here, one that is started, or one elsewhere")
    tui.epilog = _KEYS_OF_TUI
    tui.formatter_class = argparse.RawDescriptionHelpFormatter
    tui.add_argument(
        "--attach", metavar="URL|SOCKET", help="the HTTP side of an engine, or the socket in the folder of its spool"
    )
    tui.add_argument(
        "--key-env", metavar="NAME", help="with --attach URL: the variable of the key (default LLMBENCH_ATTACH_KEY)"
    )
    _config(tui)


def _bench(commands: Any) -> None:
    bench = _add(commands, "bench", "measure models now and compare them")
    bench.add_argument("models", type=model_ref, nargs="+", metavar="PROVIDER/MODEL")
    bench.add_argument("--runs", type=up_to(_MOST_RUNS), default=5, metavar="N", help="runs of each model (default 5)")
    bench.add_argument(
        "--concurrency", type=up_to(_MOST_STREAMS), default=1, metavar="C", help="runs at a time (default 1)"
    )
    bench.add_argument(
        "--profile", metavar="NAME", help="what to ask, a table of [profiles] (default: the model's own)"
    )
    bench.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")
    _config(bench)


def _demo(commands: Any) -> None:
    demo = _add(commands, "demo", "benchmark every provider, simulated on this machine; no keys needed")
    demo.add_argument("--db", type=path, metavar="FILE", help="SQLite file to store into (default: ./llmbench-demo.db)")
    demo.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")
    demo.add_argument(
        "--tui", action="store_true", help="measure on and on and watch it; one provider fails, one is slow"
    )


def _models(commands: Any) -> None:
    models = _add(commands, "models", "list and change the catalogue of models to measure")
    actions = models.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    listing = _add(actions, "list", "list the catalogue")
    listing.add_argument("--provider", metavar="P", help="only this provider")
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--enabled", action="store_true", help="only enabled models")
    which.add_argument("--disabled", action="store_true", help="only disabled models, with the reason")
    listing.add_argument("--count", action="store_true", help="only how many there are")
    _one_model(actions, "show", "show one model, its last runs and its errors")
    check = _add(actions, "check", "check the ids of all enabled models against what is known of their providers")
    check.add_argument("--provider", metavar="P", help="only this provider")
    check.add_argument("--all", action="store_true", help="disabled models, too")
    add = _one_model(actions, "add", "add a model")
    add.add_argument("--profile", metavar="NAME", help="what to ask it, a table of [profiles]")
    add.add_argument("--display-name", metavar="TEXT", help="the name to show")
    add.add_argument("--force", action="store_true", help="whatever the rules say of its id")
    change = _one_model(actions, "set", "change what the catalogue says of a model")
    change.add_argument("--profile", metavar="NAME", help="what to ask it; none: what its provider and id call for")
    change.add_argument("--region", metavar="R", help="where to call it (Bedrock and Vertex); none: its provider's")
    change.add_argument("--display-name", metavar="TEXT", help="the name to show; none: its id")
    _one_model(actions, "enable", "measure a model again")
    disable = _one_model(actions, "disable", "measure a model no more; its row and its past stay")
    disable.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever wonders later")
    export = _add(actions, "export", "write the catalogue as JSON lines, every field of every row")
    export.add_argument("--provider", metavar="P", help="only this provider")
    imports = _add(actions, "import", "add the models of JSON lines; rows that are there stay as they are")
    imports.add_argument("file", type=path, metavar="FILE", help="as models export writes it; -: standard input")
    imports.add_argument(
        "--replace",
        action="store_true",
        help="set display_name, profile, region, notes, request of rows that are there",
    )
    imports.add_argument("--force", action="store_true", help="whatever the rules say of an id")
    for action in actions.choices.values():
        _json(action)
        _config(action)


def _one_model(actions: Any, name: str, text: str) -> Parser:
    parser = _add(actions, name, text)
    parser.add_argument("model", type=model_ref, metavar="PROVIDER/MODEL")
    return parser


def _results(commands: Any) -> None:
    results = _add(commands, "results", "list stored outcomes, newest first")
    results.epilog = _COLUMNS
    results.formatter_class = argparse.RawDescriptionHelpFormatter
    results.add_argument("--since", type=duration, default=duration("24h"), metavar="24h", help="how far back")
    results.add_argument("--provider", metavar="P", help="only this provider")
    results.add_argument("--model", metavar="M", help="only this model: its id, or provider/model_id")
    # A name of its own: the engine has an option --limit, too.
    which = results.add_mutually_exclusive_group()
    which.add_argument("--limit", type=up_to(_MOST_OUTCOMES), metavar="N", dest="most", help="at most N outcomes")
    which.add_argument(
        "--summary", action="store_true", help="what the runs of each model came to, in the place of the runs"
    )
    results.add_argument("--json", action="store_true", help="one line of JSON for each outcome, as stored")
    _config(results)


def _store(commands: Any) -> None:
    store = _add(commands, "store", "move what is stored to another store")
    actions = store.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    copy = _add(actions, "copy", "copy models, outcomes and counted errors; what is there already is not copied again")
    copy.epilog = "A place is the path of an SQLite file, or env:MONGODB_URI: the variable that holds the URI."
    copy.add_argument("source", type=place, metavar="FROM", help="where everything is; nothing there is changed")
    copy.add_argument("target", type=place, metavar="TO", help="where it shall be, too")
    _json(copy)
    _config(copy)


def _ingest(commands: Any) -> None:
    ingest = _add(commands, "ingest", "take outcomes over HTTP from runners that cannot reach the store (the bridge)")
    ingest.add_argument(
        "--listen", type=address, metavar="HOST:PORT", help="where (default: server.listen, or else 127.0.0.1:8787)"
    )
    _config(ingest)


def _keys(commands: Any) -> None:
    keys = _add(commands, "keys", "make, list and revoke the keys that runners use to talk to a bridge")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    new = _add(actions, "new", "make a key for a runner, and print it: it can't be shown again")
    new.add_argument("runner", type=runner_id, metavar="RUNNER", help="runner.id of the runner that is to use it")
    new.add_argument(
        "--scope",
        type=scopes,
        default=["ingest", "worklist"],
        metavar="A,B",
        help="what it allows: ingest, worklist and read (default ingest,worklist)",
    )
    listing = _add(actions, "list", "list the keys that were made, without the keys themselves")
    _json(listing)
    revoke = _add(actions, "revoke", "let a key in no more, from now on")
    revoke.add_argument("key", type=key_id, metavar="KEY_ID", help="its id, as keys list shows it")
    for action in (new, listing, revoke):
        _config(action)


def _spool(commands: Any) -> None:
    spool = _add(commands, "spool", "look after outcomes that are recorded and wait for the store")
    actions = spool.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    status = _add(actions, "status", "tell how much waits and how full it is; exit code 1 if a person is needed")
    _json(status)
    listing = _add(actions, "list", "list outcomes, with what the store said of them")
    listing.add_argument("--limit", type=up_to(_MOST_OUTCOMES), metavar="N", dest="most", help="the first N only")
    _json(listing)
    export = _add(actions, "export", "write outcomes as JSON lines, just as they were recorded")
    export.add_argument("--output", type=path, metavar="FILE", help="into this new file, for its owner alone")
    export.add_argument("--force", action="store_true", help="replace the file")
    for action in (listing, export):
        action.add_argument(
            "--state",
            type=state,
            default="quarantined",
            metavar="STATE",
            help="waiting, quarantined or delivered (default quarantined)",
        )
    retry = _add(actions, "retry", "let quarantined outcomes be sent again")
    retry.add_argument("ids", type=outcome_id, nargs="*", metavar="ID", help="as list shows them")
    retry.add_argument("--all", action="store_true", help="all that are in quarantine")
    discard = _add(actions, "discard", "delete quarantined outcomes for good; they are written out before that")
    discard.add_argument("ids", type=outcome_id, nargs="+", metavar="ID", help="as list shows them")
    discard.add_argument("--yes", action="store_true", help="do delete them")
    _add(actions, "acknowledge", "say that you know of the damage; what was moved aside stays")
    for action in actions.choices.values():
        _config(action)


def _errors(commands: Any) -> None:
    errors = _add(commands, "errors", "count the failures, with a message and what to do about it")
    errors.add_argument("--since", type=duration, default=duration("24h"), metavar="24h", help="how far back")
    errors.add_argument(
        "--by",
        type=counted_by,
        metavar="WHAT",
        default="kind",
        help="what failures are counted by: provider, model, kind or fingerprint (default kind)",
    )
    errors.add_argument("--provider", metavar="P", help="only this provider")
    errors.add_argument(
        "--limit",
        type=up_to(_MOST_OUTCOMES),
        metavar="N",
        dest="most",
        help="at most N counts, the largest (default: 30 in a table, all with --json)",
    )
    _json(errors)
    _config(errors)


def _health(commands: Any) -> None:
    health = _add(commands, "health", "tell for each provider whether it delivers; exit code 1 if one does not")
    health.epilog = _STATES
    health.formatter_class = argparse.RawDescriptionHelpFormatter
    health.add_argument("--since", type=duration, default=duration("24h"), metavar="24h", help="how far back")
    _json(health)
    _config(health)


def _configuration(commands: Any) -> None:
    config = _add(commands, "config", "check or show the configuration")
    actions = config.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    _config(_add(actions, "check", "check the file and the environment, and say all that is wrong"))
    _config(_add(actions, "show", "show the configuration as it takes effect; secrets are never shown"))


def _calibrate(commands: Any) -> None:
    calibrate = _add(commands, "calibrate", "measure llmbench's own error against a server with known timing")
    calibrate.add_argument(
        "--streams", type=up_to(_MOST_STREAMS), default=32, metavar="N", help="streams at a time (default 32)"
    )
    _json(calibrate)


def _simulate(commands: Any) -> None:
    simulate = _add(commands, "simulate", "serve simulated providers on this machine")
    simulate.add_argument("--port", type=port, default=8788, metavar="N", help="port (default 8788; 0: any free one)")
    simulate.add_argument("--record", type=path, metavar="FILE", help="write each request seen as a line of JSON")
    simulate.add_argument(
        "--credentials", type=path, metavar="FOLDER", help="write credentials for Bedrock and Vertex into this folder"
    )
    simulate.add_argument("--menu", action="store_true", help="list the words that a model's name may hold, and end")
    simulate.add_argument("--tls-cert", type=path, metavar="FILE", help="certificate chain (PEM), for https")
    simulate.add_argument("--tls-key", type=path, metavar="FILE", help="its private key (PEM)")
