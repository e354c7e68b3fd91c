"""Documents in their canonical form, which are taken at once: by the same rules as all others, and to the same end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.bridge import documents
from llmbench.bridge.bounds import DEEPEST, MOST_GAPS
from llmbench.bridge.documents import Refused, Sender, read_batch, read_error, read_run
from llmbench.ingestion import UNPUBLISHED, batch_of, wire_form
from llmbench.messages import Envelope, Outcome, Sample
from llmbench.secrets import Redactor
from llmbench.stores.canonical import canonical_json
from tests.bridge.sent import ANYONE, NOW, outcomes
from tests.stores.documents import envelope, failure, sample

SECRET = "a-secret-of-the-bridge"
NESTED: Any = None
for _ in range(DEEPEST + 1):
    NESTED = [NESTED]

Answer = tuple[Any, ...]
Reading = Callable[[bytes, Sender, Any], Envelope]


def told(read: Reading, content: bytes, sender: Sender) -> Answer:
    """Return what is taken, or why it is not."""
    try:
        found = read(content, sender, NOW)
    except Refused as refused:
        return type(refused), refused.status, refused.reason, refused.id
    return canonical_json(found.outcome), found.publish


def step_by_step(outcome: Outcome) -> tuple[Reading, Reading]:
    """Return how such an outcome is read, and how it would be if it were in no canonical form."""
    if isinstance(outcome, Sample):
        return read_run, documents._read_run
    return read_error, documents._read_error


@settings(max_examples=100)
@given(outcome=outcomes(), publish=st.booleans())
def test_canonical_documents_are_known_as_such(outcome: Outcome, publish: bool) -> None:
    """What llmbench sends is taken at once, and its canonical form is that of the outcome."""
    sent = wire_form(envelope(outcome, publish=publish))
    at_once, slowly = step_by_step(outcome)

    found = at_once(sent, ANYONE, NOW)

    assert found.canonical == canonical_json(outcome)
    assert found == slowly(sent, ANYONE, NOW)
    [batched] = read_batch(batch_of([sent]), ANYONE, NOW)
    assert isinstance(batched, Envelope)
    assert (batched, batched.canonical) == (found, found.canonical)


PIECES = [b"", b" ", b'"', b"}", b"{", b",", b"0", b"-", b"null", b"\\u0000", b"\xff", UNPUBLISHED, UNPUBLISHED[:-1]]


@settings(max_examples=400)
@given(
    outcome=st.sampled_from([sample(), failure()]),
    publish=st.booleans(),
    piece=st.sampled_from(PIECES),
    where=st.integers(0, 5000),
    length=st.integers(0, 40),
    runner=st.sampled_from([None, "runner-1", "runner-2"]),
)
def test_what_is_nearly_canonical_is_read_like_any_other(
    outcome: Outcome, publish: bool, piece: bytes, where: int, length: int, runner: str | None
) -> None:
    """A document with some of its bytes exchanged: there is one answer to it, whichever way it is read."""
    sent = wire_form(envelope(outcome, publish=publish))
    where %= len(sent) + 1
    sent = sent[:where] + piece + sent[where + length :]
    at_once, slowly = step_by_step(outcome)
    sender = Sender(runner, Redactor(()))
    assert told(at_once, sent, sender) == told(slowly, sent, sender)


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (sample(generate_time=-1.0), "'generate_time'"),
        (sample(generate_time=86_401.0), "'generate_time'"),
        (sample(output_tokens=10**9 + 1), "'output_tokens'"),
        (sample(times_between_tokens=[0.1, -0.1]), "'times_between_tokens'"),
        (sample(times_between_tokens=[0.1] * (MOST_GAPS + 1)), "'times_between_tokens'"),
        (sample(run_ts=NOW.replace(year=2014)), "'run_ts'"),
        (sample(run_ts=NOW.replace(year=2031)), "'run_ts'"),
        (sample(provider=" "), "'provider'"),
        (sample(provider="a\x1bb"), "'provider'"),
        (sample(endpoint="a\u202eb"), "'endpoint'"),
        (sample(misc={"$where": 1}), "'$where'"),
        (sample(misc={"a.b": 1}), "'a.b'"),
        (sample(misc={"a": 2**63}), "64 bits"),
        (sample(misc={"a": NESTED}), "nested"),
        (sample(warnings=["a"] * 101), "'warnings'"),
        (sample(runner_id="runner-2"), "runner-2"),
        (sample(endpoint=f"https://x/{SECRET}"), "secret"),
        (sample(misc={"a": {"b": SECRET}}), "secret"),
        (sample(id="65F2D1C0A1B2C3D4E5F60718"), "'_id'"),
        (sample(id=""), "'_id'"),
        (failure(retry_after=-1.0), "'retry_after'"),
        (failure(message="a" * 100_000), "'message'"),
        (failure(partial={"$set": 1}), "'$set'"),
        (failure(partial={"misc": {"a": SECRET}}), "secret"),
        (failure(runner_id="runner-2"), "runner-2"),
    ],
)
def test_what_is_canonical_may_be_hostile(hostile: Outcome, reason: str) -> None:
    """It is refused as it is in any other form: alone, and in a batch."""
    sent = canonical_json(hostile)
    sender = Sender("runner-1", Redactor([SECRET]))
    at_once, slowly = step_by_step(hostile)

    kind, status, said, refused_id = told(at_once, sent, sender)

    assert (kind, status, said, refused_id) == told(slowly, sent, sender)
    assert (status, reason in said) == (422, True), said
    assert refused_id == (None if "_id" in reason else hostile.id)
    [batched] = read_batch(batch_of([sent]), sender, NOW)
    assert isinstance(batched, Refused)
    assert batched.reason == said


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda sent: sent[:-1] + UNPUBLISHED, None),
        (lambda sent: sent[:-1] + UNPUBLISHED[:-1] + UNPUBLISHED, None),
        (lambda sent: sent[:-1] + b',"publish":true' + UNPUBLISHED, None),
        (lambda sent: sent + UNPUBLISHED, 400),
        (lambda sent: UNPUBLISHED, 400),
        (lambda sent: b"{" + UNPUBLISHED, 400),
        (lambda sent: sent[:-1] + b',"misc":{"a":1' + UNPUBLISHED, 400),
        (lambda sent: sent[:-1] + b',"display_name":"a' + UNPUBLISHED, 400),
        (lambda sent: sent[:-1] + b',"publish":0' + UNPUBLISHED, None),
        (lambda sent: sent[:-1] + UNPUBLISHED[:-1] + b',"publish":"no"}', 422),
    ],
)
def test_how_a_document_may_end(change: Callable[[bytes], bytes], status: int | None) -> None:
    """It is not public only if its last ``publish`` says so; an end that only looks like that is no end."""
    sent = change(canonical_json(sample()))
    if status is None:
        assert not read_run(sent, ANYONE, NOW).publish
    else:
        with pytest.raises(Refused) as caught:
            read_run(sent, ANYONE, NOW)
        assert caught.value.status == status


def test_a_key_that_stands_twice() -> None:
    """The last holds, and so it is that one's runner who must have sent it."""
    twice = canonical_json(sample(runner_id="runner-1"))[:-1] + b',"runner_id":"runner-2"}'
    assert read_run(twice, Sender("runner-2"), NOW).outcome.runner_id == "runner-2"
    with pytest.raises(Refused):
        read_run(twice, Sender("runner-1"), NOW)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"-1e999"])
