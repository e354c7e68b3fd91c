"""Metrics of lanes, the store, the spool and the bridge, and how much may stand in all of them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_families import FAMILIES, Family
from llmbench.bridge.metrics import Metrics
from llmbench.error_text import clean
from llmbench.messages import LaneStatus, StoreState
from tests.bridge.telling import BOTH, counts, finished, histogram, lane, read, started, told, value, values
from tests.stores.documents import NOON, sample

# lanes, store, spool


@BOTH
def test_a_lane_is_in_one_state(accept: str | None) -> None:
    """The state that it is in is 1, all others are 0."""
    metrics = told(lane("starting"), lane("ok"), lane("down", name="groq"))
    states = values(metrics, families.LANE_STATE, accept)

    assert states == {
        (name, state): float(state == {"openai": "ok", "groq": "down"}[name])
        for name in ("openai", "groq")
        for state in get_args(LaneStatus)
    }


def test_restarts_of_a_lane_only_grow() -> None:
    """A lane that tells its own state says nothing of restarts; that takes none back, and none is counted twice."""
    metrics = told(lane("restarting", 1), lane("ok"), lane("restarting", 2), lane("starting", 2), lane("ok"))

    assert values(metrics, families.LANE_RESTARTS) == {("openai",): 2}


def test_whether_the_store_is_up_is_unknown_at_first() -> None:
    """Before anything was put there is no figure; then it follows what the sink says, and what was delivered."""
    metrics = told()
    assert value(metrics, families.STORE_UP) is None

    metrics.observe(StoreState(status="failing", at=NOON, waiting=3, reason="away"))
    assert value(metrics, families.STORE_UP) == 0

    metrics.delivered(3)
    assert (value(metrics, families.STORE_UP), value(metrics, families.DELIVERED)) == (1, 3)


@BOTH
def test_the_spools_counts_are_told(accept: str | None) -> None:
    """Depth, age, bytes, cap, quarantine by reason and level are those of the spool, at the time of the scrape."""
    metrics = told()
    metrics.spool(counts())
    plain = {
        families.SPOOL_UP: 1,
        families.SPOOL_WAITING: 7,
        families.SPOOL_KEPT: 100,
        families.SPOOL_AGE: 90 * 60,
        families.SPOOL_IN_FLIGHT: 3,
        families.SPOOL_INTERRUPTED: 1,
        families.SPOOL_FILE: 40960,
        families.SPOOL_USED: 20480,
        families.SPOOL_CAP: 2**31,
        families.SPOOL_DAMAGES: 1,
    }

    for family, expected in plain.items():
        assert values(metrics, family, accept) == {(): expected}, family.name
    assert values(metrics, families.SPOOL_QUARANTINED, accept) == {("conflict",): 2, ("undecodable",): 1}
    assert values(metrics, families.SPOOL_LEVEL, accept) == {("ok",): 0, ("warning",): 1, ("paused",): 0}


def test_a_spool_that_cannot_be_asked_has_no_old_figures() -> None:
    """Only that it can't be asked is told; without a spool, nothing is."""
    metrics = told()
    assert [family.name for family in told_families(metrics) if family.name.startswith("llmbench_spool")] == []

    metrics.spool(counts())
    metrics.spool(None)
    assert [family for family in told_families(metrics) if family.name.startswith("llmbench_spool")] == [
        families.SPOOL_UP
    ]
    assert value(metrics, families.SPOOL_UP) == 0


@pytest.mark.parametrize("oldest", [None, NOON + timedelta(hours=1)], ids=["empty", "a clock that was set back"])
def test_the_age_of_a_spool_is_never_negative(oldest: Any) -> None:
    """It is 0 where nothing waits, or where the clock says that the oldest outcome is yet to come."""
    metrics = told()
    metrics.spool(counts(oldest=oldest))

    assert values(metrics, families.SPOOL_AGE) == {(): 0}


def told_families(metrics: Metrics) -> list[Family]:
    """Return the families that have a series."""
    seen = {found.name for metric in read(metrics) for found in metric.samples}
    return [family for family in FAMILIES if {family.name, f"{family.name}_count"} & seen]


