"""What holds for every command: help, exit codes, errors in a sentence, pipes, terminals, nothing heavy loaded."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from llmbench import __version__
from llmbench.cli.parser import build
from tests.cli.conftest import COMMAND, SECONDS, Program
from tests.stores.documents import failure, model, sample

HEAVY = {"aioboto3", "anthropic", "boto3", "botocore", "google", "httpx", "httpx2", "motor", "numpy", "openai",
         "pymongo", "textual"}  # fmt: skip
"""Top-level modules that a command which only looks something up has no use for."""


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command and subcommand that there is."""
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield from _commands(subparser, (*path, name))


@pytest.mark.parametrize("command", list(_commands(build())), ids=lambda path: " ".join(path) or "llmbench")
def test_every_command_explains_itself(program: Program, command: tuple[str, ...]) -> None:
    """Its help ends with 0, says how it is used, and touches nothing."""
    result = program.ok(*command, "--help")
    assert result.out.startswith(" ".join(("usage: llmbench", *command)))
    assert result.err == ""
    assert list(program.home.iterdir()) == []


def test_the_version_is_told(program: Program) -> None:
    """One line with the program's name and version."""
    assert program.ok("--version").out == f"llmbench {__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models", "list"], ["models", "list", "--json"]])
def test_looking_something_up_loads_nothing_heavy(program: Program, arguments: list[str]) -> None:
    """No SDK, no textual, no numpy is imported for it: the whole program is up at once."""
    program.store(models=[model()])
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "llmbench", *arguments],
        cwd=program.home,
        env=program.environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=True,
    )
    imported = set(re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "llmbench.cli.main" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


def test_no_command_shows_the_help(program: Program) -> None:
    """Without a command there is nothing to do; the help on standard error says what there would be."""
    result = program.run()
    assert (result.code, result.out) == (2, "")
    assert "models" in result.err


def test_a_misspelt_command_names_the_nearest(program: Program) -> None:
    """The sentence says which word was wrong and which was probably meant."""
    assert "'modls' is not a command" in (sentence := program.refused("modls"))
    assert "did you mean 'models'?" in sentence


def test_a_misspelt_option_names_the_nearest(program: Program) -> None:
    """It is looked for among the options of the command that it was given to, whose help is named."""
    assert program.refused("bench", "x/y", "--rnus", "3") == (
        "unknown argument '--rnus' (did you mean '--runs'?); see llmbench bench --help"
    )
    assert program.refused("models", "list", "--enabeld") == (
        "unknown argument '--enabeld' (did you mean '--enabled'?); see llmbench models list --help"
    )
    assert (
        program.refused("--hedless") == "unknown argument '--hedless' (did you mean '--headless'?); see llmbench --help"
    )


@pytest.mark.parametrize("options", [["--once"], ["--limit", "3"], ["--providers", "openai"]])
def test_options_of_the_engine_need_the_engine(program: Program, options: list[str]) -> None:
    """Without --headless they say what is missing."""
    assert program.refused(*options) == f"{options[0]} needs --headless; see llmbench --help"


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["bench", "x/y", "--runs"], 100_000),
        (["bench", "x/y", "--concurrency"], 4096),
        (["calibrate", "--streams"], 4096),
        (["results", "--limit"], 1_000_000),
        (["--headless", "--once", "--limit"], 1_000_000),
    ],
)
def test_numbers_have_limits(arguments: list[str], most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The largest is accepted; a larger one, zero and what is no number are refused with both limits."""
    assert str(most) in map(str, vars(build().parse_args([*arguments, str(most)])).values())
    for wrong in (str(most + 1), "0", "-1", "many", "9" * 5000):
        with pytest.raises(SystemExit) as ended:
            build().parse_args([*arguments[:-1], f"{arguments[-1]}={wrong}"])
        assert ended.value.code == 2
        assert f"must be a whole number from 1 to {most}; see" in capsys.readouterr().err


def test_values_that_say_nothing_are_explained(program: Program) -> None:
    """An empty path is called empty, and a duration of too many digits too long."""
    assert "argument --config: the path is empty" in program.refused("results", "--config", "")
    assert "argument --db: the path is empty" in program.refused("demo", "--db", "")
    assert "'999999999999999d' is too long" in program.refused("results", "--since", "999999999999999d")


def test_help_fits_eighty_columns(program: Program) -> None:
    """No line of the program's help is wider than a terminal."""
    assert max(map(len, program.ok("--help").lines())) <= 80


def test_a_model_without_its_provider_is_explained(program: Program) -> None:
    """A bare id can't be found in a catalogue of many providers; the sentence shows how it is written."""
    assert "write provider/model_id, such as openai/gpt-4o-mini" in program.refused("models", "show", "gpt-4o-mini")


# configuration and store: the same for every command that needs them


@pytest.mark.parametrize("command", [["models", "list"], ["results"], ["config", "check"], ["config", "show"]])
def test_a_missing_configuration_file_is_refused(program: Program, command: list[str]) -> None:
    """A file that was named has to be there, wherever on the command line it was named."""
    sentence = "nowhere.toml: does not exist: name a file that does, or name none to use the defaults"
    assert program.refused(*command, "--config", "nowhere.toml") == sentence
    assert program.refused("--config", "nowhere.toml", *command) == sentence


@pytest.mark.parametrize("command", [["models", "list"], ["results"], ["config", "check"], ["config", "show"]])
def test_an_unknown_key_names_the_nearest(program: Program, command: list[str]) -> None:
    """A typo is never silently a default."""
    path = program.configure("[schedule]\nfresh_minuts = 5\n")
    assert program.refused(*command) == (
        f"{path}: schedule.fresh_minuts is not a known key: rename it to 'fresh_minutes', or remove it"
    )


@pytest.mark.parametrize("command", [["models", "list"], ["results"], ["models", "show", "openai/x"]])
def test_a_database_that_can_not_be_is_refused(program: Program, command: list[str]) -> None:
    """A folder in the file's place, and a place where nobody can write, are mistakes in the configuration."""
    program.configure(f'[store.sqlite]\npath = "{program.home}"\n')
    assert program.refused(*command) == (
        f"SQLite file '{program.home}' is not a regular file; choose the path of a file"
    )
    program.configure('[store.sqlite]\npath = "/proc/x/llmbench.db"\n')
    assert program.refused(*command).startswith("SQLite file '/proc/x/llmbench.db' can't be opened or created (")


def test_a_choice_between_two_stores_is_left_to_the_user(program: Program) -> None:
    """Who set INGEST_API_URL must not find the rows in a database a week later."""
    sentence = program.refused("results", env={"INGEST_API_URL": "https://elsewhere", "MONGODB_URI": "mongodb://here"})
    assert "environment variables 'MONGODB_URI' and 'INGEST_API_URL' ask for two stores: set LLMBENCH_STORE" in sentence


def test_a_worklist_without_a_bridge_is_refused(program: Program) -> None:
    """Who set RUNNER_CONFIG_URL must not find, a week later, that what the file lists was measured."""
    sentence = program.refused("results", env={"RUNNER_CONFIG_URL": "https://elsewhere"})
    assert "environment variable 'RUNNER_CONFIG_URL' names a worklist, which only the HTTP store has" in sentence


# output: pipes and terminals


@pytest.mark.parametrize("command", [["config", "show"], ["models", "list"], ["results"], ["results", "--json"],
                                     ["simulate", "--menu"]])  # fmt: skip
def test_output_that_nobody_reads_ends_the_program_quietly(program: Program, command: list[str]) -> None:
    """The reader of the pipe is gone before the first line: the exit code says SIGPIPE, nothing else is said."""
    program.store([sample(run_ts=datetime.now(UTC))], [model()])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            [*COMMAND, *command],
            cwd=program.home,
            env=program.environment(),
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_pipe_into_head_leaves_no_traceback(program: Program) -> None:
    """What is wanted of a long list is its first line."""
    program.store([sample(run_ts=datetime.now(UTC)) for _ in range(100)])
    done = subprocess.run(
        f"'{sys.executable}' -m llmbench results --json | head -1",
        shell=True,
        cwd=program.home,
        env=program.environment(),
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


@pytest.mark.parametrize(
    "command",
    ["results", "results --json", "models list", "config show", "simulate --menu", "--help", "--version"],
)
@pytest.mark.parametrize(("where", "why"), [("/dev/full", "No space left on device"), ("&-", "it is closed")])
def test_output_that_can_not_be_written_is_said(program: Program, command: str, where: str, why: str) -> None:
    """A full disk or a closed standard output is one sentence and exit code 3, with nothing said at the end either."""
    program.store([sample(run_ts=datetime.now(UTC))], [model()])
    done = _in_shell(program, f"{command} >{where}")
    said = done.stderr.splitlines()
    assert (done.returncode, said) == (3, [f"llmbench: standard output can't be written: {why}"])


@pytest.mark.parametrize(("command", "code"), [("models list", 0), ("modls", 2), ("", 2), ("results --model zzz", 2)])
def test_nobody_has_to_listen_to_the_notes(program: Program, command: str, code: int) -> None:
    """With standard error closed a command ends as it would otherwise."""
    program.store(models=[model()])
    assert _in_shell(program, f"{command} 2>&-").returncode == code


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("config show", 0, ""),
        ("results", 0, "no outcome is stored from the last 24h; a longer --since looks further back\n"),
        ("demo", 2, "llmbench: the current folder was deleted: change to another one, or give absolute paths\n"),
    ],
)
def test_the_current_folder_is_gone(program: Program, command: str, code: int, said: str) -> None:
    """There is no configuration file in it then; a command that has to write there says why it can't."""
    done = _in_shell(program, command, before="mkdir gone; cd gone; rmdir ../gone;")
    assert (done.returncode, done.stderr) == (code, said)


