"""What a check of a store finds: for whoever has to mend it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def ok(check: str, told: str) -> Finding:
    return Finding(check=check, state="ok", told=told)


def warn(check: str, told: str, advice: str) -> Finding:
    return Finding(check=check, state="warn", told=told, advice=advice)


def fail(check: str, told: str, advice: str | None = None) -> Finding:
    return Finding(check=check, state="fail", told=told, advice=advice)
