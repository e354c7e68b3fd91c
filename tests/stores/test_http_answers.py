"""What a bridge's answers mean, for whatever a server can be made, or can't be made, to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from llmbench.secrets import Secret
from llmbench.stores.base import StoreError, StoreUnusable, Verdict
from llmbench.stores.http import HttpSettings, HTTPStore, Limits
from llmbench.stores.http_answers import Judge, Refusal
from llmbench.stores.http_client import Reply, Wire, ingest_endpoint
from tests.stores.bridge import KEY
from tests.stores.documents import envelopes, sample

URL = "https://bench.example"
A, B = "a" * 24, "b" * 24


@pytest.fixture
async def store() -> AsyncIterator[HTTPStore]:
    store = HTTPStore(HttpSettings(url=URL, key=Secret(KEY)))
    await store.open()
    yield store
    await store.close()


def judge() -> Judge:
    settings = HttpSettings(url=URL, key=Secret(KEY))
    return Judge(ingest_endpoint(settings), Wire(settings, Limits()))


def reply(body: Any, status: int = 200, content_type: str = "application/json") -> Reply:
    encoded = body if isinstance(body, bytes) else httpx.Response(200, json=body).content
    return Reply(status, {"content-type": content_type}, encoded)


def verdicts(ids: list[str], body: Any, status: int = 200) -> list[Verdict]:
    told = judge().verdicts(ids, reply(body, status))
    assert isinstance(told, list)
    return told


DELAYS = {
    "seconds": ({"Retry-After": "12"}, 12.0),
    "fraction": ({"Retry-After": "1.5"}, 1.5),
    "date": ({"Retry-After": "DATE+30", "Date": "DATE"}, 30.0),
    "capped": ({"Retry-After": "86400"}, 900.0),
    "none": ({}, None),
    "negative": ({"Retry-After": "-5"}, None),
    "garbage": ({"Retry-After": "soon"}, None),
    "infinite": ({"Retry-After": "inf"}, None),
    "past date": ({"Retry-After": "DATE-30", "Date": "DATE"}, None),
    "date without a clock": ({"Retry-After": "DATE+30"}, None),
}


def dated(headers: dict[str, str]) -> dict[str, str]:
    """Fill in dates of a server whose clock is years behind ours."""
    now = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    shifts = {"DATE": 0, "DATE+30": 30, "DATE-30": -30}
    return {
        name: format_datetime(datetime.fromtimestamp(now + shifts[value], UTC), usegmt=True)
        if value in shifts
        else value
        for name, value in headers.items()
    }


@pytest.mark.parametrize(("headers", "delay"), DELAYS.values(), ids=DELAYS)
async def test_a_delay_is_read_by_the_servers_clock(
    store: HTTPStore, headers: dict[str, str], delay: float | None
) -> None:
    """Seconds, or a date against the answer's own; whatever else it says is no delay, and no error either."""
    with respx.mock:
        respx.post(f"{URL}/ingest/batch").respond(429, headers=dated(headers))
        with pytest.raises(StoreError) as caught:
            await store.put(envelopes(sample()))
    assert caught.value.retry_after == delay


