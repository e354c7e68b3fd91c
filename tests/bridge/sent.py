"""What runners send to the bridge: their own documents, those of earlier ones, and what else JSON can hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st

from llmbench.bridge.documents import Sender
from llmbench.messages import Failure, Outcome, Sample
from tests.stores.documents import NOON, failure, moment, sample

NOW = moment(60)
ANYONE = Sender(None)
"""Who has a shared key."""

LINE = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="$."), max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(LINE)
PLAIN = st.recursive(
    _SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, PLAIN, max_size=3)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)
"""What Python's JSON can write, which is more than JSON: NaN, integers without end, lone surrogates."""

DATES = st.datetimes(datetime(2015, 1, 2), datetime(2026, 3, 14), timezones=st.just(UTC))  # noqa: DTZ001  in UTC by `timezones`
_TIMES = st.floats(0, 86_400)


def _optional(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.default is None]


_KINDS: list[type[Outcome]] = [Sample, Failure]


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """Draw an outcome as a runner stores one, optional fields left out, free-form parts of any plain shape."""
    kind = draw(st.sampled_from(_KINDS))
    left_out: dict[str, Any] = dict.fromkeys(draw(st.sets(st.sampled_from(_optional(kind)))))
    dated = {"run_ts": draw(DATES), "provider": draw(st.text(LINE, min_size=1, max_size=200).filter(str.strip))}
    if kind is Failure:
        partial = draw(OBJECTS.map(lambda found: {name: one for name, one in found.items() if name not in _FIGURES}))
        return failure(**dated, ts=draw(DATES), message=draw(st.text(LINE)), partial=partial, **left_out)
    return sample(
        **dated,
        gen_ts=draw(DATES),
        misc=draw(OBJECTS),
        times_between_tokens=draw(st.lists(_TIMES, max_size=5)),
        time_to_first_token=draw(st.none() | _TIMES),
        output_tokens=draw(st.none() | st.integers(0, 10**9)),
        sample_role=draw(st.sampled_from(["scheduled", "bench", "demo"])),
        **left_out,
    )


_FIGURES = frozenset(Sample.__struct_fields__)


def earlier_run(**changes: Any) -> dict[str, Any]:
    """Return a run as earlier runners send it."""
    return {
        "run_ts": "2026-03-14 12:00:00",
        "gen_ts": "2026-03-14 12:00:02",
        "provider": "groq",
        "model_name": "llama-3.3-70b-versatile",
        "temperature": 0.1,
        "requested_tokens": 64,
        "output_tokens": 64,
        "generate_time": 1.5,
        "tokens_per_second": 42.7,
        "time_to_first_token": 0.25,
        "times_between_tokens": [0.1, 0.2],
        "misc": {"region": "eu"},
        **changes,
    }


def earlier_error(**changes: Any) -> dict[str, Any]:
    """Return a failed run as earlier runners send it."""
    return {
        "provider": "groq",
        "model_name": "llama-3.3-70b-versatile",
        "ts": "2026-03-14 12:00:05",
        "stage": "generate",
        "message": "Error code: 429 - Rate limit reached, try again in 7.5s",
        "exc_type": "RateLimitError",
        **changes,
    }


def own(outcome: Outcome, /, **changes: Any) -> dict[str, Any]:
    """Return an outcome of llmbench's own as it is sent, with other fields."""
    document: dict[str, Any] = msgspec.to_builtins(outcome)
    return document | changes


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


assert NOW > NOON, "what is sent here is not from the future"
