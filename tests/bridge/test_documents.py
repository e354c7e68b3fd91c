"""What the bridge reads: llmbench's own documents come out equal or not at all; whatever else comes, it is refused."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.bridge.bounds import MOST_GAPS
from llmbench.bridge.documents import (
    MOST_ITEMS,
    MOST_MODELS,
    Refused,
    Sender,
    read_batch,
    read_catalog,
    read_error,
    read_run,
)
from llmbench.ingestion import batch_of, wire_form
from llmbench.lifecycle import Listing
from llmbench.messages import Envelope, Failure, Outcome, Sample
from llmbench.stores.canonical import canonical_json
from llmbench.stores.mongo_documents import form
from tests.bridge.sent import ANYONE, ANYTHING, NOW, body, earlier_error, earlier_run, outcomes, own
from tests.stores.documents import NOON, envelope, failure, sample


def read(content: bytes, sender: Sender = ANYONE) -> Envelope:
    return read_run(content, sender, NOW)


def refused(content: bytes, sender: Sender = ANYONE) -> Refused:
    """Send a run that has to be refused, alone and in a batch, and return why."""
    with pytest.raises(Refused) as caught:
        read_run(content, sender, NOW)
    return caught.value


def refused_error(content: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        read_error(content, ANYONE, NOW)
    return caught.value


# llmbench's own


@settings(max_examples=150, deadline=None)
@given(outcome=outcomes(), publish=st.booleans())
def test_an_own_document_comes_out_equal(outcome: Outcome, publish: bool) -> None:
    """Sent and read it has the same canonical form, so that a repeat is a duplicate and no conflict."""
    sent = wire_form(envelope(outcome, publish=publish))

    alone = (read_run if isinstance(outcome, Sample) else read_error)(sent, ANYONE, NOW)
    [batched] = read_batch(batch_of([sent]), ANYONE, NOW)

    assert canonical_json(alone.outcome) == canonical_json(outcome)
    assert alone.publish == (publish and outcome.sample_role == "scheduled")
    assert batched == alone


def test_only_what_was_scheduled_is_public() -> None:
    """Readers of the public collection don't ask for the role, so no sender can put anything else there."""
    assert read(body(own(sample(), publish=True))).publish
    assert not read(body(own(sample(), publish=False))).publish
    assert not read(body(own(sample(sample_role="bench"), publish=True))).publish
    assert "'publish' is 1," in refused(body(own(sample(), publish=1))).reason


def test_x5_an_unknown_field_of_an_own_document_is_refused() -> None:
    """A newer runner would lose what it measured; the reason names the field and what to do."""
    sent = sample()

    found = refused(body(own(sent, joules_per_token=0.3)))

    assert (found.status, found.id) == (422, sent.id)
    assert "'joules_per_token'" in found.reason
    assert "update the bridge" in found.reason


@pytest.mark.parametrize("outcome_id", ["", "65f2d1c0", "65F2D1C0A1B2C3D4E5F60718", "z" * 24, 7, None, {"$oid": "6"}])
def test_an_id_is_24_hexadecimal_digits(outcome_id: Any) -> None:
    """Capitals are refused too: one id has one spelling."""
    found = refused(body(own(sample(), _id=outcome_id)))
    assert (found.status, found.id) == (422, None)
    assert "24 hexadecimal digits" in found.reason


def test_a_failed_run_is_no_run_and_a_run_is_no_failed_one() -> None:
    """Each has its route; in a batch they are told apart by what they say."""
    assert "/ingest/error" in refused(wire_form(envelope(failure()))).reason
    assert refused_error(wire_form(envelope(sample()))).status == 422


# who may send what


def test_x7_a_runner_speaks_for_itself_alone() -> None:
    """A key of one runner can't send a run, or an error, of another; a shared key may speak for any."""
    for document in (own(sample(runner_id="b")), earlier_run(runner_id="b")):
        found = refused(body(document), Sender("a"))
        assert found.reason.startswith("runner_id 'b' is not that of this key, 'a': set runner.id")
        assert read(body(document), Sender("b")) == read(body(document))
    [stranger] = read_batch(body([own(failure(runner_id="b"))]), Sender("a"), NOW)
    assert isinstance(stranger, Refused)


