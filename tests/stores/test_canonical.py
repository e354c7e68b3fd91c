"""The canonical form: equal documents give equal bytes, and no document gives bytes that say something else."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.messages import Sample
from llmbench.stores.canonical import UnstorableError, canonical_json
from tests.stores.documents import model, sample

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
