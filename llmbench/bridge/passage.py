"""What every request passes: a cap on how many are under way, and a count of what became of it."""

from __future__ import annotations

from time import perf_counter
from typing import Protocol

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from llmbench.bridge.limits import Places
from llmbench.bridge.replies import Problem, later

MOST_UNDER_WAY = 256
_ALWAYS = ("/healthz",)


class Metrics(Protocol):
    """What the bridge tells of itself, and asks to be shown; as in `llmbench.bridge.metrics`."""

    def request(self, route: str | None, method: str, status: int, seconds: float) -> None: ...

    def items(self, route: str, status: str, count: int) -> None: ...

    async def scrape(self, accept: str | None) -> tuple[bytes, str]:
        """Return the metrics and their content type, one that ``accept`` allows."""
        ...


class Passage:
    """An ASGI application around another one, of which Litestar has one for each route; `Places` are shared."""

    def __init__(self, app: ASGIApp, places: Places, metrics: Metrics) -> None:
        self._app = app
        self._places = places
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, began, status = str(scope["path_template"]), perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._admit(route, scope, receive, watched)
        except Problem as problem:
            status = problem.status
            raise
        finally:
            # 499 is what proxies log for a client that left before it was answered.
            self._metrics.request(route, str(scope.get("method")), status or 499, perf_counter() - began)

    async def _admit(self, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        if route in _ALWAYS:
            await self._app(scope, receive, send)
        elif self._places.take():
            try:
                await self._app(scope, receive, send)
            finally:
                self._places.free()
        else:
            raise later(503, "too many requests are under way: come again", 1)
