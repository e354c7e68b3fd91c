"""A good run through each real SDK: the row tells what the simulated provider really did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llmbench import __version__
from llmbench.measure.stamps import kernel_stamps_available
from llmbench.messages import Sample
from llmbench.providers.presets import PRESETS
from llmbench.simulator import SpawnedSimulator
from tests.runs import (
    CHAT,
    FAMILIES,
    KEY,
    MESSAGES,
    QUICK,
    RESPONSES,
    Family,
    attempt,
    base_url,
    job,
    opened,
    profile,
    run_at,
    run_family,
    run_once,
    tls_simulator,
)

COMPATIBLE = sorted(name for name, preset in PRESETS.items() if preset.kind == "openai-compatible")
FINISH = {"chat": "length", "responses": "max_output_tokens", "completions": "length", "messages": "max_tokens"}
SOURCE = {"chat": "usage", "responses": "response.usage", "completions": "usage", "messages": "message_delta.usage"}

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.mode)


@every_family
async def test_a_good_run_is_one_complete_row(simulator: SpawnedSimulator, family: Family) -> None:
    """64 tokens: counts, chunks, source, finish reason, served model, request id, clock, from one request."""
    ran = await run_family(simulator, family, QUICK)
    row, request = ran.sample, ran.request
    assert (row.outcome, row.request_mode, row.response_status) == ("ok", family.mode, "completed")
    assert (row.output_tokens, row.generated_output_tokens, row.visible_output_tokens) == (64, 64, 64)
    assert (row.visible_stream_chunks, len(row.times_between_tokens), row.max_tokens_per_chunk) == (64, 63, 1)
    assert (row.token_source, row.finish_reason) == (SOURCE[family.mode], FINISH[family.mode])
    assert (row.served_model, row.model_name, request.model) == (row.model_name, family.model(QUICK), row.model_name)
    assert row.clock == ("kernel" if kernel_stamps_available() else "user")
    assert row.request_id is not None
    assert row.request_id.endswith(f"{request.sequence:x}" if family.provider == "openai" else str(request.sequence))
    assert row.response_id is not None
    assert row.response_id.endswith(str(request.sequence))


@every_family
async def test_a_row_says_under_which_conditions_it_was_made(simulator: SpawnedSimulator, family: Family) -> None:
    """Who, what, when, how: nothing has to be guessed from the configuration of the day."""
    before = datetime.now(UTC)
    row = (await run_family(simulator, family, QUICK, temperature=None, version=7)).sample
    assert before <= row.run_ts <= row.gen_ts <= datetime.now(UTC)
    assert (row.provider, row.endpoint) == (family.provider, base_url(simulator.url, family.provider))
    assert (row.benchmark_profile_id, row.protocol_version, row.validation_policy) == ("test", 7, "tokens")
    assert (row.requested_tokens, row.max_output_tokens_attempted, row.temperature) == (64, 64, None)
    assert (row.sample_role, row.attempts_count, row.runner_id) == ("scheduled", 1, "tests")
    assert (row.llmbench_version, row.connection_reused) == (__version__, False)
    assert re.fullmatch("[0-9a-f]{24}", row.id)


@every_family
async def test_a_rows_figures_agree_with_each_other(simulator: SpawnedSimulator, family: Family) -> None:
    """First byte, first token, last token and end follow each other; the speeds are tokens by those times."""
    row = (await run_family(simulator, family, QUICK)).sample
    assert row.connect_time is not None
    assert row.time_to_first_byte is not None
    assert row.time_to_first_token is not None
    assert row.decode_tokens_per_second is not None
    decoding = sum(row.times_between_tokens)
    assert 0 < row.time_to_first_byte <= row.time_to_first_token
    assert row.time_to_first_token + decoding <= row.generate_time
    assert row.tokens_per_second == pytest.approx(64 / row.generate_time)
    assert row.decode_tokens_per_second == pytest.approx(63 / decoding)
    assert row.time_to_64_visible_tokens_seconds == pytest.approx(row.time_to_first_token + decoding)
    assert row.inter_token_max == max(row.times_between_tokens)
    assert row.connect_time > 0
    assert row.tls_time is None


@pytest.mark.parametrize("name", COMPATIBLE)
async def test_each_preset_works_at_its_own_path(simulator: SpawnedSimulator, name: str) -> None:
    """The path of the real base URL, the provider's own places for token counts, one request."""
    path = PRESETS[name].base_url.partition("://")[2].partition("/")[2]
    since = simulator.counts().requests
    row = await run_at(f"{simulator.url}/{name}/{path}", name, f"maker/sim-{QUICK}")
    (request,) = simulator.requests(since=since)
    assert (row.outcome, row.provider, getattr(row, "output_tokens", None)) == ("ok", name, 64)
    assert (request.provider, request.path) == (name, f"/{name}/{path}/chat/completions")


