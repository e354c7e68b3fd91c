"""The routes that tell something: the worklist, health, metrics, live events, and the description of all routes."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from llmbench.bridge.description import description
from llmbench.bridge.door import Door, presented_key
from llmbench.bridge.health import HealthSource, PublicHealth
from llmbench.bridge.ingest import peer_of
from llmbench.bridge.passage import Metrics
from llmbench.bridge.replies import JSON, Problem, ReplyBody, later, reply
from llmbench.bridge.streaming import LiveStreams
from llmbench.bridge.taking import Taker
from llmbench.bridge.worklist import worklist_of
from llmbench.clock import Clock
from llmbench.stores.base import Store, StoreError

AnyRequest = Request[object, object, State]

_RETRY_SECONDS = 5.0
_LONGEST_NAME = 200


class ReadRoutes:
    """Tells what there is to know."""

    def __init__(
        self,
        door: Door,
        store: Store,
        taker: Taker,
        clock: Clock,
        *,
        fresh_minutes: float,
        health: HealthSource,
        metrics: Metrics,
        live: LiveStreams | None,
    ) -> None:
        self._door = door
        self._store = store
        self._taker = taker
        self._clock = clock
        self._fresh_minutes = fresh_minutes
        self._health = health
        self._metrics = metrics
        self._live = live
        self._description = description()  # now, as it takes long enough to hold up what the event loop does later

    def handlers(self) -> list[HTTPRouteHandler]:
        """Return the routes for an application."""

        @get("/runner-config")
        async def runner_config(request: AnyRequest) -> ReplyBody:
            return await self._worklist(request)

        @get("/health")
        async def health(request: AnyRequest) -> ReplyBody:
            return await self._tell_health(request)

        @get("/healthz")
        async def healthz() -> ReplyBody:
            return reply({"status": "ok"})

        @get("/readyz")
        async def readyz() -> ReplyBody:
            ready = self._taker.problem is None and (await self._health()).store.status == "ok"
            return reply(PublicHealth("ok" if ready else "failing"), 200 if ready else 503)

        @get("/metrics")
        async def metrics(request: AnyRequest) -> ReplyBody:
            await self._door.admit(request.scope["headers"], peer_of(request), "read")
            body, content_type = await self._metrics.scrape(request.headers.get("accept"))
            return Response(body, media_type=content_type)

        @get("/live")
        async def live(request: AnyRequest) -> ASGIApp:
            return await self._stream(request)

        @get("/openapi.json")
        async def openapi() -> ReplyBody:
            return Response(self._description, media_type=JSON)

        return [runner_config, health, healthz, readyz, metrics, live, openapi]

    async def _worklist(self, request: AnyRequest) -> ReplyBody:
        await self._door.admit(request.scope["headers"], peer_of(request), "worklist")
        provider = _asked_for(request.scope["query_string"])
        try:
            answer = await worklist_of(self._store, provider, self._fresh_minutes, self._clock.now())
        except StoreError as error:
            raise later(503, "the catalogue can't be read now", error.retry_after or _RETRY_SECONDS) from error
        return reply(answer)

    async def _tell_health(self, request: AnyRequest) -> ReplyBody:
        headers = request.scope["headers"]
        may_read = presented_key(headers) and "read" in (await self._door.identify(headers, peer_of(request))).scopes
        answer = await self._health()
        if (problem := self._taker.problem) is not None:
            answer = msgspec.structs.replace(answer, status="failing", intake=problem)
        return reply(answer if may_read else PublicHealth(answer.status))

    async def _stream(self, request: AnyRequest) -> ASGIApp:
        await self._door.admit(request.scope["headers"], peer_of(request), "read")
        if self._live is None:
            raise Problem(404, "this program measures nothing itself, so there are no live events: ask the engine's")
        if self._live.full:
            raise later(503, "too many read live events already", _RETRY_SECONDS)
        return self._live


def _asked_for(query: bytes) -> str:
    """Return the provider that a query string names. Raises `Problem`."""
    try:
        named = parse_qs(query.decode("ascii"), max_num_fields=10, errors="strict").get("provider", [])
    except ValueError:
        named = []
    if len(named) != 1 or len(named[0]) > _LONGEST_NAME or not named[0].isprintable():
        raise Problem(400, "the query must name one provider, as in /runner-config?provider=openai")
    return named[0]