def test_x5_of_duplicate_keys_the_last_holds_and_allows_nothing_more() -> None:
    """The runner that is checked is the one that is stored."""
    text = wire_form(envelope(sample(runner_id="b")))[:-1]

    assert refused(text.replace(b'"_id"', b'"runner_id":"a","_id"', 1) + b"}", Sender("a")).status == 422
    assert read(text + b',"runner_id":"a"}', Sender("a")).outcome.runner_id == "a"


# hostile content

DEEP = 100_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":' * DEEP,
        b'{"output_tokens": ' + b"9" * 6000 + b"}",
        b'{"generate_time": NaN}',
        b'{"generate_time": Infinity}',
        b'{"generate_time": 1e999}',
        b'{"message": "\xff"}',
        b'{"message": "\xed\xa0\x80"}',
        b'{"message": "\\ud800"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1} {"a": 1}',
        b'{"a": 1,}',
    ],
    ids=lambda content: content[:24].decode(errors="replace"),
)
def test_x5_what_is_no_json_object_is_refused(content: bytes) -> None:
    """Whatever the decoder makes of it: an error of its own, of Python's integers, of UTF-8, or of recursion."""
    assert refused(content).status == 400
    assert refused_error(content).status == 400
    with pytest.raises(Refused) as caught:
        read_batch(content.replace(b"[]", b"{}"), ANYONE, NOW)
    assert caught.value.status == 400
    with pytest.raises(Refused):
        read_catalog(content, ANYONE, NOW)


@pytest.mark.parametrize("make", [lambda **odd: own(sample(), **odd), earlier_run])
@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"misc": {"n": 10**40}}, "64 bits"),
        ({"misc": {"n": -(2**63) - 1}}, "64 bits"),
        ({"requested_tokens": 2**63}, "requested_tokens|64 bits"),
        ({"requested_tokens": 10**9 + 1}, "requested_tokens"),
        ({"requested_tokens": -1}, "requested_tokens"),
        ({"requested_tokens": 0.5}, "int"),
        ({"requested_tokens": True}, "int"),
        ({"requested_tokens": "64"}, "int"),
        ({"temperature": "hot"}, "float"),
        ({"tokens_per_second": -1}, "tokens_per_second"),
        ({"provider": {"$ne": None}}, "provider"),
        ({"model_name": ["a"]}, "model_name"),
        ({"provider": ""}, "provider"),
        ({"provider": "a" * 201}, "provider"),
        ({"model_name": "a\nb"}, "model_name"),
        ({"model_name": "a\x00b"}, "model_name"),
        ({"misc": "none"}, "object"),
        ({"times_between_tokens": [0.1, None]}, "float"),
        ({"times_between_tokens": [0.0] * 100_001}, "100001 items"),
        ({"warnings": ["a"] * 101}, "101 items"),
        ({"outcome": "splendid"}, "splendid"),
    ],
)
def test_x5_a_value_that_can_not_be_is_refused(make: Any, odd: dict[str, Any], reason: str) -> None:
    """By its type or its size, with a reason that names it, whoever sends it."""
    found = refused(body(make(**odd)))
    assert found.status == 422
    assert any(part in found.reason for part in reason.split("|")), found.reason


@pytest.mark.parametrize("key", ["$where", "$", "a.b", "a\x00", "a$b", "\x1b[2J", "k" * 201])
def test_x6_no_key_is_an_operator_or_a_path(key: str) -> None:
    """Nowhere in what is free-form, nor as a field of an earlier document."""
    nested = {"deep": [{"er": {key: 1}}]}
    for document in (own(sample(), misc={key: 1}), own(sample(), misc=nested), earlier_run(misc=nested)):
        assert "has a key" in refused(body(document)).reason
    for document in (own(failure(), partial={key: 1}), earlier_error(partial=nested)):
        assert "has a key" in refused_error(body(document)).reason
    assert refused(body(earlier_run(**{key: 1}))).status == 422
    with pytest.raises(Refused, match="has a key"):
        read_catalog(body(listing(raw={"x": {key: 1}})), ANYONE, NOW)