TEMPORARY = [
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.WriteTimeout("slow"),
    httpx.PoolTimeout("slow"),
    httpx.ConnectError("[Errno -2] Name or service not known"),
    httpx.ReadError("reset"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
]


@pytest.mark.parametrize("error", TEMPORARY, ids=lambda error: type(error).__name__)
async def test_a_connection_that_fails_may_do_better_later(store: HTTPStore, error: Exception) -> None:
    """Time-outs, resets, a name that is not found: nothing is known, and one request was made."""
    with respx.mock:
        route = respx.post(f"{URL}/ingest/batch").mock(side_effect=error)
        with pytest.raises(StoreError) as caught:
            await store.put(envelopes(sample()))
    assert not isinstance(caught.value, StoreUnusable)
    assert route.call_count == 1


@pytest.mark.parametrize("status", [404, 405, 406, 409, 410, 411, 415, 426, 431, 451, 304])
async def test_a_wrong_address_is_named(store: HTTPStore, status: int) -> None:
    """Whatever is no bridge's answer blames the configuration, and no outcome."""
    with respx.mock:
        respx.post(f"{URL}/ingest/batch").respond(status, json={"reason": "no such \x1b[31mroute"})
        with pytest.raises(StoreUnusable) as caught:
            await store.put(envelopes(sample()))
    assert caught.value.cause == "config"
    assert "correct INGEST_API_URL or store.http.url" in str(caught.value)
    assert "\x1b" not in str(caught.value)


SAYS_NOTHING: dict[str, Reply] = {
    "no body": reply(b""),
    "no type": Reply(200, {}, b'{"results": []}'),
    "text": reply({"results": [{"id": A, "status": "stored"}]}, content_type="text/plain"),
    "cut": reply(b'{"results": [{"id": "' + A.encode() + b'", "status": "stored"}'),
    "no utf-8": reply(b'{"results": [{"id": "\xff"'),
    "null": reply(b"null"),
    "a list": reply([{"id": A, "status": "stored"}]),
    "text for results": reply({"results": "stored"}),
    "an object for results": reply({"results": {A: "stored"}}),
    "ok": reply({"status": "ok"}),
    "stored without an id": reply({"status": "stored"}),
    "another one's": reply({"id": B, "status": "stored"}),
    "deep": reply(b'{"results": ' + b"[" * 100_000),
    "deep, another key": reply(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
}


@pytest.mark.parametrize("answer", SAYS_NOTHING.values(), ids=SAYS_NOTHING)
def test_a_2xx_that_says_nothing_acknowledges_nothing(answer: Reply) -> None:
    """It is an error of the store; no outcome is judged by it."""
    with pytest.raises(StoreError):
        judge().verdicts([A], answer)


NOT_AN_ITEM: list[Any] = [
    None,
    A,
    [A, "stored"],
    {"status": "stored"},
    {"id": A},
    {"id": A, "status": "Stored"},
    {"id": A, "status": "accepted"},
    {"id": A, "status": ["stored"]},
    {"id": A.upper(), "status": "stored"},
    {"id": f" {A}", "status": "stored"},
    {"id": 7, "status": "stored"},
    {"id": B, "status": "stored"},
    {"id": None, "status": "stored"},
    {"id": A, "status": "stored", "reason": 5},
]


@pytest.mark.parametrize("item", NOT_AN_ITEM, ids=repr)
def test_an_entry_that_is_none_leaves_its_outcome_unknown(item: Any) -> None:
    """Only an entry of the right form with the very id counts; the others of the answer count on."""
    [first, second] = verdicts([A, "c" * 24], {"results": [item, {"id": "c" * 24, "status": "duplicate"}]})

    assert (first.id, first.status) == (A, "unknown")
    assert second == Verdict("c" * 24, "duplicate")


def test_an_answer_that_contradicts_itself() -> None:
    """An id that was sent once and is told of twice, differently, is unknown; twice the same is the same."""
    both = [{"id": A, "status": "stored"}, {"id": A, "status": "rejected"}, {"id": B, "status": "stored"}]

    assert [verdict.status for verdict in verdicts([A, B], {"results": both})] == ["unknown", "stored"]
    assert [verdict.status for verdict in verdicts([A], {"results": [both[0], both[0]]})] == ["stored"]


def test_a_refusal_without_an_id_is_of_its_place() -> None:
    """A bridge that can't read a document knows no id; its place tells, if all others are in theirs."""
    nameless = {"id": None, "status": "rejected", "reason": "not read"}

    ordered = verdicts([A, B], {"results": [{"id": A, "status": "stored"}, nameless]})
    assert ordered[1] == Verdict(B, "rejected", "not read")
    mixed = verdicts([A, B], {"results": [{"id": B, "status": "stored"}, nameless]})
    assert [verdict.status for verdict in mixed] == ["unknown", "stored"]
    short = verdicts([A, B], {"results": [nameless]})
    assert [verdict.status for verdict in short] == ["unknown", "unknown"]


def test_a_batch_of_one_may_be_answered_by_one() -> None:
    """As the route for single outcomes does, if the id is told; a refusal needs none."""
    assert verdicts([A], {"id": A, "status": "stored"}) == [Verdict(A, "stored")]
    assert judge().verdicts([A], reply({"status": "rejected", "reason": "too old"})) == Refusal("too old")
    assert judge().verdicts([A], reply({"status": "rejected"})) == Refusal("the bridge refused it without a reason")


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_may_name_who_is_to_blame(status: int) -> None:
    """A 4xx that lists rejections is not bisected; but that anything is stored, it can't say."""
    told = [{"id": A, "status": "stored"}, {"id": B, "status": "rejected", "reason": "bad"}]

    assert [verdict.status for verdict in verdicts([A, B], {"results": told}, status)] == ["unknown", "rejected"]
    assert judge().verdicts([A, B], reply({"results": told[:1]}, status)) == Refusal(f"HTTP {status}")
    assert judge().verdicts([A, B], reply({"reason": "x"}, status)) == Refusal(f"HTTP {status}: x")


def test_what_a_bridge_says_is_shown_safely() -> None:
    """On one line, without controls, without our key, and not at any length."""
    reason = f"bad\n\x1b]0;x\x07 {KEY} " + "y" * 1000
    [verdict] = verdicts([A], {"results": [{"id": A, "status": "rejected", "reason": reason}]})

    assert verdict.reason is not None
    assert verdict.reason.startswith("bad\\n\\x1b]0;x\\x07 *** yyy")
    assert len(verdict.reason) == 300


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([A, B, "stored", "rejected"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["results", "id", "status", "reason"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values | st.binary(max_size=60), st.sampled_from([200, 202, 204, 301, 400, 401, 413, 422, 429, 500]))
def test_no_answer_breaks_the_reader(body: Any, status: int) -> None:
    """Whatever comes is verdicts in their order, a refusal, or an error of the store; only 2xx acknowledges."""
    try:
        told = judge().verdicts([A, B], reply(body, status))
    except StoreError:
        return
    if isinstance(told, list):
        assert [verdict.id for verdict in told] == [A, B]
        assert status < 300 or not any(verdict.acknowledged for verdict in told)
