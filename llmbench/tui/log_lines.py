"""Lines of the log, made of events in the words of the engine's own log."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from llmbench.logs import describe_run
from llmbench.messages import Commanded, EngineFigures, LaneState, RunFinished, StoreState
from llmbench.tui.state import Finished, Lane, Link, LogLine
from llmbench.tui.text import safe

Level = Literal["info", "warning", "error"]

_LIMIT: Final = 1000
_LANE_LEVELS: Final[dict[str, Level]] = {
    "starting": "info",
    "ok": "info",
    "stopped": "info",
    "blocked": "warning",
    "restarting": "warning",
    "down": "error",
}
_STORE_LEVELS: Final[dict[str, Level]] = {"ok": "info", "failing": "warning", "blocked": "error"}
_QUIET: Final = ("starting", "ok", "stopped")


def of_run(event: RunFinished, run: Finished) -> LogLine:
    """Return the line of a run, which begins with its name."""
    text = describe_run(event.outcome)
    return LogLine(at=run.at, level="info" if run.ok else "warning", source=_name(run.provider), text=_text(text))


def of_lane(event: LaneState, before: Lane | None) -> LogLine | None:
    """Return the line of a change; None where nothing is new, as when all is told again after a reconnection."""
    first = before is None or before.silent
    if first and event.status in _QUIET:
        return None
    if before is not None and (before.status, before.reason) == (event.status, event.reason):
        return None
    return LogLine(
        at=event.at,
        level=_LANE_LEVELS[event.status],
        source=_name(event.lane),
        text=_said("works" if event.status == "ok" else event.status, event.reason),
    )


def of_store(event: StoreState, before: StoreState | None) -> LogLine | None:
    """Return the line of a change of the store, None where nothing is new."""
    if (event.status, event.reason) == (("ok", None) if before is None else (before.status, before.reason)):
        return None
    word = "takes outcomes" if event.status == "ok" else event.status
    return LogLine(at=event.at, level=_STORE_LEVELS[event.status], source="store", text=_said(word, event.reason))


def of_engine(event: EngineFigures, before: EngineFigures | None) -> LogLine | None:
    """Return the line of another engine's beginning, or of a hold on all lanes and of its end."""
    if before is not None and before.started_at != event.started_at:
        return _engine_line(event, "info", f"another start of the engine: llmbench {event.version}, {event.runner_id}")
    held = before.hold if before is not None else None
    if held == event.hold:
        return None
    if event.hold is None:
        return _engine_line(event, "info", "starts runs again")
    return _engine_line(event, "warning", f"starts nothing new: {event.hold}")


def _engine_line(event: EngineFigures, level: Level, text: str) -> LogLine:
    return LogLine(at=event.at, level=level, source="engine", text=_text(text))


def of_command(event: Commanded) -> LogLine:
    """Return the line of what a person had the engine do, from whichever dashboard."""
    return LogLine(at=event.at, level="info", source="a person", text=_text(event.done))


def of_link(link: Link, before: Link, at: datetime) -> LogLine | None:
    """Return the line of a connection made or lost, None for another try at it."""
    if link.status == "live":
        return None if before.status == "live" else LogLine(at=at, level="info", source="viewer", text="connected")
    if link.status == "connecting" or (before.status, before.reason) == (link.status, link.reason):
        return None
    if before.status == "connecting" and before.reason == link.reason:
        return None
    return LogLine(at=at, level="error", source="viewer", text=_said("no connection to the engine", link.reason))


def of_losses(lost: int, at: datetime) -> LogLine:
    """Return the line of events that did not reach the viewer."""
    text = f"{lost} {'event was' if lost == 1 else 'events were'} dropped: the viewer was too slow"
    return LogLine(at=at, level="warning", source="viewer", text=text)


def of_unreadable(count: int, why: str, at: datetime) -> LogLine:
    """Return the line of frames that could not be read; ``why`` is about the last of them."""
    return LogLine(at=at, level="warning", source="viewer", text=_text(f"{count} unreadable: {why}"))


def _said(what: str, reason: str | None) -> str:
    return _text(f"{what}: {reason}" if reason else what)


def _text(text: str) -> str:
    return safe(text, _LIMIT)


def _name(name: str) -> str:
    return safe(name, 200)
