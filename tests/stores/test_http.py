"""The HTTP store against a little bridge: what is sent, what can be asked, and what can't."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from llmbench import __version__
from llmbench.ingestion import wire_form
from llmbench.lifecycle import CatalogEntry, Listed, Listing
from llmbench.secrets import Secret
from llmbench.stores.base import (
    ErrorQuery,
    ErrorRollup,
    OutcomeQuery,
    Store,
    StoreError,
    StoreUnusable,
    Verdict,
)
from llmbench.stores.http import HttpSettings, HTTPStore
from llmbench.stores.leases import Claim, Granted, LeaseKey
from llmbench.stores.trends import TrendQuery
from tests.stores.bridge import KEY, QUICK, TOKEN, Answer, FakeBridge, fake_bridge
from tests.stores.documents import NOON, envelope, envelopes, failure, model, moment, sample


@pytest.fixture
def bridge() -> Iterator[FakeBridge]:
    with fake_bridge() as bridge:
        yield bridge


@pytest.fixture
async def store(bridge: FakeBridge) -> AsyncIterator[HTTPStore]:
    store = HTTPStore(bridge.settings())
    await store.open()
    yield store
    await store.close()


class TestPut:
    """Outcomes go out as they are stored, in requests that every bridge takes."""

    async def test_samples_and_failures_go_as_they_are(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """One batch with the key in its header, each document in its wire form; what is not public says so."""
        items = [envelope(sample()), envelope(failure()), envelope(sample(), publish=False)]

        verdicts = await store.put(items)

        assert verdicts == [Verdict(item.outcome.id, "stored") for item in items]
        [received] = bridge.requests
        assert (received.method, received.path) == ("POST", "/ingest/batch")
        assert received.headers["x-api-key"] == KEY
        assert received.headers["content-type"] == "application/json"
        assert received.headers["accept-encoding"] == "identity"
        assert received.headers["user-agent"] == f"llmbench/{__version__}"
        assert "authorization" not in received.headers
        assert received.documents == [json.loads(wire_form(item)) for item in items]
        assert [document.get("publish") for document in received.documents] == [None, None, False]

    async def test_an_empty_batch_asks_nobody(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """No item, no request."""
        assert await store.put([]) == []
        assert bridge.requests == []

    async def test_a_batch_goes_in_slices(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """A hundred outcomes a request at most, one request after the other; the verdicts are in the batch's order."""
        outcomes = [sample(times_between_tokens=[]) for _ in range(230)]

        verdicts = await store.put(envelopes(*outcomes))

        assert [verdict.id for verdict in verdicts] == [outcome.id for outcome in outcomes]
        assert {verdict.status for verdict in verdicts} == {"stored"}
        assert [len(received.ids) for received in bridge.requests] == [100, 100, 30]

    async def test_a_slice_has_900_kib_at_most(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """Long documents go in more requests, even on a quick link; one that is longer alone goes alone."""
        outcomes = [sample(misc={"text": "x" * 150_000}) for _ in range(20)] + [sample(misc={"text": "x" * 1_000_000})]

        verdicts = await store.put(envelopes(*outcomes))

        assert {verdict.status for verdict in verdicts} == {"stored"}
        assert [len(received.ids) for received in bridge.requests if len(received.body) > 900 * 1024] == [1]
        assert max(len(received.ids) for received in bridge.requests) == 6

    async def test_the_same_again_is_recognised(self, store: HTTPStore) -> None:
        """What the bridge says of a repeat, and of another document of the same id, is the verdict."""
        outcome = sample()

        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]
        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "duplicate")]
        [verdict] = await store.put(envelopes(msgspec.structs.replace(outcome, output_tokens=63)))
        assert (verdict.status, bool(verdict.reason)) == ("conflict", True)

    async def test_one_outcome_twice_in_a_batch(self, store: HTTPStore) -> None:
        """Each place has its own verdict, in the order of the answer."""
        outcome = sample()

        verdicts = await store.put(envelopes(outcome, outcome))

        assert [verdict.status for verdict in verdicts] == ["stored", "duplicate"]

    async def test_what_has_no_json_form_is_not_sent(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """JSON would make null of NaN: the document is rejected here, and the others are stored."""
        good, bad = sample(), sample(generate_time=math.nan)

        verdicts = await store.put(envelopes(bad, good))

        assert [verdict.status for verdict in verdicts] == ["rejected", "stored"]
        assert "generate_time" in (verdicts[0].reason or "")
        assert list(bridge.documents) == [good.id]

    async def test_puts_overlap(self, store: HTTPStore) -> None:
        """Each put has the verdicts of its own items."""
        batches = [envelopes(sample(), sample()) for _ in range(5)]
        found: dict[int, list[Verdict]] = {}

        async def put(number: int) -> None:
            found[number] = await store.put(batches[number])

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(put, number)

        for number, batch in enumerate(batches):
            assert [verdict.id for verdict in found[number]] == [item.outcome.id for item in batch]

    async def test_one_bad_document_of_a_hundred(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """422 for a whole batch, without verdicts: bisected down to the one to blame, in few requests."""
        outcomes = [sample(times_between_tokens=[]) for _ in range(100)]
        poison = outcomes[37].id
        refusal = Answer(422, {"detail": [{"loc": ["body", 37]}]})
        bridge.answering = lambda received: refusal if poison in received.ids else bridge.taking(received)

        verdicts = await store.put(envelopes(*outcomes))

        assert [verdict.status for verdict in verdicts].count("stored") == 99
        assert verdicts[37] == Verdict(poison, "rejected", "HTTP 422")
        assert len(bridge.requests) <= 2 * math.ceil(math.log2(100)) + 1

    async def test_a_proxys_bad_request_blames_no_document(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """A 400 that is a web page came from no bridge: it must not put every outcome into quarantine."""
        bridge.answers(Answer(400, b"<html><body>plain HTTP sent to HTTPS port", "text/html"))

        with pytest.raises(StoreUnusable, match="answers HTTP 400: that is no bridge"):
            await store.put(envelopes(sample(), sample()))
        assert len(bridge.requests) == 1

    async def test_a_cancelled_put_can_be_put_again(self, bridge: FakeBridge) -> None:
        """A put that is given up leaves a store that works."""
        outcome = sample()
        bridge.answers(Answer(hangs=True))
        store = HTTPStore(bridge.settings())
        await store.open()
        with anyio.move_on_after(0.1) as scope:
            await store.put(envelopes(outcome))
        assert scope.cancelled_caught

        bridge.answering = bridge.taking
        assert await store.put(envelopes(outcome)) == [Verdict(outcome.id, "stored")]
        await store.close()

    async def test_a_server_that_is_not_there(self, free_tcp_port: int) -> None:
        """Trying again may help, and the sentence says where."""
        store = HTTPStore(HttpSettings(url=f"http://127.0.0.1:{free_tcp_port}", key=Secret(KEY)))
        await store.open()
        with pytest.raises(
            StoreError, match=f"HTTP bridge http://127.0.0.1:{free_tcp_port} can't be reached"
        ) as caught:
            await store.put(envelopes(sample()))
        assert not isinstance(caught.value, StoreUnusable)
        await store.close()

    async def test_an_answer_that_drips(self, bridge: FakeBridge) -> None:
        """An answer that keeps coming, too slowly, is given up after the time that a request has in all."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def drip(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    await stream.send(b" ")
                    await anyio.sleep(0.05)

        store = HTTPStore(bridge.settings(url=f"http://127.0.0.1:{port}"), QUICK)
        await store.open()
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, _until_gone(drip))
            with pytest.raises(StoreError, match="took too long"):
                await store.put(envelopes(sample()))
            group.cancel_scope.cancel()
        await store.close()

    async def test_an_answer_without_end(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """Of an answer not more than 4 MiB are read, and none of it counts."""
        bridge.answers(Answer(body=b'{"results": [' + b" " * 5_000_000 + b"]}"))

        with pytest.raises(StoreUnusable, match="more than 4 MiB"):
            await store.put(envelopes(sample()))

    async def test_a_compressed_answer_is_not_unpacked(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """Nobody asked for one; it is no JSON as it came, and acknowledges nothing."""
        body = gzip.compress(b'{"results": []}')
        bridge.answers(Answer(body=body, headers={"Content-Encoding": "gzip"}))

        with pytest.raises(StoreError, match="damaged JSON"):
            await store.put(envelopes(sample()))

    async def test_a_store_that_is_not_open(self, bridge: FakeBridge) -> None:
        """Before `open` and after `close` a put says so, and open twice is no error."""
        store = HTTPStore(bridge.settings())
        with pytest.raises(StoreError, match="is not open"):
            await store.put(envelopes(sample()))
        await store.open()
        await store.open()
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="is not open"):
            await store.put(envelopes(sample()))


def _until_gone(
    serve: Callable[[anyio.abc.SocketStream], Awaitable[None]],
) -> Callable[[anyio.abc.SocketStream], Awaitable[None]]:
    async def until_gone(stream: anyio.abc.SocketStream) -> None:
        try:
            await serve(stream)
        except anyio.BrokenResourceError:
            return

    return until_gone


class TestAddress:
    """Where it is, in all the ways in which people write it."""

    @pytest.mark.parametrize("end", ["", "/", "/ingest", "/ingest/", "/ingest/batch", "/ingest/batch/"])
    @pytest.mark.parametrize("path", ["", "/bench"])
    async def test_a_url_with_or_without_its_route(self, bridge: FakeBridge, path: str, end: str) -> None:
        """The base URL and the full one lead to the same place."""
        store = HTTPStore(bridge.settings(url=f"{bridge.url}{path}{end}"))
        await store.open()

        await store.put(envelopes(sample()))

        assert [received.path for received in bridge.requests] == [f"{path}/ingest/batch"]
        assert store.description == f"HTTP bridge {bridge.url}{path}"
        await store.close()

    @pytest.mark.parametrize("end", ["", "/", "/runner-config", "/runner-config/"])
    async def test_a_worklists_url_with_or_without_its_route(self, bridge: FakeBridge, end: str) -> None:
        """The same holds for the worklist."""
        url = f"{bridge.url}{end}"
        store = HTTPStore(bridge.settings(worklist_url=url, worklist_key=Secret(TOKEN), providers=("groq",)))
        await store.open()
        bridge.answers(Answer(503))
        with pytest.raises(StoreError):
            await store.models()
        assert [received.path for received in bridge.requests] == ["/runner-config?provider=groq"]
        await store.close()

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("https://me:hunter2@bench.example", "has a user name or password in its URL"),
            ("https://me:hun/ter2@bench.example/ingest", "has no valid URL"),
            ("https://bench.example/?key=hunter2", "has a query or a fragment"),
            ("https://bench.example/#hunter2", "has a query or a fragment"),
            ("https://bench.example:99999", "has no valid URL"),
            ("https://:443", "has no valid URL"),
            ("https://[::1", "has no valid URL"),
        ],
    )
    async def test_a_url_that_can_not_be_used(self, url: str, problem: str) -> None:
        """It is refused at once, without what may be a secret in it, and the setting is named."""
        store = HTTPStore(HttpSettings(url=url, key=Secret(KEY)))
        with pytest.raises(StoreUnusable) as caught:
            await store.open()
        assert problem in str(caught.value)
        assert str(caught.value).endswith("correct INGEST_API_URL or store.http.url")
        assert "hun" not in f"{caught.value}{store.description}"

    async def test_a_file_of_authorities_that_is_none(self, bridge: FakeBridge, tmp_path: Any) -> None:
        """The sentence names the key of config.toml."""
        with pytest.raises(StoreUnusable, match=r"store\.http\.ca_file is '.*nowhere\.pem', which can't be used"):
            await HTTPStore(bridge.settings(ca_file=tmp_path / "nowhere.pem")).open()


class TestListings:
    """What providers list goes to the bridge, too."""

    def listing(self, *models: Listed) -> Listing:
        return Listing(
            provider="groq",
            started_at=NOON,
            finished_at=moment(1),
            status="ok",
            pagination_complete=True,
            models=list(models),
        )

    async def test_a_listing_is_noted(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """The answer tells how many models were accepted, and of the others why not."""
        listing = self.listing(Listed(model_id="a", raw={"x": 1}), Listed(model_id="b", raw={}, name="B"))
        bridge.answers(
            Answer(body={"accepted": 1, "refused": [{"id": "groq/b", "status": "rejected", "reason": "too long"}]})
        )

        recorded = await store.put_listing(listing)

        [received] = bridge.requests
        assert (received.path, received.headers["x-api-key"]) == ("/ingest/catalog", KEY)
        assert msgspec.json.decode(received.body, type=Listing) == listing
        assert (recorded.run.raw_count, recorded.run.accepted_count, recorded.run.new_count) == (2, 1, None)
        assert recorded.refused == [Verdict("groq/b", "rejected", "too long")]

    async def test_a_model_that_has_no_json_form_is_left_out(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """It is refused here, and the others are sent."""
        bridge.answers(Answer(body={"accepted": 1}))

        recorded = await store.put_listing(
            self.listing(Listed(model_id="a", raw={"x": math.nan}), Listed(model_id="b", raw={}))
        )

        assert [verdict.id for verdict in recorded.refused] == ["groq/a"]
        assert [listed["model_id"] for listed in json.loads(bridge.requests[0].body)["models"]] == ["b"]

    @pytest.mark.parametrize("status", [400, 413, 422])
    async def test_a_listing_that_is_refused(self, store: HTTPStore, bridge: FakeBridge, status: int) -> None:
        """It is the listing's fault, not the store's."""
        bridge.answers(Answer(status, {"status": "rejected", "reason": "started_at is in 1970"}))

        with pytest.raises(ValueError, match=f"HTTP {status}: started_at is in 1970"):
            await store.put_listing(self.listing())

    async def test_a_bridge_that_is_away(self, store: HTTPStore, bridge: FakeBridge) -> None:
        """A listing can be put again later."""
        bridge.answers(Answer(503, headers={"Retry-After": "3"}))

        with pytest.raises(StoreError) as caught:
            await store.put_listing(self.listing())
        assert caught.value.retry_after == 3.0


def rollup() -> ErrorRollup:
    return ErrorRollup(
        fingerprint="f",
        provider="groq",
        model_name="m",
        stage="generate",
        error_kind="timeout",
        first_seen=NOON,
        last_seen=NOON,
        count=1,
        sample_messages=[],
    )


QUESTIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "outcomes": lambda store: store.outcomes(OutcomeQuery()),
    "rollups": lambda store: store.rollups(),
    "put_rollup": lambda store: store.put_rollup(rollup()),
    "page": lambda store: store.page("samples", size=1),
    "records": lambda store: store.records(CatalogEntry),
    "put_records": lambda store: store.put_records([]),
    "counts": lambda store: store.counts(),
    "error_groups": lambda store: store.error_groups(ErrorQuery()),
    "tallies": lambda store: store.tallies(),
    "summary": lambda store: store.summary(),
    "trends": lambda store: store.trends(TrendQuery(since=NOON, width=timedelta(hours=1))),
}
COMMANDS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "add_model": lambda store: store.add_model(model()),
    "put_model": lambda store: store.put_model(model()),
    "enable_model": lambda store: store.enable_model("groq", "a"),
    "disable_model": lambda store: store.disable_model("groq", "a", reason="r", by="b", at=NOON),
    "change_model": lambda store: store.change_model("groq", "a", notes="n"),
}


class TestWhatABridgeCannot:
    """It says what it can't answer, and where to ask."""

    @pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
    async def test_a_question(self, store: HTTPStore, bridge: FakeBridge, ask: Any) -> None:
        """No request is made; the sentence leads to the store behind the bridge."""
        with pytest.raises(StoreUnusable, match=r"takes outcomes and can't be asked about .*: ask where the store"):
            await ask(store)
        assert bridge.requests == []

    @pytest.mark.parametrize("ask", COMMANDS.values(), ids=COMMANDS)
    async def test_a_change_of_the_models(self, store: HTTPStore, bridge: FakeBridge, ask: Any) -> None:
        """The sentence says where models are listed: in config.toml, or, with a worklist, behind the bridge."""
        with pytest.raises(StoreUnusable, match=r"list those that are to be measured in config\.toml"):
            await ask(store)
        with_worklist = HTTPStore(bridge.settings(worklist_url=bridge.url))
        with pytest.raises(StoreUnusable, match="change the models where the store behind it can be reached"):
            await ask(with_worklist)

    async def test_a_past(self, store: HTTPStore) -> None:
        """There is none that a bridge tells of."""
        assert await store.history() == []

    async def test_leases(self, store: HTTPStore) -> None:
        """All are granted, as no other runner is known."""
        leases = store.leases("runner-1", 60)
        key = LeaseKey("groq", "a")
        [answer] = await leases.claim([Claim(key=key, outcome_id="x")], fresh=10)
        assert isinstance(answer, Granted)
        assert not leases.shared