def test_numbers_that_are_none(number: bytes) -> None:
    """They are refused wherever they stand."""
    for name in (b'"generate_time":', b'"misc":{"a":'):
        sent = canonical_json(sample(generate_time=1.25, misc={"a": 1.25})).replace(name + b"1.25", name + number)
        assert number in sent
        with pytest.raises(Refused):
            read_run(sent, ANYONE, NOW)


def test_each_kind_has_its_route() -> None:
    """A canonical failure is no run, nor the other way round; words inside a document do not tell which it is."""
    for outcome, wrong in ((failure(), read_run), (sample(), read_error)):
        with pytest.raises(Refused):
            wrong(canonical_json(outcome), ANYONE, NOW)
    odd = sample(misc={"outcome": "failed"})
    assert documents._FAILED in canonical_json(odd)
    [found] = read_batch(batch_of([canonical_json(odd)]), ANYONE, NOW)
    assert found == envelope(odd)


def test_envelopes_are_equal_by_what_they_carry() -> None:
    """That the canonical form of one is known makes no other envelope of it; that it is public does."""
    run = sample()
    known = Envelope(outcome=run, publish=True, canonical=canonical_json(run))
    assert known == envelope(run)
    assert hash(known) == hash(envelope(run))
    assert known != envelope(run, publish=False)
    assert known != envelope(failure(id=run.id))
    assert known != run
    assert {known, envelope(run), envelope(run, publish=False)} == {known, envelope(run, publish=False)}
