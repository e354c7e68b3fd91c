"""`llmbench simulate`: simulated providers in the foreground, until a signal ends them."""

from __future__ import annotations

import argparse
import errno
import json
import shlex
from functools import partial
from pathlib import Path

from llmbench.cli import output
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.simulator import MENU, Simulator, SimulatorError, credentials
from llmbench.simulator.main import serve

_HINT = """\
To measure it, put this into config.toml and run llmbench --headless --once:

[providers.simulated]
kind = "openai-compatible"
base_url = {base_url}
models = ["sim-ttft200-gap20-tok64"]
"""
_CLOUDS = """\

For Bedrock and Vertex, in the shell that llmbench runs in:

. {script}

and in config.toml:

[providers.bedrock]
base_url = {bedrock}
models = ["us.amazon.nova-sim-ttft200-gap20-tok64"]

[providers.vertex]
base_url = {vertex}
models = ["gemini-sim-ttft200-gap20-tok64"]
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
            announce=partial(_announce, folder=options.credentials),
        )
    except SimulatorError as error:
        raise CommandError(str(error), _code(error)) from error


def _announce(simulator: Simulator, folder: Path | None) -> None:
    """Write the URL as the one line of data, and for a person how to make use of it."""
    clouds = "" if folder is None else _credentials(simulator.url, folder.absolute())
    output.line(f"simulated providers at {simulator.url}")
    ca_file = 'ca_file = "…"  # the file of the authority that signed its certificate\n'
    output.note(
        _HINT.format(base_url=json.dumps(f"{simulator.url}/local/v1"))
        + (ca_file if simulator.url.startswith("https:") else "")
        + clouds
        + "\nllmbench simulate --menu lists what a model's name can ask for; Ctrl-C ends it"
    )


def _credentials(url: str, folder: Path) -> str:
    """Write what the clouds' SDKs need into the folder; return how to make use of it. Raises CommandError."""
    script = folder / "environment.sh"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        variables = credentials.environment(folder, url)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        script.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the folder {str(folder)!r} can't be written to: {error.strerror}") from error
    bases = {name: json.dumps(f"{url}/{name}") for name in ("bedrock", "vertex")}
    return _CLOUDS.format(script=shlex.quote(str(script)), **bases)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _code(error: SimulatorError) -> ExitCode:
    """A port that is taken may be free later; what else there is, an option has to be changed for."""
    taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
    return ExitCode.UNREACHABLE if taken else ExitCode.USAGE
