"""The part of the store contract about outcomes going in: once, whole, each on its own account, and counted."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbench.ids import new_outcome_id
from llmbench.messages import Failure, Outcome
from llmbench.stores.base import ErrorRollup, OutcomeQuery, Store, Verdict
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample

# The store is made once for all the examples of a test, on purpose: each example brings names of its own.
shares_the_store = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = itertools.count()


def fresh(name: str) -> str:
    """Return a name that no other example uses."""
    return f"{name}-{next(numbers)}"


def statuses(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


async def everything(store: Store) -> list[Outcome]:
    return await store.outcomes(OutcomeQuery())


class PutContract:
    """Outcomes go in once, whole, each on its own account."""

    async def test_sample_comes_back_whole(self, store: Store) -> None:
        """A sample with every field set reads back equal, nothing lost and nothing rounded."""
        stored = sample()
        assert None not in msgspec.structs.astuple(stored)

        [verdict] = await store.put([envelope(stored)])

        assert verdict == Verdict(stored.id, "stored")
        assert await everything(store) == [stored]

    async def test_failure_comes_back_whole(self, store: Store) -> None:
        """A failure with every field set reads back equal."""
        stored = failure()
        assert None not in msgspec.structs.astuple(stored)

        [verdict] = await store.put([envelope(stored)])

        assert verdict == Verdict(stored.id, "stored")
        assert await everything(store) == [stored]

    async def test_null_stays_null(self, store: Store) -> None:
        """What was not measured reads back as null, never as 0, and what is unknown stays unknown."""
        stored = sample(
            time_to_first_token=None, ttft_available=False, temperature=None, times_between_tokens=[], cost_usd=None
        )

        await store.put([envelope(stored)])

        assert await everything(store) == [stored]

    async def test_empty_batch(self, store: Store) -> None:
        """An empty batch is answered with no verdicts."""
        assert await store.put([]) == []

    async def test_verdicts_in_order(self, store: Store) -> None:
        """A batch is answered by one verdict for each item, in the batch's order."""
        outcomes = [sample(run_ts=moment(n)) if n % 2 else failure(run_ts=moment(n)) for n in range(100)]

        verdicts = await store.put(envelopes(*outcomes))

        assert verdicts == [Verdict(outcome.id, "stored") for outcome in outcomes]
        assert await everything(store) == outcomes[::-1]

    async def test_repeat_is_a_duplicate(self, store: Store) -> None:
        """The same outcome again, later or in the same batch, is acknowledged as a duplicate and stored once."""
        once, twice = sample(), failure()

        first = await store.put(envelopes(once, twice, twice))
        again = await store.put(envelopes(twice, once))

        assert statuses(first) == ["stored", "stored", "duplicate"]
        assert statuses(again) == ["duplicate", "duplicate"]
        assert len(await everything(store)) == 2

    async def test_repeat_from_a_spool_is_a_duplicate(self, store: Store) -> None:
        """An outcome that went through JSON is the same one: 0 for 0.0, or keys in another order, is no change."""
        made = sample(temperature=0, misc={"b": 1, "a": {"d": 1, "c": 2}})
        spooled = msgspec.structs.replace(made, temperature=0.0, misc={"a": {"c": 2, "d": 1}, "b": 1})

        assert statuses(await store.put(envelopes(made, spooled))) == ["stored", "duplicate"]

    @pytest.mark.parametrize("make", [sample, failure])
    async def test_dates_of_another_offset(self, store: Store, make: Callable[..., Outcome]) -> None:
        """Dates are stored as UTC: a repeat is known by them, in whatever offset it tells them."""
        india = timezone(timedelta(hours=5, minutes=30))
        utc = make()
        names = [name for name in utc.__struct_fields__ if isinstance(getattr(utc, name), datetime)]
        local = msgspec.structs.replace(utc, **{name: getattr(utc, name).astimezone(india) for name in names})

        assert statuses(await store.put(envelopes(local))) == ["stored"]
        assert statuses(await store.put(envelopes(local, utc))) == ["duplicate", "duplicate"]
        [stored] = await everything(store)
        assert stored == utc
        assert all(getattr(stored, name).utcoffset() == timedelta() for name in names)

    @pytest.mark.parametrize(
        "beyond",
        [
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
        ],
    )
    async def test_date_without_utc(self, store: Store, beyond: datetime) -> None:
        """A date that UTC has no year for is refused, and nothing is stored."""
        assert statuses(await store.put(envelopes(sample(gen_ts=beyond)))) == ["rejected"]
        assert await everything(store) == []

    async def test_other_content_is_a_conflict(self, store: Store) -> None:
        """An id that is stored with other content is refused with a reason, and the first content stays."""
        kept = sample()
        await store.put([envelope(kept)])

        [verdict] = await store.put([envelope(sample(id=kept.id, generate_time=9.0))])

        assert verdict.status == "conflict"
        assert not verdict.acknowledged
        assert kept.id in (verdict.reason or "")
        assert await everything(store) == [kept]

    @pytest.mark.parametrize("first", [sample, failure])
    async def test_other_kind_is_a_conflict(self, store: Store, first: Callable[..., Outcome]) -> None:
        """A sample and a failure can't share an id, whichever came first; a refused failure isn't counted either."""
        kept = first()
        await store.put([envelope(kept)])
        counted = await store.rollups()
        other = failure(id=kept.id) if first is sample else sample(id=kept.id)

        assert statuses(await store.put([envelope(other)])) == ["conflict"]
        assert await everything(store) == [kept]
        assert await store.rollups() == counted

    async def test_all_kinds_of_conflicts_in_one_batch(self, store: Store) -> None:
        """Known ids come again as another kind or as they were, among new ones: each has its own verdict."""
        kept: list[Outcome] = [sample(), failure(), sample(sample_role="bench")]
        await store.put([envelope(one, publish=one is not kept[2]) for one in kept])
        counted = await store.rollups()
        again: list[Outcome] = [sample(id=kept[1].id), failure(id=kept[0].id), failure(id=kept[2].id), *kept]
        new: list[Outcome] = [sample(), failure()]

        verdicts = await store.put([envelope(one) for one in (again[0], new[0], *again[1:], new[1])])

        assert statuses(verdicts) == ["conflict", "stored", "conflict", "conflict", *["duplicate"] * 3, "stored"]
        assert {one.id for one in await everything(store)} == {one.id for one in (*kept, *new)}
        assert await store.rollups() != counted

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        ("field", "place"),
        [
            ("time_to_first_token", lambda number: number),
            ("generate_time", lambda number: number),
            ("times_between_tokens", lambda number: [0.01, number]),
            ("misc", lambda number: {"deep": [{"down": number}]}),
        ],
    )
    async def test_no_finite_number_is_rejected(
        self, store: Store, number: float, field: str, place: Callable[[float], Any]
    ) -> None:
        """NaN and infinity are refused wherever they are, by name of the field; they never turn into null."""
        [verdict] = await store.put([envelope(sample(**{field: place(number)}))])

        assert verdict.status == "rejected"
        assert field in (verdict.reason or "")
        assert await everything(store) == []

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(sample(generate_time=None), id="null where a number must be"),
            pytest.param(sample(model_name="lone \ud800 surrogate"), id="not UTF-8"),
            pytest.param(sample(outcome="splendid"), id="unknown word"),
            pytest.param(sample(output_tokens=2**80), id="integer beyond 64 bits"),
            pytest.param(sample(misc={"what": object()}), id="no JSON type"),
            pytest.param(sample(misc={1: "key that is no string"}), id="key that is no string"),
            pytest.param(failure(ts=datetime(2026, 3, 14)), id="no time zone"),  # noqa: DTZ001 - the point of the case
        ],
    )
    async def test_bad_item_keeps_none_out(self, store: Store, bad: Outcome) -> None:
        """A document that nobody could read back is rejected with a reason; the others of its batch are stored."""
        good = [sample(run_ts=moment(n)) for n in range(4)]

        verdicts = await store.put(envelopes(good[0], good[1], bad, good[2], good[3]))

        assert statuses(verdicts) == ["stored", "stored", "rejected", "stored", "stored"]
        assert verdicts[2].reason
        assert await everything(store) == good[::-1]
        assert await store.rollups() == []

    async def test_overlapping_puts_store_once(self, store: Store) -> None:
        """The same batch put by several tasks at once is stored by one of them."""
        batch = envelopes(*(sample(run_ts=moment(n)) for n in range(20)))
        counts: Counter[str] = Counter()

        async def put() -> None:
            counts.update(statuses(await store.put(batch)))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(put)

        assert counts == {"stored": 20, "duplicate": 80}
        assert len(await everything(store)) == 20

    async def test_cancelled_put_is_whole_or_nothing(self, store: Store) -> None:
        """A put that is cancelled may have stored its batch or not, but never a part; its repeat is acknowledged."""
        batch = envelopes(*(failure(run_ts=moment(n)) for n in range(50)))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(store.put, batch)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()

        assert len(await everything(store)) in (0, 50)
        assert all(verdict.acknowledged for verdict in await store.put(batch))
        assert [rollup.count for rollup in await store.rollups()] == [50]

    async def test_second_store_sees_what_the_first_stored(self, store: Store, second: Store) -> None:
        """Two stores on one place share outcomes, counts and identity."""
        shared, own = failure(run_ts=moment(1)), failure(run_ts=moment(2))
        await store.put([envelope(shared)])

        assert statuses(await second.put(envelopes(shared, own))) == ["duplicate", "stored"]
        assert await everything(store) == await everything(second) == [own, shared]
        assert [rollup.count for rollup in await store.rollups()] == [2]

    async def test_reopened_store_has_everything(self, store: Store, second: Store) -> None:
        """Outcomes, models and counts outlive the store object that stored them."""
        stored, catalogued = failure(), await store.add_model(model())
        await store.put([envelope(stored)])
        await store.close()

        assert await everything(second) == [stored]
        assert await second.models() == [catalogued]
        assert [rollup.count for rollup in await second.rollups()] == [1]

    @shares_the_store
    @given(
        batches=st.lists(
            st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["sample", "failure", "other", "bad"])), max_size=8),
            max_size=6,
        )
    )
    async def test_any_sequence_of_puts(self, store: Store, batches: list[list[tuple[int, str]]]) -> None:
        """Whatever is put, in whatever order and however often, the store holds the first good content of each id."""
        provider = fresh("provider")
        ids = [new_outcome_id() for _ in range(6)]
        contents = {
            (slot, variant): _variant(variant, id=ids[slot], provider=provider, run_ts=moment(slot))
            for slot, variant in itertools.product(range(6), ["sample", "failure", "other", "bad"])
        }
        held: dict[int, str] = {}

        for batch in batches:
            expected = [_expected(held, slot, variant) for slot, variant in batch]
            verdicts = await store.put([envelope(contents[item]) for item in batch])
            assert list(zip([ids[slot] for slot, _ in batch], expected, strict=True)) == [
                (verdict.id, verdict.status) for verdict in verdicts
            ]

        found = await store.outcomes(OutcomeQuery(provider=provider))
        assert [contents[slot, held[slot]] for slot in sorted(held, reverse=True)] == found
        failures = list(held.values()).count("failure")
        counted = [rollup.count for rollup in await store.rollups() if rollup.provider == provider]
        assert counted == ([failures] if failures else [])


