"""The routes of the bridge, over real sockets: what is acknowledged, and what is told."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import msgspec
import pytest

from llmbench.ingestion import CatalogAnswer, ItemAnswer, Worklist, batch_of, wire_form
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable
from tests.bridge.serving import GatedStore, Running, running
from tests.stores.documents import envelope, failure, model, sample


def _item(answer: httpx.Response) -> ItemAnswer:
    return msgspec.json.decode(answer.content, type=ItemAnswer)


async def test_run_is_stored_once(bridge: Running, store: GatedStore) -> None:
    """A run is stored and acknowledged; sent again it is a duplicate, and acknowledged as well."""
    run = sample()
    first = await bridge.post("/ingest", wire_form(envelope(run)))
    second = await bridge.post("/ingest", wire_form(envelope(run)))
    assert [first.status_code, second.status_code] == [200, 200]
    assert [_item(first), _item(second)] == [
        ItemAnswer(id=run.id, status="stored"),
        ItemAnswer(id=run.id, status="duplicate"),
    ]
    assert await store.outcomes(OutcomeQuery()) == [run]


async def test_error_is_stored(bridge: Running, store: GatedStore) -> None:
    """A failed run sent to its own route is stored as it was sent."""
    run = failure()
    answer = await bridge.post("/ingest/error", wire_form(envelope(run)))
    assert (answer.status_code, _item(answer).status) == (200, "stored")
    assert await store.outcomes(OutcomeQuery()) == [run]


async def test_batch_has_a_verdict_for_each(bridge: Running, store: GatedStore) -> None:
    """In a batch each document has its own verdict, in order; a bad one keeps no other out."""
    known = sample()
    await bridge.put(envelope(known))
    changed, fresh, bad = msgspec.structs.replace(known, output_tokens=63), failure(), sample(output_tokens=-1)
    answers = await bridge.put(*(envelope(run) for run in (known, changed, bad, fresh)))
    assert [answer.status for answer in answers] == ["duplicate", "conflict", "rejected", "stored"]
    assert [answer.id for answer in answers] == [known.id, known.id, bad.id, fresh.id]
    assert {run.id for run in await store.outcomes(OutcomeQuery())} == {known.id, fresh.id}


async def test_empty_batch(bridge: Running) -> None:
    """A batch of nothing is answered with no verdicts."""
    assert await bridge.put() == []


async def test_probe_stays_a_probe(bridge: Running, store: GatedStore) -> None:
    """What is not to be published does not become so on its way."""
    await bridge.put(envelope(sample(), publish=False))
    assert (await store.counts())["probes"] == 1


async def test_listing_is_noted(bridge: Running) -> None:
    """A listing's answer says how many of its models were noted."""
    models = [{"model_id": f"m-{n}", "name": "M", "raw": {}} for n in range(3)]
    listing = {
        "provider": "openai",
        "models": models,
        "pagination_complete": True,
        "started_at": "2026-03-14T12:00:00Z",
    }
    answer = await bridge.post("/ingest/catalog", msgspec.json.encode(listing))
    assert answer.status_code == 200, answer.text
    assert msgspec.json.decode(answer.content, type=CatalogAnswer) == CatalogAnswer(accepted=3, refused=[])


@pytest.mark.parametrize("fault", [StoreError("away", retry_after=7.5), StoreUnusable("not allowed", "auth")])
async def test_nothing_is_acknowledged_while_the_store_fails(
    bridge: Running, store: GatedStore, fault: StoreError
) -> None:
    """While the store takes nothing, every route says 503 and when to come again, and quotes nothing of the store."""
    store.fault = fault
    body = wire_form(envelope(sample()))
    for path, sent in (("/ingest", body), ("/ingest/batch", batch_of([body]))):
        answer = await bridge.post(path, sent)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) == (8 if fault.retry_after else 5)
        assert str(fault) not in answer.text
    store.fault = None
    assert await store.outcomes(OutcomeQuery()) == []


