"""Attacks on the bridge, over real sockets: rows X1 to X9 and X20."""

from __future__ import annotations

import contextlib
import gzip
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from anyio import to_thread
from anyio.abc import SocketStream
from pymongo import MongoClient

from llmbench.bridge.keys import new, revoke
from llmbench.ids import new_outcome_id
from llmbench.ingestion import batch_of, wire_form
from llmbench.messages import Outcome
from llmbench.secrets import Secret
from llmbench.stores.base import OutcomeQuery
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.bridge.serving import RUNNER, Running, running, status_of, until_closed
from tests.stores.documents import envelope, failure, sample
from tests.stores.mongod import Mongod

KB = 1024


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store in a file of its own."""
    store = SQLiteStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bridge(store: SQLiteStore, tmp_path: Path) -> AsyncIterator[Running]:
    """The bridge on that store, which takes bodies up to 64 KiB."""
    async with running(store, tmp_path, max_body_kb=64) as bridge:
        yield bridge


def _head(bridge: Running, *lines: str, path: str = "/ingest") -> bytes:
    own = [f"POST {path} HTTP/1.1", "Host: b", f"X-API-Key: {bridge.keys[RUNNER]}", "Content-Type: application/json"]
    return "\r\n".join([*own, *lines, "", ""]).encode()


def _comparable(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.content


async def test_x1_every_bad_key_gets_the_same_answer(
    bridge: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """X1: no key, a wrong one, a revoked one and another bridge's are answered alike, and no log line has any of it."""
    good = bridge.keys["runner-2"]
    await to_thread.run_sync(revoke, bridge.keys_path, good.split("_")[1], datetime.now(UTC))
    _, others = await to_thread.run_sync(new, tmp_path / "others.json", RUNNER, ("ingest",), datetime.now(UTC))
    wrong = bridge.keys[RUNNER][:-1] + ("A" if bridge.keys[RUNNER][-1] != "A" else "B")
    presented: list[dict[str, str]] = [
        {},
        *({"X-API-Key": key} for key in ("", "nonsense", "k" * 5000, wrong, good, others.reveal())),
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": "Basic dTpw"},
    ]
    body = wire_form(envelope(sample()))
    with caplog.at_level(logging.DEBUG, logger="llmbench"):
        answers = [
            await bridge.client.post("/ingest", content=body, headers=headers | {"Content-Type": "application/json"})
            for headers in presented
        ]
    assert answers[0].status_code == 401
    assert {repr(_comparable(answer)) for answer in answers} == {repr(_comparable(answers[0]))}
    for key in (good, wrong, others.reveal()):
        assert key.split("_", 2)[2] not in caplog.text


async def test_x1_bad_keys_use_up_nobodys_budget(bridge: Running) -> None:
    """X1: whoever guesses is slowed down, and a good key from the same address is served meanwhile."""
    answers = [await bridge.client.get("/metrics", headers={"X-API-Key": f"guess-{n}"}) for n in range(40)]
    assert {answer.status_code for answer in answers[:20]} == {401}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await bridge.get("/metrics", "read")).status_code == 200


@pytest.mark.parametrize("value", [b"\xff\xfe\x80", "ключ".encode(), b"llmb_\xe9", b"a\tb", b"\xed\xa0\x80"])
@pytest.mark.parametrize("header", [b"X-API-Key: ", b"Authorization: Bearer "])
async def test_x2_key_of_any_bytes(bridge: Running, header: bytes, value: bytes) -> None:
    """X2: a key that is not ASCII is a wrong key, and no fault."""
    request = b"GET /metrics HTTP/1.1\r\nHost: b\r\nConnection: close\r\n" + header + value + b"\r\n\r\n"
    assert status_of(await bridge.raw(request)) == 401


async def test_x3_declared_length_over_the_limit(bridge: Running) -> None:
    """X3: a body that is declared too long is refused before any of it comes."""
    async with await bridge.connect() as stream:
        await stream.send(_head(bridge, f"Content-Length: {64 * KB + 1}"))
        assert status_of(await stream.receive()) == 413


@pytest.mark.parametrize("length", ["99999999999999999999999999", "-1", "1e3", "0x10"])
async def test_x3_length_that_is_none(bridge: Running, length: str) -> None:
    """X3: a length that is no number, or beyond all numbers, is refused."""
    assert status_of(await bridge.raw(_head(bridge, f"Content-Length: {length}"), b"{}")) in (400, 413)


