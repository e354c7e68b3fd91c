"""Rows of the fault matrix that take a server of their own, or much memory; the others are in tests/conformance."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

from pathlib import Path

from anyio.abc import ByteStream

from llmbench.messages import Failure, Sample
from llmbench.simulator import SpawnedSimulator
from tests.faults.support import LIMITS, chunks, failed, verdict
from tests.measure.support import DONE, STREAM_HEAD, counted, delta, finished, read_request, said, serving
from tests.runs import CHAT, QUICK, attempt, job, opened, profile, run_at

RSS_LIMIT_KIB = 32 * 1024

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


def resident_kib() -> int:
    """Return the memory that this process has in use."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


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
