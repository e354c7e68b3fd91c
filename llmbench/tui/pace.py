"""How a lane does against its own usual: against what the store tells, or else against its first runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from llmbench.tui.state import Finished, First, Lane, State, Usual

LATEST: Final = 5
"""How many successes make what is told of now."""

MOST_FIRST: Final = 20
SLOW_RUNS: Final = 3
"""So many runs have to be slow before their lane is called so, if it was not from the first one on."""

_LEAST_USUAL: Final = 5
_SLOW_FIRST_TOKEN: Final = 2.0
_SLOW_SPEED: Final = 0.5
_ORDINARY_RUNS: Final = 2

Key = tuple[str, str]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of a lane's last ``n`` successes, and of their ratios to the usual of each one's model, where known.

    ``usual_n`` is of how many runs the smallest of these usuals is made.
    """

    n: int
    time_to_first_token: float | None
    tokens_per_second: float | None
    first_token_ratio: float | None
    speed_ratio: float | None
    usual_n: int | None


class Usuals:
    """What is usual for each model."""

    def __init__(self, told: Mapping[Key, Usual], first: Mapping[Key, First]) -> None:
        self._told = told
        self._first = first

    def of(self, run: Finished) -> Usual | None:
        key = (run.provider, run.model_id)
        told = self._told.get(key)
        if told is not None and told.n >= _LEAST_USUAL:
            return told
        first = self._first.get(key)
        return _usual(first) if first is not None and len(first.times_to_first_token) >= _LEAST_USUAL else None


def _usual(first: First) -> Usual:
    return Usual(
        n=len(first.times_to_first_token),
        time_to_first_token=_median(first.times_to_first_token),
        tokens_per_second=_median(first.speeds),
    )


def noted(first: First | None, run: Finished) -> First | None:
    """Return a model's first runs with one more success, None if nothing is added to them."""
    first = first or First()
    if run.time_to_first_token is None or len(first.times_to_first_token) >= MOST_FIRST:
        return None
    speed = () if run.tokens_per_second is None else (run.tokens_per_second,)
    return First(
        times_to_first_token=(*first.times_to_first_token, run.time_to_first_token), speeds=(*first.speeds, *speed)
    )


def pace(state: State, lane: Lane) -> Pace:
    """Return how fast a lane is now."""
    runs = [run for run in lane.recent if run.ok][-LATEST:]
    usuals = Usuals(state.usual, state.first)
    compared = [(run, usual) for run in runs if (usual := usuals.of(run)) is not None]
    return Pace(
        n=len(runs),
        time_to_first_token=_median([run.time_to_first_token for run in runs]),
        tokens_per_second=_median([run.tokens_per_second for run in runs]),
        first_token_ratio=_median(
            [_ratio(run.time_to_first_token, usual.time_to_first_token) for run, usual in compared]
        ),
        speed_ratio=_median([_ratio(run.tokens_per_second, usual.tokens_per_second) for run, usual in compared]),
        usual_n=min((usual.n for _run, usual in compared), default=None),
    )


def judged(lane: Lane, run: Finished, usual: Usual | None) -> Lane:
    """Return a lane after a success, with what that says of its being slow."""
    if usual is None:
        return lane
    if _is_slow(run, usual):
        return msgspec.structs.replace(
            lane, slow_since=lane.slow_since or run.at, slow_runs=lane.slow_runs + 1, ordinary_in_a_row=0
        )
    ordinary = lane.ordinary_in_a_row + 1
    if ordinary < _ORDINARY_RUNS:
        return msgspec.structs.replace(lane, ordinary_in_a_row=ordinary)
    return msgspec.structs.replace(lane, slow_since=None, slow_runs=0, ordinary_in_a_row=ordinary)


def judged_anew(lane: Lane, usuals: Usuals) -> Lane:
    """Return a lane with all its recent runs compared again, as what is usual is known now."""
    again = msgspec.structs.replace(lane, slow_since=None, slow_runs=0, ordinary_in_a_row=0)
    for run in lane.recent:
        again = judged(again, run, usuals.of(run)) if run.ok else again
    if again.slow_since is not None and lane.slow_since is not None:
        again = msgspec.structs.replace(again, slow_since=min(again.slow_since, lane.slow_since))
    return again


def is_slow(lane: Lane) -> bool:
    """Say whether a lane has been slow for some runs, or ever since the viewer began."""
    return lane.slow_runs >= SLOW_RUNS or 0 < lane.slow_runs == lane.ok


def _is_slow(run: Finished, usual: Usual) -> bool:
    first = _ratio(run.time_to_first_token, usual.time_to_first_token)
    speed = _ratio(run.tokens_per_second, usual.tokens_per_second)
    return (first is not None and first >= _SLOW_FIRST_TOKEN) or (speed is not None and speed <= _SLOW_SPEED)


def _ratio(value: float | None, usual: float | None) -> float | None:
    return value / usual if value is not None and usual is not None and usual > 0 else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
