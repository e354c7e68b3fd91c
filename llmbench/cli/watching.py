"""Watching an engine on this terminal: the dashboard, and how to leave it.

Whatever ends the dashboard, the terminal is as before. An engine that was started for it is asked about, is stopped
with it, or is told how to be found again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import datetime
from typing import Final

import anyio
import msgspec

from llmbench.cli import output
from llmbench.cli.child import Child
from llmbench.cli.configuration import counted
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.signals import Signals
from llmbench.clock import SystemClock
from llmbench.config.tables import TuiTable
from llmbench.tui import terminal
from llmbench.tui.app import STOP_ENGINE, Dashboard
from llmbench.tui.feed import LiveFeed
from llmbench.tui.history import History
from llmbench.tui.reduce import begin, reduce
from llmbench.tui.state import State

_QUESTION: Final = "stop the engine that this window started?"
_LOOK_SECONDS = 0.1
_BEHIND = 10
"""Added to the window's niceness: enough for the engine to go first, and on a busy machine it still draws."""


def _now() -> datetime:
    """Return the time in the zone of this machine, which all times are shown in."""
    return SystemClock().now().astimezone()


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched, and how. ``child`` is the engine if it was started for this; ``ends_with_us``: nobody is asked
    whether it is to be stopped.
    """

    feed: LiveFeed
    history: History | None
    settings: TuiTable
    child: Child | None = None
    ends_with_us: bool = False


def check_terminal() -> None:
    """Raise CommandError if nothing can be drawn here."""
    if (problem := terminal.problem(os.environ)) is not None:
        raise CommandError(f"the dashboard needs a terminal: {problem}; llmbench --headless needs none")


def give_way() -> None:
    """Have this process wait for the processor behind an engine on the same machine. Its children begin before."""
    with contextlib.suppress(OSError, AttributeError):  # not everywhere, and not in every sandbox
        os.nice(_BEHIND)


async def watch(window: Window, signals: Signals) -> int:
    """Show the dashboard until it is left; return the exit code. Raises what the dashboard broke of."""
    child = window.child
    app = Dashboard(
        window.feed,
        history=window.history,
        settings=window.settings,
        clock=_now,
        quit_asks=_QUESTION if child is not None and not window.ends_with_us else None,
    )
    begun = _now()
    try:
        answer = await _shown(app, window, signals)
    except Exception as error:
        if child is not None:
            await _left_behind(child, window, signals, error)
        raise
    with contextlib.suppress(OSError):  # the terminal may be gone
        _sum_up(app.state, begun, window)
    return await _left(answer, window, signals)


async def _shown(app: Dashboard, window: Window, signals: Signals) -> int | None:
    """Draw until the end. Raises what the dashboard broke of, as it is and not in a group."""
    ours = terminal.Terminal()
    broken: Exception | None = None
    answer = None

    def last_resort() -> None:
        ours.give_back()
        if window.child is not None:
            window.child.terminate()

    async with anyio.create_task_group() as group:
        if window.child is not None:
            group.start_soon(_follow_child, window.child, window.feed, app)
        with signals.told_to(lambda _number: app.exit(), last_resort):
            try:
                answer = await ours.draw(app)
            except Exception as error:  # noqa: BLE001  raised below, outside of the group
                broken = error
        group.cancel_scope.cancel()
    if broken is not None:
        raise broken
    return answer


async def _follow_child(child: Child, feed: LiveFeed, app: Dashboard) -> None:
    """Wait for the end of the engine; there is nothing to look at if it did not even start."""
    await child.ended()
    app.quit_asks = None
    if not feed.heard_before:
        app.exit()


async def _left(answer: int | None, window: Window, signals: Signals) -> int:
    """See to the engine after the dashboard was left; return the exit code."""
    child = window.child
    if child is not None and child.code is not None:
        _tell_end(child, window)
        return _code(signals, child.code)
    if child is not None and (window.ends_with_us or answer == STOP_ENGINE or signals.first is not None):
        code = await _stopped(child, window, signals)
        return _code(signals, ExitCode.OK if window.ends_with_us else code)
    if child is not None:
        with contextlib.suppress(OSError):
            output.note(_how_to_go_on(child))
    return _code(signals, ExitCode.OK)


async def _left_behind(child: Child, window: Window, signals: Signals, error: Exception) -> None:
    """See to the engine after the dashboard broke: it measures on, unless it is for the dashboard alone."""
    if window.ends_with_us:
        await _stopped(child, window, signals)
    elif child.code is None:
        error.add_note(f"\n{_how_to_go_on(child)}")  # behind what is told of the error, where it is seen


def _code(signals: Signals, code: int) -> int:
    return code if signals.first is None else 128 + signals.first


async def _stopped(child: Child, window: Window, signals: Signals) -> int:
    """Have the engine end, gracefully, and at once if a signal comes meanwhile; return its exit code."""
    child.terminate()
    with signals.told_to(lambda _number: child.terminate()):
        async with anyio.create_task_group() as group:
            group.start_soon(window.feed.run)
            group.start_soon(_tell_what_is_left, window.feed)
            code = await child.ended()
            group.cancel_scope.cancel()
    with contextlib.suppress(OSError):
        output.status("")
        output.note(f"{how_it_ended(child, heard=window.feed.heard_before)}{_log(child, window)}")
    return code


def how_it_ended(child: Child, *, heard: bool) -> str:
    """Tell how an engine ended that was told to: by the signal itself if it did not listen for one yet, or any more."""
    if child.ended_by == signal.SIGTERM:
        return f"the engine was stopped {'at once' if heard else 'before it had begun'} (exit code {child.code})"
    return f"the engine ended with exit code {child.code}"


def _log(child: Child, window: Window) -> str:
    """Return where the log of an engine that has ended is; one for the dashboard alone takes it along."""
    return "" if window.ends_with_us else f"; its log: {child.log}"


async def _tell_what_is_left(feed: LiveFeed) -> None:
    state = begin(feed.address, _now())
    told: str | None = None
    while True:
        state = reduce(state, feed.take(), _now())
        text = what_is_left(state)
        if text != told:
            with contextlib.suppress(OSError):
                output.status(text)
            told = text
        await anyio.sleep(_LOOK_SECONDS)


def what_is_left(state: State) -> str:
    """Return what an engine that was told to end does before that, as far as it has told."""
    if state.runs:
        doing = f"finishing what streams now, {len(state.runs)} left"
    elif state.link.heard is not None:
        doing = "nothing streams any more, and the engine ends"
    else:
        doing = "the engine ends"
    return f"{doing}; Ctrl-C: stop at once"


def _tell_end(child: Child, window: Window) -> None:
    """Say how an engine ended that was not told to."""
    said = "".join(f"\n  {line}" for line in child.last_lines())
    when = "ended" if window.feed.heard_before else "did not start"
    with contextlib.suppress(OSError):
        output.note(f"llmbench: the engine {when} (exit code {child.code}{_log(child, window)}):{said}")


def _how_to_go_on(child: Child) -> str:
    return (
        f"the engine goes on as process {child.pid}, its log: {child.log}\n"
        "  look at it again:  llmbench tui\n"
        f"  stop it:           kill {child.pid}"
    )


def _sum_up(state: State, begun: datetime, window: Window) -> None:
    """Say what was seen, also of runs before: who attaches is told of each lane's last ones. What became of an engine
    of our own is said apart.
    """
    if not window.feed.heard_before:
        if window.child is None:
            output.note("no engine was seen")
        return
    lanes = state.lanes.values()
    ok, failed = sum(lane.ok for lane in lanes), sum(lane.failed for lane in lanes)
    minutes = (_now() - begun).total_seconds() / 60
    lost = f"; {counted(state.dropped, 'event')} lost on the way" if state.dropped else ""
    output.note(f"watched for {minutes:.1f} min; runs seen: {ok} ok, {failed} failed{lost}")
