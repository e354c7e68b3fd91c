"""Does every provider deliver? Successes and errors of a window, by provider, and the models that only fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from llmbench.naming import fold

State = Literal["ok", "failing", "silent"]
"""``failing``: errors and no success in the window. ``silent``: no run at all, though models are to be measured."""


class Tally(Protocol):
    """The runs of one model in the window; ``last_success`` looks beyond it."""

    @property
    def provider(self) -> str: ...

    @property
    def model_name(self) -> str: ...

    @property
    def successes(self) -> int: ...

    @property
    def failures(self) -> int: ...

    @property
    def last_success(self) -> datetime | None: ...


class FailingModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that had errors and no success in the window."""

    model_name: str
    errors: int
    last_success: datetime | None


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One provider. ``error_rate`` is the share of errors in all runs, null without runs."""

    provider: str
    state: State
    successes: int
    errors: int
    error_rate: float | None
    models: int
    last_success: datetime | None
    only_errors: list[FailingModel]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All providers that ran in the window or should have. ``since`` is its beginning, null for all that is stored."""

    healthy: bool
    since: datetime | None
    successes: int
    errors: int
    error_rate: float | None
    last_success: datetime | None
    providers: list[ProviderHealth]


def health_of(tallies: Iterable[Tally], expected: Iterable[str], since: datetime | None) -> Health:
    """Judge the window. ``expected`` names the providers that have models to be measured."""
    by_provider: dict[str, list[Tally]] = {}
    for tally in tallies:
        by_provider.setdefault(fold(tally.provider), []).append(tally)
    awaited = {fold(name): name for name in expected}
    judged = [_provider(awaited.get(key, ""), by_provider.get(key, [])) for key in sorted({*by_provider, *awaited})]
    providers = [one for one in judged if one.state != "silent" or fold(one.provider) in awaited]
    successes, errors = sum(one.successes for one in providers), sum(one.errors for one in providers)
    return Health(
        healthy=all(one.state == "ok" for one in providers),
        since=since,
        successes=successes,
        errors=errors,
        error_rate=_rate(successes, errors),
        last_success=_latest(one.last_success for one in providers),
        providers=providers,
    )


def _provider(name: str, tallies: Sequence[Tally]) -> ProviderHealth:
    successes, errors = sum(one.successes for one in tallies), sum(one.failures for one in tallies)
    return ProviderHealth(
        provider=name or tallies[0].provider,
        state="ok" if successes else "failing" if errors else "silent",
        successes=successes,
        errors=errors,
        error_rate=_rate(successes, errors),
        models=sum(one.successes + one.failures > 0 for one in tallies),
        last_success=_latest(one.last_success for one in tallies),
        only_errors=[
            FailingModel(model_name=one.model_name, errors=one.failures, last_success=one.last_success)
            for one in sorted(tallies, key=lambda one: (-one.failures, one.model_name))
            if one.failures and not one.successes
        ],
    )


def _rate(successes: int, errors: int) -> float | None:
    return errors / (successes + errors) if successes + errors else None


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((when for when in times if when is not None), default=None)
