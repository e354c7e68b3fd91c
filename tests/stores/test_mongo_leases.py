"""Leases on a real server: who gets them, for how long, and what is left of a runner that dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from pymongo import MongoClient

from llmbench.ids import new_outcome_id
from llmbench.stores.base import StoreError
from llmbench.stores.leases import Answer, Claim, Ended, Granted, LeaseKey, Leases, Measured, Unanswered, Withheld
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits
from tests.stores.documents import envelope, failure, sample
from tests.stores.mongod import Mongod, replica_set

KEY = LeaseKey("openai", "gpt-4o-mini")
TERM = 30.0
FRESH = 3600.0


@pytest.fixture(scope="session")
def mongod(
    request: pytest.FixtureRequest, mongod: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mongod]:
    """The server that all tests share, unless a test asks for a replica set of one."""
    if getattr(request, "param", "standalone") == "standalone":
        yield mongod
        return
    with replica_set(tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture(scope="session")
def client(mongod: Mongod) -> Iterator[MongoClient[dict[str, Any]]]:
    """Another program's connection to this server, which that of other tests may not be."""
    with MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        yield client


on_both = pytest.mark.parametrize("mongod", ["standalone", "replica set"], indirect=True)


@pytest.fixture
def store(mongo: MongoStore) -> MongoStore:
    return mongo


@pytest.fixture
async def other(emptied_address: Address, store: MongoStore) -> AsyncIterator[MongoStore]:
    """The store of another process, on the same database."""
    other = MongoStore(emptied_address)
    await other.open()
    yield other
    await other.close()


@pytest.fixture
def here(store: MongoStore) -> Leases:
    return store.leases("here", TERM)


@pytest.fixture
def there(other: MongoStore) -> Leases:
    return other.leases("there", TERM)


async def ask(leases: Leases, key: LeaseKey = KEY, fresh: float = FRESH, outcome: str = "") -> Answer:
    [answer] = await leases.claim([Claim(key=key, outcome_id=outcome or new_outcome_id())], fresh=fresh)
    return answer


async def granted(leases: Leases, key: LeaseKey = KEY, fresh: float = FRESH, outcome: str = "") -> Granted:
    answer = await ask(leases, key, fresh, outcome)
    assert isinstance(answer, Granted), answer
    return answer


async def withheld(leases: Leases, key: LeaseKey = KEY, fresh: float = FRESH) -> Withheld:
    answer = await ask(leases, key, fresh)
    assert isinstance(answer, Withheld), answer
    return answer


@on_both
class TestOneHolder:
    """At most one runner has a lease."""

    async def test_a_lease_that_is_held_is_withheld_from_others(self, here: Leases, there: Leases) -> None:
        """They learn who has it, and when to ask again."""
        await granted(here)
        answer = await withheld(there)

        assert (answer.reason, answer.runner) == ("held", "here")
        assert 0 < answer.seconds <= TERM

    async def test_runners_of_the_same_id_share_no_leases(self, here: Leases, other: MongoStore) -> None:
        """A host's name is the id of every runner on it; each process is a holder of its own."""
        await granted(here)

        assert (await withheld(other.leases("here", TERM))).reason == "held"

    async def test_its_holder_is_granted_it_anew(self, here: Leases) -> None:
        """So a claim of which the answer was lost can be repeated."""
        first, second = await granted(here), await granted(here)

        assert second.token > first.token
        assert second.taken_from in (None, "here")

    async def test_regions_have_leases_of_their_own(self, here: Leases, there: Leases) -> None:
        """The same model can be measured in each; a region's success does not make it fresh in another."""
        east, west = LeaseKey("openai", "o3", "east"), LeaseKey("openai", "o3", "west")
        lease = await granted(here, east)
        await here.release([Ended(lease=lease, result="succeeded")])

        assert (await withheld(there, east)).reason == "fresh"
        assert isinstance(await ask(there, west), Granted)

    async def test_of_many_that_ask_at_once_one_gets_each_lease(self, here: Leases, there: Leases) -> None:
        """Four tasks of each of two clients ask for the same twenty models: every model is granted to one client."""
        claims = [
            [Claim(key=LeaseKey("openai", f"m{number}"), outcome_id=new_outcome_id()) for number in range(20)]
            for _ in range(8)
        ]
        answers: dict[str, list[Answer]] = {"here": [], "there": []}

        async def race(name: str, leases: Leases, wanted: Sequence[Claim]) -> None:
            answers[name] += await leases.claim(wanted, fresh=FRESH)

        async with anyio.create_task_group() as group:
            for number, wanted in enumerate(claims):
                group.start_soon(race, *(("here", here) if number % 2 else ("there", there)), wanted)
        winners = {name: {answer.key for answer in got if isinstance(answer, Granted)} for name, got in answers.items()}

        assert not winners["here"] & winners["there"]
        assert len(winners["here"] | winners["there"]) == 20
        assert all(len(got) == 80 for got in answers.values())

    async def test_tokens_of_single_grants_differ(self, store: MongoStore) -> None:
        """Of thirty processes that ask at once, one is first, and when it gives the lease back, the next has more."""
        processes = [store.leases(f"runner-{number}", TERM) for number in range(30)]
        got: list[tuple[Leases, Granted]] = []

        async def race(leases: Leases) -> None:
            answer = await ask(leases)
            if isinstance(answer, Granted):
                got.append((leases, answer))

        tokens = []
        for _ in range(3):
            async with anyio.create_task_group() as group:
                for leases in processes:
                    group.start_soon(race, leases)
            [(winner, lease)] = got
            await winner.release([Ended(lease=lease, result="unused")])
            got.clear()
            tokens.append(lease.token)

        assert tokens == [1, 2, 3]


