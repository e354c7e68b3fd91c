"""The part of the store contract about the model catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from llmbench.messages import Model
from llmbench.stores.base import ModelExists, Store, UnknownModel
from tests.stores.documents import envelope, model, moment, sample


def full(model_id: str = "gpt-4o-mini") -> Model:
    """Return a disabled model with every field set."""
    return Model(
        provider="openai",
        model_id=model_id,
        enabled=False,
        deprecated=True,
        created_at=moment(-9),
        display_name="GPT-4o mini",
        disabled_reason="404 for three days",
        disabled_at=moment(-3),
        disabled_by="lifecycle",
        disabled_class="hard_model",
        recheck_after=moment(60),
        deprecation_date="2026-04-01",
        successor_model="gpt-5-mini",
        deprecation_reason="announced",
        imported_from="openrouter",
        canonical_id="openai/gpt-4o-mini",
        status="monitor",
        source="discovery",
        profile="reasoning-512",
        notes="asked for by the web team",
        region="us-east-1",
        request={"top_p": 0.5, "provider": {"order": ["a", "b"]}},
    )


class ModelsContract:
    """The catalogue: never two enabled models of one name, and no row is ever lost."""

    async def test_model_comes_back_whole(self, store: Store) -> None:
        """A model with every field set reads back equal."""
        added = full()
        assert None not in msgspec.structs.astuple(added)

        assert await store.add_model(added) == added
        assert await store.models() == [added]
        assert await store.model("openai", "gpt-4o-mini") == added

    async def test_ordered_by_provider_then_id(self, store: Store) -> None:
        """The catalogue is ordered by provider, then model id."""
        names = [("openai", "o3"), ("groq", "qwen-3"), ("openai", "gpt-4o"), ("groq", "llama-3")]
        for provider, model_id in names:
            await store.add_model(model(model_id, provider=provider))

        assert [(found.provider, found.model_id) for found in await store.models()] == sorted(names)

    async def test_parts_of_the_catalogue(self, store: Store) -> None:
        """The catalogue can be asked for one provider, for enabled or disabled models, and for both."""
        for provider in ("openai", "groq"):
            await store.add_model(model("on", provider=provider))
            await store.add_model(model("off", provider=provider))
            await store.disable_model(provider, "off", reason="gone", by="operator", at=moment())

        async def names(provider: str | None, enabled: bool | None) -> list[str]:
            found = await store.models(provider=provider, enabled=enabled)
            return [f"{one.provider}/{one.model_id}" for one in found]

        assert await names("groq", None) == ["groq/off", "groq/on"]
        assert await names(None, True) == ["groq/on", "openai/on"]
        assert await names("openai", False) == ["openai/off"]
        assert await names("absent", None) == []

    async def test_enabled_model_is_not_added_again(self, store: Store) -> None:
        """Adding an enabled model again, in whatever spelling, raises `ModelExists` with the one that is there."""
        added = await store.add_model(model("gpt-4o", notes="first"))

        with pytest.raises(ModelExists) as caught:
            await store.add_model(model("GPT-4o", notes="second"))

        assert caught.value.existing == added
        assert await store.models() == [added]

    async def test_same_id_at_another_provider(self, store: Store) -> None:
        """The same id at two providers is two models."""
        await store.add_model(model("llama-3", provider="groq"))
        await store.add_model(model("llama-3", provider="together"))

        assert [found.provider for found in await store.models()] == ["groq", "together"]

    async def test_overlapping_adds(self, store: Store, second: Store) -> None:
        """Of several that add one model at the same time, one succeeds and the others learn that it exists."""
        results: list[str] = []

        async def add(through: Store, spelling: str) -> None:
            try:
                await through.add_model(model(spelling))
                results.append("added")
            except ModelExists:
                results.append("exists")

        async with anyio.create_task_group() as group:
            for through, spelling in zip([store, second] * 3, ["o3", "O3", "o3", "O3", "o3", "O3"], strict=True):
                group.start_soon(add, through, spelling)

        assert sorted(results) == ["added"] + ["exists"] * 5
        assert len(await store.models(enabled=True)) == 1

    async def test_seeding_adds_what_is_absent(self, store: Store) -> None:
        """Of the models to seed, those without a row are added as they are, each once; the same again adds none."""
        seeds = [model("o3"), model("gpt-4o"), model("O3"), model("o3", provider="other")]

        assert await store.seed_models(seeds) == [seeds[0], seeds[1], seeds[3]]
        assert await store.models() == [seeds[1], seeds[0], seeds[3]]
        assert await store.seed_models(seeds) == []
        assert await store.seed_models([]) == []

    @pytest.mark.parametrize("enabled", [True, False])
    async def test_seeding_leaves_every_row_that_is_there(self, store: Store, enabled: bool) -> None:
        """A row in whatever spelling of provider and id stays as it is, and nothing is added beside it."""
        there = [
            model("GPT-4o", provider="OpenAI", enabled=enabled, notes="kept"),
            model("MODÈLE", provider="ÉTÉ", enabled=enabled),
        ]
        for one in there:
            assert await store.put_model(one) is None

        assert await store.seed_models([model("gpt-4o"), model("modèle", provider="été")]) == []
        assert sorted(await store.models(), key=lambda one: one.model_id) == there

    async def test_overlapping_seeds(self, store: Store, second: Store) -> None:
        """Of two programs that seed the same models at the same time, one adds each of them."""
        added: list[str] = []

        async def seed(through: Store, spelled: Callable[[str], str]) -> None:
            found = await through.seed_models([model(spelled(f"model-{number}")) for number in range(40)])
            added.extend(one.model_id.lower() for one in found)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(seed, store, str.lower)
                group.start_soon(seed, second, str.upper)

        assert sorted(added) == sorted(f"model-{number}" for number in range(40))
        assert len(await store.models()) == 40

    async def test_model_with_nan_is_refused(self, store: Store) -> None:
        """A model that could not be read back as it was is refused, and nothing is stored."""
        with pytest.raises(ValueError, match="request"):
            await store.add_model(model(request={"temperature": math.nan}))

        assert await store.models() == []

    async def test_disabling_keeps_the_row(self, store: Store) -> None:
        """Disabling sets the reason, the time and who, and leaves all else."""
        added = await store.add_model(model("gpt-4o", notes="kept", request={"top_p": 1.0}))

        disabled = await store.disable_model("openai", "GPT-4O", reason="too dear", by="operator", at=moment(1))

        assert disabled == msgspec.structs.replace(
            added, enabled=False, disabled_reason="too dear", disabled_by="operator", disabled_at=moment(1)
        )
        assert await store.models() == [disabled]

    async def test_disabling_again_takes_the_new_reason(self, store: Store) -> None:
        """The last reason counts; what belonged to an earlier one goes with it."""
        await store.add_model(full())

        disabled = await store.disable_model("openai", "gpt-4o-mini", reason="too dear", by="operator", at=moment(1))

        assert (disabled.disabled_reason, disabled.disabled_at) == ("too dear", moment(1))
        assert (disabled.disabled_class, disabled.recheck_after) == (None, None)

    async def test_enabling_clears_why_it_was_disabled(self, store: Store) -> None:
        """Enabling removes what said why the model was disabled and when to look again, and leaves all else."""
        before = await store.add_model(full())

        enabled = await store.enable_model("openai", "GPT-4o-mini")

        assert enabled == msgspec.structs.replace(
            before,
            enabled=True,
            disabled_reason=None,
            disabled_at=None,
            disabled_by=None,
            disabled_class=None,
            recheck_after=None,
        )
        assert await store.models() == [enabled]

    async def test_enabling_an_enabled_model(self, store: Store) -> None:
        """Enabling an enabled model is no error and changes nothing."""
        added = await store.add_model(model("o3"))

        assert await store.enable_model("openai", "o3") == added
        assert await store.models() == [added]

    async def test_changing_sets_the_fields_that_are_named(self, store: Store) -> None:
        """Those fields get the new values, None takes one away, and all else stays; a disabled row stays disabled."""
        before = await store.add_model(full())

        changed = await store.change_model(
            "openai", "GPT-4o-mini", profile="reasoning", region=None, request={"a": [1]}
        )

        assert changed == msgspec.structs.replace(before, profile="reasoning", region=None, request={"a": [1]})
        assert await store.models() == [changed]

    async def test_changing_again_changes_nothing(self, store: Store) -> None:
        """The same change twice, or none at all, leaves the row as it is."""
        await store.add_model(model("o3"))
        changed = await store.change_model("openai", "o3", profile="mine", notes="asked for")

        assert await store.change_model("openai", "o3", profile="mine", notes="asked for") == changed
        assert await store.change_model("openai", "o3") == changed
        assert await store.models() == [changed]

    @pytest.mark.parametrize("field", ["enabled", "model_id", "disabled_reason", "color"])
    async def test_other_fields_can_not_be_changed(self, store: Store, field: str) -> None:
        """What names a row, its state, and what is no field at all raise `TypeError`, and nothing is stored."""
        before = await store.add_model(model("o3"))
        change: Any = {field: None, "profile": "mine"}

        with pytest.raises(TypeError, match=field):
            await store.change_model("openai", "o3", **change)

        assert await store.models() == [before]

    async def test_change_with_nan_is_refused(self, store: Store) -> None:
        """A change after which the row could not be read back as it was is refused, and nothing is stored."""
        before = await store.add_model(model("o3"))

        with pytest.raises(ValueError, match="request"):
            await store.change_model("openai", "o3", request={"temperature": math.nan})

        assert await store.models() == [before]

    async def test_adding_a_disabled_model_enables_its_row(self, store: Store) -> None:
        """A disabled row of the id comes back with its past, in the new spelling; what the new one says is said."""
        before = await store.add_model(full())
        await store.put([envelope(sample(model_name="gpt-4o-mini"))])

        added = await store.add_model(model("GPT-4o-mini", notes="wanted again", created_at=moment(100)))

        assert added == msgspec.structs.replace(
            before,
            model_id="GPT-4o-mini",
            enabled=True,
            deprecated=False,
            notes="wanted again",
            disabled_reason=None,
            disabled_at=None,
            disabled_by=None,
            disabled_class=None,
            recheck_after=None,
        )
        assert await store.models() == [added]
        assert len(await store.history()) == 1

    async def test_unknown_model_names_similar_ones(self, store: Store) -> None:
        """What is asked of an unknown model raises `UnknownModel`, with that provider's near matches, best first."""
        for model_id in ("gpt-4o", "GPT-4o-mini", "o3"):
            await store.add_model(model(model_id))
        await store.add_model(model("gpt-4o-maxi", provider="other"))

        calls = (
            store.model("openai", "gpt-4o-minni"),
            store.enable_model("openai", "gpt-4o-minni"),
            store.disable_model("openai", "gpt-4o-minni", reason="", by="", at=moment()),
            store.change_model("openai", "gpt-4o-minni", profile="mine"),
        )
        for call in calls:
            with pytest.raises(UnknownModel) as caught:
                await call
            assert caught.value.similar == ("GPT-4o-mini", "gpt-4o")

    async def test_unknown_provider_has_nothing_similar(self, store: Store) -> None:
        """A model of an unknown provider is unknown, without suggestions from elsewhere."""
        await store.add_model(model("o3"))

        with pytest.raises(UnknownModel) as caught:
            await store.model("opnai", "o3")

        assert caught.value.similar == ()
