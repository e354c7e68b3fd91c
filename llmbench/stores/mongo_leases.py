"""Leases in MongoDB: one document for each model (and region), changed in single atomic steps by the server's clock.

| field | meaning |
|---|---|
| ``_id`` | ``provider``, ``model_id`` in lower case, ``region`` (null where all regions share the models) |
| ``token`` | grows with each grant |
| ``runner`` | the id of the runner that had the last grant |
| ``holder``, ``outcome``, ``claimed_at``, ``expires_at`` | only while it is held: the process, the id of its run |
| ``succeeded_at`` | when the last run that succeeded was claimed |
| ``failures_in_a_row``, ``not_before`` | since that success; when the model may be tried again |
| ``left`` | runs of holders that let the lease run out, for the next one to look for |

A runner may die after its outcome was stored and before it gave the lease back. Whoever takes the lease over therefore
looks whether the outcome of the run before is there, by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pymongo
from bson.objectid import ObjectId
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError, OperationFailure

from llmbench.ids import new_outcome_id
from llmbench.stores.base import StoreError
from llmbench.stores.leases import Answer, Claim, Ended, Granted, LeaseKey, Measured, Reason, Unanswered, Withheld
from llmbench.stores.mongo_client import Address, Database, Document, Limits, store_errors
from llmbench.stores.mongo_schema import LEASES, PROBES, SAMPLES

_NOW = "$$NOW"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_WHILE_HELD = ("holder", "outcome", "claimed_at", "expires_at", "left")
_ANSWER = dict.fromkeys(
    ("token", "runner", "holder", "outcome", "expires_at", "succeeded_at", "failures_in_a_row", "not_before", "left"), 1
)
_AT_ONCE = 8
_ATTEMPTS = 5


class MongoLeases:
    """The `Leases` of one process. ``term`` is in seconds.

    Two processes with the same runner id do not share leases: each draws a name of its own.
    """

    shared = True

    def __init__(
        self, database: Callable[[], Database], address: Address, limits: Limits, runner: str, term: float
    ) -> None:
        self._database = database
        self._address = address
        self._limits = limits
        self.runner = runner
        self._holder = f"{runner} {new_outcome_id()}"
        self._term = _milliseconds(term)
        self._asking: set[asyncio.Future[Document]] = set()

    async def claim(self, claims: Sequence[Claim], *, fresh: float) -> list[Answer]:
        answers: list[Granted | Withheld | StoreError | None] = [None] * len(claims)
        turn = anyio.CapacityLimiter(_AT_ONCE)

        async def one(number: int, claim: Claim) -> None:
            async with turn:
                try:
                    answers[number] = await self._claim(claim, timedelta(seconds=fresh))
                except StoreError as error:  # the others are to be answered all the same
                    answers[number] = error

        async with anyio.create_task_group() as group:
            for number, claim in enumerate(claims):
                group.start_soon(one, number, claim)
        failed = [answer for answer in answers if isinstance(answer, StoreError)]
        if failed and len(failed) == len(claims):
            await self._raise_unless_leases_are_to_blame(failed)
        return [
            Unanswered(key=claim.key, error=str(answer)) if isinstance(answer, StoreError) else answer
            for claim, answer in zip(claims, answers, strict=True)
            if answer is not None  # there is one for each: the task group has waited for them
        ]

    async def _raise_unless_leases_are_to_blame(self, failed: Sequence[StoreError]) -> None:
        """Raise if the server does not answer in time, or takes no other write from us either."""
        for error in failed:
            if not isinstance(error.__cause__, OperationFailure) or error.__cause__.timeout:
                raise error
        await self.note([])

    async def _claim(self, claim: Claim, fresh: timedelta) -> Granted | Withheld:
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            found = await self._ask(database, claim, fresh)
            if found.get("holder") != self._holder:
                return _withheld(claim, found, fresh)
            left = await _stored(database, found.get("left") or [])
            if left is not None and found["now"] - left["at"] < fresh and not claim.asked:
                await self._leave_fresh(database, claim.key, found, left)
                found |= {"holder": None, "runner": left["runner"], "succeeded_at": left["at"]}
                return _withheld(claim, found, fresh)
        runs_left: list[Document] = found.get("left") or [{}]
        return Granted(
            key=claim.key,
            token=found["token"],
            failures_in_a_row=0 if left is not None else found.get("failures_in_a_row", 0),
            taken_from=runs_left[-1].get("runner"),
        )

    async def _ask(self, database: Database, claim: Claim, fresh: timedelta) -> Document:
        """Take the lease if it is to be had, in one step; return the document as it is then, with the time ``now``."""
        ask = partial(
            database[LEASES].find_one_and_update,
            {"_id": _id(claim.key)},
            self._take_if_free(claim, fresh),
            projection={**_ANSWER, "now": _NOW},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        for _ in range(_ATTEMPTS):
            asking: asyncio.Future[Document] = asyncio.ensure_future(ask())
            self._asking.add(asking)
            asking.add_done_callback(self._answered)
            try:
                # What was sent is carried out, though a cancelled task will never hear of it: see `release_all`.
                return await asyncio.shield(asking)
            except DuplicateKeyError:
                continue  # another made the document at the same moment
        raise StoreError(f"{self._address} has a lease that can't be asked for; try again")

    def _answered(self, asking: asyncio.Future[Document]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # or asyncio would complain that nobody was there to hear of it

    def _take_if_free(self, claim: Claim, fresh: timedelta) -> list[Document]:
        outcome = claim.outcome_id
        ours: Document = {
            "token": {"$add": [{"$ifNull": ["$token", 0]}, 1]},
            "runner": {"$literal": self.runner},
            "holder": {"$literal": self._holder},
            "outcome": {"$literal": outcome},
            "claimed_at": _NOW,
            "expires_at": {"$add": [_NOW, self._term]},
            "left": {"$cond": [_let_run_out(outcome), _with_one_more_left(), "$left"]},
        }
        taken = {name: {"$cond": ["$_free", value, f"${name}"]} for name, value in ours.items()}
        return [{"$set": {"_free": self._is_free(claim, fresh)}}, {"$set": taken}, {"$unset": "_free"}]

    def _is_free(self, claim: Claim, fresh: timedelta) -> Document:
        """A date that is missing is less than any other."""
        nobodys = {
            "$or": [
                {"$eq": [{"$type": "$holder"}, "missing"]},
                {"$eq": ["$holder", {"$literal": self._holder}]},
                {"$lte": ["$expires_at", _NOW]},
            ]
        }
        if claim.asked:
            return nobodys
        fresh_since = {"$subtract": [_NOW, _milliseconds(fresh.total_seconds())]}
        return {"$and": [nobodys, {"$lte": ["$succeeded_at", fresh_since]}, {"$lte": ["$not_before", _NOW]}]}

    async def _leave_fresh(self, database: Database, key: LeaseKey, found: Document, left: Document) -> None:
        """Give back what was just taken, since the holder before had stored its outcome."""
        await database[LEASES].update_one(
            {"_id": _id(key), "holder": self._holder, "token": found["token"]},
            {
                "$max": {"succeeded_at": left["at"]},
                "$set": {"runner": left["runner"], "failures_in_a_row": 0},
                "$unset": dict.fromkeys((*_WHILE_HELD, "not_before"), ""),
            },
        )

    async def successes(self, region: str | None) -> dict[LeaseKey, datetime]:
        asked: Document = {"_id.region": region, "succeeded_at": {"$type": "date"}}
        limit = self._limits.question_milliseconds
        with store_errors(self._address):
            found = self._database()[LEASES].find(asked, {"succeeded_at": 1}, max_time_ms=limit)
            return {_key(one["_id"]): one["succeeded_at"] async for one in found}

    async def renew(self, held: Sequence[Granted]) -> list[Granted]:
        leases = self._database()[LEASES]
        ours: Document = {"_id": {"$in": [_id(lease.key) for lease in held]}, "holder": self._holder}
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            await leases.update_many(ours, [{"$set": {"expires_at": {"$add": [_NOW, self._term]}}}])
            kept = {(_key(one["_id"]), one["token"]) async for one in leases.find(ours, {"token": 1})}
        return [lease for lease in held if (lease.key, lease.token) not in kept]

    async def release(self, ended: Sequence[Ended]) -> None:
        leases = self._database()[LEASES]
        changes = [
            UpdateOne({"_id": _id(one.lease.key), "holder": self._holder, "token": one.lease.token}, _given_back(one))
            for one in ended
        ]
        if changes:
            with store_errors(self._address), pymongo.timeout(self._limits.put):
                await leases.bulk_write(changes, ordered=False)

    async def note(self, measured: Sequence[Measured]) -> None:
        leases = self._database()[LEASES]
        # The one that matches nothing needs the right to write, as a claim does.
        nothing = UpdateOne({"_id": {"$in": []}}, [{"$unset": "nothing"}])
        notes = [UpdateOne({"_id": _id(one.key)}, self._noted(one.ago), upsert=True) for one in measured]
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            await leases.bulk_write([nothing, *notes], ordered=False)

    def _noted(self, ago: float) -> list[Document]:
        idle: Document = {"$eq": [{"$type": "$holder"}, "missing"]}
        changes = {
            "token": {"$ifNull": ["$token", 0]},
            "runner": {"$cond": [idle, {"$literal": self.runner}, "$runner"]},
            "succeeded_at": {"$max": ["$succeeded_at", {"$subtract": [_NOW, _milliseconds(ago)]}]},
            "failures_in_a_row": 0,
            "not_before": "$$REMOVE",
        }
        return [{"$set": changes}]

    async def release_all(self) -> None:
        if self._asking:  # for tasks that were cancelled meanwhile
            await asyncio.wait(self._asking)
        leases = self._database()[LEASES]
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            await leases.update_many({"holder": self._holder}, {"$unset": dict.fromkeys(_WHILE_HELD, "")})


def _id(key: LeaseKey) -> Document:
    return {"provider": key.provider, "model_id": key.model_id, "region": key.region}


def _key(identity: Mapping[str, Any]) -> LeaseKey:
    return LeaseKey(identity["provider"], identity["model_id"], identity["region"])


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _let_run_out(outcome: str) -> Document:
    """Say whether somebody had the lease for another run and did not give it back."""
    held = {"$ne": [{"$type": "$holder"}, "missing"]}
    return {"$and": [held, {"$ne": ["$outcome", {"$literal": outcome}]}]}


def _with_one_more_left() -> Document:
    one = {"outcome": "$outcome", "at": "$claimed_at", "runner": "$runner"}
    return {"$concatArrays": [{"$ifNull": ["$left", []]}, [one]]}


async def _stored(database: Database, left: Sequence[Document]) -> Document | None:
    """Return the newest of these runs whose sample is stored."""
    if not left:
        return None
    wanted = {"_id": {"$in": [ObjectId(run["outcome"]) for run in left]}}
    found = {
        str(one["_id"])
        for collection in (SAMPLES, PROBES)
        async for one in database[collection].find(wanted, {"_id": 1})
    }
    return max((run for run in left if run["outcome"] in found), key=lambda run: run["at"], default=None)


def _withheld(claim: Claim, found: Document, fresh: timedelta) -> Withheld:
    """Say why there is no lease, by the last of the reasons to end."""
    now: datetime = found["now"]
    ends: dict[Reason, datetime] = {
        "fresh": found.get("succeeded_at", _LONG_AGO) + fresh,
        "resting": found.get("not_before", _LONG_AGO),
        "held": found["expires_at"] if found.get("holder") else _LONG_AGO,
    }
    reason: Reason = "held" if claim.asked else max(ends, key=lambda name: ends[name])
    seconds = max(0.0, (ends[reason] - now).total_seconds())
    return Withheld(key=claim.key, reason=reason, runner=found["runner"], seconds=seconds)


def _given_back(one: Ended) -> list[Document]:
    changes: Document = {}
    if one.result == "succeeded":
        changes = {"succeeded_at": {"$max": ["$succeeded_at", "$claimed_at"]}, "failures_in_a_row": 0}
    elif one.result == "failed":
        rest = {"$add": [_NOW, _milliseconds(one.rest)]}
        changes = {"not_before": rest, "failures_in_a_row": one.failures_in_a_row}
    gone = [*_WHILE_HELD, "not_before"] if one.result == "succeeded" else list(_WHILE_HELD)
    return [*([{"$set": changes}] if changes else []), {"$unset": gone}]
