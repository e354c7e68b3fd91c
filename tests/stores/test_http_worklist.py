"""What the HTTP store says is to be measured: what a bridge tells, or what config.toml lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llmbench.secrets import Secret
from llmbench.stores.base import StoreError, StoreUnusable, UnknownModel
from llmbench.stores.http import HTTPStore
from tests.stores.bridge import KEY, TOKEN, Answer, FakeBridge, Received, fake_bridge
from tests.stores.documents import NOON, model


@pytest.fixture
def bridge() -> Iterator[FakeBridge]:
    with fake_bridge() as bridge:
        yield bridge


class TestListedModels:
    """Without a worklist, config.toml's lists are measured."""

    async def test_seeds_are_kept_in_memory(self, bridge: FakeBridge) -> None:
        """Those of the settings and those that are added later, each once, in any spelling; nobody is asked."""
        first = model(provider="groq", model_id="a")
        store = HTTPStore(bridge.settings(seeds=(first,)))
        await store.open()
        added = model(provider="groq", model_id="B")
        disabled = model(provider="openai", model_id="c", enabled=False)

        new = await store.seed_models([model(provider="groq", model_id="A"), added, disabled])

        assert new == [added, disabled]
        assert await store.models() == [first, added, disabled]
        assert await store.models(enabled=True) == [first, added]
        assert await store.models(provider="OpenAI", enabled=False) == [disabled]
        assert await store.model("GROQ", "b") == added
        assert await store.unreadable_models() == []
        with pytest.raises(UnknownModel) as caught:
            await store.model("groq", "BB")
        assert caught.value.similar == ("B",)
        assert bridge.requests == []
        await store.close()


def worklist(received: Received, **changes: Any) -> dict[str, Any]:
    provider = received.path.partition("provider=")[2]
    return {
        "schema_version": 1,
        "provider": provider,
        "interval_minutes": 180,
        "models": [f"{provider}-1", f"{provider}-2"],
        "model_metadata": {},
        "generated_at": "2026-03-14T12:00:00Z",
    } | changes


