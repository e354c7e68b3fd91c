"""The past that the watched demo begins with: as usual as models' names promise, and good enough for a real store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from llmbench.cli.demo import MODELS
from llmbench.cli.demo_past import EVERY, HOURS, usual_runs
from llmbench.messages import Envelope, Model, Profile, Sample
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import NOON, model

PROFILE = Profile(id="default", prompt="Write.", max_tokens=160)
COUNT = int(timedelta(hours=HOURS) / EVERY)


def runs(*names: str) -> list[tuple[Model, Profile]]:
    return [(model(name, provider="groq"), PROFILE) for name in names]


def past(*names: str) -> list[Sample]:
    found = (envelope.outcome for envelope in usual_runs(runs(*names), NOON, "demo"))
    return [outcome for outcome in found if isinstance(outcome, Sample)]


def test_runs_are_as_the_name_says() -> None:
    """Every ten minutes for six hours; the time to the first token and the gaps are those of the name, nearly."""
    samples = past("llama-8b-sim-ttft60-gap3")
    assert len(samples) == COUNT
    assert all(0.055 < (one.time_to_first_token or 0) < 0.065 for one in samples)
    assert all(0.0026 < gap < 0.0035 for one in samples for gap in one.times_between_tokens)
    assert {one.output_tokens for one in samples} == {160}
    assert {one.sample_role for one in samples} == {"demo"}


def test_a_model_that_reasons_shows_its_first_token_later() -> None:
    assert all(0.42 < (one.time_to_first_token or 0) < 0.48 for one in past("o3-mini-sim-reason400-tok200"))


def test_all_of_it_is_over_and_the_newest_is_recent() -> None:
    """Nothing is in the future, and no model is so fresh that it would not be measured at once."""
    times = [one.run_ts for one in past("a-sim", "b-sim")]
    assert max(times) < NOON - timedelta(seconds=30)
    assert max(times) > NOON - EVERY
    assert min(times) >= NOON - timedelta(hours=HOURS)


def test_a_model_that_is_not_simulated_has_no_past() -> None:
    assert past("gpt-4o") == []


def test_the_same_past_every_time() -> None:
    one, other = past("a-sim-ttft70"), past("a-sim-ttft70")
    assert [sample.time_to_first_token for sample in one] == [sample.time_to_first_token for sample in other]


@pytest.mark.parametrize("provider", MODELS)
async def test_a_store_takes_it(provider: str, tmp_path: Path) -> None:
    """Every model of the demo has a past that is stored, each run of it."""
    models = [(model(name, provider=provider), PROFILE) for name in MODELS[provider]]
    whole: list[Envelope] = list(usual_runs(models, NOON, "demo"))
    store = SQLiteStore(tmp_path / "llmbench.db")
    await store.open()
    try:
        assert {verdict.status for verdict in await store.put(whole)} == {"stored"}
        (history, *_) = await store.history()
        assert history.last_success is not None
    finally:
        await store.close()
    assert len(whole) == COUNT * len(models)
