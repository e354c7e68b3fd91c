"""What the viewer knows: one immutable value, made anew from what came since the last frame. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from llmbench.messages import EngineFigures, LaneFigures, LaneStatus, StoreState

LinkStatus = Literal["connecting", "live", "lost"]


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """How the viewer gets on with its engine. ``commands``: whether the engine does what it is told from here.

    ``heard`` is when the last frame came, a heartbeat included; ``reason`` says why there is none.
    """

    status: LinkStatus
    address: str
    since: datetime
    heard: datetime | None = None
    reason: str | None = None
    commands: bool = False


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A stream in flight. ``text`` is the end of what came, safe to draw, with its line breaks.

    ``ticks`` are (seconds since its start, visible chunks by then), the latest last.
    """

    outcome_id: str
    provider: str
    model_id: str
    started_at: datetime
    chunks: int = 0
    elapsed: float = 0.0
    text: str = ""
    ticks: tuple[tuple[float, int], ...] = ()


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has ended; of its figures what screens show. Seconds, and tokens per second."""

    outcome_id: str
    provider: str
    model_id: str
    at: datetime
    ok: bool
    outcome: str
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    output_tokens: int | None = None
    gap_p95: float | None = None
    gap_max: float | None = None
    coarse: bool = False
    clock: str = ""
    client_lag: float | None = None
    error_kind: str | None = None
    message: str | None = None
    advice: str | None = None


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A lane, or another actor of the engine. ``since`` is when its status became what it is; ``silent``: it told none.

    ``ok`` and ``failed`` count runs since the viewer began; ``recent`` are the last of them, the newest last;
    ``failing_since`` is when the first of an unbroken row of failures ended, the newest run being one. ``slow_since``
    is when the first of ``slow_runs`` ended that took much longer than usual; two ordinary ones in a row end it
    (`llmbench.tui.pace`).
    """

    name: str
    status: LaneStatus
    since: datetime
    reason: str | None = None
    until: datetime | None = None
    restarts: int = 0
    silent: bool = False
    figures: LaneFigures | None = None
    ok: int = 0
    failed: int = 0
    recent: tuple[Finished, ...] = ()
    failing_since: datetime | None = None
    failures_in_a_row: int = 0
    slow_since: datetime | None = None
    slow_runs: int = 0
    ordinary_in_a_row: int = 0

    @property
    def paused_since(self) -> datetime | None:
        """When a person paused it, None if nobody has, or if nothing was told of it yet."""
        return None if self.figures is None else self.figures.paused_since


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one fingerprint."""

    fingerprint: str
    provider: str
    model_id: str
    error_kind: str
    error_cause: str
    http_status: int | None
    message: str
    advice: str
    count: int
    first_seen: datetime
    last_seen: datetime


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log, made of events as the engine's own log makes it."""

    at: datetime
    level: Literal["info", "warning", "error"]
    source: str
    text: str


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's runs of the last days came to: medians of ``n`` successes. Seconds, and tokens per second."""

    n: int
    time_to_first_token: float | None
    tokens_per_second: float | None


class First(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's first runs since the viewer began came to: what is usual where no store tells. Seconds, tok/s."""

    times_to_first_token: tuple[float, ...] = ()
    speeds: tuple[float, ...] = ()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that live events have told. ``actors`` are what is no lane.

    ``usual`` (what the store tells) and ``first`` are by (provider, model id). Free text is safe to draw
    (`llmbench.tui.text`); names and ids are as the engine has them, as it is asked by them: views make them safe.
    ``dropped`` counts events that were lost on the way, ``unreadable`` frames that were none. ``version`` grows with
    each change, so that nothing is drawn twice.
    """

    link: Link
    engine: EngineFigures | None = None
    lanes: Mapping[str, Lane] = {}
    actors: Mapping[str, Lane] = {}
    runs: Mapping[str, Run] = {}
    store: StoreState | None = None
    store_since: datetime | None = None
    errors: Mapping[str, ErrorGroup] = {}
    log: tuple[LogLine, ...] = ()
    finished: tuple[Finished, ...] = ()
    usual: Mapping[tuple[str, str], Usual] = {}
    first: Mapping[tuple[str, str], First] = {}
    dropped: int = 0
    unreadable: int = 0
    version: int = 0