async def test_x3_chunks_without_end(bridge: Running) -> None:
    """X3: a body without a length is refused once it is too long, and no more of it is kept than may be."""
    chunk = b"10000\r\n" + b" " * 64 * KB + b"\r\n"
    tracemalloc.start()
    try:
        async with await bridge.connect() as stream, anyio.create_task_group() as group:
            await stream.send(_head(bridge, "Transfer-Encoding: chunked"))
            group.start_soon(_flood, stream, chunk)
            answer = await until_closed(stream)
            group.cancel_scope.cancel()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status_of(answer) == 413
    assert peak < 2_000_000, f"{peak} bytes for a limit of 65,536"


async def _flood(stream: SocketStream, chunk: bytes) -> None:
    """Send a chunk over and over until nobody takes any more."""
    with contextlib.suppress(anyio.BrokenResourceError):
        while True:
            await stream.send(chunk)


async def test_x3_one_byte_at_a_time(store: SQLiteStore, tmp_path: Path) -> None:
    """X3: a body that trickles in is refused when its time is over, however long it might go on."""
    async with running(store, tmp_path, body_seconds=0.3) as bridge, await bridge.connect() as stream:
        await stream.send(_head(bridge, "Content-Length: 1000"))
        async with anyio.create_task_group() as group:

            async def trickle() -> None:
                with contextlib.suppress(anyio.BrokenResourceError):
                    while True:
                        await stream.send(b" ")
                        await anyio.sleep(0.05)  # this is the attack, not a wait

            group.start_soon(trickle)
            assert status_of(await stream.receive()) == 408
            group.cancel_scope.cancel()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "x"])
async def test_x4_compressed_body(bridge: Running, store: SQLiteStore, encoding: str) -> None:
    """X4: a body that says it is compressed is refused unread, whatever it is."""
    body = gzip.compress(wire_form(envelope(sample())))
    assert (await bridge.post("/ingest", body, **{"Content-Encoding": encoding})).status_code == 415
    assert await store.outcomes(OutcomeQuery()) == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_x4_other_content_types(bridge: Running, kind: str) -> None:
    """X4: only JSON in UTF-8 is read, so that no web page can have a browser send something here."""
    assert (await bridge.post("/ingest", wire_form(envelope(sample())), **{"Content-Type": kind})).status_code == 415


def _changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(sample()) | fields)


def _with_text(field: str, text: bytes) -> bytes:
    """Return a run's document in which a field has a value that no encoder writes."""
    return _changed(**{field: "@@"}).replace(b'"@@"', text)


_DEEP = b"[" * 30_000 + b"]" * 30_000

X5 = {
    "unknown field": _changed(unknown_field=1),
    "wrong type": _changed(output_tokens="64"),
    "number for text": _changed(provider=5),
    "deep nesting": _DEEP,
    "deep nesting in a field": _with_text("misc", b'{"a":' + _DEEP + b"}"),
    "6,000 digits": _with_text("output_tokens", b"9" * 6000),
    "40 digits": _with_text("output_tokens", b"9" * 40),
    "40 digits in misc": _with_text("misc", b'{"a":' + b"9" * 40 + b"}"),
    "exponent beyond all": _with_text("generate_time", b"1e999"),
    "NaN": _with_text("generate_time", b"NaN"),
    "Infinity": _with_text("generate_time", b"-Infinity"),
    "duplicate keys": b'{"provider":"a",' + _changed(provider=5)[1:],
    "lone surrogate": _with_text("provider", rb'"\ud800"'),
    "wrong UTF-8": _with_text("provider", b'"\xff\xfe"'),
    "cut off": _changed()[:-1],
    "nothing but white space": b" ",
    "null": b"null",
    "text": b'"text"',
    "two documents": _changed() + _changed(),
    "byte order mark": b"\xef\xbb\xbf" + _changed(),
}


