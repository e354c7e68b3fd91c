"""The part of the store contract about what is asked of stored outcomes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.messages import Failure, Outcome, Sample
from llmbench.stores.base import ModelHistory, OutcomeQuery, Store
from tests.stores.contract_outcomes import fresh, shares_the_store
from tests.stores.documents import envelopes, failure, moment, sample

KINDS: dict[str, tuple[type, ...]] = {"samples": (Sample,), "failures": (Failure,), "all": (Sample, Failure)}
OURS = ("local", "internal")
"""Kinds of failure that say nothing about the model."""


class OutcomesContract:
    """Outcomes are found by time, provider, model and kind."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_every_combination(self, store: Store, kind: Literal["samples", "failures", "all"]) -> None:
        """Any combination of conditions gives just the outcomes that meet all of them, newest first."""
        makers: list[Callable[..., Outcome]] = [sample, failure]
        names = itertools.cycle(itertools.product(["openai", "groq", "together"], ["llama-3", "gpt-4o", "o3"]))
        stored = [
            make(run_ts=moment(n), provider=provider, model_name=model_name)
            for n, (provider, model_name), make in zip(range(40), names, itertools.cycle(makers), strict=False)
        ]
        await store.put(envelopes(*stored[20:], *stored[:20]))

        choices = itertools.product(
            [None, moment(7), moment(100)], [None, "groq", "absent"], [None, "o3", "absent"], [None, 0, 3]
        )
        for since, provider, model_name, limit in choices:
            query = OutcomeQuery(since=since, provider=provider, model=model_name, kind=kind, limit=limit)
            assert await store.outcomes(query) == _matching(stored, query)

    async def test_since_includes_its_own_time(self, store: Store) -> None:
        """An outcome of just the time that is asked for belongs to the answer."""
        stored = sample(run_ts=moment(5))
        await store.put(envelopes(sample(run_ts=moment(4)), stored))

        assert await store.outcomes(OutcomeQuery(since=moment(5))) == [stored]

    async def test_case_does_not_matter(self, store: Store) -> None:
        """Providers and models are found in any spelling, exactly otherwise, and keep the spelling they came with."""
        stored = sample(provider="Together", model_name="meta-llama/Llama-3.3-70B")
        await store.put(envelopes(stored, sample(provider="Together", model_name="meta-llama/Llama-3.3-70B-Turbo")))

        query = OutcomeQuery(provider="tOGETHER", model="META-LLAMA/llama-3.3-70b")
        assert await store.outcomes(query) == [stored]

    @pytest.mark.parametrize("pattern", ["%", "gpt-4_", "gpt.4o", "gpt*", "^gpt", "gpt-4o' OR 1=1 --"])
    async def test_names_are_no_patterns(self, store: Store, pattern: str) -> None:
        """A name that is a pattern in some query language finds what is named so and nothing else."""
        odd = sample(model_name=pattern)
        await store.put(envelopes(sample(model_name="gpt-4o"), odd))

        assert await store.outcomes(OutcomeQuery(model=pattern)) == [odd]


def _matching(stored: list[Outcome], query: OutcomeQuery) -> list[Outcome]:
    found = [
        outcome
        for outcome in reversed(stored)
        if (query.since is None or outcome.run_ts >= query.since)
        and query.provider in (None, outcome.provider)
        and query.model in (None, outcome.model_name)
        and isinstance(outcome, KINDS[query.kind])
    ]
    return found[: query.limit]


runs = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["ok", "budget_exhausted", "rate_limit", "timeout", "local", "internal"]),
        st.sampled_from(["scheduled", "demo", "bench"]),
    ),
    max_size=12,
    unique_by=lambda run: run[0],
)
"""A model's past: minute, what became of the run, and its role; in the order in which the store heard of it."""


class HistoryContract:
    """Scheduling can be resumed from what is stored."""

    async def test_nothing_measured(self, store: Store) -> None:
        """A store without outcomes has no histories."""
        assert await store.history() == []

    async def test_failing_since_a_success(self, store: Store) -> None:
        """Failures after the last success are counted, and the newest is described."""
        await store.put(
            envelopes(
                _run(0, "timeout", "scheduled"),
                _run(1, "ok", "scheduled"),
                _run(2, "timeout", "scheduled"),
                _run(3, "rate_limit", "scheduled"),
            )
        )

        assert await store.history() == [
            ModelHistory(
                provider="openai",
                model_id="gpt-4o",
                last_success=moment(1),
                failures_in_a_row=2,
                last_failure=moment(3),
                last_failure_kind="rate_limit",
                last_failure_retry_after=7.5,
            )
        ]

    async def test_bench_runs_are_left_out(self, store: Store) -> None:
        """A model that only `bench` ran has no history, and `bench` runs change none."""
        await store.put(envelopes(_run(0, "ok", "bench"), _run(1, "timeout", "bench")))

        assert await store.history() == []

    async def test_same_id_at_two_providers(self, store: Store) -> None:
        """The same id at two providers is two models."""
        await store.put(
            envelopes(*(sample(provider=name, run_ts=moment(n)) for n, name in enumerate(["groq", "together", "groq"])))
        )

        latest = {past.provider: past.last_success for past in await store.history()}
        assert latest == {"groq": moment(2), "together": moment(1)}

    async def test_two_spellings_are_one_model(self, store: Store) -> None:
        """Two spellings of one model have one history, under the newest spelling."""
        spelled: dict[str, Callable[..., Outcome]] = {"GPT-4o": sample, "gpt-4O": failure, "gpt-4o": failure}
        runs = [
            make(run_ts=moment(n), provider="openai", model_name=name) for n, (name, make) in enumerate(spelled.items())
        ]
        await store.put(envelopes(*runs))

        [past] = await store.history()
        assert (past.model_id, past.last_success, past.failures_in_a_row) == ("gpt-4o", moment(0), 2)

    @shares_the_store
    @given(runs=runs)
    async def test_any_past(self, store: Store, runs: list[tuple[int, str, str]]) -> None:
        """Whatever a model's past and whenever the store heard of it, its history is what the past in order gives."""
        model_id = fresh("model")
        await store.put(envelopes(*(_run(*run, model_name=model_id) for run in runs)))

        found = [past for past in await store.history() if past.model_id == model_id]
        assert found == _history(model_id, sorted(runs))


def _run(minute: int, became: str, role: str, model_name: str = "gpt-4o") -> Outcome:
    changes: dict[str, Any] = {
        "run_ts": moment(minute),
        "provider": "openai",
        "model_name": model_name,
        "sample_role": role,
    }
    if became in ("ok", "budget_exhausted"):
        return sample(**changes, outcome=became)
    return failure(**changes, error_kind=became, retry_after=7.5 if became == "rate_limit" else None)


def _history(model_id: str, runs: list[tuple[int, str, str]]) -> list[ModelHistory]:
    success: datetime | None = None
    since: list[tuple[int, str]] = []
    for minute, became, role in runs:
        if role == "bench":
            continue
        if became in ("ok", "budget_exhausted"):
            success, since = moment(minute), []
        else:
            since.append((minute, became))
    if success is None and not since:
        return []
    last_failure, kind = since[-1] if since else (None, None)
    return [
        ModelHistory(
            provider="openai",
            model_id=model_id,
            last_success=success,
            failures_in_a_row=sum(became not in OURS for _, became in since),
            last_failure=None if last_failure is None else moment(last_failure),
            last_failure_kind=kind,
            last_failure_retry_after=7.5 if kind == "rate_limit" else None,
        )
    ]