# the bridge


def test_requests_are_counted_by_route_method_and_status() -> None:
    """A path that is no route, and a method that a stranger made up, have one label for all of their kind."""
    metrics = told()
    metrics.request("/ingest", "POST", 200, 0.02)
    metrics.request("/ingest", "POST", 200, 0.03)
    for word in ("BREW", "get", "\r\n"):
        metrics.request(None, word, 404, 0.001)

    assert values(metrics, f"{families.REQUESTS.name}_count") == {
        ("POST", "200", "/ingest"): 2,
        ("_OTHER", "404", ""): 3,
    }
    assert values(metrics, f"{families.REQUESTS.name}_sum")["POST", "200", "/ingest"] == pytest.approx(0.05)


def test_documents_are_counted_by_verdict() -> None:
    """A batch adds to each verdict as many as it had."""
    metrics = told()
    metrics.items("/ingest/batch", "stored", 98)
    metrics.items("/ingest/batch", "rejected", 2)
    metrics.items("/ingest", "stored", 1)

    assert values(metrics, families.ITEMS) == {
        ("/ingest/batch", "stored"): 98,
        ("/ingest/batch", "rejected"): 2,
        ("/ingest", "stored"): 1,
    }


def test_the_loops_lag_is_a_histogram() -> None:
    """What a watch over the loop tells is counted; nonsense is not."""
    metrics = told()
    for seconds in (0.0002, 0.02, math.nan, math.inf):
        metrics.lag(seconds)
    lags = histogram(metrics, families.LOOP_LAG, {})

    assert (lags["count"], lags["sum"], lags["buckets"]["0.00025"]) == (2, pytest.approx(0.0202), 1)


# how many series there may be, and what may stand in them


def test_models_beyond_the_cap_share_a_series() -> None:
    """They are ``other``, each provider's its own; models that were known go on by themselves."""
    metrics = Metrics(most_models=2)
    for name in ("a", "b", "c", "d", "a"):
        metrics.observe(finished(sample(model_name=name)))
    metrics.observe(finished(sample(provider="groq", model_name="e")))

    assert values(metrics, f"{families.DURATION.name}_count") == {
        ("", "chat", "openai", "a"): 2,
        ("", "chat", "openai", "b"): 1,
        ("", "chat", "openai", "other"): 2,
        ("", "chat", "groq", "other"): 1,
    }


def test_no_label_grows_without_bound() -> None:
    """Providers, lanes, routes and reasons have caps, too."""
    metrics = told()
    for number in range(600):
        metrics.observe(started(str(number), provider=f"p{number}"))
        metrics.observe(lane("ok", name=f"l{number}"))
        metrics.request(f"/{number}", "GET", 200, 0.1)
    metrics.spool(counts(quarantined={f"r{number}": 1 for number in range(600)}))

    assert len(values(metrics, families.STARTED)) == 501
    assert len(values(metrics, families.LANE_RESTARTS)) == 501
    assert len(values(metrics, f"{families.REQUESTS.name}_count")) == 101
    assert values(metrics, families.SPOOL_QUARANTINED)["other",] == 550


@BOTH
@settings(max_examples=30)
@given(text=st.text() | st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"]) | st.sampled_from('"\\{}\n')))
def test_foreign_text_can_neither_break_nor_bloat_what_is_told(accept: str | None, text: str) -> None:
    """Any name of a model, lane, route or reason comes out as one short line that the parsers understand."""
    metrics = told(finished(sample(model_name=text * 300)), lane("ok", name=text))
    metrics.spool(counts(quarantined={text: 1}))
    metrics.items(text, "stored", 1)

    labels = {label for metric in read(metrics, accept) for found in metric.samples for label in found.labels.values()}
    assert values(metrics, families.LAST_SUCCESS, accept).keys() == {("openai", clean(text * 300, 200))}
    assert {clean(text, 200)} <= labels
    assert all(label == clean(label, 200) for label in labels)
