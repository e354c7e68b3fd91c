"""The routes that take something: one run, one error, a batch of both, a listing of models."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from llmbench.bridge.body import read_body
from llmbench.bridge.door import Door
from llmbench.bridge.passage import Metrics
from llmbench.bridge.replies import JSON, ReplyBody, retry_after
from llmbench.bridge.sparingly import Sparingly
from llmbench.bridge.taking import Order, Taken, Taker, What
from llmbench.clock import Clock

logger = logging.getLogger(__name__)

AnyRequest = Request[object, object, State]

_ROUTES: dict[What, str] = {"run": "/ingest", "error": "/ingest/error", "batch": "/ingest/batch"}


class IngestRoutes:
    """Lets bodies in, and answers with what became of them. ``max_body`` is in bytes."""

    def __init__(
        self, taker: Taker, door: Door, metrics: Metrics, clock: Clock, *, max_body: int, body_seconds: float
    ) -> None:
        self._taker = taker
        self._door = door
        self._metrics = metrics
        self._clock = clock
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._log = Sparingly(logger)

    def handlers(self) -> list[HTTPRouteHandler]:
        """Return the routes for an application."""

        @post("/ingest", status_code=200)
        async def ingest(request: AnyRequest) -> ReplyBody:
            return await self._taken(request, "run")

        @post("/ingest/error", status_code=200)
        async def ingest_error(request: AnyRequest) -> ReplyBody:
            return await self._taken(request, "error")

        @post("/ingest/batch", status_code=200)
        async def ingest_batch(request: AnyRequest) -> ReplyBody:
            return await self._taken(request, "batch")

        @post("/ingest/catalog", status_code=200)
        async def ingest_catalog(request: AnyRequest) -> ReplyBody:
            return await self._taken(request, "catalog")

        return [ingest, ingest_error, ingest_batch, ingest_catalog]

    async def _taken(self, request: AnyRequest, what: What) -> ReplyBody:
        headers = request.scope["headers"]
        grant = await self._door.admit(headers, peer_of(request), "ingest")
        body = await read_body(headers, request.receive, most=self._max_body, seconds=self._body_seconds)
        order = Order(what=what, runner=grant.runner, now=self._clock.now(), body=body)
        return self._answer(await self._taker.take(order), what)

    def _answer(self, taken: Taken, what: What) -> ReplyBody:
        for status, count in taken.items.items():
            self._metrics.items(_ROUTES[what], status, count)
        if taken.fault is not None:
            self._log.warn("store", taken.fault)
        later = retry_after(taken.retry_after) if taken.retry_after is not None else {}
        return Response(taken.body, status_code=taken.status, media_type=JSON, headers=later)


def peer_of(request: Request[Any, Any, Any]) -> str:
    """Return the address that a request comes from, nothing if it is not known."""
    return request.client.host if request.client is not None else ""