@pytest.mark.parametrize("path", ["/ingest", "/ingest/error", "/ingest/batch", "/ingest/catalog"])
async def test_x5_malformed_documents(bridge: Running, store: SQLiteStore, path: str) -> None:
    """X5: whatever is no sound document is refused with a reason and changes nothing; nothing ends in a 500."""
    answers = {name: await bridge.post(path, body) for name, body in X5.items()}
    assert {name: answer.status_code for name, answer in answers.items() if answer.status_code not in (400, 422)} == {}
    assert {answer.json()["status"] for answer in answers.values()} == {"rejected"}
    assert all(answer.json()["reason"] for answer in answers.values())
    assert await store.outcomes(OutcomeQuery()) == []


async def test_x5_malformed_documents_in_a_batch(bridge: Running, store: SQLiteStore) -> None:
    """X5: in a batch they keep no other out, unless what is sent is no JSON any more."""
    stored = set()
    for name, body in X5.items():
        good = sample()
        answer = await bridge.post("/ingest/batch", batch_of([body, wire_form(envelope(good))]))
        if answer.status_code == 200:
            bad, *others = answer.json()["results"]
            assert (bad["status"], others[-1]["id"], others[-1]["status"]) == ("rejected", good.id, "stored"), name
            stored.add(good.id)
        else:
            assert answer.status_code == 400, name
    assert {run.id for run in await store.outcomes(OutcomeQuery())} == stored
    assert len(stored) > 10


@pytest.fixture
async def mongo_bridge(mongod: Mongod, tmp_path: Path) -> AsyncIterator[Running]:
    """The bridge on a MongoDB database that nobody else has."""
    name = f"llm-bench-{new_outcome_id()}"
    store = MongoStore(Address(uri=Secret(mongod.uri), database=name))
    await store.open()
    try:
        async with running(store, tmp_path) as bridge:
            yield bridge
    finally:
        await store.close()
        with MongoClient[dict[str, Any]](mongod.uri) as client:
            client.drop_database(name)


X6: dict[str, dict[str, Any]] = {
    "operator for text": {"provider": {"$ne": None}},
    "operator for an id": {"_id": {"$gt": ""}},
    "operator for a date": {"run_ts": {"$date": 0}},
    "operator for a number": {"output_tokens": {"$inc": 1}},
    "operator in misc": {"misc": {"$where": "sleep(1000)"}},
    "operator deep in misc": {"misc": {"a": [{"b": {"$set": {"x": 1}}}]}},
    "dotted key": {"misc": {"a.b": 1}},
    "NUL in a key": {"misc": {"a\x00b": 1}},
    "NUL in a name": {"provider": "a\x00b"},
    "operator as a field": {"$set": {"provider": "x"}},
}


