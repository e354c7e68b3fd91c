"""SIGTERM and SIGINT, once: what streams is finished and stored, and the engine ends well."""

from __future__ import annotations

import signal

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import Place, ended, until_logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_stream_lets_the_stream_finish(
    place: Place, simulator: SpawnedSimulator, number: signal.Signals
) -> None:
    """The engine that would run for ever is told to stop while a stream of a second and a half runs.

    1. Two models are due; when the quick one's run is in the log, the slow one streams.
    2. The signal is noticed: the log says so.
    3. The slow stream is stored as a good sample, with all of its tokens and no stall.
    4. The exit code is 0 and nothing is on standard error.
    """
    slow, quick = unique("ttft100-gap100", "a-slow-"), unique(name="b-quick-")
    place.configure(groq=[slow, quick])
    with place.started("--headless") as process:
        before = until_logged(process, quick)
        assert [record.ended for record in simulator.requests(model=slow)] == [None]
        done = ended(process, number, before=before)

    assert (done.code, done.err) == (0, "")
    assert any(line.get("message", "").startswith(f"{number.name}: finishing what streams") for line in done.lines())
    (sample,) = (sample for sample in place.samples() if sample.model_name == slow)
    assert (sample.outcome, sample.output_tokens, sample.finish_reason) == ("ok", 16, "length")
    assert sample.generate_time >= 1.5
    assert {line["id"] for line in done.runs()} == {outcome.id for outcome in place.outcomes()}
    assert [record.ended for record in simulator.requests(model=slow)] == ["complete"]
