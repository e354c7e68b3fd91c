"""One client connection: requests come in stamped by the kernel, answers go out by the clock."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Protocol

import httptools

from llmbench.measure.stamps import Read, StampedStream
from llmbench.simulator.pacing import Pacer
from llmbench.simulator.record import Ended, RequestRecord
from llmbench.simulator.reply import Reply, Request, whole
from llmbench.simulator.script import Content, Ending, Step

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_WAITING = 16
_LINGER_NS = 1_000_000_000
"""After a refusal, what the client still sends is read this long, lest a RST overtake the answer."""


class Host(Protocol):
    """What a connection needs of its server."""

    @property
    def pacer(self) -> Pacer:
        """What fires the steps of answers."""
        ...

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request."""
        ...

    def ended(self, record: RequestRecord, ended: Ended) -> None:
        """The answer to a recorded request ended."""
        ...

    def close_when_drained(self, connection: Connection) -> None:
        """Close a connection once the kernel has taken all that was written."""
        ...

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        ...


class Answer:
    """Writes one reply, each step at its time."""

    __slots__ = ("_arrival_ns", "_chunked", "_connection", "_head", "_reply", "_step", "_steps", "_stream", "record")

    def __init__(self, connection: Connection, stream: StampedStream, reply: Reply, arrival_ns: int) -> None:
        self._connection: Connection | None = connection
        self._stream = stream
        self._reply = reply
        self._steps: Iterator[Step] = reply.steps
        self._step: Step | None = None
        self._arrival_ns = arrival_ns
        self._chunked = reply.chunked
        self._head = reply.head()
        self.record = reply.record

    def start(self) -> None:
        """Write the head, unless it is to come late, and wait for the first step."""
        if self._head and self._reply.chunked and not self._reply.late_head and self._write(self._head):
            self._note_head()
        self._advance()

    def stop(self) -> None:
        """Write nothing more."""
        self._connection = None

    def _note_head(self) -> None:
        self._head = b""
        if self.record is not None:
            self.record.head_written_ns = self._stream.last_write_ns

    def _advance(self) -> None:
        if self._connection is not None:
            self._step = next(self._steps)
            self._connection.pacer.at(self._arrival_ns + self._step.due_ns, self)

    def fire(self) -> None:
        """Write the step that is due."""
        step = self._step
        if self._connection is None or step is None:
            return
        before = perf_counter_ns()
        data = step.data if isinstance(step.data, bytes) else step.data(before)
        framed = self._framed(data, step)
        if framed and not self._write(framed):
            return
        if self._head:
            self._note_head()
        if self.record is not None:
            self._note(self.record, step, before)
        if step.ending is None:
            self._advance()
        else:
            self._finish(step.ending)

    def _framed(self, data: bytes, step: Step) -> bytes:
        if self._chunked and not step.raw:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if step.ending is Ending.COMPLETE:
                data += b"0\r\n\r\n"
        return self._head + data

    def _note(self, record: RequestRecord, step: Step, before: int) -> None:
        if step.content is Content.VISIBLE:
            record.writes_ns.append(before)
            record.written_ns.append(perf_counter_ns())
        elif step.content is Content.REASONING:
            record.reasoning_writes_ns.append(before)
        if step.ending is not None:
            record.end_written_ns = before
        if step.content is not Content.OTHER:
            record.late_ns = max(record.late_ns, before - self._arrival_ns - step.due_ns)

    def _write(self, data: bytes) -> bool:
        """Write; False says that the client is gone."""
        try:
            self._stream.write(data)
        except OSError:
            if self._connection is not None:
                self._connection.lost()
            return False
        return True

    def _finish(self, ending: Ending) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.answered(self.record, ending, self._reply)


