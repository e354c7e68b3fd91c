"""Metrics: real messages in, figures out, in both formats, under names that keep the rules."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, get_args

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llmbench import __version__
from llmbench.actors.bus import Bus
from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_families import FAMILIES, Family
from llmbench.bridge.metrics import Metrics, prefers_openmetrics
from llmbench.error_text import clean
from llmbench.messages import (
    LaneState,
    LaneStatus,
    LiveEvent,
    Outcome,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.spool import SpoolCounts
from tests.runs import QUICK, run_once
from tests.stores.documents import NOON, failure, moment, sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0; q=0.9, text/plain;q=0.5"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BOTH = pytest.mark.parametrize("accept", [None, OPENMETRICS], ids=["text", "OpenMetrics"])

RUN = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-4o-mini",
}


class NoonClock:
    """It is always noon."""

    def monotonic_ns(self) -> int:
        return 0

    def now(self) -> Any:
        return NOON


def started(outcome_id: str = "1", provider: str = "openai", model_id: str = "gpt-4o-mini") -> RunStarted:
    return RunStarted(outcome_id=outcome_id, provider=provider, model_id=model_id, at=NOON)


def finished(outcome: Outcome) -> RunFinished:
    return RunFinished(provider=outcome.provider, model_id=outcome.model_name, outcome=outcome)


def lane(status: LaneStatus, restarts: int = 0, name: str = "openai") -> LaneState:
    return LaneState(lane=name, status=status, at=NOON, restarts=restarts)


def counts(**changes: Any) -> SpoolCounts:
    usual: dict[str, Any] = {
        "waiting": 7,
        "delivered": 100,
        "quarantined": {"conflict": 2, "undecodable": 1},
        "oldest": moment(-90),
        "in_flight": 3,
        "interrupted": 1,
        "file_bytes": 40960,
        "used_bytes": 20480,
        "cap_bytes": 2**31,
        "level": "warning",
        "damages": 1,
        "sqlite_version": "3.50.0",
    }
    return SpoolCounts(**usual | changes)


def told(*events: LiveEvent) -> Metrics:
    """Return metrics that have seen these events."""
    metrics = Metrics(clock=NoonClock())
    for event in events:
        metrics.observe(event)
    return metrics


def everything() -> Metrics:
    """Return metrics in which every family has a series."""
    metrics = told(
        started(),
        finished(sample()),
        finished(sample(resolution="coarse")),
        finished(failure()),
        lane("blocked", restarts=1),
        StoreState(status="ok", at=NOON, waiting=0),
    )
    metrics.spool(counts())
    metrics.request("/ingest", "POST", 200, 0.02)
    metrics.items("/ingest", "stored", 1)
    metrics.dropped(3)
    metrics.delivered(2)
    metrics.lag(0.004)
    return metrics


def read(metrics: Metrics, accept: str | None = None) -> list[Metric]:
    """Return what prometheus_client's own parser makes of the metrics."""
    body, content_type = metrics.render(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return list(parse(body.decode()))


def values(metrics: Metrics, family: Family | str, accept: str | None = None) -> dict[tuple[str, ...], float]:
    """Return the value of each series of a name, by the values of its labels in the order of their names."""
    name = family if isinstance(family, str) else family.name
    return {
        tuple(value for _, value in sorted(found.labels.items())): found.value
        for metric in read(metrics, accept)
        for found in metric.samples
        if found.name == name
    }


def value(metrics: Metrics, name: Family | str, labels: Mapping[str, str] | None = None) -> float | None:
    """Return one series' value, None if it is not there."""
    return metrics.registry.get_sample_value(name if isinstance(name, str) else name.name, dict(labels or {}))


def histogram(metrics: Metrics, family: Family, labels: Mapping[str, str], accept: str | None = None) -> dict[str, Any]:
    """Return one histogram: ``count``, ``sum`` and the ``buckets``, which are cumulative."""
    found: dict[str, Any] = {"buckets": {}}
    for metric in read(metrics, accept):
        for one in metric.samples:
            edge = one.labels.get("le")
            if {name: text for name, text in one.labels.items() if name != "le"} != dict(labels):
                continue
            if one.name == f"{family.name}_bucket":
                found["buckets"][edge] = one.value
            elif one.name.startswith(family.name):
                found[one.name.removeprefix(f"{family.name}_")] = one.value
    return found


# runs


@BOTH
def test_a_success_is_in_every_histogram(accept: str | None) -> None:
    """Duration, first text, first visible text, gaps, time per token and tokens, each with the right sum and count."""
    good = sample(time_to_first_reasoning_token=0.2)
    metrics = told(finished(good))
    ok = RUN | {"error_type": ""}
    duration = histogram(metrics, families.DURATION, ok, accept)
    gaps = histogram(metrics, families.CHUNK, RUN, accept)

    assert (duration["count"], duration["sum"]) == (1, pytest.approx(good.generate_time))
    assert (duration["buckets"]["0.64"], duration["buckets"]["1.28"], duration["buckets"]["+Inf"]) == (0, 1, 1)
    assert (gaps["count"], gaps["sum"]) == (63, pytest.approx(sum(good.times_between_tokens)))
    assert gaps["buckets"]["0.02"] - gaps["buckets"]["0.01"] == 63
    for family, seconds in (
        (families.FIRST_CHUNK, good.time_to_first_reasoning_token),
        (families.FIRST_TOKEN, good.time_to_first_token),
        (families.PER_TOKEN, 1 / 75.2083),
    ):
        assert histogram(metrics, family, RUN, accept)["sum"] == pytest.approx(seconds)
    for kind, tokens in (("input", 31), ("output", 64)):
        assert histogram(metrics, families.TOKENS, RUN | {"gen_ai_token_type": kind}, accept)["sum"] == tokens


def test_what_was_not_measured_is_not_counted() -> None:
    """A run that spent its budget on reasoning has no first token; tokens that were only estimated are no usage."""
    metrics = told(
        finished(
            sample(
                outcome="budget_exhausted",
                time_to_first_token=None,
                time_to_first_reasoning_token=None,
                times_between_tokens=[],
                decode_tokens_per_second=None,
                generated_output_tokens=None,
                input_tokens=None,
            )
        )
    )

    assert value(metrics, f"{families.DURATION.name}_count", RUN | {"error_type": ""}) == 1
    assert value(metrics, families.FINISHED, finished_labels("openai", "budget_exhausted")) == 1
    for family in (families.FIRST_CHUNK, families.FIRST_TOKEN, families.CHUNK, families.PER_TOKEN, families.TOKENS):
        assert values(metrics, f"{family.name}_count") == {}


def finished_labels(provider: str, outcome: str, error: str = "") -> dict[str, str]:
    return {"gen_ai_provider_name": provider, "outcome": outcome, "error_type": error}


def test_a_failure_counts_by_its_kind() -> None:
    """It has a duration only if tokens had come; a kind that nobody knows is ``_OTHER``."""
    metrics = told(
        finished(failure()),
        finished(failure(error_kind="timeout", partial={"generate_time": 12.5})),
        finished(failure(error_kind="made up")),
    )
    durations = values(metrics, f"{families.DURATION.name}_sum")

    assert durations == {("timeout", "chat", "groq", "llama-3.3-70b-versatile"): 12.5}
    for kind in ("rate_limit", "timeout", "_OTHER"):
        assert value(metrics, families.FINISHED, finished_labels("groq", "failed", kind)) == 1
    assert values(metrics, families.LAST_SUCCESS) == {}


@pytest.mark.parametrize(
    ("provider", "mode", "expected"),
    [
        ("bedrock", "converse", ("chat", "aws.bedrock")),
        ("vertex", "gemini", ("generate_content", "gcp.vertex_ai")),
        ("vertex", "messages", ("chat", "gcp.vertex_ai")),
        ("openai", "completions", ("text_completion", "openai")),
        ("openai", "responses", ("chat", "openai")),
        ("my-vllm", "chat", ("chat", "my-vllm")),
    ],
)
def test_the_conventions_words_are_used(provider: str, mode: str, expected: tuple[str, str]) -> None:
    """Where OpenTelemetry has a name for a provider or an operation, it is told; a failure has the model's last one."""
    metrics = told(
        finished(sample(provider=provider, model_name="m", request_mode=mode)),
        finished(failure(provider=provider, model_name="m", partial={"generate_time": 1.0})),
    )

    assert values(metrics, f"{families.DURATION.name}_count") == {
        ("", *expected, "m"): 1,
        ("rate_limit", *expected, "m"): 1,
    }


def test_gaps_of_coarse_runs_are_left_out() -> None:
    """They tell of this machine; the run is counted as coarse, and its worst lag is in the histogram."""
    metrics = told(finished(sample(resolution="coarse", client_lag_max=0.03)), finished(sample(client_lag_max=0.0002)))
    lags = histogram(metrics, families.CLIENT_LAG, {})

    assert value(metrics, families.COARSE, {"gen_ai_provider_name": "openai"}) == 1
    assert value(metrics, f"{families.CHUNK.name}_count", RUN) == 63
    assert (lags["buckets"]["0.00025"], lags["buckets"]["0.025"], lags["buckets"]["0.05"]) == (1, 1, 2)


def test_the_last_success_is_a_unix_time() -> None:
    """It is when the newest success ended; a failure does not move it."""
    late = sample(run_ts=moment(5))
    metrics = told(finished(sample()), finished(late), finished(failure(provider="openai", model_name="gpt-4o-mini")))

    assert values(metrics, families.LAST_SUCCESS) == {("openai", "gpt-4o-mini"): late.gen_ts.timestamp()}


async def test_real_runs_are_counted_as_they_went(simulator: SpawnedSimulator) -> None:
    """The outcome of a run through a real SDK is in the figures with its own measurements; so is one that failed."""
    good = (await run_once(simulator, "openai", f"gpt-sim-{QUICK}")).sample
    bad = (await run_once(simulator, "openai", "gpt-sim-http429")).failure
    metrics = told(started(good.id), finished(good), started(bad.id), finished(bad))
    labels = RUN | {"gen_ai_request_model": good.model_name}

    assert histogram(metrics, families.DURATION, labels | {"error_type": ""})["sum"] == good.generate_time
    assert histogram(metrics, families.FIRST_TOKEN, labels)["sum"] == good.time_to_first_token
    assert histogram(metrics, families.TOKENS, labels | {"gen_ai_token_type": "output"})["sum"] == good.output_tokens
    assert value(metrics, families.STARTED, {"gen_ai_provider_name": "openai"}) == 2
    assert value(metrics, families.FINISHED, finished_labels("openai", "ok")) == 1
    assert value(metrics, families.FINISHED, finished_labels("openai", "failed", bad.error_kind)) == 1
    assert value(metrics, families.IN_FLIGHT, {"gen_ai_provider_name": "openai"}) == 0


def test_progress_is_not_counted() -> None:
    """Ten events a second of each stream change nothing."""
    metrics = told(started())
    before = told(started()).render()
    metrics.observe(
        RunProgress(outcome_id="1", provider="openai", model_id="m", visible_chunks=1, text="a", elapsed=0.5)
    )

    assert figures(metrics.render()[0]) == figures(before[0])


def figures(body: bytes) -> list[bytes]:
    """Return the lines of llmbench's own metrics; those of the process change all the time."""
    return [line for line in body.splitlines() if not re.match(rb"(# \w+ )?(process|python)_", line)]


# in flight


def in_flight(metrics: Metrics, provider: str = "openai") -> float | None:
    return value(metrics, families.IN_FLIGHT, {"gen_ai_provider_name": provider})


def test_a_run_is_in_flight_until_its_outcome_comes() -> None:
    """The id of the outcome ties the two together; an outcome that nobody waits for changes nothing."""
    metrics = told(started("1"), started("2"), started("2"))
    assert in_flight(metrics) == 2

    metrics.observe(finished(sample(id="1")))
    metrics.observe(finished(sample(id="1")))
    metrics.observe(finished(sample(id="unknown")))
    assert in_flight(metrics) == 1


@pytest.mark.parametrize("status", ["restarting", "down", "stopped"])
def test_runs_of_a_lane_that_crashed_are_not_in_flight_for_ever(status: LaneStatus) -> None:
    """A crash may leave a run without an outcome; runs of other lanes go on."""
    metrics = told(started("1"), started("2", provider="groq"), lane("ok"), lane("blocked"))
    assert (in_flight(metrics), in_flight(metrics, "groq")) == (1, 1)

    metrics.observe(lane(status))
    assert (in_flight(metrics), in_flight(metrics, "groq")) == (0, 1)


async def test_lost_events_are_counted_and_leave_nothing_in_flight() -> None:
    """Of a bus that was too quick, the losses are told, and runs whose end may have been lost are let go."""
    bus = Bus()
    metrics = told(started("lost"))
    with bus.subscribe(capacity=2) as subscription:
        for number in range(5):
            bus.publish(started(str(number)))
        bus.close()
        with anyio.fail_after(5):
            await metrics.follow(subscription)

    assert values(metrics, families.BUS_DROPPED) == {("metrics",): 3}
    assert in_flight(metrics) == 2


async def test_following_counts_as_events_come() -> None:
    """It ends with the bus, and what was published until then is counted."""
    bus, metrics = Bus(), told()
    with bus.subscribe() as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(metrics.follow, subscription)
            await checkpoint()
            bus.publish(started("1"))
            bus.publish(finished(sample(id="1")))
            bus.close()

    assert value(metrics, families.STARTED, {"gen_ai_provider_name": "openai"}) == 1
    assert values(metrics, families.BUS_DROPPED) == {}


steps = st.lists(
    st.tuples(st.sampled_from(["start", "finish", "crash", "lose"]), st.sampled_from("abc"), st.integers(0, 4))
)


@given(steps)
def test_the_number_in_flight_is_that_of_runs_without_an_end(sequence: Iterable[tuple[str, str, int]]) -> None:
    """Whatever happens in whatever order, it is the number of those that were begun and not ended, lost or let go."""
    metrics, expected = Metrics(), set[tuple[str, int]]()
    for what, provider, number in sequence:
        run = f"{provider}{number}"
        if what == "start":
            metrics.observe(started(run, provider=provider))
            expected.add((provider, number))
        elif what == "finish":
            metrics.observe(finished(sample(id=run, provider=provider)))
            expected.discard((provider, number))
        elif what == "crash":
            metrics.observe(lane("restarting", name=provider))
            expected = {one for one in expected if one[0] != provider}
        else:
            metrics.dropped(1, "metrics")
            expected.clear()
    for provider in "abc":
        assert (in_flight(metrics, provider) or 0) == len([one for one in expected if one[0] == provider])


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


# formats


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        (OPENMETRICS, True),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
            True,
        ),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=abc", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.8", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=x;;=,,", False),
    ],
)
def test_the_format_follows_what_is_accepted(accept: str | None, preferred: bool) -> None:
    """OpenMetrics is for those who prefer the version that is written; all others get the text format."""
    body, content_type = told().render(accept)

    assert prefers_openmetrics(accept) is preferred
    assert content_type == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
        if preferred
        else "text/plain; version=0.0.4; charset=utf-8"
    )
    assert body.endswith(b"\n# EOF\n") is preferred


