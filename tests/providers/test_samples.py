"""What a good row tells of one provider alone; what all have in common is in tests/conformance."""

from __future__ import annotations

import pytest

from llmbench.providers.presets import PRESETS
from llmbench.simulator import SpawnedSimulator
from tests.runs import CHAT, QUICK, run_at, run_family, run_once

COMPATIBLE = sorted(name for name, preset in PRESETS.items() if preset.kind == "openai-compatible")


@pytest.mark.parametrize("name", COMPATIBLE)
async def test_each_preset_works_at_its_own_path(simulator: SpawnedSimulator, name: str) -> None:
    """The path of the real base URL, the provider's own places for token counts, one request."""
    path = PRESETS[name].base_url.partition("://")[2].partition("/")[2]
    since = simulator.counts().requests
    row = await run_at(f"{simulator.url}/{name}/{path}", name, f"maker/sim-{QUICK}")
    (request,) = simulator.requests(since=since)
    assert (row.outcome, row.provider, getattr(row, "output_tokens", None)) == ("ok", name, 64)
    assert (request.provider, request.path) == (name, f"/{name}/{path}/chat/completions")


@pytest.mark.parametrize("name", ["groq", "cerebras"])
async def test_a_providers_own_times_are_kept(simulator: SpawnedSimulator, name: str) -> None:
    """Seconds in its queue, and for prompt and completion, as it reports them."""
    row = (await run_once(simulator, name, f"sim-{QUICK}")).sample
    times = row.misc["provider_timings"]
    assert times["queue_time"] == 0.0005
    assert times["prompt_time"] == 0.005


async def test_times_in_headers_are_kept(simulator: SpawnedSimulator) -> None:
    """OpenAI's ``openai-processing-ms``, in seconds."""
    row = (await run_family(simulator, CHAT, QUICK)).sample
    assert row.misc["header_timings"] == {"openai_processing": 0.007}


async def test_tier_and_fingerprint_are_kept(simulator: SpawnedSimulator) -> None:
    """What else the response says of itself goes into the row."""
    row = (await run_family(simulator, CHAT, QUICK)).sample
    assert row.misc["service_tier"] == "default"
    assert row.system_fingerprint == "fp_simulated"
