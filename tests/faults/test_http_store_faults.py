"""Faults of a bridge, one test a row of the fault matrix: a real server refuses, is slow, lies, or is another one."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from llmbench.stores.base import StoreError, StoreUnusable, Verdict
from llmbench.stores.http import HTTPStore, Limits
from tests.stores.bridge import KEY, QUICK, Answer, FakeBridge, Received, fake_bridge, results
from tests.stores.documents import envelopes, sample

HTML = b"<!DOCTYPE html><html><body>Welcome, <b>guest</b></body></html>"


@pytest.fixture
def bridge() -> Iterator[FakeBridge]:
    with fake_bridge() as bridge:
        yield bridge


@pytest.fixture(autouse=True)
def no_key_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens, the key is in no log line, at any level."""
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


@asynccontextmanager
async def store_at(bridge: FakeBridge, limits: Limits | None = None, **changes: Any) -> AsyncIterator[HTTPStore]:
    store = HTTPStore(bridge.settings(**changes), limits)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_S14_a_refused_key_is_ours_to_mend(bridge: FakeBridge, status: int) -> None:
    """The sentence names the key's variable, not the key, and blames no outcome: with the right key it is stored."""
    outcome = sample()
    bridge.answers(Answer(status, {"status": "error", "reason": f"no such key: {KEY}"}))
    async with store_at(bridge) as store:
        with pytest.raises(StoreUnusable) as caught:
            await store.put(envelopes(outcome))

        assert caught.value.cause == "auth"
        assert f"refuses us (HTTP {status}: no such key: ***); check the key in INGEST_API_KEY" in str(caught.value)
        bridge.answering = bridge.taking
        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]


async def test_S15_a_batch_that_is_too_large_is_halved(bridge: FakeBridge) -> None:
    """Until it fits; an outcome that never does is rejected, the others are stored. Later ones begin with what fits."""
    outcomes = [sample() for _ in range(20)]
    large = sample(misc={"text": "x" * 60_000})

    def answering(received: Received) -> Answer:
        return Answer(413, HTML, "text/html") if len(received.body) > 40_000 else bridge.taking(received)

    bridge.answering = answering
    async with store_at(bridge) as store:
        verdicts = await store.put(envelopes(*outcomes[:10], large, *outcomes[10:]))

        assert [verdict.status for verdict in verdicts] == ["stored"] * 10 + ["rejected"] + ["stored"] * 10
        assert verdicts[10].reason == "it is too large for the bridge (HTTP 413)"
        assert set(bridge.documents) == {outcome.id for outcome in outcomes}
        before = len(bridge.requests)
        await store.put(envelopes(*(sample() for _ in range(20))))
        assert [len(received.body) > 40_000 for received in bridge.requests[before:]].count(True) == 0


async def test_S16_a_delay_that_the_bridge_asks_for_is_told(bridge: FakeBridge) -> None:
    """429 with Retry-After: whoever delivers is told how long to wait, and then all is stored."""
    outcome = sample()
    bridge.answers(Answer(429, {"status": "error", "reason": "too many"}, headers={"Retry-After": "7"}))
    async with store_at(bridge) as store:
        with pytest.raises(StoreError, match="HTTP 429: too many") as caught:
            await store.put(envelopes(outcome))

        assert not isinstance(caught.value, StoreUnusable)
        assert caught.value.retry_after == 7.0
        assert len(bridge.requests) == 1, "waiting is the caller's"
        bridge.answering = bridge.taking
        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_S17_a_bridge_that_fails_is_asked_again(bridge: FakeBridge, status: int) -> None:
    """A 5xx says nothing of the outcomes, whatever its body claims; the same ids again are stored once."""
    outcome = sample()
    bridge.answers(Answer(status, {"results": results([outcome.id])}))
    async with store_at(bridge) as store:
        with pytest.raises(StoreError, match=f"HTTP {status}") as caught:
            await store.put(envelopes(outcome))
        assert not isinstance(caught.value, StoreUnusable)

        bridge.answering = bridge.taking
        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]


async def test_S17_an_answer_that_never_comes_leaves_one_row(bridge: FakeBridge) -> None:
    """The bridge stores the whole batch and then stalls: it is unknown, and putting it again finds it there."""
    outcomes = [sample() for _ in range(3)]

    def stalling(received: Received) -> Answer:
        bridge.taking(received)
        return Answer(hangs=True)

    bridge.answering = stalling
    async with store_at(bridge, QUICK) as store:
        with pytest.raises(StoreError, match="took too long") as caught:
            await store.put(envelopes(*outcomes))
        assert not isinstance(caught.value, StoreUnusable)
        assert len(bridge.documents) == 3, "the fault has happened: all of it was stored"

        bridge.answering = bridge.taking
        assert await store.put(envelopes(*outcomes)) == [Verdict(outcome.id, "duplicate") for outcome in outcomes]
    assert len(bridge.documents) == 3


async def test_S17_slices_that_were_answered_are_known(bridge: FakeBridge) -> None:
    """A bridge that dies in the middle of a long batch leaves what it has acknowledged, and the rest unknown."""
    outcomes = [sample(times_between_tokens=[]) for _ in range(250)]

    def answering(received: Received) -> Answer:
        return bridge.taking(received) if len(bridge.requests) == 1 else Answer(503)

    bridge.answering = answering
    async with store_at(bridge) as store:
        verdicts = await store.put(envelopes(*outcomes))

    assert [verdict.status for verdict in verdicts] == ["stored"] * 100 + ["unknown"] * 150
    assert "HTTP 503" in (verdicts[-1].reason or "")
    assert len(bridge.requests) == 2, "after a failure nothing more is sent"


