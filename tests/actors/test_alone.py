"""What a runner without leases remembers: no more than its models, however long the store is away."""

from __future__ import annotations

from itertools import count

import pytest

from llmbench.actors import alone as module
from llmbench.actors.alone import Alone
from llmbench.messages import Acknowledged, NotStored
from llmbench.stores.leases import LeaseKey
from tests.stores.documents import NOON

A, B = LeaseKey("groq", "a"), LeaseKey("groq", "b")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock takes a second."""
    ticks = count()
    monkeypatch.setattr(module, "monotonic", lambda: float(next(ticks)))


def run(alone: Alone, key: LeaseKey, *, ok: bool = True) -> bool:
    alone.begin("a run", key)
    return alone.end(ended("a run", ok=ok))


def ended(outcome_id: str, *, ok: bool = True) -> Acknowledged:
    return Acknowledged(outcome_id=outcome_id, provider="groq", model_id="x", ok=ok, at=NOON)


def test_of_many_successes_of_a_model_the_last_is_told() -> None:
    """A day without the store is no reason to keep each run in memory."""
    alone = Alone()
    assert all(run(alone, key) for _ in range(1000) for key in (A, B))

    assert [(one.key, one.ago) for one in alone.measured()] == [(A, 2.0), (B, 1.0)]
    alone.told()
    assert not alone.has_news
    assert alone.measured() == []


def test_what_is_measured_while_the_store_is_told_is_told_next() -> None:
    alone = Alone()
    run(alone, A)
    run(alone, B)
    alone.measured()
    run(alone, B)
    alone.told()

    assert [one.key for one in alone.measured()] == [B]


def test_failures_and_runs_with_a_lease_are_not_told() -> None:
    alone = Alone()
    assert not run(alone, A, ok=False)
    assert not alone.end(ended("another"))
    alone.begin("taken back", A)
    alone.forget("taken back")
    assert not alone.end(ended("taken back"))
    alone.begin("not stored", A)
    assert not alone.end(NotStored(outcome_id="not stored", provider="groq", model_id="x", reason="too large"))

    assert not alone.has_news


def test_the_later_of_two_that_end_in_the_other_order_counts() -> None:
    """Of a person's run beside the scheduled one, say: when it began is what others have to know."""
    alone = Alone()
    alone.begin("first", A)
    alone.begin("second", A)
    alone.end(ended("second"))
    alone.end(ended("first"))

    assert [one.ago for one in alone.measured()] == [1.0]
