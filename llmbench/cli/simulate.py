"""`llmbench simulate`: simulated providers in the foreground, until a signal ends them."""

from __future__ import annotations

import argparse
import errno
import json
from pathlib import Path

from llmbench.cli import output
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.simulator import MENU, Simulator, SimulatorError
from llmbench.simulator.main import serve

_HINT = """\
To measure it, put this into config.toml and run llmbench --headless --once:

[providers.simulated]
kind = "openai-compatible"
base_url = {base_url}
models = ["sim-ttft200-gap20-tok64"]
"""
_EXAMPLES = "A name is sim- and words, such as sim-ttft200-gap20-tok64 or sim-429-retry7\n"
"""What `--menu` begins with; each word of its table goes behind ``sim``."""


def run(options: argparse.Namespace) -> int:
    if options.menu:
        output.line(_EXAMPLES)
        output.table(("word", "meaning"), MENU, wrap=1)
        return ExitCode.OK
    try:
        return serve(
            port=options.port,
            tls_cert=_text(options.tls_cert),
            tls_key=_text(options.tls_key),
            record=_text(options.record),
            announce=_announce,
        )
    except SimulatorError as error:
        raise CommandError(str(error), _code(error)) from error


def _announce(simulator: Simulator) -> None:
    """Write the URL as the one line of data, and for a person how to make use of it."""
    output.line(f"simulated providers at {simulator.url}")
    ca_file = 'ca_file = "…"  # the file of the authority that signed its certificate\n'
    output.note(
        _HINT.format(base_url=json.dumps(f"{simulator.url}/local/v1"))
        + (ca_file if simulator.url.startswith("https:") else "")
        + "\nllmbench simulate --menu lists what a model's name can ask for; Ctrl-C ends it"
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _code(error: SimulatorError) -> ExitCode:
    """A port that is taken may be free later; what else there is, an option has to be changed for."""
    taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
    return ExitCode.UNREACHABLE if taken else ExitCode.USAGE
