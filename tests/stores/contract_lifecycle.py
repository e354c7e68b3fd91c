"""The part of the store contract about what is kept of models beside their runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, timezone
from typing import Any

import msgspec
import pytest

from llmbench.lifecycle import (
    RECORDS,
    CatalogEntry,
    DeprecationSnapshot,
    DiscoveryRun,
    Listed,
    Listing,
    ModelStatus,
    RecentMessage,
    Record,
    StatusMetrics,
)
from llmbench.stores.base import Store, Verdict
from tests.stores.documents import model, moment


def listing(*ids: str, minute: float = 0, **changes: Any) -> Listing:
    """Return a complete listing that took a minute."""
    whole = Listing(
        provider="openai",
        started_at=moment(minute),
        finished_at=moment(minute + 1),
        status="ok",
        pagination_complete=True,
        models=[Listed(model_id=one, raw={"id": one, "n": minute}) for one in ids],
        source_version="v1/models",
    )
    return msgspec.structs.replace(whole, **changes)


def entry(model_id: str = "gpt-4o-mini", **changes: Any) -> CatalogEntry:
    """Return an entry with every field set."""
    whole = CatalogEntry(
        provider="openai",
        model_id=model_id,
        first_seen_at=moment(-60),
        last_seen_at=moment(),
        in_our_db=True,
        raw={"id": model_id, "pricing": {"prompt": "0.1", "tiers": [1, 2.5, None]}},
        name="GPT-4o mini",
        chat=False,
        unfit_reason="it makes images",
    )
    return msgspec.structs.replace(whole, **changes)


def run(**changes: Any) -> DiscoveryRun:
    """Return a run with every field set."""
    whole = DiscoveryRun(
        provider="openai",
        started_at=moment(),
        finished_at=moment(1),
        status="failed",
        raw_count=9,
        accepted_count=7,
        new_count=2,
        pagination_complete=False,
        error="the second page did not come",
        source_version="v1/models",
    )
    return msgspec.structs.replace(whole, **changes)


def status(model_id: str = "gpt-4o-mini", **changes: Any) -> ModelStatus:
    """Return a status with every field set."""
    whole = ModelStatus(
        provider="openai",
        model_id=model_id,
        status="failing",
        confidence="high",
        reasons=["no success for 9 days"],
        recommended_actions=["disable it"],
        computed_at=moment(),
        metrics=StatusMetrics(
            last_success=moment(-9 * 1440),
            successes_7d=0,
            successes_30d=12,
            successes_120d=99,
            last_error=moment(-3),
            errors_7d=31,
            errors_30d=40,
            hard_failures_7d=30,
            hard_failures_30d=30,
            recent_messages=[RecentMessage(timestamp=moment(-3), message="no such model", kind="hard_model")],
        ),
        display_name="GPT-4o mini",
        created_at=moment(-90),
        last_updated=moment(1),
        last_run_at=moment(-3),
        catalog_state="missing",
    )
    return msgspec.structs.replace(whole, **changes)


def snapshot(model_id: str = "gpt-4o-mini", **changes: Any) -> DeprecationSnapshot:
    """Return a snapshot with every field set."""
    whole = DeprecationSnapshot(
        provider="openai",
        model_id=model_id,
        deprecation_date=moment(1440),
        stats={"by_day": [{"day": "2026-03-13", "mean": 51.5}]},
        created_at=moment(),
        provider_canonical="openai",
        model_canonical="gpt-4o-mini",
        display_name="GPT-4o mini",
        snapshot_mean=51.2,
        snapshot_p10=40.0,
        snapshot_p50=52.5,
        snapshot_p90=60.25,
        snapshot_period_start=moment(-30 * 1440),
        snapshot_period_end=moment(),
        successor_model="gpt-5-mini",
        sample_size=4321,
    )
    return msgspec.structs.replace(whole, **changes)


WHOLE: list[Record] = [entry(), run(), status(), snapshot()]
each_kind = pytest.mark.parametrize("record", WHOLE, ids=lambda record: type(record).__name__)


def statuses(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


class LifecycleContract:
    """Listings, entries of the catalogue, runs, statuses and snapshots."""

    # records

    @each_kind
    async def test_a_record_comes_back_whole(self, store: Store, second: Store, record: Record) -> None:
        """With every field, once, to others as well; put again, it is recognised."""
        assert None not in msgspec.structs.astuple(record)

        assert statuses(await store.put_records([record])) == ["stored"]
        assert await second.records(type(record)) == [record]
        assert statuses(await second.put_records([record, record])) == ["duplicate", "duplicate"]
        assert await store.records(type(record)) == [record]

    async def test_an_empty_store_has_no_records(self, store: Store) -> None:
        """Nothing is there, and to put nothing is no error."""
        assert await store.put_records([]) == []
        assert [await store.records(kind) for kind in RECORDS] == [[], [], [], []]

    async def test_records_are_found_by_name(self, store: Store) -> None:
        """By provider and model in any spelling; in the order of both, runs newest first; so many as are asked for."""
        names = [("openai", "o3"), ("groq", "qwen"), ("openai", "gpt-4o"), ("groq", "llama")]
        records: list[Record] = []
        for number, (provider, model_id) in enumerate(names):
            records += [entry(model_id, provider=provider), status(model_id, provider=provider)]
            records += [snapshot(model_id, provider=provider), run(provider=provider, started_at=moment(-number))]
        assert statuses(await store.put_records(records)) == ["stored"] * len(records)

        ordered = sorted(names)
        of_models: list[type[CatalogEntry | ModelStatus | DeprecationSnapshot]]
        of_models = [CatalogEntry, ModelStatus, DeprecationSnapshot]
        for kind in of_models:
            assert [(one.provider, one.model_id) for one in await store.records(kind)] == ordered
            assert [one.model_id for one in await store.records(kind, provider="GROQ")] == ["llama", "qwen"]
            [found] = await store.records(kind, provider="OpenAI", model_id="GPT-4o")
            assert found.model_id == "gpt-4o"
            assert [one.model_id for one in await store.records(kind, limit=2)] == ["llama", "qwen"]
            assert await store.records(kind, limit=0) == []
        runs = await store.records(DiscoveryRun)
        assert [one.started_at for one in runs] == [moment(-n) for n in range(4)]
        assert await store.records(DiscoveryRun, provider="Groq", limit=1) == [runs[1]]
        assert await store.records(DiscoveryRun, model_id="o3") == []

    async def test_two_spellings_are_one_model(self, store: Store) -> None:
        """The newer record holds, under its own spelling of the model."""
        newer = entry("GPT-4o", provider="OpenAI", last_seen_at=moment(5))
        later = status("GPT-4o", computed_at=moment(5), last_updated=moment(5))
        await store.put_records([entry("gpt-4o"), newer, status("gpt-4o"), later])

        [listed] = await store.records(CatalogEntry)
        [told] = await store.records(ModelStatus)
        assert (listed.provider, listed.model_id) == ("openai", "GPT-4o")
        assert told == later

    async def test_one_bad_record_keeps_no_other_out(self, store: Store) -> None:
        """It is refused in a sentence that says what is wrong."""
        naive = status(last_run_at=moment().replace(tzinfo=None))
        bad: list[Record] = [
            *(naive, entry("a", raw={"n": float("nan")}), entry("b", raw={"at": moment()})),
            *(entry(""), run(provider="")),
        ]

        verdicts = await store.put_records([*bad, entry(), snapshot()])

        assert statuses(verdicts) == [*["rejected"] * len(bad), "stored", "stored"]
        assert "last_run_at has no time zone" in (verdicts[0].reason or "")
        assert all(verdict.reason for verdict in verdicts[: len(bad)])
        assert await store.records(CatalogEntry) == [entry()]

    async def test_moments_are_kept_in_utc(self, store: Store) -> None:
        """A date of another zone is the same moment."""
        east = timezone(timedelta(hours=2))
        told = status(
            computed_at=moment().astimezone(east), metrics=StatusMetrics(last_error=moment().astimezone(east))
        )
        await store.put_records([told])

        [found] = await store.records(ModelStatus)
        assert (found.computed_at, found.metrics.last_error) == (moment(), moment())
        assert found.metrics.last_error is not None
        assert found.metrics.last_error.utcoffset() == timedelta()

    # listings

    async def test_a_listing_is_noted(self, store: Store) -> None:
        """Each model has an entry that says whether it is in our catalogue, in any spelling, enabled or not."""
        await store.put_model(model("GPT-4o", enabled=False))
        await store.put_model(model("o3", provider="other"))
        fit = Listed(model_id="gpt-4o", raw={"id": "gpt-4o"}, name="GPT-4o", chat=True)
        unfit = Listed(model_id="dall-e-3", raw={}, chat=False, unfit_reason="it makes images")
        told = listing(models=[fit, unfit, Listed(model_id="o3", raw={})])

        made = await store.put_listing(told)

        assert (made.run.raw_count, made.run.accepted_count, made.run.new_count, made.refused) == (3, 3, 3, [])
        assert (made.run.status, made.run.complete, made.run.source_version) == ("ok", True, "v1/models")
        assert await store.records(DiscoveryRun) == [made.run]
        entries = {one.model_id: one for one in await store.records(CatalogEntry, provider="openai")}
        assert entries["gpt-4o"] == CatalogEntry(
            provider="openai",
            model_id="gpt-4o",
            first_seen_at=moment(1),
            last_seen_at=moment(1),
            in_our_db=True,
            raw={"id": "gpt-4o"},
            name="GPT-4o",
            chat=True,
        )
        assert (entries["dall-e-3"].chat, entries["dall-e-3"].unfit_reason) == (False, "it makes images")
        assert [entries[one].in_our_db for one in ("dall-e-3", "o3")] == [False, False]

    async def test_the_same_listing_again_adds_nothing(self, store: Store, second: Store) -> None:
        """Nothing changes, and the answer is the first one."""
        first = await store.put_listing(listing("gpt-4o", "o3"))
        before = [await store.records(kind) for kind in RECORDS]

        assert await second.put_listing(listing("gpt-4o", "o3")) == first
        assert [await store.records(kind) for kind in RECORDS] == before

    async def test_a_later_listing(self, store: Store) -> None:
        """First sight is kept, last sight is raised, what the provider says now replaces what it said; new are the new.

        What it does not list any more stays as it was last seen.
        """
        await store.put_listing(listing("gone", "gpt-4o"))
        await store.put_model(model("gpt-4o"))

        made = await store.put_listing(listing("gpt-4o", "o3", minute=60))

        assert (made.run.raw_count, made.run.accepted_count, made.run.new_count) == (2, 2, 1)
        gone, seen, new = await store.records(CatalogEntry)
        assert (gone.first_seen_at, gone.last_seen_at, gone.raw["n"]) == (moment(1), moment(1), 0)
        assert (seen.first_seen_at, seen.last_seen_at, seen.raw["n"], seen.in_our_db) == (
            moment(1),
            moment(61),
            60,
            True,
        )
        assert (new.first_seen_at, new.last_seen_at) == (moment(61), moment(61))
        assert [one.started_at for one in await store.records(DiscoveryRun)] == [moment(60), moment()]

    async def test_an_earlier_listing_comes_late(self, store: Store) -> None:
        """It widens what was seen, and what the provider said later holds."""
        await store.put_listing(listing("gpt-4o", minute=60))
        await store.put_listing(listing("gpt-4o", minute=0))

        [seen] = await store.records(CatalogEntry)
        assert (seen.first_seen_at, seen.last_seen_at, seen.raw) == (moment(1), moment(61), {"id": "gpt-4o", "n": 60})

    async def test_a_listing_that_failed(self, store: Store) -> None:
        """Its run says why, what it did list is noted, and no entry suffers."""
        await store.put_listing(listing("gpt-4o", "o3"))
        failed = listing("o3", minute=60, status="failed", error="HTTP 500", pagination_complete=False)

        made = await store.put_listing(failed)

        assert (made.run.status, made.run.error, made.run.complete, made.run.raw_count) == (
            "failed",
            "HTTP 500",
            False,
            1,
        )
        assert [one.last_seen_at for one in await store.records(CatalogEntry)] == [moment(1), moment(61)]

    async def test_a_listing_without_models(self, store: Store) -> None:
        """There is a run, and nothing else."""
        made = await store.put_listing(listing(status="failed", error="no answer", pagination_complete=False))

        assert (made.run.raw_count, made.run.accepted_count, made.run.new_count) == (0, 0, 0)
        assert await store.records(CatalogEntry) == []

    async def test_a_model_that_can_not_be_stored(self, store: Store) -> None:
        """It is refused by its name, with a reason; the others and the run are stored. A repeat counts once."""
        models = [
            *(Listed(model_id="odd", raw={"n": float("inf")}), Listed(model_id="", raw={})),
            *(Listed(model_id="gpt-4o", raw={}), Listed(model_id="GPT-4o", raw={})),
        ]

        made = await store.put_listing(listing(models=models))

        assert [verdict.id for verdict in made.refused] == ["openai/odd", "openai/"]
        assert all(verdict.status == "rejected" and verdict.reason for verdict in made.refused)
        assert (made.run.raw_count, made.run.accepted_count, made.run.new_count) == (4, 1, 1)
        assert [one.model_id for one in await store.records(CatalogEntry)] == ["gpt-4o"]

    async def test_whatever_keys_a_provider_uses(self, store: Store) -> None:
        """Dollars, dots and empty keys come back as they are; a listing again replaces them."""
        said: list[dict[str, Any]] = [{"$gt": 1, "a.b": {"$set": {"c.": [{"": 2}]}}}, {"$expr": "$x", "a": {"b": 1}}]
        for minute, raw in enumerate(said):
            made = await store.put_listing(listing(minute=minute, models=[Listed(model_id="gpt-4o", raw=raw)]))
            assert made.refused == []
            [found] = await store.records(CatalogEntry)
            assert found.raw == raw

    async def test_a_listing_without_a_time_zone(self, store: Store) -> None:
        """It is refused, and nothing is stored."""
        with pytest.raises(ValueError, match="started_at has no time zone"):
            await store.put_listing(listing("gpt-4o", started_at=moment().replace(tzinfo=None)))

        assert [await store.records(kind) for kind in RECORDS] == [[], [], [], []]

    # statuses

    async def test_a_newer_status_replaces_the_older(self, store: Store) -> None:
        """All but the time when the first was made; what is not said any more goes; an older one changes nothing."""
        await store.put_records([status()])
        newer = status(
            status="active",
            computed_at=moment(9),
            metrics=StatusMetrics(successes_7d=4),
            reasons=[],
            display_name=None,
            created_at=None,
            last_updated=None,
        )

        assert statuses(await store.put_records([newer, status(computed_at=moment(8), reasons=["late"])])) == [
            "stored",
            "duplicate",
        ]
        held = msgspec.structs.replace(newer, created_at=moment(-90), last_updated=moment(9))
        assert await store.records(ModelStatus) == [held]

    async def test_a_status_knows_when_it_was_made(self, store: Store) -> None:
        """Where nobody says, it was when the first was computed."""
        await store.put_records([status(created_at=None, last_updated=None)])
        await store.put_records([status(created_at=None, computed_at=moment(5))])

        [found] = await store.records(ModelStatus)
        assert (found.created_at, found.last_updated) == (moment(), moment(5))

    # snapshots

    async def test_a_snapshot_is_never_overwritten(self, store: Store) -> None:
        """Another one of the same model and date is a conflict; of another date it is one more."""
        other = snapshot("GPT-4o-mini", snapshot_mean=1.0)
        again = snapshot("GPT-4O-MINI", created_at=moment(99))
        dated = snapshot(deprecation_date=moment(2880))

        verdicts = await store.put_records([snapshot(), other, again, dated])

        assert statuses(verdicts) == ["stored", "conflict", "duplicate", "stored"]
        assert "which was kept" in (verdicts[1].reason or "")
        assert await store.records(DeprecationSnapshot) == [snapshot(), dated]
