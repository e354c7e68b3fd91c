"""The provider rows of the fault matrix, injected for real: what goes wrong inside an answer."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest
from anyio.abc import ByteStream

from llmbench.measure.timer import StreamTimer
from llmbench.messages import Failure, Sample
from llmbench.simulator import SpawnedSimulator
from tests.faults.support import LIMITS, chunks, every_family, failed, verdict
from tests.measure.support import DONE, STREAM_HEAD, counted, delta, finished, read_request, said, serving
from tests.runs import (
    CHAT,
    COMPLETIONS,
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
)

RSS_LIMIT_KIB = 32 * 1024

# silence


@every_family
@pytest.mark.parametrize("word", ["silent", "noanswer"])
async def test_P8_silence_is_an_idle_timeout(simulator: SpawnedSimulator, family: Family, word: str) -> None:
    """With a head or without: at the idle limit, and the time to first token is not known."""
    failure = await failed(simulator, family, word)
    assert verdict(failure) == ("timeout", "idle_timeout", "timeout")
    assert failure.http_status == (200 if word == "silent" else None)
    assert "time_to_first_token" not in failure.partial
    assert 0.25 <= failure.partial["generate_time"] < 1.5


@every_family
async def test_P9_a_stall_keeps_what_had_come(simulator: SpawnedSimulator, family: Family) -> None:
    """Ten tokens, then silence: the figures of the ten are in the failure."""
    failure = await failed(simulator, family, f"stall10-{QUICK}")
    assert verdict(failure) == ("timeout", "idle_timeout", "timeout")
    assert chunks(failure) == 10
    assert failure.partial["ttft_available"] is True
    assert failure.partial["time_to_first_token"] > 0
    assert len(failure.partial["times_between_tokens"]) == 9


@every_family
async def test_P10_a_slow_drip_ends_at_the_total_limit(simulator: SpawnedSimulator, family: Family) -> None:
    """A byte every 50 ms is never silent for long, and would never end."""
    start = perf_counter()
    failure = await failed(simulator, family, "drip", timeout_seconds=0.6)
    assert verdict(failure) == ("timeout", "total_timeout", "timeout")
    assert 0.6 <= perf_counter() - start < 3
    assert failure.message == "the run took longer than 0.6 s"


async def test_P10_the_total_limit_keeps_what_had_come(simulator: SpawnedSimulator) -> None:
    """A stream that is cut off keeps every chunk that had reached this machine."""
    ran = await run_family(simulator, CHAT, "ttft5-gap200-tok64", timeout_seconds=0.3)
    assert verdict(ran.failure) == ("timeout", "total_timeout", "timeout")
    assert chunks(ran.failure) == len(ran.request.writes_ns) == 2


# broken off


@every_family
@pytest.mark.parametrize("word", ["truncate5", "reset5"])
async def test_P11_a_stream_that_breaks_off_is_truncated(
    simulator: SpawnedSimulator, family: Family, word: str
) -> None:
    """By FIN or by RST, with five tokens kept."""
    failure = await failed(simulator, family, f"{word}-{QUICK}")
    assert verdict(failure) == ("malformed_stream", "truncated", "generate")
    assert (chunks(failure), failure.http_status) == (5, 200)


@every_family
async def test_P11_a_hang_up_before_the_answer_is_another_matter(simulator: SpawnedSimulator, family: Family) -> None:
    """Nothing of a stream had come."""
    failure = await failed(simulator, family, "hangup")
    assert verdict(failure) == ("network", "protocol", "generate")


@pytest.mark.parametrize("family", [CHAT, COMPLETIONS], ids=lambda family: family.mode)
async def test_P12_a_finish_reason_is_enough_where_servers_leave_the_end_out(
    simulator: SpawnedSimulator, family: Family
) -> None:
    """In the older of OpenAI's APIs; the row has a note."""
    row = (await run_family(simulator, family, f"noend-{QUICK}")).sample
    assert row.warnings is not None
    assert "terminator_missing" in row.warnings


@pytest.mark.parametrize("family", [RESPONSES, MESSAGES], ids=lambda family: family.mode)
async def test_P12_without_its_terminal_event_a_stream_is_truncated(
    simulator: SpawnedSimulator, family: Family
) -> None:
    """Where the format's own end is never left out."""
    failure = await failed(simulator, family, f"noend-{QUICK}")
    assert verdict(failure) == ("malformed_stream", "truncated", "validate")
    assert chunks(failure) == 64


# malformed


@every_family
async def test_P13_malformed_json_is_quoted_in_part(simulator: SpawnedSimulator, family: Family) -> None:
    """The fifth token's event is broken: four are kept, and the excerpt is short and on one line."""
    failure = await failed(simulator, family, f"badjson5-{QUICK}")
    assert verdict(failure) == ("malformed_stream", "malformed", "generate")
    assert chunks(failure) == 4
    assert 20 < len(failure.message) < 300


@every_family
@pytest.mark.parametrize("word", ["crlf", "burst16"])
async def test_P14_framing_changes_nothing_but_the_stamps(
    simulator: SpawnedSimulator, family: Family, word: str
) -> None:
    """CRLF split anywhere, sixteen events in a segment: the same counts; what shares a read is flagged."""
    row = (await run_family(simulator, family, f"{word}-{QUICK}")).sample
    assert (row.output_tokens, row.visible_stream_chunks, row.served_model) == (64, 64, row.model_name)
    if word == "burst16":
        assert row.warnings == ["ttft_upper_bound"]
        assert row.coalesced_reads >= 4


