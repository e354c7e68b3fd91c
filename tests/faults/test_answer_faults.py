"""The provider rows of the fault matrix, injected for real: answers that arrive whole and are wrong."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from llmbench.simulator import SpawnedSimulator
from tests.faults.support import chunks, every_family, failed, verdict
from tests.measure.support import serving
from tests.runs import CHAT, COMPLETIONS, MESSAGES, QUICK, RESPONSES, Family, run_family, run_once

# nothing said


@every_family
async def test_P17_no_token_is_empty(simulator: SpawnedSimulator, family: Family) -> None:
    """A proper end and nothing before it."""
    failure = await failed(simulator, family, f"empty-{QUICK}")
    assert verdict(failure) == ("empty_output", "empty", "validate")
    assert chunks(failure) == 0


@pytest.mark.parametrize("family", [CHAT, RESPONSES, MESSAGES], ids=lambda family: family.mode)
async def test_P18_reasoning_alone_spends_the_budget(simulator: SpawnedSimulator, family: Family) -> None:
    """A valid outcome with counts and without a first token."""
    row = (await run_family(simulator, family, f"budget-{QUICK}", validation_policy="reasoning")).sample
    assert (row.outcome, row.reasoning_tokens, row.time_to_first_token) == ("budget_exhausted", 64, None)


@pytest.mark.parametrize("family", [RESPONSES, MESSAGES], ids=lambda family: family.mode)
async def test_P18_reasoning_and_then_silence_is_an_idle_timeout(simulator: SpawnedSimulator, family: Family) -> None:
    """When the thinking began is kept."""
    failure = await failed(simulator, family, f"rtok5-stall0-{QUICK}")
    assert verdict(failure) == ("timeout", "idle_timeout", "timeout")
    assert failure.partial["time_to_first_reasoning_token"] > 0
    assert "time_to_first_token" not in failure.partial


# errors inside a good answer


@every_family
@pytest.mark.parametrize(("words", "kept"), [("errorobj", 0), ("errorbody", 0), ("errorstr", 0), ("errormid5", 5)])
async def test_P19_an_error_inside_a_200_is_never_ok(
    simulator: SpawnedSimulator, family: Family, words: str, kept: int
) -> None:
    """As the first event, as the body, as a mere string, behind tokens: the inner kind counts."""
    failure = await failed(simulator, family, f"{words}-{QUICK}")
    assert verdict(failure) == ("transient_provider", "stream_error", "generate")
    assert (failure.http_status, chunks(failure)) == (200, kept)


@every_family
@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit"), (401, "auth"), (402, "billing"), (404, "hard_model")]
)
async def test_P19_the_inner_error_says_what_it_is(
    simulator: SpawnedSimulator, family: Family, status: int, kind: str
) -> None:
    """A refusal that comes as an event is that refusal."""
    failure = await failed(simulator, family, f"errorobj-{status}-{QUICK}")
    assert (failure.error_kind, failure.error_cause) == (kind, "stream_error")


@pytest.mark.parametrize("name", ["groq", "openrouter", "together", "fireworks"])
async def test_P19_each_providers_own_form_of_it(simulator: SpawnedSimulator, name: str) -> None:
    """Groq says it in ``x_groq``, OpenRouter beside a finish reason."""
    failure = (await run_once(simulator, name, f"sim-errormid3-{QUICK}")).failure
    assert verdict(failure) == ("transient_provider", "stream_error", "generate")
    assert chunks(failure) == 3


@every_family
@pytest.mark.parametrize(("word", "status"), [("html", 200), ("nocontent", 204)])
async def test_P20_an_answer_that_is_no_stream_is_a_matter_of_protocol(
    simulator: SpawnedSimulator, family: Family, word: str, status: int
) -> None:
    """A web page, or nothing at all."""
    failure = await failed(simulator, family, word)
    assert verdict(failure) == ("network", "protocol", "generate")
    assert failure.http_status == status
    assert "base_url" in failure.advice


@every_family
async def test_P20_a_redirect_is_not_followed(simulator: SpawnedSimulator, family: Family) -> None:
    """The other host is never spoken to, so it never sees the key."""
    heard: list[ByteStream] = []

    async def other(stream: ByteStream) -> None:
        heard.append(stream)

    async with serving(other) as url:
        failure = await failed(simulator, family, f"redirect{url.rpartition(':')[2]}")
    assert (failure.error_kind, failure.error_cause) == ("configuration", "protocol")
    assert failure.http_status == 302
    assert heard == []


@every_family
async def test_P20_a_web_page_with_an_error_status(simulator: SpawnedSimulator, family: Family) -> None:
    """404 from whatever stands at a wrong address; 502 from a gateway."""
    assert verdict(await failed(simulator, family, "html404")) == ("configuration", "protocol", "generate")
    assert verdict(await failed(simulator, family, "html502")) == ("transient_provider", "server_error", "generate")


# counts


@every_family
async def test_P21_what_comes_before_the_first_token_is_none(simulator: SpawnedSimulator, family: Family) -> None:
    """Comments, pings, role-only and empty deltas at 25, 50 and 75 ms; the first token at 100 ms."""
    ran = await run_family(simulator, family, "comments-ttft100-gap1")
    row, request = ran.sample, ran.request
    assert row.visible_stream_chunks == 64
    assert row.time_to_first_token is not None
    assert row.time_to_first_token >= 0.099
    assert row.time_to_first_byte is not None
    assert row.time_to_first_byte < (request.writes_ns[0] - request.arrival_ns) / 1e9


@every_family
async def test_P22_missing_counts_are_told(simulator: SpawnedSimulator, family: Family) -> None:
    """Chunks stand in for tokens, and the row says so."""
    row = (await run_family(simulator, family, f"nousage-{QUICK}")).sample
    assert (row.token_source, row.output_tokens, row.generated_output_tokens) == ("stream_chunks", 64, None)
    assert row.warnings is not None
    assert "usage_missing" in row.warnings


@every_family
@pytest.mark.parametrize("count", [3, 1_000_000_000_000])
async def test_P22_a_count_that_contradicts_is_refused(simulator: SpawnedSimulator, family: Family, count: int) -> None:
    """64 chunks, and the provider says 3 tokens, or a million millions."""
    failure = await failed(simulator, family, f"wrongcount{count}-{QUICK}")
    assert verdict(failure) == ("token_mismatch", "off_target", "validate")
    assert failure.message == f"output_tokens {count} not within 10% of requested 64"
    assert (failure.partial["output_tokens"], chunks(failure)) == (count, 64)


@pytest.mark.parametrize("family", [CHAT, RESPONSES, COMPLETIONS], ids=lambda family: family.mode)
async def test_P22_a_negative_count_is_no_count(simulator: SpawnedSimulator, family: Family) -> None:
    """As if it were missing."""
    row = (await run_family(simulator, family, f"negcount-{QUICK}")).sample
    assert (row.token_source, row.output_tokens) == ("stream_chunks", 64)


async def test_P22_a_negative_count_leaves_anthropics_first_report(simulator: SpawnedSimulator) -> None:
    """``message_start`` has already said 1, which is off target, so the run does not count."""
    failure = await failed(simulator, MESSAGES, f"negcount-{QUICK}")
    assert verdict(failure) == ("token_mismatch", "off_target", "validate")


@every_family
async def test_P22_too_few_tokens_are_off_target(simulator: SpawnedSimulator, family: Family) -> None:
    """Ten of 64: the numbers are kept."""
    failure = await failed(simulator, family, f"tok10-{QUICK}")
    assert verdict(failure) == ("token_mismatch", "off_target", "validate")
    assert failure.partial["output_tokens"] == 10