class Connection:
    """Parses requests, answers them one after the other, and knows when the client is gone."""

    def __init__(self, host: Host, number: int) -> None:
        self.pacer = host.pacer
        self.stream: StampedStream | None = None
        self._host = host
        self._number = number
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._answer: Answer | None = None
        self._unended: RequestRecord | None = None
        self._read: Read | None = None
        self._refusal: int | None = None
        self._lingering = False
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._in_head = False

    # the stream's receiver

    def received(self, read: Read, data: bytes | memoryview) -> None:
        """Take bytes from the client."""
        if self._parser is None or self._lingering:
            return
        self._read = read
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a client may offer h2c; staying with HTTP/1.1 is the answer
        except httptools.HttpParserCallbackError:
            raise  # our own mistake, not the client's
        except httptools.HttpParserError:
            self._refusal = self._refusal or 400
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refusal = self._refusal or 431
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._waiting and self._answer is None:
            self._next()

    def ended(self, error: Exception | None) -> None:
        """The client closed the connection, or it broke."""
        self.lost()

    def lost(self) -> None:
        """The client is gone: stop the answer and forget the connection."""
        answer, self._answer = self._answer, None
        record = self._unended
        if answer is not None:
            answer.stop()
            record = answer.record
        if record is not None:
            record.client_closed_ns = perf_counter_ns()
            self._host.ended(record, "client_closed")
        self.close()

    def close(self) -> None:
        """Close at once. Harmless if it is closed already."""
        if self._answer is not None:
            self._answer.stop()
            self._answer = None
        self._parser = None  # parser and connection know each other; nothing else collects that cycle
        self._waiting.clear()
        if self.stream is not None:
            self.stream.close()
        self._host.forget(self)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._clear()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self._headers) + len(self._target) > MAX_HEAD_BYTES:
            self._refusal = 431
        if self.stream is not None and any(name == "expect" for name, _value in self._headers):
            with contextlib.suppress(OSError):  # the client may be gone; the reader will tell
                self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refusal = 413
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        assert self._read is not None
        if self._refusal is None and self._parser.get_http_version() != "1.1":
            self._refusal = 505
        if len(self._waiting) >= _MAX_WAITING:
            self._refusal = 400
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=b"".join(self._body),
            arrival_ns=self._read.stamp_ns,
            kernel=self._read.kernel,
            keep_alive=self._parser.should_keep_alive(),
            connection=self._number,
        )
        self._waiting.append(request)

    # answering

    def _next(self) -> None:
        request = self._waiting.popleft()
        reply = self._host.answer(request)
        reply.close = reply.close or not request.keep_alive
        self._begin(reply, request.arrival_ns)

    def _refuse(self, status: int) -> None:
        self._lingering = True
        self._waiting.clear()
        reply = whole(status, b'{"error":{"message":"the simulator refuses this request"}}', "application/json")
        reply.close = True
        if self._answer is None:
            self._begin(reply, perf_counter_ns())

    def _begin(self, reply: Reply, arrival_ns: int) -> None:
        assert self.stream is not None
        self._answer = Answer(self, self.stream, reply, arrival_ns)
        self._answer.start()

    def answered(self, record: RequestRecord | None, ending: Ending, reply: Reply) -> None:
        """The answer has been written to its end."""
        self._answer = None
        if record is not None:
            self._host.ended(record, "fault" if reply.fault else "complete")
        self._settle(ending, record, keep_alive=not reply.close)

    def _settle(self, ending: Ending, record: RequestRecord | None, *, keep_alive: bool) -> None:
        assert self.stream is not None
        if ending is Ending.COMPLETE and keep_alive and not self._lingering:
            if self._waiting:
                self._next()
            return
        refused, self._lingering = self._lingering, True  # nothing that still comes in is a request
        match ending:
            case Ending.HANG:
                self._unended = record
            case Ending.RESET:
                self.stream.close(reset=True)
                self.close()
            case Ending.COMPLETE if refused:
                self.pacer.at(perf_counter_ns() + _LINGER_NS, _Goodbye(self))
            case _:
                self._host.close_when_drained(self)


class _Goodbye:
    """Closes a connection later."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fire(self) -> None:
        self._connection.close()
