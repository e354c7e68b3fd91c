"""The canonical form: equal documents give equal bytes, and no document gives bytes that say something else."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.messages import Failure, Outcome, Sample
from llmbench.stores.canonical import (
    UnstorableError,
    as_canonical,
    canonical_form,
    canonical_json,
    canonical_milliseconds,
    in_milliseconds,
    read_canonical,
)
from tests.stores.documents import NOON, failure, model, sample

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(misc=st.dictionaries(st.text(), json_values, max_size=3), ttft=st.none() | st.floats() | st.integers(0, 2**53))
def test_read_back_as_it_was_or_refused(misc: dict[str, Any], ttft: float | None) -> None:
    """A document reads back equal, with the same form again, unless a number in it has no JSON: then it is refused."""
    document = sample(misc=misc, time_to_first_token=ttft)
    if not (_finite(misc) and _finite(ttft)):
        with pytest.raises(UnstorableError):
            canonical_json(document)
        return
    form = canonical_json(document)
    read_back = msgspec.json.decode(form, type=Sample)

    assert read_back == document
    assert canonical_json(read_back) == form


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"times_between_tokens": [0.1, math.nan]}, "times_between_tokens"),
        ({"misc": {"a": (1, 2)}}, "'misc' is"),
        ({"provider": None}, r"\$\.provider"),
        ({"inter_token_max": math.inf}, "'inter_token_max' is inf"),
        ({"misc": {"a": b"bytes"}}, "'misc' is"),
    ],
)
def test_reason_names_the_field(changes: dict[str, Any], reason: str) -> None:
    """What is refused says which field is to blame."""
    with pytest.raises(UnstorableError, match=reason):
        canonical_json(sample(**changes))


def test_nesting_beyond_reason_is_refused() -> None:
    """A document nested more deeply than JSON readers follow is refused, not a crash."""
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"a": nested}

    with pytest.raises(UnstorableError, match="recursion"):
        canonical_json(sample(misc=nested))


def test_model_without_a_time_zone_is_refused() -> None:
    """A date without a time zone is refused by name, in models too."""
    with pytest.raises(UnstorableError, match="no time zone in 'disabled_at'"):
        canonical_json(model(disabled_at=model().created_at.replace(tzinfo=None)))


@pytest.mark.parametrize("outcome", [sample(), failure()], ids=["sample", "failure"])
@pytest.mark.parametrize("microseconds", [0, 123_000, 123_456])
def test_what_is_known_saves_no_difference(outcome: Outcome, microseconds: int) -> None:
    """Cut to milliseconds it is the same, whether its canonical form was known or had to be made."""
    document = msgspec.structs.replace(outcome, run_ts=NOON.replace(microsecond=microseconds))
    known = canonical_json(document)

    assert canonical_milliseconds(document, known) == canonical_milliseconds(document, None)
    assert canonical_milliseconds(document, known) == canonical_form(in_milliseconds(document))


@pytest.mark.parametrize("outcome", [sample(), failure()], ids=["sample", "failure"])
def test_only_the_canonical_form_is_one(outcome: Outcome) -> None:
    """It reads back as the document; in any other spelling, or as another kind, it is refused."""
    text = canonical_json(outcome)
    kind, other = (Sample, Failure) if isinstance(outcome, Sample) else (Failure, Sample)
    fields = msgspec.json.decode(text)
    spellings = [
        text + b" ",
        text[:-1] + b',"publish":true}',
        text[:-1] + b',"_id":"0123456789abcdef01234567"}',
        text.replace(b"Z", b"+00:00", 1),
        msgspec.json.encode(dict(reversed(fields.items()))),
        msgspec.json.encode(fields | {"display_name": None}),
        text[:-1],
        b"\xff",
        b"[" * 100_000,
    ]

    assert read_canonical(text, kind) == outcome
    for spelling in spellings:
        with pytest.raises(UnstorableError):
            read_canonical(spelling, kind)
    with pytest.raises(UnstorableError):
        read_canonical(text, other)


def test_what_another_version_wrote_is_not_canonical() -> None:
    """A document may have been written with fields that were left out, or are not known, here."""
    document = sample()
    text = canonical_json(document)
    assert as_canonical(text, document) == text
    assert as_canonical(text[:-1] + b',"of_another_version":1}', document) is None
