"""What the simulator saw and when it answered: the other side of every measurement.

All times are `time.perf_counter_ns`, which every process of one machine shares on Linux.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    Stamps = array[int]
else:
    Stamps = array  # it can't be subscripted before Python 3.12

Ended = Literal["complete", "client_closed", "fault"]

MAX_RECORDS = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""Records are dropped, oldest first, beyond either of these; the counts go on."""

_SECRET_HEADERS = {"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token", "cookie"}
_BASE_BYTES = 2048
"""What a record takes in memory apart from its body and its stamps, roughly."""


def _stamps() -> Stamps:
    return array("q")


class RequestRecord(msgspec.Struct, kw_only=True):
    """One request. ``writes_ns`` has the stamp taken right before each write that held visible tokens, ``written_ns``
    the one right behind it: if this process was interrupted, the bytes may have gone out at any time in between.

    ``ended`` is None while the answer goes on; a fault counts as ended once it has happened, even if the connection
    stays open. ``late_ns`` is the worst lateness of a token's write against its promise.
    """

    sequence: int
    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int
    arrival_ns: int
    arrival_clock: Literal["kernel", "user"]
    connection: int
    provider: str | None = None
    model: str | None = None
    body_json: msgspec.Raw = msgspec.field(name="body", default=msgspec.Raw(b"null"))
    status: int | None = None
    head_written_ns: int | None = None
    reasoning_writes_ns: Stamps = msgspec.field(default_factory=_stamps)
    writes_ns: Stamps = msgspec.field(default_factory=_stamps)
    written_ns: Stamps = msgspec.field(default_factory=_stamps)
    end_written_ns: int | None = None
    client_closed_ns: int | None = None
    late_ns: int = 0
    ended: Ended | None = None

    @property
    def body(self) -> Any:
        """The request's body, decoded; None if it was no JSON."""
        return msgspec.json.decode(self.body_json)

    def size(self) -> int:
        """Return the bytes of memory it takes, roughly."""
        stamps = len(self.writes_ns) + len(self.written_ns) + len(self.reasoning_writes_ns)
        return _BASE_BYTES + self.body_bytes + stamps * self.writes_ns.itemsize


class Counts(msgspec.Struct):
    """Requests since the start or the last reset."""

    requests: int = 0
    running: int = 0
    complete: int = 0
    client_closed: int = 0
    fault: int = 0


def without_secrets(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name, each secret replaced by the beginning of its digest."""
    return {name: digest(value) if name in _SECRET_HEADERS and value else value for name, value in headers}


def digest(secret: str) -> str:
    """Return what is shown of a secret: enough to tell two apart."""
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()[:12]}"


def _encode_stamps(value: Any) -> Any:
    if isinstance(value, array):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} has no place in a record")


def _decode_stamps(kind: type, value: Any) -> Any:
    return array("q", value)


encoder = msgspec.json.Encoder(enc_hook=_encode_stamps)


def decode_records(data: bytes) -> list[RequestRecord]:
    """Return the records in the answer of ``GET /_sim/requests``."""
    return msgspec.json.decode(data, type=list[RequestRecord], dec_hook=_decode_stamps)


class RequestLog:
    """The latest requests, in the order of their arrival, and how many there were.

    ``on_ended`` is called with each record that is complete.
    """

    def __init__(self, on_ended: Callable[[RequestRecord], None] | None = None) -> None:
        self.records: deque[RequestRecord] = deque()
        self.counts = Counts()
        self._running: dict[int, RequestRecord] = {}
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._on_ended = on_ended

    def next_sequence(self) -> int:
        """Count one more request and return its number, from 1."""
        self.counts.requests += 1
        return self.counts.requests

    def add(self, record: RequestRecord) -> None:
        """Keep a request that has just arrived."""
        self._running[record.sequence] = record
        self.counts.running = len(self._running)
        self.records.append(record)
        self._weigh(record)

    def end(self, record: RequestRecord, ended: Ended) -> None:
        """Say how the answer ended; only the first word on it counts."""
        if record.ended is not None:
            return
        record.ended = ended
        if self._running.get(record.sequence) is not record:
            return  # it began before the last reset
        del self._running[record.sequence]
        self.counts.running = len(self._running)
        setattr(self.counts, ended, getattr(self.counts, ended) + 1)
        if record.sequence in self._sizes:
            self._weigh(record)
        if self._on_ended is not None:
            self._on_ended(record)

    def select(self, provider: str | None = None, model: str | None = None, since: int = 0) -> list[RequestRecord]:
        """Return the records with a number above ``since`` and, where given, this provider and model."""
        return [
            record
            for record in self.records
            if record.sequence > since and provider in (None, record.provider) and model in (None, record.model)
        ]

    def reset(self) -> None:
        """Forget all requests and start counting anew; answers that are running go on unrecorded."""
        self.records.clear()
        self.counts = Counts()
        self._running.clear()
        self._sizes.clear()
        self._bytes = 0

    def _weigh(self, record: RequestRecord) -> None:
        size = record.size()
        self._bytes += size - self._sizes.get(record.sequence, 0)
        self._sizes[record.sequence] = size
        while len(self.records) > MAX_RECORDS or (self._bytes > MAX_BYTES and len(self.records) > 1):
            self._bytes -= self._sizes.pop(self.records.popleft().sequence)
