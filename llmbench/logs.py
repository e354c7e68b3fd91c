"""Log lines: for a person on a terminal, JSON lines otherwise; one line a run. Writing never waits for the reader."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import msgspec

from llmbench.errors import clean
from llmbench.messages import Failure, Outcome
from llmbench.secrets import redact_patterns

_QUEUED_LINES = 10_000
_LAST_LINES_SECONDS = 2.0
_runs = logging.getLogger("llmbench.run")


def log_run(outcome: Outcome) -> None:
    """Log one stored run, in one line."""
    level = logging.WARNING if isinstance(outcome, Failure) else logging.INFO
    _runs.log(level, "%s", describe_run(outcome), extra={"fields": run_fields(outcome)})


def describe_run(outcome: Outcome) -> str:
    """Return a run in one line for a person."""
    name = f"{outcome.provider}/{outcome.model_name}"
    if isinstance(outcome, Failure):
        return f"{name}  failed  {outcome.error_kind}: {outcome.message[:200]}"
    first = outcome.time_to_first_token
    ttft = f"TTFT {first * 1000:.0f} ms" if first is not None else "no visible text"
    coarse = "  coarse" if outcome.resolution == "coarse" else ""
    known = outcome.tokens_per_second is not None
    speed = f"{outcome.tokens_per_second:.1f} tok/s  {outcome.output_tokens} tokens" if known else "unknown speed"
    return f"{name}  {outcome.outcome}  {ttft}  {speed}{coarse}"


def run_fields(outcome: Outcome) -> dict[str, Any]:
    """Return what the JSON line of a run holds: enough to follow it, not the whole document."""
    fields: dict[str, Any] = {
        "event": "run",
        "id": outcome.id,
        "provider": outcome.provider,
        "model": outcome.model_name,
        "outcome": outcome.outcome,
    }
    if isinstance(outcome, Failure):
        return fields | {
            "error_kind": outcome.error_kind,
            "error_cause": outcome.error_cause,
            "stage": outcome.stage,
            "http_status": outcome.http_status,
            "message": outcome.message[:500],
        }
    return fields | {
        "time_to_first_token": outcome.time_to_first_token,
        "tokens_per_second": outcome.tokens_per_second,
        "output_tokens": outcome.output_tokens,
        "clock": outcome.clock,
        "resolution": outcome.resolution,
    }


class JsonFormatter(logging.Formatter):
    """One JSON object a line; the encoder escapes whatever foreign text holds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        line |= fields if fields is not None else {"message": clean(record.getMessage(), 2000)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class PlainFormatter(logging.Formatter):
    """Local time, level unless it is INFO, and the message with control characters made visible."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"{at}  {level}{clean(record.getMessage(), 500)}"
        if not record.exc_info:
            return text
        return "\n".join([text, *(clean(line, 500) for line in self.formatException(record.exc_info).split("\n"))])


class _NeverWaiting(logging.handlers.QueueHandler):
    """Hands records to the writer thread; when a stuck reader has let the queue fill up, drops and counts them."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Lines:
    """Writes lines until nobody reads them any more: the log is for its reader, and the engine goes on without one.

    A write that a stuck reader holds up must hold nobody else up when the program ends. So this is no
    `logging.Handler`, whose lock `logging.shutdown` waits for; and where there is a descriptor, lines go past Python's
    own buffer, whose lock whoever flushes the stream would wait for.
    """

    def __init__(
        self, stream: TextIO, formatter: logging.Formatter, redact: Callable[[str], str], make_room: Callable[[], None]
    ) -> None:
        self._make_room = make_room
        self._stream = stream
        self._formatter = formatter
        self._redact = redact
        self._descriptor = _descriptor(stream)
        self.given_up = False
        """Nobody waits for the writer any more: the stream may be closed, and its descriptor be another file's."""

    def write(self, record: logging.LogRecord) -> None:
        text = self._redact(self._format(record)) + "\n"
        self._make_room()
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                _write(self._descriptor, text.encode(self._stream.encoding, "backslashreplace"))

    def _format(self, record: logging.LogRecord) -> str:
        try:
            return self._formatter.format(record)
        except (TypeError, ValueError) as error:
            text = f"{record.msg!r} with {record.args!r} can't be put together: {error}"
            return self._formatter.format(_record(record.levelno, text, record.name))


class _CurrentStderr(io.TextIOBase):
    """Whatever `sys.stderr` is at the moment: a progress bar takes it over, to print above itself."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text) if sys.stderr is not None else 0

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


def current_stderr() -> TextIO:
    """Return a stream for log lines of a command that shows progress on stderr meanwhile."""
    return cast("TextIO", _CurrentStderr())


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:  # a stream in memory
        return None


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write_lines(lines: queue.Queue[logging.LogRecord | None], target: _Lines) -> None:
    while not target.given_up and (record := lines.get()) is not None:
        target.write(record)


@contextlib.contextmanager
def logging_to(
    stream: TextIO,
    *,
    json: bool,
    level: int = logging.INFO,
    redact: Callable[[str], str] = redact_patterns,
    make_room: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Send log lines to ``stream`` from a thread of their own, until the block ends.

    They are llmbench's from ``level`` on, and other packages' warnings, which would else go to stderr as they are.
    Every line passes through ``redact``: an exception's text may quote a key, and a traceback may, too.
    ``make_room`` is called before each of them, in that thread.
    What is still to be written then gets a few seconds, for a reader may be stuck.
    """
    target = _Lines(stream, JsonFormatter() if json else PlainFormatter(), redact, make_room)
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_LINES)
    handler = _NeverWaiting(lines)
    writer = threading.Thread(target=_write_lines, args=(lines, target), name="log writer", daemon=True)
    own, others = logging.getLogger("llmbench"), logging.getLogger()
    before = own.level, own.propagate
    own.setLevel(level)
    own.propagate = False
    own.addHandler(handler)
    others.addHandler(handler)
    stream.flush()
    writer.start()
    try:
        yield
    finally:
        others.removeHandler(handler)
        own.removeHandler(handler)
        own.setLevel(before[0])
        own.propagate = before[1]
        _finish(writer, lines, target, handler.dropped)


def _finish(
    writer: threading.Thread,
    lines: queue.Queue[logging.LogRecord | None],
    target: _Lines,
    dropped: int,
) -> None:
    """Let the writer come to its end, for a bounded time, and say what is missing."""
    with contextlib.suppress(queue.Full):
        if dropped:
            message = f"{dropped} log lines were dropped: their reader was too slow"
            lines.put(_record(logging.WARNING, message), timeout=_LAST_LINES_SECONDS)
        lines.put(None, timeout=_LAST_LINES_SECONDS)
    writer.join(_LAST_LINES_SECONDS)
    target.given_up = True


def _record(level: int, message: str, name: str = __name__) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 0, message, None, None)