@pytest.mark.parametrize("value", [{"$gt": ""}, {"$numberDouble": "NaN"}, {}, []])
def test_x6_an_object_is_no_text_and_no_number(value: Any) -> None:
    """An operator in the place of a value is refused by type, in every field of either document."""
    for name in ("provider", "model_name", "run_ts", "runner_id", "output_tokens", "finish_reason"):
        for document in (own(sample(), **{name: value}), earlier_run(**{name: value})):
            assert refused(body(document)).status == 422
    for name in ("provider", "ts", "message", "error_kind", "http_status", "stage"):
        for document in (own(failure(), **{name: value}), earlier_error(**{name: value})):
            assert refused_error(body(document)).status == 422


def test_nesting_has_an_end() -> None:
    """Long before a database refuses a whole batch for it."""
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    assert "nested deeper than 50" in refused(body(own(sample(), misc={"deep": deep}))).reason
    assert "nested deeper than 50" in refused(body(earlier_run(unknown=deep))).reason


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * depth + b"1" + b"]" * depth + b"}"


@pytest.mark.parametrize("name", ["_id", "publish", "misc", "run_ts", "outcome", "provider", "models", "unknown"])
def test_x5_no_depth_is_followed_to_the_end_of_the_stack(name: str) -> None:
    """Whatever is nested, also just as deeply as the decoder can follow, when all that looks at it later is deeper."""
    documents = [own(sample()), own(failure()), earlier_run(), earlier_error(), listing()]
    deepest = next(depth for depth in range(sys.getrecursionlimit(), 0, -1) if refused(nested(depth)).status != 400)
    for depth in (60, 200, *range(deepest - 10, deepest + 10)):
        deep = b"[" * depth + b"1" + b"]" * depth
        for document in documents:
            check_whatever(body({**document, name: "here"}).replace(b'"here"', deep), ANYONE)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"run_ts": "1970-01-01T00:00:00Z"}, "before 2015"),
        ({"run_ts": "2014-12-31T23:59:59Z"}, "before 2015"),
        ({"run_ts": "2100-01-01T00:00:00Z"}, "in the future"),
        ({"gen_ts": "2100-01-01T00:00:00Z"}, "in the future"),
        ({"run_ts": (NOW + timedelta(hours=24, seconds=1)).isoformat()}, "in the future"),
        ({"generate_time": -0.001}, "'generate_time' is -0.001"),
        ({"time_to_first_token": -1}, "'time_to_first_token' is -1"),
        ({"generate_time": 86_401}, "from 0 to 86400"),
        ({"times_between_tokens": [0.1, -0.1]}, "gap"),
        ({"times_between_tokens": [86_401]}, "gap"),
        ({"run_ts": "yesterday"}, "yesterday"),
        ({"run_ts": "2026-02-30T00:00:00Z"}, "2026-02-30"),
    ],
)
def test_x9_a_time_that_can_not_be_is_refused(odd: dict[str, Any], reason: str) -> None:
    """Before there was anything to measure, in the future, or less than nothing; the reason names it."""
    for document in (own(sample(), **odd), earlier_run(**odd)):
        found = refused(body(document))
        assert found.status == 422
        assert reason in found.reason or "`$.run_ts`" in found.reason, found.reason


def test_x9_what_a_failed_run_measured_is_held_to_the_same() -> None:
    """Its figures have the names of a sample's."""
    for odd in ({"generate_time": -1}, {"times_between_tokens": [-1]}, {"times_between_tokens": "many"}):
        assert refused_error(body(own(failure(), partial=odd))).status == 422
    assert "ts" in refused_error(body(earlier_error(ts="1970-01-01 00:00:00"))).reason


def test_what_was_spooled_long_ago_is_taken() -> None:
    """A runner may have been away for months, and its clock may be some hours ahead."""
    for run_ts in (NOON - timedelta(days=900), NOW + timedelta(hours=23)):
        assert read(body(own(sample(run_ts=run_ts)))).outcome.run_ts == run_ts


def test_own_dates_say_their_zone() -> None:
    """A date without one is not what llmbench writes."""
    assert "time zone" in refused(body(own(sample(), run_ts="2026-03-14T12:00:00"))).reason


