"""What a check of a store finds: for whoever has to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from llmbench.messages import Model

State = Literal["ok", "warn", "fail", "unreachable"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at. ``told`` says how it is, ``advice`` what to do if it is not well.

    ``warn``: it works, but something is better mended. ``fail``: it does not work. ``unreachable``: nobody can tell.
    """

    check: str
    state: State
    told: str
    advice: str | None = None


Judge = Callable[[Sequence[Model]], Sequence[Finding]]
"""Says what is wrong with rows of the catalogue."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """How many outcomes of a collection or table count in no answer, and why; see `llmbench.stores.counted`.

    ``newest`` is the latest date in the future, ``runner`` who wrote it.
    """

    of: str
    unnamed: int
    undated: int
    future: int
    newest: datetime | None = None
    runner: str | None = None


def answers(found: Iterable[LeftOut]) -> list[Finding]:
    """Return what is to be said of outcomes that count nowhere."""
    told = [finding for one in found for finding in _answers(one)]
    return told or [ok("answers", "every outcome names a model and has a date that is not in the future")]


def _answers(one: LeftOut) -> list[Finding]:
    check = f"answers from {one.of}"
    lacking = {"no provider or no model": one.unnamed, "no date (run_ts)": one.undated}
    told = [
        warn(check, f"{count} with {what}, which count in no answer", "nothing, or complete or delete them by hand")
        for what, count in lacking.items()
        if count
    ]
    if one.future:
        until = f", up to {one.newest:%Y-%m-%d %H:%M} UTC" if one.newest else ""
        by = f" by runner {one.runner!r}" if one.runner else ""
        advice = "correct that machine's clock; such rows count once their time has come, unless they are deleted"
        told.append(warn(check, f"{one.future} dated in the future{until}{by}, which count in no answer", advice))
    return told


def ok(check: str, told: str) -> Finding:
    return Finding(check=check, state="ok", told=told)


def warn(check: str, told: str, advice: str) -> Finding:
    return Finding(check=check, state="warn", told=told, advice=advice)


def fail(check: str, told: str, advice: str | None = None) -> Finding:
    return Finding(check=check, state="fail", told=told, advice=advice)
