"""Log lines: what they say, that foreign text cannot forge them, and that no reader can hold the engine up."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

import msgspec
import pytest

from llmbench import logs
from llmbench.logs import JsonFormatter, PlainFormatter, describe_run, log_run, logging_to
from llmbench.secrets import Redactor
from tests.stores.documents import failure, sample

HOSTILE = 'red \x1b[31m alert\r\n{"forged": true}\x00 \u202e'
LIMIT = 10.0
logger = logging.getLogger("llmbench.tests")


def record(message: str, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelno": level, "levelname": logging.getLevelName(level)} | more)
    made.name = "llmbench.tests"
    return made


def error_of(text: str) -> tuple[type[ValueError], ValueError, Any]:
    """Return the information on an error that was raised with this text."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  any text will do
        fail(text)
    return ValueError, caught.value, caught.tb


def fail(text: str) -> None:
    raise ValueError(text)


def parsed(text: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines; every line has to be one."""
    assert text.endswith("\n")
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in text[:-1].split("\n")]


class TestLines:
    def test_a_run_says_how_it_went_in_a_line(self) -> None:
        """Name, outcome, time to first token, speed and tokens; what is coarse says so."""
        good = sample(time_to_first_token=0.4124, tokens_per_second=51.19, output_tokens=64)

        assert describe_run(good) == "openai/gpt-4o-mini  ok  TTFT 412 ms  51.2 tok/s  64 tokens"
        assert describe_run(sample(resolution="coarse")).endswith("tokens  coarse")
        hidden = sample(time_to_first_token=None, outcome="budget_exhausted")
        assert "budget_exhausted  no visible text" in describe_run(hidden)

    def test_a_failed_run_says_why(self) -> None:
        """The kind and the beginning of the message."""
        failed = failure(error_kind="timeout", message="nothing arrived for 60 s" + "!" * 500)
        line = describe_run(failed)

        assert line.startswith("groq/llama-3.3-70b-versatile  failed  timeout: nothing arrived for 60 s!!!")
        assert len(line) < 300

    def test_the_json_line_of_a_run_can_be_followed_to_its_document(self) -> None:
        """Id, model and figures are fields; a failure has its kind, cause, stage and status."""
        out = io.StringIO()
        good, bad = sample(), failure()
        with logging_to(out, json=True):
            log_run(good)
            log_run(bad)
        first, second = parsed(out.getvalue())

        assert (first["event"], first["id"], first["level"]) == ("run", good.id, "info")
        assert (first["provider"], first["model"], first["outcome"]) == ("openai", "gpt-4o-mini", "ok")
        assert first["time_to_first_token"] == good.time_to_first_token
        assert (first["clock"], first["resolution"]) == ("kernel", "fine")
        assert (second["id"], second["level"], second["outcome"]) == (bad.id, "warning", "failed")
        assert (second["error_kind"], second["stage"], second["http_status"]) == ("rate_limit", "generate", 429)

    def test_foreign_text_stays_in_its_json_string(self) -> None:
        """Line ends, control characters and quotes make neither a second line nor a second field."""
        out = io.StringIO()
        with logging_to(out, json=True):
            log_run(failure(message=HOSTILE, model_name=HOSTILE))
            logger.warning("the provider says %s", HOSTILE)
            logger.error("crashed", exc_info=error_of(HOSTILE))
        run, said, crashed = parsed(out.getvalue())

        assert run["message"] == run["model"] == HOSTILE
        assert said["message"] == r'the provider says red \x1b[31m alert\r\n{"forged": true}\x00 \u202e'
        assert HOSTILE in crashed["traceback"]
        assert out.getvalue().isprintable() or not set(out.getvalue()) & set("\x1b\x00\r")

    def test_foreign_text_moves_nothing_on_a_terminal(self) -> None:
        """Control characters are made visible in the message as well as in a traceback."""
        text = PlainFormatter().format(record(f"the provider says {HOSTILE}", exc_info=error_of(HOSTILE)))

        assert not set(text) & set("\x1b\x00\r\u202e")
        first, *traceback = text.split("\n")
        assert first.endswith(r'the provider says red \x1b[31m alert\r\n{"forged": true}\x00 \u202e')
        assert traceback[0] == "Traceback (most recent call last):"
        assert r"ValueError: red \x1b[31m alert\r" in traceback

    @pytest.mark.parametrize(
        ("level", "shown"), [(logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: ")]
    )
    def test_a_line_for_a_person_names_the_level_only_if_it_matters(self, level: int, shown: str) -> None:
        """Time of day, then the level unless all is well, then the message."""
        text = PlainFormatter().format(record("3 models", level))

        assert text[8:] == f"  {shown}3 models"
        assert text[2] == text[5] == ":"

    def test_a_json_line_has_the_time_in_utc(self) -> None:
        """RFC 3339 with an offset, the level in lower case, and the logger's name."""
        line = msgspec.json.decode(JsonFormatter().format(record("3 models", created=1_773_489_600.5)))

        assert line == {
            "ts": "2026-03-14T12:00:00.500000Z",
            "level": "info",
            "logger": "llmbench.tests",
            "message": "3 models",
        }

    def test_other_packages_warn_through_the_log(self) -> None:
        """An SDK's warning and its traceback are a line like any other, redacted; its small talk is left out."""
        out = io.StringIO()
        key = "sk-canary-0123456789abcdef"
        with logging_to(out, json=True, redact=Redactor([key]).redact):
            sdk = logging.getLogger("botocore.credentials")
            sdk.info("looking for credentials")
            sdk.warning("the profile's key %s was refused", key, exc_info=error_of(f"no {key} here"))
        (line,) = parsed(out.getvalue())

        assert line["level"] == "warning"
        assert "was refused" in line["message"]
        assert key not in out.getvalue()

    def test_long_messages_are_cut(self) -> None:
        """A provider that sends a megabyte of error text fills no log."""
        out = io.StringIO()
        with logging_to(out, json=True):
            logger.info("x" * 1_000_000)
            log_run(failure(message="y" * 1_000_000))

        assert all(len(line) < 2500 for line in out.getvalue().splitlines())


@contextmanager
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Make a pipe; its reader's descriptor may be closed on the way."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123  a descriptor has no path
        try:
            yield reader, stream
        finally:
            with suppress(OSError):
                os.close(reader)


class TestWriting:
    def test_all_lines_are_out_when_the_block_ends(self, tmp_path: Path) -> None:
        """In order, none missing, though a thread writes them."""
        path = tmp_path / "log"
        with path.open("w", encoding="utf-8") as stream, logging_to(stream, json=True):
            for number in range(2000):
                logger.info("line %d", number)

        assert [line["message"] for line in parsed(path.read_text())] == [f"line {n}" for n in range(2000)]

    def test_it_is_written_by_a_thread_of_its_own(self) -> None:
        """Whoever logs, an event loop for one, formats and writes nothing itself."""
        writers = set[str]()

        class Noticing(io.StringIO):
            def write(self, text: str) -> int:
                writers.add(threading.current_thread().name)
                return super().write(text)

        with logging_to(Noticing(), json=False):
            logger.info("line")

        assert writers == {"log writer"}

    def test_logging_is_as_before_when_the_block_ends(self) -> None:
        """Handlers, level and propagation of llmbench's loggers are put back, also after an error."""
        root = logging.getLogger("llmbench")
        before = (root.level, root.propagate, list(root.handlers), threading.active_count())
        levels = []
        with suppress(KeyError), logging_to(io.StringIO(), json=True, level=logging.ERROR):
            levels.append(root.level)
            raise KeyError

        assert levels == [logging.ERROR]
        assert (root.level, root.propagate, list(root.handlers), threading.active_count()) == before

    def test_what_is_below_the_level_is_left_out(self) -> None:
        """A bench shows warnings only."""
        out = io.StringIO()
        with logging_to(out, json=False, level=logging.WARNING):
            logger.info("quiet")
            logger.warning("loud")
            logging.getLogger("httpx2").info("quiet as well")

        assert out.getvalue().count("\n") == 1
        assert "warning: loud" in out.getvalue()

    def test_a_message_that_its_arguments_do_not_fit_is_written_as_it_is(self) -> None:
        """A slip in one line of code silences neither that line nor those after it."""
        out = io.StringIO()
        with logging_to(out, json=True):
            logger.info("%d models", "three")
            logger.info("next")
        first, second = parsed(out.getvalue())

        assert first["message"].startswith("'%d models' with ('three',) can't be put together: ")
        assert second["message"] == "next"

    def test_no_key_reaches_the_log(self) -> None:
        """What a bug's exception or its traceback quotes is redacted like everything else that is foreign."""
        out = io.StringIO()
        with logging_to(out, json=True, redact=Redactor(["canary-of-a-key"]).redact):
            logger.error("failed", exc_info=ValueError("no canary-of-a-key here"))

        assert "canary" not in out.getvalue()
        assert "no *** here" in parsed(out.getvalue())[0]["traceback"]

    def test_text_that_the_stream_cannot_hold_is_escaped(self, tmp_path: Path) -> None:
        """On a terminal that knows ASCII only, a line is written all the same."""
        path = tmp_path / "log"
        with path.open("w", encoding="ascii") as stream, logging_to(stream, json=False):
            logger.info("žluťoučký 🦄")

        assert path.read_bytes().endswith(b"\\u017elu\\u0165ou\\u010dk\\xfd \\U0001f984\n")


class TestReader:
    def test_one_that_goes_away_stops_nothing(self) -> None:
        """Its pipe is closed: whoever logs notices nothing, and the end comes without an error."""
        with pipe() as (reader, stream):
            with logging_to(stream, json=True):
                logger.info("one")
                assert os.read(reader, 4096).endswith(b'"message":"one"}\n')
                os.close(reader)
                for number in range(100):
                    logger.info("more %d", number)
            stream.flush()  # nothing is left in its buffer that could not be written

    def test_one_that_is_stuck_is_never_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pipe is full and stays so: logging goes on, lines are dropped, and the end comes in bounded time."""
        monkeypatch.setattr(logs, "_QUEUED_LINES", 100)
        monkeypatch.setattr(logs, "_LAST_LINES_SECONDS", 0.1)
        with pipe() as (_reader, stream):
            began = monotonic()
            with logging_to(stream, json=True):
                for _ in range(5000):
                    logger.info("x" * 1000)
                logged = monotonic() - began
            assert logged < LIMIT
            assert monotonic() - began < LIMIT

    def test_one_that_was_slow_learns_what_it_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last line counts what was dropped, in the format of all the others, and the count is right."""
        monkeypatch.setattr(logs, "_QUEUED_LINES", 100)
        received: list[bytes] = []
        with pipe() as (reader, stream):

            def read_all() -> None:
                while data := os.read(reader, 65_536):
                    received.append(data)

            late = threading.Thread(target=read_all)
            with logging_to(stream, json=True):
                for _ in range(5000):
                    logger.info("x" * 1000)
                late.start()
            stream.close()
            late.join(LIMIT)
        lines = parsed(b"".join(received).decode())

        dropped = 5000 - sum(line["message"].startswith("x") for line in lines)
        assert dropped > 4000
        assert (lines[-1]["level"], lines[-1]["message"]) == (
            "warning",
            f"{dropped} log lines were dropped: their reader was too slow",
        )
