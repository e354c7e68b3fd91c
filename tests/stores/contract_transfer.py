"""The part of the store contract about moving everything from one store to another."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from llmbench.messages import Envelope
from llmbench.stores.base import PARTS, ErrorRollup, Part, Store
from tests.stores.contract_models import full
from tests.stores.documents import envelope, failure, model, moment, sample


def rollup(**changes: Any) -> ErrorRollup:
    whole = ErrorRollup(
        fingerprint="f" * 64,
        provider="groq",
        model_name="llama-3",
        stage="generate",
        error_kind="timeout",
        first_seen=moment(-10),
        last_seen=moment(),
        count=7,
        sample_messages=["slow", "slower"],
    )
    return msgspec.structs.replace(whole, **changes)


async def everything(store: Store, part: Part, size: int) -> list[Envelope]:
    """Return a part, page by page; no page may be longer than was asked for, nor may the walk be endless."""
    found: list[Envelope] = []
    after = None
    for _ in range(100):
        page = await store.page(part, after=after, size=size)
        assert len(page.items) <= size
        found += page.items
        after = page.next
        if after is None:
            return found
    raise AssertionError("there is always another page")


class TransferContract:
    """Pages of outcomes, counts, rows and rollups as they are."""

    async def test_an_empty_store(self, store: Store) -> None:
        """Every part has one page without anything on it."""
        for part in PARTS:
            page = await store.page(part, size=5)
            assert (page.items, page.next) == ([], None)
        assert await store.counts() == dict.fromkeys(PARTS, 0)

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    async def test_pages_have_everything_once(self, store: Store, size: int) -> None:
        """Whatever the size of a page, all outcomes of a part come by, whole, once, and none of another part."""
        published = [envelope(sample(run_ts=moment(n))) for n in range(4)]
        probes = [envelope(sample(run_ts=moment(n), sample_role="bench"), publish=False) for n in range(3)]
        failures = [envelope(failure(run_ts=moment(n))) for n in range(2)]
        # What was stored last is not what comes last: ids decide.
        await store.put([*reversed(failures), *reversed(probes), *reversed(published)])

        assert await everything(store, "samples", size) == published
        assert await everything(store, "probes", size) == probes
        assert await everything(store, "failures", size) == failures
        assert await store.counts() == {"samples": 4, "probes": 3, "failures": 2}

    async def test_a_row_is_put_as_it_is(self, store: Store) -> None:
        """A disabled row stays disabled and keeps every field; put again, it is in its own place."""
        row = full()

        assert await store.put_model(row) is None
        assert await store.models() == [row]
        assert await store.put_model(row) == row
        assert await store.models() == [row]

    async def test_what_is_there_stays_as_it_is(self, store: Store) -> None:
        """A row of the same spelling is not changed, neither enabled nor disabled."""
        disabled = await store.add_model(full("gpt-4o"))
        enabled = await store.add_model(model("o3", notes="first"))

        assert await store.put_model(model("gpt-4o")) == disabled
        assert await store.put_model(full("o3")) == enabled
        assert await store.models() == [disabled, enabled]

    async def test_spellings_of_a_model(self, store: Store) -> None:
        """Disabled rows of other spellings have their own places; two enabled ones are one model."""
        enabled = await store.add_model(model("gpt-4o"))

        assert await store.put_model(full("GPT-4O")) is None
        assert await store.put_model(model("Gpt-4o")) == enabled
        assert Counter(row.model_id for row in await store.models()) == {"gpt-4o": 1, "GPT-4O": 1}
        assert await store.model("openai", "GPT-4O") == enabled

    async def test_a_row_that_can_not_be_stored(self, store: Store) -> None:
        """It is refused, and nothing is stored."""
        with pytest.raises(ValueError, match="created_at"):
            await store.put_model(model(created_at=moment().replace(tzinfo=None)))

        assert await store.models() == []

    async def test_a_rollup_is_put_once(self, store: Store) -> None:
        """It comes back whole, and the second time nothing changes."""
        assert await store.put_rollup(rollup()) is True
        assert await store.put_rollup(rollup()) is False
        assert await store.rollups() == [rollup()]

    async def test_a_rollup_joins_what_was_counted(self, store: Store) -> None:
        """The greater count, the wider span, the earlier one's messages first, three at most; and counting goes on."""
        failed = [failure(run_ts=moment(n), message=f"m{n}", normalized_message="m") for n in range(3)]
        await store.put([envelope(one) for one in failed[:2]])
        [counted] = await store.rollups()
        told = msgspec.structs.replace(
            counted, count=40, first_seen=moment(-99), last_seen=moment(-50), sample_messages=["a", "m0"]
        )

        assert await store.put_rollup(told) is True
        assert await store.put_rollup(told) is False
        joined = msgspec.structs.replace(told, last_seen=counted.last_seen, sample_messages=["a", "m0", "m1"])
        assert await store.rollups() == [joined]

        await store.put([envelope(failed[2])])
        [counted_on] = await store.rollups()
        assert (counted_on.count, counted_on.last_seen) == (41, failed[2].ts)

    async def test_a_lesser_rollup_changes_nothing(self, store: Store) -> None:
        """What is told already is not told again."""
        await store.put_rollup(rollup())
        within = timedelta(minutes=1)
        lesser = rollup(count=3, first_seen=moment(-10) + within, last_seen=moment() - within, sample_messages=["slow"])

        assert await store.put_rollup(lesser) is False
        assert await store.rollups() == [rollup()]