async def test_x6_operators_reach_no_query(mongo_bridge: Running) -> None:
    """X6: operator objects, and keys that MongoDB reads in its own way, are refused; what is stored is plain."""
    bridge = mongo_bridge
    good = sample(misc={"plain": {"a": [1, None, "x"]}})
    answers = {name: await bridge.post("/ingest", _changed(**fields)) for name, fields in X6.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(X6, 422)
    assert {answer.json()["status"] for answer in answers.values()} == {"rejected"}
    assert [answer.status for answer in await bridge.put(envelope(good))] == ["stored"]
    assert [answer.status for answer in await bridge.put(envelope(good))] == ["duplicate"]


async def test_x6_worklist_takes_text_alone(mongo_bridge: Running) -> None:
    """X6: what a query string asks for is a text, however it is spelled."""
    bridge = mongo_bridge
    for query in ("provider[$ne]=x", "provider=%7B%22%24ne%22%3A1%7D", "provider=$where"):
        answer = await bridge.get(f"/runner-config?{query}", "worklist")
        assert answer.status_code == 400 or answer.json()["models"] == []


@pytest.mark.parametrize("make", [sample, failure])
async def test_x7_document_of_another_runner(bridge: Running, store: SQLiteStore, make: Any) -> None:
    """X7: a runner's key stores nothing in another runner's name."""
    theirs, own = make(runner_id=RUNNER), make(runner_id="runner-2")
    refused, stored = await bridge.put(envelope(theirs), envelope(own), key="runner-2")
    assert (refused.status, stored.status) == ("rejected", "stored")
    assert f"runner_id {RUNNER!r} is not that of this key, 'runner-2'" in (refused.reason or "")
    assert await store.outcomes(OutcomeQuery()) == [own]


async def test_x7_id_of_another_runner(bridge: Running, store: SQLiteStore) -> None:
    """X7: a row that is another runner's stays as it is, under whatever name its id comes again."""
    run = sample()
    await bridge.put(envelope(run))
    for runner in (RUNNER, "runner-2"):
        taken = wire_form(envelope(msgspec.structs.replace(run, runner_id=runner, output_tokens=1)))
        alone = await bridge.post("/ingest", taken, "runner-2")
        batch = await bridge.post("/ingest/batch", batch_of([taken]), "runner-2")
        told = batch.json()["reason"] if runner == RUNNER else batch.json()["results"][0]["status"]
        assert (alone.status_code, batch.status_code) == ((422, 403) if runner == RUNNER else (409, 200))
        assert told == "conflict" or told.startswith("this key is another runner's: runner_id 'runner-1' is not that")
    assert await store.outcomes(OutcomeQuery()) == [run]


@pytest.mark.parametrize("path", ["/ingest", "/ingest/batch"])
async def test_x7_stored_id_with_another_body(bridge: Running, store: SQLiteStore, path: str) -> None:
    """X7: the id of a stored run with other content is a conflict, and the stored run stays as it is."""
    run = sample()
    await bridge.put(envelope(run))
    body = wire_form(envelope(msgspec.structs.replace(run, output_tokens=1)))
    answer = await bridge.post(path, body if path == "/ingest" else batch_of([body]))
    item = answer.json() if path == "/ingest" else answer.json()["results"][0]
    assert (answer.status_code, item["status"]) == (409 if path == "/ingest" else 200, "conflict")
    assert await store.outcomes(OutcomeQuery()) == [run]


async def test_x8_one_key_floods(store: SQLiteStore, tmp_path: Path) -> None:
    """X8: a key that floods is told 429 and when to come again; another key is served meanwhile."""
    answers: list[httpx.Response] = []
    async with running(store, tmp_path, requests_per_second=20) as bridge:

        async def flood() -> None:
            for _ in range(60):
                answers.append(await bridge.post("/ingest/batch", b"[]"))  # noqa: PERF401  one after another

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(flood)
            others = [(await bridge.put(envelope(sample(runner_id="runner-2")), key="runner-2"))[0] for _ in range(10)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(refused) > 150
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert [answer.status for answer in others] == ["stored"] * 10


X9: dict[str, Outcome] = {
    "1970": sample(run_ts=datetime(1970, 1, 1, tzinfo=UTC)),
    "2100": sample(run_ts=datetime(2100, 1, 1, tzinfo=UTC)),
    "failure of 1970": failure(run_ts=datetime(1970, 1, 1, tzinfo=UTC)),
    "negative duration": sample(generate_time=-0.001),
    "negative first token": sample(time_to_first_token=-1.0),
    "negative gap": sample(times_between_tokens=[0.1, -0.1]),
    "more than a day": sample(generate_time=86_401.0),
    "negative count": sample(output_tokens=-1),
}


async def test_x9_times_that_cannot_be(bridge: Running, store: SQLiteStore) -> None:
    """X9: times and durations that can't be are refused, each with a reason."""
    answers = await bridge.put(*map(envelope, X9.values()))
    assert {name: answer.status for name, answer in zip(X9, answers, strict=True)} == dict.fromkeys(X9, "rejected")
    assert all(answer.reason for answer in answers)
    assert await store.outcomes(OutcomeQuery()) == []


@pytest.mark.parametrize("key", [None, RUNNER])
@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
async def test_x20_health_names_nothing(bridge: Running, path: str, key: str | None) -> None:
    """X20: without a key to read it, health is one word: no lane, no model, no error, no path."""
    answer = await bridge.get(path, key)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_x20_wrong_key_learns_nothing(bridge: Running) -> None:
    """X20: who presents a wrong key at the health route is told that alone."""
    assert (await bridge.client.get("/health", headers={"X-API-Key": "wrong"})).status_code == 401


async def test_x20_key_to_read_sees_it_all(bridge: Running, store: SQLiteStore) -> None:
    """X20: with a key to read it, health tells of the store."""
    answer = (await bridge.get("/health", "read")).json()
    assert answer["store"] == {"status": "ok", "description": store.description}


@pytest.fixture(autouse=True)
def _no_fault_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No attack may end in a fault of the bridge."""
    yield
    assert "fault of the bridge" not in caplog.text
    assert "Exception in ASGI" not in caplog.text