STREAM = b"".join(
    [
        delta(role="assistant", content=""),
        said("caf\u00e9", " \u6f22\u5b57", " \U0001f680"),
        finished("length"),
        counted(3),
        DONE,
    ]
).replace(b"\n", b"\r\n")


async def test_P14_byte_by_byte() -> None:
    """Each byte in a segment of its own, also inside of CRLF and of a character: nothing is lost or doubled."""

    async def trickle(stream: ByteStream) -> None:
        await read_request(stream)
        await stream.send(STREAM_HEAD)
        for byte in STREAM:
            await stream.send(bytes([byte]))

    seen: list[str] = []
    async with serving(trickle) as url, opened("local", f"{url}/v1", None, api_key_env="") as provider:
        run = attempt(
            provider, job("local", "m", profile(max_tokens=3)), on_text=lambda _timer, text: seen.append(text)
        )
        outcome = await run.run()
    assert isinstance(outcome, Sample)
    assert seen == ["caf\u00e9", " \u6f22\u5b57", " \U0001f680"]
    assert (outcome.output_tokens, outcome.visible_stream_chunks) == (3, 3)


@every_family
async def test_P15_line_separators_inside_of_text_are_text(simulator: SpawnedSimulator, family: Family) -> None:
    """U+2028, U+2029 and U+0085 end no line of an event stream: one event, its text intact."""
    seen: list[str] = []

    def watch(_timer: StreamTimer, text: str) -> None:
        seen.append(text)

    async with opened(family.provider, base_url(simulator.url, family.provider)) as provider:
        work = job(family.provider, family.model(f"unicode-{QUICK}-tok8"), profile(max_tokens=8))
        outcome = await attempt(provider, work, on_text=watch).run()
    assert isinstance(outcome, Sample)
    assert seen == [
        " caf\u00e9", " l\u2028s", " p\u2029s", " n\u0085l", " \u6f22\u5b57", " \U0001f680", " \ufeffb", ' "q"\\',
    ]  # fmt: skip


def resident_kib() -> int:
    """Return the memory that this process has in use."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


@every_family
async def test_P16_an_event_without_end_is_too_large(simulator: SpawnedSimulator, family: Family) -> None:
    """2 MiB without a line end: refused after one."""
    failure = await failed(simulator, family, f"flood-{QUICK}", idle_timeout_seconds=5.0)
    assert verdict(failure) == ("malformed_stream", "too_large", "generate")
    assert "1048576 bytes" in failure.message


async def test_P16_a_flood_is_refused_in_bounded_memory(simulator: SpawnedSimulator) -> None:
    """64 MiB without a line end cost no more than what is read at once."""
    before = resident_kib()
    failure = await failed(simulator, CHAT, f"flood64-{QUICK}", idle_timeout_seconds=5.0)
    assert verdict(failure) == ("malformed_stream", "too_large", "generate")
    assert resident_kib() - before < RSS_LIMIT_KIB


async def test_P16_a_stream_without_end_is_too_large(simulator: SpawnedSimulator) -> None:
    """A hundred thousand small events, 25 MB in all: refused at 16 MiB, in bounded memory."""
    before = resident_kib()
    words = "ttft1-gap0-burst1000-tok100000"
    failure = await failed(simulator, CHAT, words, max_tokens=100_000, timeout_seconds=30.0, idle_timeout_seconds=5.0)
    assert verdict(failure) == ("malformed_stream", "too_large", "generate")
    assert 10_000 < chunks(failure) < 100_000
    assert resident_kib() - before < RSS_LIMIT_KIB


@every_family
async def test_P16_a_compressed_body_is_refused(simulator: SpawnedSimulator, family: Family) -> None:
    """Identity was asked for, so a bomb can't be hidden in it."""
    ran = await run_family(simulator, family, f"badgzip-{QUICK}")
    assert verdict(ran.failure) == ("network", "protocol", "generate")
    assert "compressed" in ran.failure.message
    assert ran.request.headers["accept-encoding"] == "identity"


# HTTP itself


@every_family
async def test_P26_broken_chunked_encoding(simulator: SpawnedSimulator, family: Family) -> None:
    """It is no stream that broke off: what came is no HTTP."""
    failure = await failed(simulator, family, f"badchunk5-{QUICK}")
    assert verdict(failure) == ("network", "protocol", "generate")
    assert chunks(failure) == 5


@every_family
async def test_P26_headers_without_end(simulator: SpawnedSimulator, family: Family) -> None:
    """1 MiB of them."""
    failure = await failed(simulator, family, f"bighead-{QUICK}")
    assert verdict(failure) == ("malformed_stream", "too_large", "generate")


async def test_an_errors_body_is_quoted_however_long_it_is() -> None:
    """A server that goes on and on behind its 500 is a server error like any other."""

    async def shouting(stream: ByteStream) -> None:
        await read_request(stream)
        await stream.send(b'HTTP/1.1 500 No\r\ncontent-type: application/json\r\n\r\n{"error": {"message": "')
        for _ in range(64):
            await stream.send(b"x" * (1 << 20))

    before = resident_kib()
    async with serving(shouting) as url:
        outcome = await run_at(f"{url}/v1", "groq", "m", **LIMITS)
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("transient_provider", "server_error", "generate")
    assert outcome.http_status == 500
    assert len(outcome.message) <= 4000
    assert resident_kib() - before < 2 * RSS_LIMIT_KIB