@given(st.text())
def test_any_accept_header_is_answered(header: str) -> None:
    """None is a fault of the program."""
    assert prefers_openmetrics(header) in (True, False)


@BOTH
async def test_a_scrape_says_the_same_and_lets_others_work(accept: str | None) -> None:
    """Its body is that of `render`; a task beside it is run many times meanwhile."""
    metrics = everything()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        body, content_type = await metrics.scrape(accept)
        group.cancel_scope.cancel()

    rendered = metrics.render(accept)
    assert (figures(body), content_type) == (figures(rendered[0]), rendered[1])
    assert turns > len(FAMILIES)


async def test_events_during_a_scrape_do_no_harm() -> None:
    """Series that appear while it is written neither break it nor the next one."""
    metrics = everything()
    async with anyio.create_task_group() as group:

        async def other() -> None:
            for number in range(100):
                metrics.observe(finished(sample(model_name=f"m{number}", provider=f"p{number}")))
                metrics.request(f"/{number}", "GET", 200, 0.1)
                await checkpoint()

        group.start_soon(other)
        body, _ = await metrics.scrape()

    assert list(parse_text(body.decode()))
    assert len(values(metrics, families.LAST_SUCCESS)) == 101


def test_two_programs_metrics_do_not_meet() -> None:
    """Each has a registry of its own."""
    first, second = told(started()), told()

    assert values(first, families.STARTED) == {("openai",): 1}
    assert values(second, families.STARTED) == {}