async def test_S18_a_web_page_acknowledges_nothing(bridge: FakeBridge) -> None:
    """200 with HTML is another server's answer: the address has to be corrected."""
    bridge.answers(Answer(200, HTML, "text/html; charset=utf-8"))
    async with store_at(bridge) as store:
        with pytest.raises(StoreUnusable, match="HTTP 200 as text/html") as caught:
            await store.put(envelopes(sample()))
    assert caught.value.cause == "config"
    assert "INGEST_API_URL or store.http.url" in str(caught.value)


async def test_S18_only_ids_that_are_listed_count(bridge: FakeBridge) -> None:
    """Of a batch of four, one is stored, one there already, one not named; one that nobody sent changes nothing."""
    outcomes = [sample() for _ in range(4)]
    ids = [outcome.id for outcome in outcomes]
    told = [
        {"id": ids[3], "status": "rejected", "reason": "run_ts is in 1970"},
        {"id": "0" * 24, "status": "stored"},
        {"id": ids[0], "status": "stored"},
        {"id": ids[1], "status": "duplicate", "more": "of a newer bridge"},
    ]
    bridge.answers(Answer(body={"results": told, "took": 3}))
    async with store_at(bridge) as store:
        verdicts = await store.put(envelopes(*outcomes))

    assert [verdict.status for verdict in verdicts] == ["stored", "duplicate", "unknown", "rejected"]
    assert [verdict.id for verdict in verdicts] == ids
    assert verdicts[3].reason == "run_ts is in 1970"


async def test_S18_a_2xx_that_says_rejected_acknowledges_nothing(bridge: FakeBridge) -> None:
    """Earlier bridges refuse like this: of a batch, down to the one that is to blame; the others are stored."""
    outcomes = [sample() for _ in range(8)]
    poison = outcomes[5].id

    def answering(received: Received) -> Answer:
        if poison in received.ids:
            return Answer(body={"status": "rejected", "reason": "unknown provider"})
        return bridge.taking(received)

    bridge.answering = answering
    async with store_at(bridge) as store:
        verdicts = await store.put(envelopes(*outcomes))

    assert [verdict.id for verdict in verdicts if verdict.status == "stored"] == [
        outcome.id for outcome in outcomes if outcome.id != poison
    ]
    assert verdicts[5] == Verdict(poison, "rejected", "unknown provider")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_S19_a_redirect_is_not_followed(bridge: FakeBridge, status: int) -> None:
    """Where it points sees no request, and so neither key nor outcome; the sentence names the host."""
    with fake_bridge() as elsewhere:
        target = elsewhere.url.replace("127.0.0.1", "localhost")
        bridge.answers(Answer(status, headers={"Location": f"{target}/ingest/batch?token=hunter2"}))
        async with store_at(bridge) as store:
            with pytest.raises(StoreUnusable, match=f"HTTP {status} and points to localhost") as caught:
                await store.put(envelopes(sample()))

        assert caught.value.cause == "config"
        assert "hunter2" not in str(caught.value)
        assert len(bridge.requests) == 1
        assert elsewhere.requests == []


def serving(*names: str) -> tuple[ssl.SSLContext, trustme.CA]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context, authority


async def test_S19_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    """Nothing is sent to a server that can't be trusted; with its authority in ca_file, it is."""
    context, authority = serving("localhost")
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    outcome = sample()
    with fake_bridge(context) as bridge:
        async with store_at(bridge) as store:
            with pytest.raises(StoreUnusable, match="can't be trusted") as caught:
                await store.put(envelopes(outcome))
        assert caught.value.cause == "config"
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
        assert bridge.requests == []

        async with store_at(bridge, ca_file=file) as store:
            assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]


async def test_S19_a_certificate_of_another_host(tmp_path: Path) -> None:
    """A certificate that is good, but not this host's, is none."""
    context, authority = serving("bench.example")
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    with fake_bridge(context) as bridge:
        async with store_at(bridge, ca_file=file) as store:
            with pytest.raises(StoreUnusable, match="can't be trusted"):
                await store.put(envelopes(sample()))
        assert bridge.requests == []


async def test_S19_a_server_without_tls(bridge: FakeBridge) -> None:
    """https:// to a port that speaks plain HTTP is a mistake in the address, and nothing is sent."""
    async with store_at(bridge, url=bridge.url.replace("http://", "https://")) as store:
        with pytest.raises(StoreUnusable, match="can't be trusted"):
            await store.put(envelopes(sample()))
    assert bridge.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://bench.example", "http://10.0.0.1:8787/ingest", "http://localhost.example", "http://127.0.0.1.example"],
)
async def test_X16_no_key_goes_to_another_machine_in_the_clear(bridge: FakeBridge, url: str) -> None:
    """Neither that of outcomes nor that of the worklist: the store refuses to be opened."""
    for changes in ({"url": url}, {"worklist_url": url, "worklist_key": bridge.settings().key}):
        with pytest.raises(StoreUnusable, match="in the clear; use https://") as caught:
            await HTTPStore(bridge.settings(**changes)).open()
        assert caught.value.cause == "config"


async def test_X16_proxy_variables_are_ignored(bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a request goes is for the configuration alone to say."""
    outcome = sample()
    with fake_bridge() as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        async with store_at(bridge) as store:
            assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]
        assert proxy.requests == []