def test_x11_what_is_quoted_in_a_reason_is_harmless() -> None:
    """It is escaped and short, whoever shows it."""
    found = refused(body(own(sample(), provider="\x1b[31m" + "x\n" * 5000)))
    assert len(found.reason) <= 500
    assert found.reason.isprintable()


# batches


def test_items_of_a_batch_are_each_on_their_own() -> None:
    """One that is refused keeps no other back, and the answers are in their order."""
    good, failed = sample(), failure()
    items = [own(good), 7, own(failed), earlier_run(), {"a": 1}, earlier_error(), own(sample(), _id="x")]

    found = read_batch(body(items), ANYONE, NOW)

    kinds = [type(one.outcome) if isinstance(one, Envelope) else one.status for one in found]
    assert kinds == [Sample, 400, Failure, Sample, 422, Failure, 422]
    assert [found[0], found[2]] == [Envelope(outcome=good, publish=True), Envelope(outcome=failed, publish=True)]


def test_a_batch_is_an_array_that_has_an_end() -> None:
    """It may be empty; anything else, and one that is too long, is refused as a whole."""
    assert read_batch(b" [] ", ANYONE, NOW) == []
    assert len(read_batch(body([7] * MOST_ITEMS), ANYONE, NOW)) == MOST_ITEMS
    with pytest.raises(Refused, match="1001 items"):
        read_batch(body([7] * (MOST_ITEMS + 1)), ANYONE, NOW)
    with pytest.raises(Refused, match="3 items, and 2"):
        read_batch(b"[1,2,3]", ANYONE, NOW, most=2)
    with pytest.raises(Refused) as caught:
        read_batch(body(own(sample())), ANYONE, NOW)
    assert caught.value.status == 400


def test_bytes_that_are_no_text_cost_their_item_only() -> None:
    """The array is well-formed around them."""
    [bad, good] = read_batch(b'[{"message": "\xff"},' + body(earlier_run()) + b"]", ANYONE, NOW)
    assert isinstance(bad, Refused)
    assert isinstance(good, Envelope)


# listings


def listing(raw: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "provider": "openrouter",
        "started_at": "2026-03-14 12:00:00",
        "pagination_complete": True,
        "models": [{"model_id": "openai/gpt-4o", "name": "GPT-4o", "raw": raw or {"context": 128_000}}],
        **changes,
    }


def test_a_listing_of_an_earlier_runner_is_read() -> None:
    """What it lacks is what its kind never said: it ended well, when it began."""
    found = read_catalog(body(listing()), ANYONE, NOW)

    assert (found.provider, found.status, found.pagination_complete) == ("openrouter", "ok", True)
    assert found.started_at == found.finished_at == NOON
    [model] = found.models
    assert (model.model_id, model.name, model.raw, model.chat) == (
        "openai/gpt-4o",
        "GPT-4o",
        {"context": 128_000},
        None,
    )
    assert read_catalog(body(listing()), ANYONE, NOW + timedelta(hours=1)) == found
    assert read_catalog(body(listing(error="HTTP 500")), ANYONE, NOW).status == "failed"
    assert read_catalog(body(listing(models=[{"model_id": "a", "raw": None}])), ANYONE, NOW).models[0].raw == {}


def test_a_listing_comes_out_as_it_was_sent() -> None:
    """All its fields, those that only newer runners send included."""
    sent = Listing(
        provider="groq",
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=3),
        status="failed",
        pagination_complete=False,
        models=[],
        error="page 2 did not come",
        source_version="v1",
    )
    document = {name: getattr(sent, name) for name in sent.__struct_fields__}
    text = json.dumps(document, default=lambda date: date.isoformat()).encode()
    assert read_catalog(text, ANYONE, NOW) == sent


