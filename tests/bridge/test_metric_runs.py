"""Metrics of runs: real messages in, figures out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from llmbench.actors.bus import Bus
from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_values import Histograms
from llmbench.bridge.metrics import Metrics
from llmbench.messages import LaneStatus, RunProgress
from llmbench.simulator import SpawnedSimulator
from tests.bridge.telling import BOTH, RUN, figures, finished, histogram, lane, started, told, value, values
from tests.runs import QUICK, run_once
from tests.stores.documents import failure, moment, sample


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


@given(st.lists(st.sampled_from([0.0, *families.CHUNK.buckets]) | st.floats(0, 1000), min_size=1))
def test_many_values_at_once_count_like_one_after_another(gaps: list[float]) -> None:
    """Each is in the first bucket that it does not exceed; count and sum are theirs."""
    at_once, singly = (Histograms(families.CHUNK, CollectorRegistry()) for _ in range(2))
    at_once.add_all(("a", "b", "c"), gaps)
    for gap in gaps:
        singly.add(("a", "b", "c"), gap)
    found, expected = (
        [(one.name, one.labels, one.value) for metric in each.collect() for one in metric.samples]
        for each in (at_once, singly)
    )

    assert found[:-1] == expected[:-1]
    assert found[-1][2] == pytest.approx(expected[-1][2])
    assert found[-2][2] == len(gaps)


def test_gaps_of_which_one_is_no_number_are_left_out() -> None:
    """A sum that is not a number would stay so for ever."""
    metrics = told(
        finished(sample(times_between_tokens=[0.01, math.nan])), finished(sample(times_between_tokens=[0.5]))
    )

    assert values(metrics, f"{families.CHUNK.name}_sum") == {("chat", "openai", "gpt-4o-mini"): 0.5}


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