def _in_shell(program: Program, command: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        f"{before} '{sys.executable}' -m llmbench {command}",
        shell=True,
        cwd=program.home,
        env=program.environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def _on_terminal(program: Program, columns: int, arguments: list[str], **variables: str) -> str:
    """Run a command on a terminal of so many columns; return what it shows, escape sequences included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=program.home,
        env=program.environment(TERM="xterm-256color", **variables),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        shown = b"".join(_chunks(ours))
        assert process.wait(SECONDS) == 0
    os.close(ours)
    return shown.decode()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:  # Linux says EIO once the other end of a terminal is closed
            return
        if not data:
            return
        yield data


@pytest.mark.parametrize("columns", [60, 120])
def test_outcomes_are_whole_on_a_narrow_terminal(program: Program, columns: int) -> None:
    """Every column of the widest row is there, folded where it must be."""
    program.store([failure(run_ts=datetime.now(UTC), model_name="m" * 40, error_kind="transient_provider")])
    shown = re.sub(r"\x1b\[[\d;]*m", "", _on_terminal(program, columns, ["results"]))
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert shown.count("m") >= 40
    assert "…" not in shown


@pytest.mark.parametrize("columns", [60, 120])
def test_a_table_is_as_wide_as_the_terminal_at_most(program: Program, columns: int) -> None:
    """Model ids are never cut off: what does not fit is folded."""
    program.store(models=[model("a-model-with-a-name-that-goes-on-and-on" * 2)])
    shown = re.sub(r"\x1b\[[\d;]*m", "", _on_terminal(program, columns, ["models", "list"]))
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert "…" not in shown


def test_no_color_is_honoured(program: Program) -> None:
    """With NO_COLOR set, nothing that a terminal is sent changes a colour."""
    program.store([sample(run_ts=datetime.now(UTC))], [model()])
    for arguments in (["models", "list"], ["results"], ["models", "show", "openai/gpt-4o-mini"]):
        shown = _on_terminal(program, 80, arguments, NO_COLOR="1")
        assert "gpt-4o-mini" in shown
        assert not re.search(r"\x1b\[(?:\d+;)*(?:[34]\d|9\d|10\d)[;m]", shown)