class TestWorklist:
    """What the bridge says is to be measured."""

    @pytest.fixture
    async def listing(self, bridge: FakeBridge) -> AsyncIterator[HTTPStore]:
        store = HTTPStore(
            bridge.settings(
                worklist_url=bridge.url,
                worklist_key=Secret(TOKEN),
                providers=("groq", "openai"),
                seeds=(model(provider="groq", model_id="seed"),),
            )
        )
        await store.open()
        yield store
        await store.close()

    async def test_each_provider_is_asked_for(self, listing: HTTPStore, bridge: FakeBridge) -> None:
        """With the worklist's key alone, and the answers are all there is: nothing of config.toml is added."""
        bridge.answering = lambda received: Answer(body=worklist(received))

        assert await listing.seed_models([model(provider="groq", model_id="seed")]) == []
        found = await listing.models(enabled=True)

        assert [(one.provider, one.model_id) for one in found] == [
            ("groq", "groq-1"),
            ("groq", "groq-2"),
            ("openai", "openai-1"),
            ("openai", "openai-2"),
        ]
        assert {one.enabled for one in found} == {True}
        assert [received.path for received in bridge.requests] == [
            "/runner-config?provider=groq",
            "/runner-config?provider=openai",
        ]
        for received in bridge.requests:
            assert (received.method, received.headers["authorization"]) == ("GET", f"Bearer {TOKEN}")
            assert "x-api-key" not in received.headers

    async def test_one_provider(self, listing: HTTPStore, bridge: FakeBridge) -> None:
        """Only that one is asked for; a row is the same each time, as if nothing had changed."""
        bridge.answering = lambda received: Answer(body=worklist(received))

        first = await listing.models(provider="groq")

        assert first == await listing.models(provider="groq")
        assert (await listing.model("GROQ", "Groq-2")).model_id == "groq-2"
        assert {received.path for received in bridge.requests[:2]} == {"/runner-config?provider=groq"}

    async def test_a_rows_fields_come_along(self, listing: HTTPStore, bridge: FakeBridge) -> None:
        """Metadata has the row's other fields; what is unknown is passed over, null says nothing."""
        metadata = {
            "a/b:c": {
                "display_name": "A B",
                "profile": "reasoning",
                "region": None,
                "request": {"x": [1]},
                "created_at": "2025-01-02T03:04:05",
                "recheck_after": "2026-03-14T13:00:00+01:00",
                "provider": "other",
                "model_id": "other",
                "future_field": 5,
            },
            "off": {"enabled": False},
            "not listed": {"enabled": 17},
        }
        bridge.answering = lambda received: Answer(
            body=worklist(received, models=["a/b:c", "off"], model_metadata=metadata)
        )

        [found, off] = await listing.models(provider="groq")

        assert (found.provider, found.model_id, found.display_name) == ("groq", "a/b:c", "A B")
        assert (found.profile, found.region, found.request) == ("reasoning", None, {"x": [1]})
        assert found.created_at == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert found.recheck_after == NOON
        assert not off.enabled
        assert [one.model_id for one in await listing.models(provider="groq", enabled=True)] == ["a/b:c"]
        assert await listing.unreadable_models() == []

    async def test_a_bad_row_keeps_no_other_out(self, listing: HTTPStore, bridge: FakeBridge) -> None:
        """Rows with fields of wrong types, and ids that none can be, are named; the others are measured."""
        models = ["good", "wrong", "two words", 17, "", "x" * 201, "esc\x1b[31m", "odd", "good"]
        metadata = {"wrong": {"enabled": "yes"}, "odd": ["no object"]}
        bridge.answering = lambda received: Answer(body=worklist(received, models=models, model_metadata=metadata))

        assert [one.model_id for one in await listing.models(provider="groq")] == ["good"]
        unreadable = await listing.unreadable_models()
        assert [entry.partition(": ")[0] for entry in unreadable] == [
            "groq/wrong",
            "groq/two words",
            "groq/17",
            "groq/",
            f"groq/{'x' * 201}",
            "groq/esc\\x1b[31m",
            "groq/odd",
        ]
        assert "enabled" in unreadable[0]

    async def test_an_empty_list_means_nothing_to_do(self, listing: HTTPStore, bridge: FakeBridge) -> None:
        """It is an answer, and no error."""
        bridge.answering = lambda received: Answer(body=worklist(received, models=[]))

        assert await listing.models() == []

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    async def test_a_list_that_can_not_be_had_now(self, listing: HTTPStore, bridge: FakeBridge, status: int) -> None:
        """The last answer may be used further: an error that is no `StoreUnusable`."""
        bridge.answers(Answer(status, headers={"Retry-After": "9"}))

        with pytest.raises(StoreError) as caught:
            await listing.models()
        assert not isinstance(caught.value, StoreUnusable)
        assert caught.value.retry_after == 9.0

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 410, 422])
    async def test_a_list_that_is_refused(self, listing: HTTPStore, bridge: FakeBridge, status: int) -> None:
        """The last answer is good no longer: a person has to mend it."""
        bridge.answers(Answer(status))

        with pytest.raises(StoreUnusable) as caught:
            await listing.models()
        assert caught.value.cause == ("auth" if status in (401, 403) else "config")
        named = "RUNNER_CONFIG_TOKEN" if status in (401, 403) else "RUNNER_CONFIG_URL or store.http.worklist_url"
        assert named in str(caught.value)

    @pytest.mark.parametrize(
        "changes",
        [{"provider": "other"}, {"schema_version": 2}, {"models": "groq-1"}, {"models": None}, {"model_metadata": []}],
    )
    async def test_an_answer_of_another_form(
        self, listing: HTTPStore, bridge: FakeBridge, changes: dict[str, Any]
    ) -> None:
        """Another provider's list, another version's, or none at all, is used for nothing."""
        bridge.answering = lambda received: Answer(body=worklist(received, **changes))

        with pytest.raises(StoreUnusable):
            await listing.models()

    async def test_one_key_for_both(self, bridge: FakeBridge) -> None:
        """Without a token the runner's key is shown to the server that has it anyway, and to no other."""
        bridge.answering = lambda received: Answer(body=worklist(received))
        store = HTTPStore(bridge.settings(worklist_url=f"{bridge.url}/runner-config", providers=("groq",)))
        await store.open()
        assert len(await store.models()) == 2
        assert bridge.requests[0].headers["authorization"] == f"Bearer {KEY}"
        await store.close()

        with fake_bridge() as other:
            elsewhere = HTTPStore(bridge.settings(worklist_url=other.url))
            with pytest.raises(StoreUnusable, match="'RUNNER_CONFIG_TOKEN' is not set") as caught:
                await elsewhere.open()
            assert caught.value.cause == "auth"
            assert other.requests == []
