"""No secret and no control character gets into a stored document, wherever a provider puts it."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from anyio.abc import ByteStream

from llmbench.measure.timer import StreamTimer
from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator import SpawnedSimulator
from tests.faults.support import LIMITS, assert_clean
from tests.measure.support import DONE, STREAM_HEAD, counted, event, read_request, said, serving
from tests.runs import CHAT, KEY, QUICK, attempt, base_url, job, opened, profile, run_at

ESCAPES = "\x1b[31m\r\n\x00\u202e\u2028"


async def answered(*pieces: bytes, **changes: Any) -> Outcome:
    """Make one run against a server that answers with these bytes, in which ``{key}`` is the key that it was sent."""

    async def script(stream: ByteStream) -> None:
        await read_request(stream)
        for piece in pieces:
            await stream.send(piece.replace(b"{key}", KEY.encode()))

    async with serving(script) as url:
        outcome = await run_at(f"{url}/v1", "groq", "m", **(LIMITS | changes))
    assert_clean(outcome)
    return outcome


@pytest.mark.parametrize(
    "form",
    [KEY, quote(KEY, safe=""), base64.b64encode(f"user:{KEY}".encode()).decode()],
    ids=["plain", "url", "base64"],
)
async def test_every_spelling_of_the_key_is_taken_out(form: str) -> None:
    """Also where it is encoded."""
    body = msgspec.json.encode({"error": {"message": f"bad credentials: {form}", "code": f"bad-{form}"}})
    outcome = await answered(b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\n\r\n" + body)
    assert isinstance(outcome, Failure)
    assert form not in msgspec.json.encode(outcome).decode()
    assert "***" in outcome.message


async def test_what_a_good_answer_says_of_itself_is_cleaned_too() -> None:
    """A gateway that puts the key and control characters into ids, names and headers gets them into no row."""
    about = {
        "id": f"{ESCAPES}{{key}}",
        "model": f"model-{{key}}{ESCAPES}",
        "system_fingerprint": "{key}",
        "service_tier": f"tier {{key}}{ESCAPES}",
        "choices": [{"index": 0, "delta": {}, "finish_reason": f"length{ESCAPES}{{key}}"}],
    }
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nx-request-id: req-{key}\r\n\r\n")
    outcome = await answered(head + said("a", "b") + event(about) + counted(2) + DONE, max_tokens=2)
    assert isinstance(outcome, Sample)
    assert outcome.served_model == r"model-***\x1b[31m\r\n\x00\u202e\u2028"
    assert (outcome.system_fingerprint, outcome.request_id) == ("***", "req-***")
    assert outcome.misc["service_tier"].startswith("tier ***")


async def test_what_an_answer_says_of_itself_has_an_end() -> None:
    """Half a megabyte of model name is not stored with every row."""
    name = event({"id": "x" * 500_000, "model": "m" * 500_000, "choices": []})
    outcome = await answered(STREAM_HEAD + name + said("a", "b") + counted(2) + DONE, max_tokens=2)
    assert isinstance(outcome, Sample)
    assert len(msgspec.json.encode(outcome)) < 5000


async def test_a_failures_figures_are_cleaned_too() -> None:
    """What had been said of itself by a stream that then broke."""
    about = event({"id": f"{ESCAPES}{{key}}", "model": "{key}", "choices": []})
    outcome = await answered(STREAM_HEAD + about + said("a") + b"data: {broken {key} \x1b[31m\n\n")
    assert isinstance(outcome, Failure)
    assert outcome.error_cause == "malformed"
    assert outcome.partial["served_model"] == "***"
    assert "***" in outcome.message


async def test_a_traceback_is_cleaned_too(simulator: SpawnedSimulator) -> None:
    """A fault of ours is stored with its traceback, whose lines may quote anything."""

    def careless(_timer: StreamTimer, text: str) -> None:
        raise KeyError(f"{KEY} {ESCAPES} {text}")

    def careless_too(_timer: StreamTimer, _text: str) -> None:
        raise RuntimeError(f"{KEY}\x1b[31m\n\x00")

    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        for bug in (careless, careless_too):
            work = job(CHAT.provider, CHAT.model(QUICK), profile())
            outcome = await attempt(provider, work, on_text=bug).run()
            assert isinstance(outcome, Failure)
            assert_clean(outcome)
            assert (outcome.error_kind, outcome.error_cause) == ("internal", "internal")
            assert outcome.traceback is not None
            assert outcome.traceback.startswith("Traceback (most recent call last):\n")
            assert "careless" in outcome.traceback
            assert "***" in outcome.traceback
