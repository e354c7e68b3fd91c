"""The viewer's side of the connection: what an engine tells, as it comes, across every loss of the connection."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import anyio

from llmbench.actors.engine_requests import EngineAnswer, EngineRequest
from llmbench.bridge.live import BadFrame, Frames, parse
from llmbench.clock import SystemClock
from llmbench.tui.connection import NoWay, Way
from llmbench.tui.items import FeedItem, Heard, LinkChange, Unreadable
from llmbench.tui.ring import Ring
from llmbench.tui.state import LinkStatus

SILENCE_SECONDS: Final = 20.0
"""An engine is heard at least every 15 s, if only with a heartbeat."""

_CLOCK: Final = SystemClock()

_FIRST_DELAY = 0.25
_LONGEST_DELAY = 5.0
_STEADY_SECONDS = 5.0
"""A connection that ends sooner was none that lasts: tries at it come at longer and longer intervals."""

_DOUBLINGS = 10


class FeedError(Exception):
    """A command could not be given. The message is a sentence."""


class Feed(Protocol):
    """What the dashboard knows of its engine."""

    @property
    def address(self) -> str: ...

    def take(self) -> list[FeedItem]:
        """Return everything that came since the last call; never waits."""
        ...

    async def run(self) -> None:
        """Connect, read, and connect again, until cancelled."""
        ...

    async def command(self, request: EngineRequest) -> EngineAnswer:
        """Have the engine do something; its answer is a sentence. Raises `FeedError` if it can't be asked."""
        ...


class Trouble(NamedTuple):
    """How a connection that is not there is to be told of."""

    status: LinkStatus
    reason: str


def lost(reason: str, *, heard_before: bool) -> Trouble:
    """Tell of it as it is."""
    return Trouble("lost", reason)


class Explain(Protocol):
    """Makes of the reason why there is no connection what is told; ``heard_before``: there was one."""

    def __call__(self, reason: str, *, heard_before: bool) -> Trouble: ...


class LiveFeed:
    """A feed over a `Way`. An engine that is silent for ``silence`` seconds is lost."""

    def __init__(
        self,
        way: Way,
        *,
        explain: Explain = lost,
        silence: float = SILENCE_SECONDS,
        now: Callable[[], datetime] = _CLOCK.now,
        ring: Ring | None = None,
    ) -> None:
        self._way = way
        self._explain = explain
        self._silence = silence
        self._now = now
        self._ring = Ring() if ring is None else ring
        self._told: tuple[LinkStatus, str | None] | None = None
        self._heard_before = False
        self.address = way.address

    @property
    def heard_before(self) -> bool:
        """Whether the engine was ever heard."""
        return self._heard_before

    def take(self) -> list[FeedItem]:
        return self._ring.take()

    async def command(self, request: EngineRequest) -> EngineAnswer:
        try:
            return await self._way.ask(request)
        except NoWay as error:
            raise FeedError(str(error)) from error

    async def run(self) -> None:
        self._tell("connecting", None)
        failures = 0
        while True:
            begun = anyio.current_time()
            try:
                await self._follow()
                reason = "the engine ended the connection"
            except (NoWay, BadFrame) as error:
                reason = str(error)
            trouble = self._explain(reason, heard_before=self._heard_before)
            # One that was there a moment ago, or is about to be, is not to be waited for.
            steady = self._told == ("live", None) and anyio.current_time() - begun >= _STEADY_SECONDS
            failures = 0 if steady or trouble.status == "connecting" else failures + 1
            self._tell(*trouble)
            await anyio.sleep(_delay(failures))

    async def _follow(self) -> None:
        """Take in what comes until there is no more. Raises `NoWay`, `BadFrame` for a frame that is too long."""
        frames = Frames()
        async with self._way.watch() as chunks:
            while (chunk := await self._next(chunks)) is not None:
                self._hear()
                for frame in frames.feed(chunk):
                    self._take_in(frame)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        try:
            with anyio.fail_after(self._silence):
                return await anext(chunks, None)
        except TimeoutError as error:
            raise NoWay(f"nothing was heard of the engine for {self._silence:g} s") from error

    def _hear(self) -> None:
        self._heard_before = True
        self._tell("live", None)
        self._ring.put(Heard(at=self._now()))

    def _take_in(self, frame: bytes) -> None:
        try:
            event = parse(frame)
        except BadFrame as error:
            self._ring.put(Unreadable(why=str(error)), len(frame))
            return
        if event is not None:
            self._ring.put(event, len(frame))

    def _tell(self, status: LinkStatus, reason: str | None) -> None:
        if self._told != (status, reason):
            self._told = status, reason
            commands = status == "live" and self._way.commands
            self._ring.put(LinkChange(status=status, at=self._now(), reason=reason, commands=commands))


def _delay(failures: int) -> float:
    """Return how long to wait after so many failures in a row: longer with each, and never in step with others."""
    longest: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(failures, _DOUBLINGS))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  nothing secret
