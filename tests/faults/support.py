"""What the tests of provider faults share: one run that must fail, checked for what holds of every failure."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from llmbench.messages import Failure, Outcome
from llmbench.simulator import SpawnedSimulator
from tests.runs import KEY, Family, run_family

LIMITS: dict[str, Any] = {"idle_timeout_seconds": 0.25, "timeout_seconds": 3.0}
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


async def failed(simulator: SpawnedSimulator, family: Family, words: str, **changes: Any) -> Failure:
    """Make one run of this behaviour; it fails once, and the server saw one request and no more."""
    ran = await run_family(simulator, family, words, **(LIMITS | changes))
    assert len(ran.requests) == 1, "one attempt is one request: nothing is tried again behind our back"
    assert_clean(ran.outcome)
    return ran.failure


def assert_clean(outcome: Outcome) -> None:
    """The key is nowhere in the document, in no encoding; every text of it is one printable line."""
    document = msgspec.json.encode(outcome).decode()
    for form in (KEY, KEY[3:], base64.b64encode(KEY.encode()).decode()):
        assert form not in document
    fields = msgspec.to_builtins(outcome)
    trace = fields.pop("traceback", None) or ""
    assert [text for text in [*texts(fields), *trace.split("\n")] if CONTROLS.search(text)] == []


def texts(value: object) -> list[str]:
    """Return every string inside a document."""
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def verdict(failure: Failure) -> tuple[str, str, str]:
    """Return kind, cause and stage."""
    return failure.error_kind, failure.error_cause, failure.stage


def chunks(failure: Failure) -> int:
    """Return how many visible chunks had come until the run failed."""
    return int(failure.partial.get("visible_stream_chunks", 0))
