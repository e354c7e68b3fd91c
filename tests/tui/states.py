"""States of a viewer, as tests and snapshots need them: made by real events through `reduce`, the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from llmbench.messages import (
    EngineFigures,
    Failure,
    LaneFigures,
    LaneState,
    LiveEvent,
    RunFinished,
    RunProgress,
    RunStarted,
    Sample,
    SpoolFigures,
    StoreState,
)
from llmbench.tui.items import FeedItem, LinkChange, UsualLoaded
from llmbench.tui.reduce import begin, reduce
from llmbench.tui.state import State, Usual
from tests.stores import documents

NOW: Final = datetime(2026, 3, 14, 12, 7, 30, tzinfo=UTC)
BEGAN: Final = NOW - timedelta(minutes=42)
ADDRESS: Final = "/var/lib/llmbench/engine.sock"

MODELS: Final = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "bedrock": "us.anthropic.claude-haiku-4-5-v1:0",
    "vertex": "gemini-2.5-flash",
    "groq": "llama-3.3-70b-versatile",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "fireworks": "accounts/fireworks/models/deepseek-v3",
    "deepinfra": "Qwen/Qwen2.5-72B-Instruct",
    "cerebras": "llama-3.3-70b",
    "openrouter": "mistralai/mistral-small-3.2-24b-instruct",
    "mistral": "mistral-small-latest",
    "local": "tiny",
}
"""Twelve lanes, a model each."""

LANES: Final = tuple(MODELS)
STREAMED: Final = "Once upon a time there was a lighthouse keeper who counted the waves. Every night "
HOSTILE_LANE: Final = "[@click=app.quit]x[/]"
HOSTILE: Final = (
    "[/x] [bold red]red[/] \x1b[31mANSI\x1b[0m \x1b]0;title\x07 NUL\x00 \r\nnew line "
    "\u202egnol ot tfel\u202c 漢字かな한글 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 zero\u200bwidth "
)
LONG: Final = "ten kB " * 1462


@cache
def empty() -> State:
    """Return the state of a viewer that has just begun."""
    return begin(ADDRESS, NOW)


@cache
def healthy() -> State:
    """Return a state in which all is well: twelve lanes, 30 runs each, six streams in flight."""
    return after(begin(ADDRESS, BEGAN), [*attached(), *settled(), *streams()])


@cache
def one_lane_down() -> State:
    """Return a state with groq down since 12:03, together four times as slow as usual since 12:05."""
    down = LaneState(
        lane="groq",
        status="down",
        at=at(-4.5),
        reason="auth: key refused (401): Invalid API Key; check the variable GROQ_API_KEY",
        until=at(10.5),
        restarts=2,
    )
    refused = [finished(refusal("groq", -5 + n / 10)) for n in range(3)]
    slow = [finished(success("together", -2.4 + n / 5, slower=4.1)) for n in range(10)]
    figures = lane_figures("groq", in_flight=0, due=1, next_due=None, breaker="open", slowdown=4.0)
    return after(healthy(), [*refused, down, *slow, figures])


@cache
def disconnected() -> State:
    """Return a state whose engine is gone since 40 seconds."""
    gone = at(-40 / 60)
    lost = LinkChange(status="lost", at=gone, reason="the engine closed the connection")
    return after(after(begin(ADDRESS, BEGAN), [*attached(), *settled(), *streams()], gone), [lost])


@cache
def hostile() -> State:
    """Return a state with whatever foreign text may hold, in every place that has any."""
    engine = engine_figures(lanes=(*LANES, HOSTILE_LANE), hold=HOSTILE, store=HOSTILE, runner_id=HOSTILE)
    run = RunStarted(outcome_id="hostile", provider=HOSTILE_LANE, model_id=HOSTILE, at=at(-0.1))
    progress = RunProgress(
        outcome_id="hostile",
        provider=HOSTILE_LANE,
        model_id=HOSTILE,
        visible_chunks=9,
        text=HOSTILE + LONG,
        elapsed=5.0,
    )
    failed = refusal(HOSTILE_LANE, -1, model_name=HOSTILE, message=HOSTILE + LONG, error_kind=HOSTILE, advice=HOSTILE)
    return after(
        healthy(),
        [
            engine,
            lane_figures(HOSTILE_LANE),
            *(finished(failed) for failed in [failed, refusal(HOSTILE_LANE, -0.5, model_name=LONG, message=LONG)]),
            LaneState(lane=HOSTILE_LANE, status="down", at=at(-1), reason=HOSTILE + LONG),
            LaneState(lane="openai", status="blocked", at=at(-2), reason=LONG),
            StoreState(status="blocked", at=at(-3), waiting=3, reason=HOSTILE),
            run,
            progress,
        ],
    )


def after(state: State, items: Iterable[FeedItem | UsualLoaded], now: datetime = NOW) -> State:
    """Return the state after these items."""
    return reduce(state, list(items), now)


def at(minutes: float) -> datetime:
    """Return the time so many minutes after `NOW`."""
    return NOW + timedelta(minutes=minutes)


def attached(lanes: tuple[str, ...] = LANES) -> list[FeedItem]:
    """Return what an engine tells first: every actor works."""
    states = [LaneState(lane=name, status="ok", at=at(-40)) for name in (*lanes, "scheduler", "sink", "delivery")]
    figures = [lane_figures(name) for name in lanes]
    store = StoreState(status="ok", at=at(-40), waiting=0)
    live = LinkChange(status="live", at=at(-40), commands=True)
    return [live, engine_figures(lanes=lanes), *states, *figures, store]


def settled() -> list[FeedItem | UsualLoaded]:
    """Return what is usual, and thirty runs of each lane."""
    usual = {
        (lane, model): Usual(n=412, time_to_first_token=_first_token(lane), tokens_per_second=_speed(lane))
        for lane, model in MODELS.items()
    }
    runs = [finished(success(lane, -35 + n + index / 20)) for n in range(30) for index, lane in enumerate(LANES)]
    return [UsualLoaded(usual=usual), *sorted(runs, key=_ended)]


def _ended(event: RunFinished) -> datetime:
    return event.outcome.gen_ts if isinstance(event.outcome, Sample) else event.outcome.ts


def streams(lanes: Iterable[str] = LANES[:6]) -> Iterator[LiveEvent]:
    """Yield streams in flight, begun one after the other, ten steps of a tenth of a second each."""
    for index, lane in enumerate(lanes):
        seconds = 2.0 + index
        yield RunStarted(
            outcome_id=f"run-{lane}", provider=lane, model_id=MODELS[lane], at=NOW - timedelta(seconds=seconds)
        )
        for step in range(1, 11):
            yield RunProgress(
                outcome_id=f"run-{lane}",
                provider=lane,
                model_id=MODELS[lane],
                visible_chunks=step * (index + 2),
                text=STREAMED[(step - 1) * 8 : step * 8],
                elapsed=seconds - 1.0 + step / 10,
            )


def engine_figures(**changes: Any) -> EngineFigures:
    """Return the figures of an engine that is well."""
    usual: dict[str, Any] = {
        "at": NOW,
        "started_at": at(-42),
        "version": "0.1.0",
        "runner_id": "runner-1",
        "store": "SQLite, /var/lib/llmbench/llmbench.db",
        "lanes": LANES,
        "clock": "kernel",
        "loop_lag": 0.0008,
        "spool": SpoolFigures(
            level="ok",
            waiting=0,
            quarantined=0,
            damages=0,
            bytes=3_400_000,
            cap_bytes=1_073_741_824,
        ),
    }
    return EngineFigures(**usual | changes)


def lane_figures(lane: str, **changes: Any) -> LaneFigures:
    """Return the figures of a lane that is well."""
    usual: dict[str, Any] = {
        "at": NOW,
        "models": 1,
        "in_flight": int(lane in LANES[:6]),
        "due": 0,
        "next_due": at(0.2),
        "concurrency": 2,
        "requests_per_minute": 60.0,
    }
    return LaneFigures(lane=lane, **usual | changes)


def finished(outcome: Sample | Failure) -> RunFinished:
    return RunFinished(provider=outcome.provider, model_id=outcome.model_name, outcome=outcome)


def success(lane: str, minutes: float, *, slower: float = 1.0, **changes: Any) -> Sample:
    """Return a run of a lane that ended then; ``slower`` than is usual."""
    wave = 1 + (int(minutes * 7) % 5 - 2) / 20
    usual: dict[str, Any] = {
        "id": f"{lane}{minutes:+.3f}",
        "provider": lane,
        "model_name": MODELS.get(lane, "model"),
        "run_ts": at(minutes) - timedelta(seconds=2),
        "gen_ts": at(minutes),
        "time_to_first_token": _first_token(lane) * wave * slower,
        "tokens_per_second": _speed(lane) / wave / slower**0.5,
    }
    return documents.sample(**usual | changes)


def refusal(lane: str, minutes: float, **changes: Any) -> Failure:
    """Return a run of a lane that failed then: the key was refused."""
    usual: dict[str, Any] = {
        "id": f"failed-{lane}{minutes:+.3f}",
        "provider": lane,
        "model_name": MODELS.get(lane, "model"),
        "run_ts": at(minutes) - timedelta(seconds=1),
        "ts": at(minutes),
        "message": "Error code: 401 - Invalid API Key",
        "normalized_message": "Error code: 401 - Invalid API Key",
        "error_kind": "auth",
        "error_cause": "key_refused",
        "http_status": 401,
        "advice": "Check the variable GROQ_API_KEY",
    }
    return documents.failure(**usual | changes)


def _first_token(lane: str) -> float:
    return 0.08 + 0.04 * (sum(lane.encode()) % 13)


def _speed(lane: str) -> float:
    return 30.0 + 17.0 * (sum(lane.encode()) % 11)