async def test_acknowledged_only_once_durable(bridge: Running, store: GatedStore) -> None:
    """No part of an answer comes before the store has said that the run is durable."""
    store.close_gate()
    body = wire_form(envelope(sample()))
    head = f"POST /ingest HTTP/1.1\r\nHost: b\r\nX-API-Key: {bridge.keys['runner-1']}\r\n".encode()
    async with await bridge.connect() as stream:
        await stream.send(head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await store.arrived.wait()
        with anyio.move_on_after(0.2) as early:
            await stream.receive()
        assert early.cancelled_caught
        assert await store.outcomes(OutcomeQuery()) == []
        store.gate.set()
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
    assert len(await store.outcomes(OutcomeQuery())) == 1


async def test_stalled_store_is_not_waited_for(store: GatedStore, tmp_path: Path) -> None:
    """A store that does not answer in time makes a 503; what it stores afterwards is a duplicate later on."""
    run = envelope(sample())
    async with running(store, tmp_path, answer_seconds=0.05) as bridge:
        store.close_gate()
        answer = await bridge.post("/ingest", wire_form(run))
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        store.gate.set()
        while not await store.outcomes(OutcomeQuery()):
            await anyio.lowlevel.checkpoint()
    async with running(store, tmp_path / "again") as bridge:
        assert [answer.status for answer in await bridge.put(run)] == ["duplicate"]


async def test_worklist(bridge: Running, store: GatedStore) -> None:
    """The worklist has the enabled models of the provider that is asked for, with what else is known of them."""
    await store.add_model(model("gpt-4o-mini", display_name="GPT-4o mini", region="eu"))
    await store.add_model(model("gpt-3"))
    await store.add_model(model("other", provider="groq"))
    await store.disable_model("openai", "gpt-3", reason="old", by="me", at=model().created_at)
    answer = await bridge.client.get(
        "/runner-config", params={"provider": "OpenAI"}, headers={"Authorization": f"Bearer {bridge.keys['worklist']}"}
    )
    worklist = msgspec.json.decode(answer.content, type=Worklist)
    assert (worklist.schema_version, worklist.provider, worklist.interval_minutes) == (1, "openai", 180.0)
    assert worklist.models == ["gpt-4o-mini"]
    metadata = worklist.model_metadata["gpt-4o-mini"]
    assert (metadata["display_name"], metadata["region"], "model_id" in metadata) == ("GPT-4o mini", "eu", False)


async def test_worklist_of_nothing(bridge: Running) -> None:
    """A provider without models has an empty list, and no error."""
    answer = await bridge.get("/runner-config?provider=nobody", "worklist")
    assert (answer.status_code, answer.json()["models"]) == (200, [])


@pytest.mark.parametrize(
    "query", ["", "?provider=", "?provider=a&provider=b", "?provider=%FF", "?provider=a%00b", "?provider=" + "a" * 201]
)
async def test_worklist_names_one_provider(bridge: Running, query: str) -> None:
    """A query that does not name one provider is a bad request."""
    assert (await bridge.get(f"/runner-config{query}", "worklist")).status_code == 400


async def test_worklist_of_a_store_that_fails(bridge: Running, store: GatedStore) -> None:
    """While the catalogue can't be read the answer is 503, for which a runner keeps its last list."""
    store.fault = StoreError("away")
    assert (await bridge.get("/runner-config?provider=openai", "worklist")).status_code == 503


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/metrics", "runner-1", 403),
        ("/live", "runner-1", 403),
        ("/runner-config?provider=openai", "ingest", 403),
        ("/runner-config?provider=openai", "shared", 403),
        ("/metrics", "read", 200),
    ],
)
async def test_scopes(bridge: Running, path: str, key: str, status: int) -> None:
    """A key opens what its scopes name, and nothing else."""
    assert (await bridge.get(path, key)).status_code == status


async def test_key_for_reading_stores_nothing(bridge: Running, store: GatedStore) -> None:
    """A key that lacks the scope for it stores nothing."""
    assert (await bridge.post("/ingest", wire_form(envelope(sample())), key="read")).status_code == 403
    assert store.batches == []


async def test_shared_key_speaks_for_any_runner(bridge: Running) -> None:
    """The one key of an earlier deployment may send runs of every runner."""
    answers = await bridge.put(envelope(sample(runner_id="a")), envelope(sample(runner_id="b")), key="shared")
    assert [answer.status for answer in answers] == ["stored", "stored"]


async def test_readiness_follows_the_store(bridge: Running, store: GatedStore) -> None:
    """The bridge is ready while its store can be reached, and lives all the same when it can't."""
    assert (await bridge.get("/readyz")).status_code == 200
    store.fault = StoreError("away")
    assert (await bridge.get("/readyz")).status_code == 503
    assert (await bridge.get("/healthz")).status_code == 200
    assert (await bridge.get("/health")).json() == {"status": "failing"}


async def test_metrics_count_requests_and_items(bridge: Running) -> None:
    """Requests are counted by route and never by path; documents by what became of them."""
    await bridge.put(envelope(sample()), envelope(sample(output_tokens=-1)))
    await bridge.get("/no/such/secret-path")
    text = (await bridge.get("/metrics", "read")).text
    assert 'http_route="/ingest/batch"' in text
    assert "secret-path" not in text
    assert 'http_response_status_code="404"' in text
    counted = [line for line in text.splitlines() if 'status="stored"' in line or 'status="rejected"' in line]
    assert sorted(line.rpartition(" ")[2] for line in counted if "created" not in line) == ["1.0", "1.0"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/ingest", 405), ("POST", "/live", 405)]
)
async def test_what_is_no_route(bridge: Running, method: str, path: str, status: int) -> None:
    """A request to no route is told so, in the same form as every other error."""
    answer = await bridge.client.request(method, path)
    assert (answer.status_code, answer.json()["status"], bool(answer.json()["reason"])) == (status, "error", True)


async def test_fault_of_the_bridge_is_told_and_logged(
    bridge: Running, store: GatedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug behind a route ends in a 500 without details, which are in the log; the next request is answered."""
    store.fault = ZeroDivisionError("a detail")
    answer = await bridge.post("/ingest", wire_form(envelope(sample())))
    assert (answer.status_code, "a detail" in answer.text) == (500, False)
    assert "a detail" in caplog.text
    store.fault = None
    assert [answer.status for answer in await bridge.put(envelope(sample()))] == ["stored"]
