"""The bridge's HTTP side as an application: its routes, and what holds for all of them.

Success is told only once the store has said that a document is durable. What a request can't have is told in JSON, as
``{"status": "error", "reason": …}``, or ``"rejected"`` if it is about a document. No input is meant to end in a 500: if
one does, that is a fault of the bridge, and in its log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import anyio
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from llmbench.bridge.door import Door, Keys
from llmbench.bridge.health import HealthSource
from llmbench.bridge.ingest import IngestRoutes
from llmbench.bridge.limits import Places
from llmbench.bridge.passage import MOST_UNDER_WAY, Metrics, Passage
from llmbench.bridge.reading import ReadRoutes
from llmbench.bridge.replies import Problem, ReplyBody, reply_to
from llmbench.bridge.streaming import LiveStreams
from llmbench.bridge.taking import Taker
from llmbench.clock import Clock, SystemClock
from llmbench.config.tables import ServerTable
from llmbench.stores.base import Store

logger = logging.getLogger(__name__)

AnyRequest = Request[object, object, State]


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What the application is made of. ``live`` is None for a program that measures nothing itself.

    ``store`` is read from; what is sent goes to the ``taker``, which runs as long as the application does.
    """

    store: Store
    taker: Taker
    keys: Keys
    server: ServerTable
    fresh_minutes: float
    health: HealthSource
    metrics: Metrics
    live: LiveStreams | None = None
    clock: Clock = field(default_factory=SystemClock)


def make_app(bridge: Bridge) -> Litestar:
    """Return the application. It takes outcomes only while its lifespan lasts."""
    door = Door(bridge.keys, bridge.server.requests_per_second)
    places = Places(MOST_UNDER_WAY)
    ingest = IngestRoutes(
        bridge.taker,
        door,
        bridge.metrics,
        bridge.clock,
        max_body=bridge.server.max_body_kb * 1024,
        body_seconds=bridge.server.body_seconds,
    )
    reading = ReadRoutes(
        door,
        bridge.store,
        bridge.taker,
        bridge.clock,
        fresh_minutes=bridge.fresh_minutes,
        health=bridge.health,
        metrics=bridge.metrics,
        live=bridge.live,
    )

    def problem_answer(request: AnyRequest, problem: Exception) -> ReplyBody:
        return _answer(request, problem, bridge.metrics)

    @asynccontextmanager
    async def storing(_app: Litestar) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            await group.start(bridge.taker.run)
            yield
            group.cancel_scope.cancel()

    return Litestar(
        [*ingest.handlers(), *reading.handlers()],
        middleware=[lambda app: Passage(app, places, bridge.metrics)],
        exception_handlers={Exception: problem_answer, HTTPException: problem_answer},
        lifespan=[storing],
        openapi_config=None,
        logging_config=None,
    )


def _answer(request: AnyRequest, problem: Exception, metrics: Metrics) -> ReplyBody:
    """Return the answer for what a handler raised, or for a request that reached none."""
    if isinstance(problem, Problem):
        return reply_to(problem)
    if not isinstance(problem, HTTPException):
        logger.error("%s could not be answered: this is a fault of the bridge", request.method, exc_info=problem)
        return reply_to(Problem(500, "this is a fault of the bridge: whoever runs it finds it in its log"))
    if "route_handler" not in cast("dict[str, object]", request.scope):
        metrics.request(None, request.method, problem.status_code, 0.0)
    reason = {404: "no such route: /openapi.json lists all of them", 405: "this route has other methods"}.get(
        problem.status_code, "the request is not one that can be answered"
    )
    return reply_to(Problem(problem.status_code, reason, problem.headers))
