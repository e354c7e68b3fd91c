"""One batch on its way to a bridge: encoded, sent in slices, halved where a slice is refused as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import anyio
import msgspec

from llmbench.ingestion import batch_of, wire_form
from llmbench.messages import Envelope
from llmbench.stores.base import StoreError, Verdict
from llmbench.stores.canonical import UnstorableError, canonical_json
from llmbench.stores.http_answers import Judge, Refusal
from llmbench.stores.http_client import Endpoint, Wire
from llmbench.stores.pace import Pace

MOST_ITEMS = 100
MOST_BYTES = 900 * 1024
"""Of one request: earlier bridges, and the proxies before them, commonly take a megabyte."""

_LEAST_BYTES = 16 * 1024


class Ready(NamedTuple):
    """An outcome in its wire form; ``place`` is its place in the batch."""

    place: int
    id: str
    wire: bytes


class Room:
    """How many bytes a request may have: what the link gets through in time, and the bridge takes."""

    def __init__(self, seconds: float) -> None:
        self._pace = Pace(seconds)
        self._most = MOST_BYTES

    @property
    def size(self) -> int:
        return min(self._pace.size, self._most)

    def took(self, seconds: float, sent: int) -> None:
        self._pace.took(seconds, sent)

    def failed(self) -> None:
        self._pace.failed()

    def too_large(self, sent: int) -> None:
        """Take note that so many bytes were too many, so that not every slice is sent twice."""
        self._most = max(_LEAST_BYTES, min(self._most, sent // 2))


def prepared(items: Sequence[Envelope]) -> list[Ready | Verdict]:
    """Return each outcome ready to be sent, or the verdict on one that has no JSON form. Takes a while."""
    return [_prepared(place, item) for place, item in enumerate(items)]


def _prepared(place: int, item: Envelope) -> Ready | Verdict:
    try:
        canonical_json(item.outcome)  # it would not be refused by every bridge, but changed
        return Ready(place, item.outcome.id, wire_form(item))
    except (UnstorableError, msgspec.EncodeError) as error:
        return Verdict(item.outcome.id, "rejected", str(error))


class Delivery:
    """Sends one batch. Some of it may be known when a failure keeps the rest from being."""

    def __init__(self, wire: Wire, endpoint: Endpoint, room: Room) -> None:
        self._wire = wire
        self._endpoint = endpoint
        self._judge = Judge(endpoint, wire)
        self._room = room
        self._told: dict[int, Verdict] = {}

    async def send(self, batch: Sequence[Ready | Verdict]) -> list[Verdict]:
        """Return a verdict for each item, in order. Raises `StoreError` if the bridge told of none of them."""
        ready = [one for one in batch if isinstance(one, Ready)]
        why = None
        try:
            for part in self._slices(ready):
                await self._deliver(part)
        except StoreError as error:
            if not self._told:
                raise
            why = str(error)
        return [
            self._told.get(one.place, Verdict(one.id, "unknown", why)) if isinstance(one, Ready) else one
            for one in batch
        ]

    def _slices(self, ready: Iterable[Ready]) -> Iterator[list[Ready]]:
        part: list[Ready] = []
        taken = 0
        for one in ready:
            more = len(one.wire) + 1
            if part and (taken + more > self._room.size or len(part) == MOST_ITEMS):
                yield part
                part, taken = [], 0
            part.append(one)
            taken += more
        if part:
            yield part

    async def _deliver(self, part: Sequence[Ready]) -> None:
        waiting = [part]
        while waiting:
            part = waiting.pop()
            answer = await self._ask(part)
            if not isinstance(answer, Refusal):
                self._note(part, answer)
            elif len(part) == 1:
                self._note(part, [Verdict(part[0].id, "rejected", answer.reason)])
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]

    def _note(self, part: Sequence[Ready], verdicts: Sequence[Verdict]) -> None:
        self._told.update((one.place, verdict) for one, verdict in zip(part, verdicts, strict=True))

    async def _ask(self, part: Sequence[Ready]) -> Sequence[Verdict] | Refusal:
        body = batch_of([one.wire for one in part])
        began = anyio.current_time()
        try:
            reply = await self._wire.post(self._endpoint, "/ingest/batch", body)
        except StoreError:
            self._room.failed()
            raise
        self._room.took(anyio.current_time() - began, len(body))
        answer = self._judge.verdicts([one.id for one in part], reply)
        if isinstance(answer, Refusal) and answer.too_large:
            self._room.too_large(len(body))
        return answer