def _variant(variant: str, **changes: Any) -> Outcome:
    if variant == "failure":
        return failure(**changes)
    generate_time = {"sample": 1.0, "other": 2.0, "bad": math.nan}[variant]
    return sample(**changes, generate_time=generate_time)


def _expected(held: dict[int, str], slot: int, variant: str) -> str:
    if variant == "bad":
        return "rejected"
    if slot not in held:
        held[slot] = variant
        return "stored"
    return "duplicate" if held[slot] == variant else "conflict"


class RollupContract:
    """Failures are counted by fingerprint, in the same transaction as they are stored."""

    async def test_first_failure_makes_a_rollup(self, store: Store) -> None:
        """The first failure of a fingerprint makes its rollup, seen when the failure happened."""
        first = failure()
        await store.put([envelope(first)])

        assert await store.rollups() == [
            ErrorRollup(
                fingerprint=first.fingerprint,
                provider=first.provider,
                model_name=first.model_name,
                stage=first.stage,
                error_kind=first.error_kind,
                first_seen=first.ts,
                last_seen=first.ts,
                count=1,
                sample_messages=[first.message],
            )
        ]

    async def test_repeats_count_once(self, store: Store) -> None:
        """Each failure counts once, however often it is delivered."""
        failures = [failure(run_ts=moment(n)) for n in range(3)]
        for _ in range(3):
            await store.put(envelopes(*failures, *failures))

        [rollup] = await store.rollups()
        assert rollup.count == 3

    async def test_late_failure_moves_no_time_the_wrong_way(self, store: Store) -> None:
        """Failures that arrive out of order leave the first and last time seen at the earliest and the latest."""
        failures = {minute: failure(run_ts=moment(minute)) for minute in (10, 30, 0, 20)}
        for late in failures.values():
            await store.put([envelope(late)])

        [rollup] = await store.rollups()
        assert (rollup.first_seen, rollup.last_seen) == (failures[0].ts, failures[30].ts)

    async def test_three_different_messages_are_kept(self, store: Store) -> None:
        """A rollup keeps the first three different messages, in the order in which they came."""
        messages = ["first", "second", "first", "third", "second", "fourth"]
        await store.put(envelopes(*(failure(message=message) for message in messages)))

        [rollup] = await store.rollups()
        assert rollup.sample_messages == ["first", "second", "third"]
        assert rollup.count == 6

    async def test_most_frequent_first(self, store: Store) -> None:
        """Rollups come most frequent first, one for each fingerprint."""
        counts = {"one": 1, "three": 3, "two": 2}
        await store.put(envelopes(*(failure(model_name=name) for name, count in counts.items() for _ in range(count))))

        assert [(rollup.model_name, rollup.count) for rollup in await store.rollups()] == [
            ("three", 3),
            ("two", 2),
            ("one", 1),
        ]

    async def test_since_goes_by_the_last_time_seen(self, store: Store) -> None:
        """A rollup belongs to the answer if it was last seen at or after the time that is asked for."""
        failures: dict[str, Failure] = {
            name: failure(model_name=name, run_ts=moment(minute)) for name, minute in {"old": 0, "new": 60}.items()
        }
        await store.put(envelopes(*failures.values()))

        names = [rollup.model_name for rollup in await store.rollups(since=failures["new"].ts)]
        assert names == ["new"]
        assert len(await store.rollups(since=failures["old"].ts)) == 2
        assert await store.rollups(since=moment(120)) == []