def test_the_version_is_told() -> None:
    """The build's figure is always 1; its label says which it is."""
    assert values(told(), families.BUILD) == {(__version__,): 1}


# names


@BOTH
def test_what_is_told_is_what_is_defined(accept: str | None) -> None:
    """Every family appears with its type, help, unit, labels and buckets, once; beside them are only the library's."""
    found = {metric.name: metric for metric in read(everything(), accept) if not metric.name.startswith("p")}
    ours = {family.stem if accept or family.kind != "info" else family.name: family for family in FAMILIES}

    assert set(found) == set(ours)
    for name, family in ours.items():
        metric = found[name]
        assert (metric.type, metric.documentation) == (family.kind if accept else text_type(family), family.help)
        assert metric.unit == (family.unit if accept else "")
        labels = {label for one in metric.samples for label in one.labels}
        assert labels - {"le"} == set(family.labels), name
        edges = {float(one.labels["le"]) for one in metric.samples if "le" in one.labels}
        assert edges == ({*family.buckets, math.inf} if family.buckets else set()), name


def text_type(family: Family) -> str:
    """Return the type that the text format has for a family: it knows no info."""
    return "gauge" if family.kind == "info" else family.kind


_NOT_BASE = re.compile(
    r"_(milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)?(seconds|bytes)s?_|_(ms|us|ns|millis|milliseconds|microseconds"
    r"|minutes|hours|days|kb|mb|gb|kilobytes|megabytes|mebibytes|percent|pct)(_|$)"
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_keep_the_rules(family: Family) -> None:
    """A help text that is a sentence, Prometheus' suffixes for each type, base units, no colon, no odd label."""
    suffixes = [
        suffix for suffix in ("_total", "_info", "_count", "_sum", "_bucket", "_created") if suffix in family.name
    ]

    assert re.fullmatch(r"(llmbench|gen_ai|http_server)_[a-z][a-z0-9_]*[a-z0-9]", family.name)
    assert "__" not in family.name
    assert re.fullmatch(r"[A-Z0-9].*\S\.", family.help)
    assert "\n" not in family.help
    assert suffixes == {"counter": ["_total"], "info": ["_info"]}.get(family.kind, [])
    assert family.name.endswith(suffixes[0] if suffixes else "")
    assert not _NOT_BASE.search(family.name.removesuffix("_total"))
    for label in family.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", label)
        assert label not in ("le", "quantile", "job", "instance")
    assert len(set(family.labels)) == len(family.labels)
    assert bool(family.buckets) == (family.kind == "histogram")
    assert list(family.buckets) == sorted(set(family.buckets))
    if family.name.startswith(("gen_ai", "http")) and family is not families.TOKENS:
        assert family.unit == "seconds"


def test_names_are_used_once() -> None:
    """No family has the name of another one, with or without its suffix."""
    assert len({family.stem for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian, Ubuntu: apt install prometheus)")
def test_promtool_finds_nothing_to_mend() -> None:
    """Prometheus' own lint reads the text and has no complaint."""
    body, _ = everything().render()
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
