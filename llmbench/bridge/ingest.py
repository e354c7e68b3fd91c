"""The routes that take something: one run, one error, a batch of both, a listing of models."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from litestar import Request, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from llmbench.bridge import documents
from llmbench.bridge.body import read_body
from llmbench.bridge.door import Door
from llmbench.bridge.intake import Intake, IntakeFull
from llmbench.bridge.passage import Metrics
from llmbench.bridge.refusals import Foreign, Refused, Sender
from llmbench.bridge.replies import Problem, ReplyBody, later, rejection, reply
from llmbench.bridge.sparingly import Sparingly
from llmbench.clock import Clock
from llmbench.ingestion import BatchAnswer, CatalogAnswer, ItemAnswer
from llmbench.lifecycle import Listing
from llmbench.messages import Envelope
from llmbench.secrets import Redactor
from llmbench.stores.base import Recorded, StoreError, Verdict

logger = logging.getLogger(__name__)

T = TypeVar("T")

AnyRequest = Request[object, object, State]
Read = Callable[..., T]

_DECODED_AT_ONCE = 8 * 1024
"""A body up to this size is decoded in well under a millisecond; a larger one would hold up what else the loop does."""

_STATUS = {"stored": 200, "duplicate": 200, "conflict": 409, "rejected": 422}
_RETRY_SECONDS = 5.0


class IngestRoutes:
    """Takes documents. ``max_body`` is in bytes; ``answer_seconds`` is how long a sender waits for the store."""

    def __init__(
        self,
        intake: Intake,
        door: Door,
        metrics: Metrics,
        clock: Clock,
        *,
        max_body: int,
        body_seconds: float,
        answer_seconds: float,
        listing: Callable[[Listing], Awaitable[Recorded]],
        redactor: Redactor,
    ) -> None:
        self._intake = intake
        self._door = door
        self._metrics = metrics
        self._clock = clock
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._answer_seconds = answer_seconds
        self._listing = listing
        self._redactor = redactor
        self._log = Sparingly(logger)
        # One at a time: threads that compete for the interpreter would keep the event loop from it all the longer.
        self._decoding = anyio.CapacityLimiter(1)

    def handlers(self) -> list[HTTPRouteHandler]:
        """Return the routes for an application."""

        @post("/ingest", status_code=200)
        async def ingest(request: AnyRequest) -> ReplyBody:
            return await self._single(request, documents.read_run, "/ingest")

        @post("/ingest/error", status_code=200)
        async def ingest_error(request: AnyRequest) -> ReplyBody:
            return await self._single(request, documents.read_error, "/ingest/error")

        @post("/ingest/batch", status_code=200)
        async def ingest_batch(request: AnyRequest) -> ReplyBody:
            return await self._batch(request)

        @post("/ingest/catalog", status_code=200)
        async def ingest_catalog(request: AnyRequest) -> ReplyBody:
            return await self._catalog(request)

        return [ingest, ingest_error, ingest_batch, ingest_catalog]

    async def _single(self, request: AnyRequest, read: Read[Envelope], route: str) -> ReplyBody:
        try:
            _sender, envelope = await self._document(request, read)
        except Refused as refused:
            self._metrics.items(route, "rejected", 1)
            return self._rejection(refused)
        (verdict,) = await self._stored([envelope])
        self._metrics.items(route, verdict.status, 1)
        if verdict.status == "unknown":
            raise later(503, "the store did not say what became of it: send it again", _RETRY_SECONDS)
        return reply(_item(verdict), _STATUS[verdict.status])

    async def _batch(self, request: AnyRequest) -> ReplyBody:
        try:
            sender, items = await self._document(request, documents.read_batch)
        except Refused as refused:
            return self._rejection(refused)
        _check_owner(items)
        verdicts = iter(await self._stored([item for item in items if isinstance(item, Envelope)]))
        results = [self._refusal(item) if isinstance(item, Refused) else _item(next(verdicts)) for item in items]
        for status, count in Counter(result.status for result in results).items():
            self._metrics.items("/ingest/batch", status, count)
        return reply(BatchAnswer(results=results, runner=sender.runner))

    async def _catalog(self, request: AnyRequest) -> ReplyBody:
        try:
            _sender, listing = await self._document(request, documents.read_catalog)
        except Refused as refused:
            return self._rejection(refused)
        try:
            recorded = await self._in_time(lambda: self._listing(listing))
        except ValueError as error:
            return rejection(str(error), 422)
        refused_models = [_item(verdict) for verdict in recorded.refused]
        return reply(CatalogAnswer(accepted=len(listing.models) - len(refused_models), refused=refused_models))

    async def _document(self, request: AnyRequest, read: Read[T]) -> tuple[Sender, T]:
        """Return who sends, and what the body holds.

        Raises `Refused`, and `Problem` for a request that is not let in at all.
        """
        headers = request.scope["headers"]
        grant = await self._door.admit(headers, peer_of(request), "ingest")
        body = await read_body(headers, request.receive, most=self._max_body, seconds=self._body_seconds)
        sender, now = Sender(grant.runner, self._redactor), self._clock.now()
        if len(body) <= _DECODED_AT_ONCE:
            return sender, read(body, sender, now)
        return sender, await to_thread.run_sync(read, body, sender, now, limiter=self._decoding)

    def _refusal(self, refused: Refused) -> ItemAnswer:
        # What it quotes of the document may be the secret for which it is refused.
        return ItemAnswer(id=refused.id, status="rejected", reason=self._redactor.redact(refused.reason))

    def _rejection(self, refused: Refused) -> ReplyBody:
        return reply(self._refusal(refused), refused.status)

    async def _stored(self, envelopes: Sequence[Envelope]) -> Sequence[Verdict]:
        return await self._in_time(lambda: self._intake.put(envelopes))

    async def _in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the store says. Raises `Problem` (503) if it can't, or takes too long: then nothing is known."""
        try:
            with anyio.fail_after(self._answer_seconds):
                return await work()
        except TimeoutError:
            raise later(503, "the store took too long: send it again", _RETRY_SECONDS) from None
        except IntakeFull as error:
            raise later(503, f"{error}: send it again later", _RETRY_SECONDS) from None
        except StoreError as error:
            self._log.warn("store", f"the store takes nothing: {error}")
            raise later(
                503, "the store takes nothing now: send it again later", error.retry_after or _RETRY_SECONDS
            ) from error


def _check_owner(items: Sequence[Envelope | Refused]) -> None:
    """Raise `Problem` if all of a batch is another runner's: then the key is the wrong one, and no document is."""
    if items and all(isinstance(item, Foreign) for item in items):
        reason = next(item.reason for item in items if isinstance(item, Foreign))
        raise Problem(403, f"this key is another runner's: {reason}; use that runner's key, or correct runner.id")


def _item(verdict: Verdict) -> ItemAnswer:
    return ItemAnswer(id=verdict.id, status=verdict.status, reason=verdict.reason)


def peer_of(request: Request[Any, Any, Any]) -> str:
    """Return the address that a request comes from, nothing if it is not known."""
    return request.client.host if request.client is not None else ""