class TestExpiry:
    """By the server's clock alone."""

    async def test_a_lease_that_ran_out_goes_to_who_asks_next(self, store: MongoStore, there: Leases) -> None:
        """With a greater token, and told whose it was."""
        first = await granted(store.leases("dead", 0.1))
        await anyio.sleep((await withheld(there)).seconds + 0.02)
        second = await granted(there)

        assert second.token == first.token + 1
        assert second.taken_from == "dead"

    async def test_renewal_begins_a_new_term(self, store: MongoStore, there: Leases) -> None:
        """Renewed in time, a lease of 0.2 s is still held after twice its term."""
        ours = store.leases("ours", 0.2)
        lease = await granted(ours)
        for _ in range(8):
            await anyio.sleep(0.05)
            assert await ours.renew([lease]) == []

        assert (await withheld(there)).runner == "ours"

    async def test_a_lease_that_was_taken_over_is_lost(self, store: MongoStore, there: Leases) -> None:
        """Its holder learns it, and what it does with the lease then changes nothing."""
        late = store.leases("late", 0.05)
        old, kept = await granted(late), await granted(late, LeaseKey("openai", "kept"))
        await anyio.sleep(0.07)
        new = await granted(there)

        assert await late.renew([old, kept]) == [old]
        await late.release([Ended(lease=old, result="succeeded")])
        assert await there.renew([new]) == []

    async def test_a_runners_own_clock_does_not_matter(
        self, here: Leases, there: Leases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing that is sent is a time of the runner's: with a clock a year ahead, it gets what it would get."""

        class Ahead(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Ahead:
                return cls(2099, 1, 1, tzinfo=tz)

        await granted(here)
        monkeypatch.setattr("llmbench.stores.mongo_leases.datetime", Ahead)
        monkeypatch.setattr("time.time", lambda: 4e9)

        assert 0 < (await withheld(there)).seconds <= TERM


class TestFreshness:
    """What one runner has measured is left alone by all."""

    async def test_a_success_makes_the_model_fresh_for_every_runner(self, here: Leases, there: Leases) -> None:
        """The one that measured it included, for as long as each of them wants."""
        await here.release([Ended(lease=await granted(here), result="succeeded")])

        for leases in (here, there):
            answer = await withheld(leases)
            assert (answer.reason, answer.runner) == ("fresh", "here")
            assert FRESH - 10 < answer.seconds <= FRESH
        assert isinstance(await ask(there, fresh=0.0), Granted)

    async def test_a_failure_rests_for_every_runner(self, here: Leases, there: Leases) -> None:
        """For the time that its runner says; the next one knows how many there were in a row."""
        ended = Ended(lease=await granted(here), result="failed", failures_in_a_row=3, rest=0.1)
        await here.release([ended])
        answer = await withheld(there)
        assert (answer.reason, answer.runner) == ("resting", "here")
        await anyio.sleep(0.12)

        assert (await granted(there)).failures_in_a_row == 3

    async def test_what_a_person_asks_for_is_measured_however_fresh(self, here: Leases, there: Leases) -> None:
        """A success and a failure of late do not keep it back; a run that goes on does, whoever asks."""
        await here.release([Ended(lease=await granted(here), result="succeeded")])
        await here.release([Ended(lease=await granted(here, fresh=0.0), result="failed", rest=3600.0)])
        asked = Claim(key=KEY, outcome_id=new_outcome_id(), asked=True)
        assert (await withheld(there)).reason == "resting"

        [answer] = await there.claim([asked], fresh=FRESH)
        assert isinstance(answer, Granted)
        [held] = await here.claim([Claim(key=KEY, outcome_id=new_outcome_id(), asked=True)], fresh=FRESH)
        assert isinstance(held, Withheld)
        assert (held.reason, held.runner) == ("held", "there")
        assert 0 < held.seconds <= TERM

    async def test_a_regions_successes_are_known(self, here: Leases, there: Leases) -> None:
        """When each of its models was measured, by whomever; nothing of what failed, or of other regions."""
        before = datetime.now(UTC)
        for leases, name, region in (
            (here, "a", "east"),
            (there, "b", "east"),
            (here, "failed", "east"),
            (here, "d", "west"),
            (here, "e", None),
        ):
            lease = await granted(leases, LeaseKey("openai", name, region))
            await leases.release([Ended(lease=lease, result="failed" if name == "failed" else "succeeded")])
        successes = await here.successes("east")

        assert {key.model_id for key in successes} == {"a", "b"}
        assert all(abs(at - before) < timedelta(seconds=20) for at in successes.values())
        assert {key.model_id for key in await here.successes(None)} == {"e"}

    async def test_a_success_ends_the_failures(self, here: Leases, there: Leases) -> None:
        """Nothing of them is left."""
        await here.release([Ended(lease=await granted(here), result="failed", failures_in_a_row=3)])
        await here.release([Ended(lease=await granted(here), result="succeeded")])

        assert (await granted(there, fresh=0.0)).failures_in_a_row == 0

    async def test_a_lease_that_was_not_used_is_there_for_others(self, here: Leases, there: Leases) -> None:
        """At once, and without a word of a takeover; so are all those of a runner that ends."""
        await here.release([Ended(lease=await granted(here), result="unused")])
        assert (await granted(there)).taken_from is None
        await there.release_all()

        assert isinstance(await ask(here), Granted)


@on_both
class TestAfterADeath:
    """A runner was killed between storing an outcome and giving its lease back."""

    async def test_what_it_stored_counts(
        self, store: MongoStore, there: Leases, client: MongoClient[dict[str, Any]], emptied_address: Address
    ) -> None:
        """Its sample is found by its id: the model is fresh since the dead runner began, for whoever asks."""
        done = sample()
        await granted(store.leases("dead", 0.05), outcome=done.id)
        await store.put([envelope(done)])
        await anyio.sleep(0.07)

        for _ in range(2):
            answer = await withheld(there)
            assert (answer.reason, answer.runner) == ("fresh", "dead")
        [row] = client[emptied_address.database].leases.find()
        assert not {"holder", "left", "expires_at"} & set(row)

    @pytest.mark.parametrize("publish", [True, False])
    async def test_it_counts_though_a_second_one_died_over_it(self, store: MongoStore, publish: bool) -> None:
        """The takeover itself may be cut off: the third one looks for the runs of both."""
        done = sample()
        await granted(store.leases("first", 0.05), outcome=done.id)
        await anyio.sleep(0.07)
        await granted(store.leases("second", 0.05))
        await store.put([envelope(done, publish=publish)])
        await anyio.sleep(0.07)

        assert (await withheld(store.leases("third", TERM))).reason == "fresh"

    async def test_a_failure_or_nothing_is_measured_again(self, store: MongoStore, there: Leases) -> None:
        """Only a success makes a model fresh."""
        failed = failure()
        await granted(store.leases("dead", 0.05), outcome=failed.id)
        await store.put([envelope(failed)])
        await anyio.sleep(0.07)

        assert (await granted(there)).taken_from == "dead"


@pytest.mark.parametrize("mongod", ["replica set"], indirect=True)
class TestElection:
    """A replica set's primary steps down while leases are held."""

    async def test_leases_outlive_it(
        self, store: MongoStore, here: Leases, there: Leases, client: MongoClient[dict[str, Any]]
    ) -> None:
        """The next primary knows them: nobody else is granted one, and its holder renews it."""
        assert str(store.deployment).startswith("replica set")
        lease = await granted(here)
        client.admin.command({"replSetStepDown": 1, "force": True})

        assert (await withheld(there)).runner == "here"
        assert await here.renew([lease]) == []
        await here.release([Ended(lease=lease, result="succeeded")])
        assert (await withheld(there)).reason == "fresh"


class TestTrouble:
    """What does not work is said in the contract's terms."""

    async def test_a_store_that_is_not_open(self, address: Address) -> None:
        """A claim says so."""
        with pytest.raises(StoreError, match="is not open"):
            await ask(MongoStore(address).leases("here", TERM))

    async def test_a_lease_that_somebody_damaged(
        self, here: Leases, client: MongoClient[dict[str, Any]], emptied_address: Address
    ) -> None:
        """It alone can't be claimed, with the reason, also where nothing else was asked: the store is not away."""
        await granted(here)
        client[emptied_address.database].leases.update_one({}, {"$set": {"token": "three"}})
        claims = [Claim(key=key, outcome_id=new_outcome_id()) for key in (KEY, LeaseKey("openai", "o3"))]
        damaged, good = await here.claim(claims, fresh=FRESH)

        assert isinstance(good, Granted)
        assert isinstance(damaged, Unanswered)
        assert damaged.key == KEY
        assert "failed (OperationFailure" in damaged.error
        assert isinstance(await ask(here), Unanswered)

    async def test_a_claim_that_was_cancelled(
        self, mongod: Mongod, here: Leases, client: MongoClient[dict[str, Any]], emptied_address: Address
    ) -> None:
        """The server carries it out when it can, and giving all back waits for that: nothing stays behind."""
        raw = client[emptied_address.database]
        claims = [Claim(key=LeaseKey("openai", f"m{number}"), outcome_id=new_outcome_id()) for number in range(8)]
        await here.claim(claims, fresh=FRESH)
        await here.release_all()
        for _ in range(4):  # it is a race
            async with anyio.create_task_group() as group:
                with mongod.frozen():
                    with anyio.move_on_after(0.05) as limit:
                        await here.claim(claims, fresh=FRESH)
                    group.start_soon(here.release_all)
                    await anyio.sleep(0.03)
            assert limit.cancelled_caught
            await anyio.sleep(0.02)
            assert raw.leases.count_documents({"holder": {"$exists": True}}) == 0

    async def test_a_frozen_server(self, mongod: Mongod, address: Address) -> None:
        """A claim that gets no answer raises; asked again later, it is granted as if nothing had been."""
        store = MongoStore(address, Limits(socket=0.2, put=0.25, server_selection=0.2))
        await store.open()
        leases = store.leases("here", TERM)
        await ask(leases)
        with mongod.frozen(), pytest.raises(StoreError):
            await ask(leases)

        assert isinstance(await ask(leases), Granted)
        await store.close()


class TestWithoutALease:
    """What a runner measured while it did not reach the server, and tells of afterwards."""

    async def test_it_counts_as_fresh(self, here: Leases, there: Leases) -> None:
        """From when the run began, whether the model was ever leased or not; runners are told whose it was."""
        known, new = LeaseKey("openai", "known"), LeaseKey("openai", "new")
        await here.release([Ended(lease=await granted(here, known), result="failed", failures_in_a_row=3, rest=500.0)])
        await here.note([Measured(key=known, ago=100.0), Measured(key=new, ago=200.0)])

        for key, ago in ((known, 100.0), (new, 200.0)):
            answer = await withheld(there, key)
            assert (answer.reason, answer.runner) == ("fresh", "here")
            assert answer.seconds == pytest.approx(FRESH - ago, abs=5.0)
            assert (await granted(there, key, fresh=ago - 50.0)).failures_in_a_row == 0

    async def test_it_never_makes_a_model_staler(self, here: Leases, there: Leases) -> None:
        """Another has measured it meanwhile: the newer success counts."""
        await there.release([Ended(lease=await granted(there), result="succeeded")])
        await here.note([Measured(key=KEY, ago=1000.0)])

        assert (await withheld(here)).seconds == pytest.approx(FRESH, abs=5.0)

    async def test_a_lease_that_another_holds_stays_held(self, here: Leases, there: Leases) -> None:
        """It is renewed and given back as if nothing had been told."""
        lease = await granted(there)
        await here.note([Measured(key=KEY, ago=0.0)])

        assert (await there.renew([lease])) == []
        assert (await withheld(here, fresh=0.0)).runner == "there"

    async def test_nothing_to_tell_just_asks_for_an_answer(self, store: MongoStore, emptied_address: Address) -> None:
        """Nothing is written; a server that is not there is told of."""
        leases = store.leases("here", TERM)
        await leases.note([])
        with MongoClient[dict[str, Any]](emptied_address.uri.reveal()) as client:
            assert client[emptied_address.database].leases.count_documents({}) == 0
        await store.close()
        with pytest.raises(StoreError, match="is not open"):
            await leases.note([])