@pytest.mark.parametrize(
    "odd",
    [
        {"provider": ""},
        {"provider": {"$ne": ""}},
        {"started_at": None},
        {"started_at": "1970-01-01T00:00:00Z"},
        {"finished_at": "2026-03-14 11:59:59"},
        {"finished_at": "2100-01-01T00:00:00Z"},
        {"pagination_complete": "yes"},
        {"status": "splendid"},
        {"models": None},
        {"models": {"a": 1}},
        {"models": [7]},
        {"models": [{"name": "no id"}]},
        {"models": [{"model_id": "x" * 201}]},
        {"models": [{"model_id": "a\x1bb"}]},
        {"models": [{"model_id": "a", "raw": [1]}]},
        {"models": [{"model_id": "a", "raw": {"n": 2**64}}]},
        {"models": [{"model_id": "a", "price": 1}]},
        {"models": [{"model_id": str(number)} for number in range(MOST_MODELS + 1)]},
        {"comment": "unknown"},
    ],
    ids=lambda odd: str(odd)[:40],
)
def test_x5_a_listing_that_can_not_be_is_refused(odd: dict[str, Any]) -> None:
    """As a whole: a part of a complete listing would say that the other models are gone."""
    with pytest.raises(Refused) as caught:
        read_catalog(body(listing(**odd)), ANYONE, NOW)
    assert caught.value.status == 422


# whatever comes


def check_whatever(content: bytes, sender: Sender) -> None:
    """Read it every way there is: nothing is raised but `Refused`, and what is taken can be stored everywhere."""
    found: list[Envelope | Refused] = []
    for reading in (read_run, read_error):
        try:
            found.append(reading(content, sender, NOW))
        except Refused as refusal:
            found.append(refusal)
    try:
        found += read_batch(b"[" + content + b"]", sender, NOW)
        read_catalog(content, sender, NOW)
    except Refused as refusal:
        found.append(refusal)
    for one in found:
        if isinstance(one, Envelope):
            canonical_json(one.outcome)
            form(one)  # BSON
            assert sender.runner in (None, one.outcome.runner_id)
        else:
            assert one.status in (400, 422)
            assert one.reason.isprintable()


@settings(max_examples=200, deadline=None)
@given(content=st.binary() | ANYTHING.map(body), runner=st.sampled_from([None, "runner-1"]))
def test_any_bytes_and_any_json_are_taken_or_refused(content: bytes, runner: str | None) -> None:
    """No input makes the bridge fail."""
    check_whatever(content, Sender(runner))


DOCUMENTS = [own(sample()), own(failure()), earlier_run(), earlier_error(), listing()]
NAMES = sorted({"publish", "unknown", "models", *(name for document in DOCUMENTS for name in document)})


@settings(max_examples=300, deadline=None)
@given(
    document=st.sampled_from(DOCUMENTS),
    changes=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3),
    dropped=st.sets(st.sampled_from(NAMES), max_size=2),
    runner=st.sampled_from([None, "runner-1"]),
)
def test_nearly_right_documents_are_taken_or_refused(
    document: dict[str, Any], changes: dict[str, Any], dropped: set[str], runner: str | None
) -> None:
    """Any fields replaced by anything, any left out: what is accepted can be stored, and all else is refused."""
    sent = {name: value for name, value in {**document, **changes}.items() if name not in dropped}
    check_whatever(body(sent), Sender(runner))


@pytest.mark.parametrize("part", [b"0", b"[]", b"{}", b'""'])
def test_too_much_in_one_document(part: bytes) -> None:
    """What would take many times its size to keep, and long to decode, is refused without being decoded."""
    document = b'{"misc":{"a":[' + b",".join([part] * 300_000) + b"]}}"
    assert "has more than" in refused(document).reason


def test_longest_run_is_not_too_much() -> None:
    """A run with as many gaps as one may have is taken."""
    run = sample(times_between_tokens=[0.5] * MOST_GAPS)
    assert read_run(wire_form(envelope(run)), ANYONE, NOW).outcome == run


@pytest.mark.parametrize("mark", ["\x1b", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\t"])
def test_marks_that_a_terminal_obeys(mark: str) -> None:
    """No text that is shown as a line, no name of a free-form value, and no traceback holds what a terminal obeys."""
    for name in ("provider", "model_name", "runner_id", "finish_reason"):
        assert name in refused(body(own(sample(), **{name: f"a{mark}b"}))).reason
    assert "key" in refused(body(own(sample(), misc={f"a{mark}b": 1}))).reason
    assert "traceback" in refused_error(body(own(failure(), traceback=f"a\n{mark}b"))).reason