@pytest.mark.parametrize(("name", "source"), [("groq", "usage"), ("cerebras", "usage"), ("deepinfra", "usage")])
async def test_token_counts_are_found_where_a_provider_puts_them(
    simulator: SpawnedSimulator, name: str, source: str
) -> None:
    """In a chunk of their own, or in that with the finish reason."""
    row = (await run_once(simulator, name, f"sim-{QUICK}")).sample
    assert (row.output_tokens, row.token_source, row.warnings) == (64, source, None)


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


# reasoning

REASONING: dict[str, Any] = {"validation_policy": "reasoning", "max_tokens": 64, "temperature": None}


@pytest.mark.parametrize(("family", "shown"), [(CHAT, False), (RESPONSES, True), (MESSAGES, True)])
async def test_reasoning_is_counted_apart(simulator: SpawnedSimulator, family: Family, shown: bool) -> None:
    """Five of 64 tokens are reasoning, whether the API shows it or only counts it."""
    row = (await run_family(simulator, family, f"rtok5-{QUICK}", **REASONING)).sample
    assert (row.output_tokens, row.reasoning_tokens, row.visible_output_tokens) == (64, 5, 59)
    assert row.visible_stream_chunks == 59
    assert (row.time_to_first_reasoning_token is not None) == shown


@pytest.mark.parametrize("name", ["groq", "together", "cerebras", "fireworks", "deepinfra", "openrouter"])
async def test_reasoning_of_a_compatible_provider_is_seen(simulator: SpawnedSimulator, name: str) -> None:
    """Under whichever name its deltas carry it."""
    row = (await run_once(simulator, name, f"sim-rtok5-{QUICK}", **REASONING)).sample
    assert row.time_to_first_reasoning_token is not None
    assert row.time_to_first_token is not None
    assert row.time_to_first_reasoning_token < row.time_to_first_token
    assert (row.reasoning_tokens, row.visible_stream_chunks) == (5, 59)


@pytest.mark.parametrize("family", [CHAT, RESPONSES, MESSAGES], ids=lambda family: family.mode)
async def test_a_budget_spent_on_reasoning_is_a_valid_row(simulator: SpawnedSimulator, family: Family) -> None:
    """No first token, which is null, but all counts."""
    row = (await run_family(simulator, family, f"budget-{QUICK}", **REASONING)).sample
    assert row.outcome == "budget_exhausted"
    assert (row.time_to_first_token, row.ttft_available, row.visible_text_empty) == (None, False, True)
    assert (row.output_tokens, row.reasoning_tokens, row.visible_output_tokens) == (64, 64, 0)


# several tokens a chunk


@every_family
async def test_a_chunk_is_not_a_token(simulator: SpawnedSimulator, family: Family) -> None:
    """64 tokens in eight chunks: both are told, and the speed is that of tokens."""
    row = (await run_family(simulator, family, f"chunk8-{QUICK}")).sample
    assert (row.output_tokens, row.visible_stream_chunks) == (64, 8)
    assert row.max_tokens_per_chunk is not None
    assert 8 <= row.max_tokens_per_chunk <= 13
    assert row.time_to_64_visible_tokens_seconds is None
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second * sum(row.times_between_tokens) == pytest.approx(56, abs=4)


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpawnedSimulator]:
    with tls_simulator(tmp_path_factory.mktemp("tls"), "127.0.0.1") as spawned:
        yield spawned


@pytest.mark.parametrize("family", [CHAT, MESSAGES], ids=lambda family: family.mode)
async def test_a_custom_authority_makes_tls_work(tls: SpawnedSimulator, family: Family) -> None:
    """With ``ca_file``; the handshake has a time of its own, outside of the time to first token."""
    work = job(family.provider, family.model("ttft5-gap1-tok8"), profile(max_tokens=8))
    async with opened(family.provider, base_url(tls.url, family.provider), KEY, ca_file=tls.ca_file) as provider:
        row = await attempt(provider, work).run()
    assert isinstance(row, Sample)
    assert (row.tls_time or 0) > 0
    assert row.endpoint.startswith("https://")
