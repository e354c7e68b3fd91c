"""The MongoDB store: the collections that dashboards and other readers know, on a standalone server or a replica set.

The connection is in `mongo_client`, the indexes in `mongo_schema`, documents in `mongo_documents`; this module sees to
it that every call has its limits, and that the driver's errors come out as the contract's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Unpack

import anyio
import anyio.lowlevel
import anyio.to_thread
import pymongo

from llmbench.lifecycle import Listing, R, Record
from llmbench.messages import Envelope, Model, Outcome
from llmbench.stores import (
    mongo_catalog,
    mongo_client,
    mongo_counts,
    mongo_errors,
    mongo_figures,
    mongo_lifecycle,
    mongo_outcomes,
    mongo_questions,
    mongo_schema,
    mongo_transfer,
    mongo_trends,
)
from llmbench.stores.apart import Apart, in_a_thread
from llmbench.stores.base import (
    ErrorGroup,
    ErrorQuery,
    ErrorRollup,
    ModelChanges,
    ModelHistory,
    ModelSummary,
    ModelTally,
    OutcomeQuery,
    Page,
    Part,
    Recorded,
    StoreError,
    Verdict,
)
from llmbench.stores.leases import Leases
from llmbench.stores.mongo_client import Address, Client, Database, Deployment, Limits, store_errors
from llmbench.stores.mongo_documents import Form
from llmbench.stores.mongo_leases import MongoLeases
from llmbench.stores.mongo_schema import IndexState
from llmbench.stores.mongo_slices import Landed, size_of, slices
from llmbench.stores.pace import Pace
from llmbench.stores.trends import Trend, TrendQuery

logger = logging.getLogger(__name__)
_index_logger = logging.getLogger(f"{__name__}.indexes")

_PAGES_A_PUT = 4
"""So many pages of what was left uncounted does one put count at most."""


class _Open(NamedTuple):
    client: Client
    database: Database
    deployment: Deployment


class MongoStore:
    """A `Store` in a MongoDB database, for one event loop; any number of programs may use the database at once.

    A put that is cancelled while it waits for its turn does nothing. Of one that is running, the slice that is on its
    way is carried to its end first, which its limits keep near; but what became of the batch is then unknown to the
    caller. Putting it again is safe.

    The server may go away and come back while the store is open: calls raise `StoreError` meanwhile. With
    ``read_only`` opening makes no index, and so no collection; it is for questions alone.
    """

    def __init__(
        self,
        address: Address,
        limits: Limits | None = None,
        *,
        apart: Apart = in_a_thread,
        read_only: bool = False,
    ) -> None:
        self.description = str(address)
        self._address = address
        self._limits = limits or Limits()
        self._apart = apart
        self._read_only = read_only
        self._opened: _Open | None = None
        self._unreached: str | None = None
        self._failed: dict[tuple[str, str], IndexState] = {}
        self._turn = anyio.Lock()
        self._landed = Landed()
        self._pace = Pace(self._limits.put)
        self._sweeping: Any = mongo_counts.FIRST

    async def open(self) -> None:
        """Connect, and make the indexes that are missing. Open already is no error.

        The server may go on building indexes of large collections for a while: `Limits.indexing` is the time for which
        each collection's are waited for.
        """
        if self._opened is not None:
            return
        try:
            self._opened = await self._connected()
        except StoreError as error:
            self._unreached = str(error)
            raise

    async def _connected(self) -> _Open:
        client = await mongo_client.connect(self._address, self._limits)
        try:
            return await self._open(client)
        except BaseException:
            await _closed(client)
            raise

    async def _open(self, client: Client) -> _Open:
        with store_errors(self._address):
            database, deployment = await mongo_client.database(client, self._address, self._limits)
            await mongo_schema.check_place(database, self._address)
            states = await mongo_schema.inspect(database)
        if not self._read_only and any(state.status == "missing" for state in states):
            made = await self._make_indexes(states)
            states = [state for state in states if state.status != "missing"] + made
        self._tell(states)
        if other := mongo_client.passed_over(self._address):
            logger.warning("%s is used, %s", self.description, mongo_client.path_advice(self._address, other))
        logger.info("%s is a %s", self.description, deployment)
        return _Open(client, database, deployment)

    async def _make_indexes(self, states: Sequence[IndexState]) -> list[IndexState]:
        """Make what is missing, through an impatient client, as the server builds on when that has hung up."""
        client = await mongo_client.connect(self._address, self._limits, patience=self._limits.indexing)
        try:
            with store_errors(self._address):
                database, _ = await mongo_client.database(client, self._address, self._limits)
                return await mongo_schema.make(database, states)
        finally:
            await _closed(client)

    def _tell(self, states: Sequence[IndexState]) -> None:
        self._failed = {(state.collection, state.name): state for state in states if state.status == "failed"}
        for state in states:
            if state.detail:
                _index_logger.warning("%s: %s", self.description, state.detail)
        if building := sorted({state.collection for state in states if state.status == "building"}):
            _index_logger.warning(
                "%s: the server is building indexes of %s; until it has, questions are slow",
                self.description,
                ", ".join(building),
            )

    async def close(self) -> None:
        """Close the connections, even if cancelled meanwhile."""
        opened, self._opened = self._opened, None
        self._sweeping = mongo_counts.FIRST
        if opened is not None:
            await _closed(opened.client)

    async def indexes(self) -> list[IndexState]:
        """Return the state of every index that llmbench wants, as it is on the server now."""
        database = self._database()
        with store_errors(self._address):
            states = await mongo_schema.inspect(database)
        return [
            self._failed.get((state.collection, state.name), state) if state.status == "missing" else state
            for state in states
        ]

    @property
    def deployment(self) -> Deployment | None:
        """What kind of server there is, None while the store is not open."""
        return None if self._opened is None else self._opened.deployment

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        """Store a batch, slice by slice, each within `Limits.put`. See the class for what a cancelled call leaves.

        Slices that have landed are remembered when a later one does not: putting the batch again goes on from there.
        """
        database = self._database()
        # Encoding would hold up streams that are being measured.
        batch = await self._apart(mongo_outcomes.forms, items)
        async with self._turn:
            await self._sweep(database)
            verdicts: list[Verdict] = []
            for part in slices(self._landed.known(batch), self._pace):
                verdicts += await self._put_slice(database, part)
            self._landed = Landed()
            return verdicts

    async def _put_slice(self, database: Database, part: Sequence[Form | Verdict]) -> list[Verdict]:
        await anyio.lowlevel.checkpoint_if_cancelled()
        began = anyio.current_time()
        # A scope may swallow what it is cancelled by, so nothing is returned from within.
        with anyio.CancelScope(shield=True), store_errors(self._address), pymongo.timeout(self._limits.put):
            try:
                verdicts = await mongo_outcomes.put(database, part, self._apart)
            except pymongo.errors.PyMongoError:
                self._pace.failed()
                raise
        self._pace.took(anyio.current_time() - began, size_of(part))
        self._landed.note(part, verdicts)
        return verdicts

    async def _sweep(self, database: Database) -> None:
        """Count some of what programs that were killed left uncounted, until there is no more.

        A put takes a few pages at most, each within `Limits.put`, and the next put goes on from there.
        """
        for _ in range(_PAGES_A_PUT if self._sweeping is not None else 0):
            await anyio.lowlevel.checkpoint_if_cancelled()
            with anyio.CancelScope(shield=True), store_errors(self._address), pymongo.timeout(self._limits.put):
                self._sweeping = await self._sweep_page(database, self._sweeping)
            if self._sweeping is None:
                return

    async def _sweep_page(self, database: Database, after: Any) -> Any:
        try:
            return await mongo_counts.sweep(database, after)
        except pymongo.errors.OperationFailure as error:
            logger.warning("what an earlier program left uncounted is left for later: %s", error)
            return None

    async def models(self, *, provider: str | None = None, enabled: bool | None = None) -> list[Model]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_catalog.models(database, self._limits, provider, enabled)

    async def unreadable_models(self) -> list[str]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_catalog.unreadable(database, self._limits)

    async def model(self, provider: str, model_id: str) -> Model:
        database = self._database()
        with store_errors(self._address):
            return await mongo_catalog.model(database, self._limits, provider, model_id)

    async def add_model(self, model: Model) -> Model:
        """Add it, or enable the disabled row of its id, whose fields it replaces where it says something.

        Raises `ModelExists`, and `ValueError` for a model that has no BSON form, such as one with NaN in ``request``.
        """
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.add(database, self._limits, model)

    async def put_model(self, model: Model) -> Model | None:
        """Add a row as it is, or return the one in its place. Raises `ValueError` for one that has no BSON form."""
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.put(database, self._limits, model)

    async def seed_models(self, models: Sequence[Model]) -> list[Model]:
        """Add those of which there is no row. Raises `ValueError` for one that has no BSON form."""
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.seed(database, self._limits, models)

    async def enable_model(self, provider: str, model_id: str) -> Model:
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.enable(database, self._limits, provider, model_id)

    async def disable_model(self, provider: str, model_id: str, *, reason: str, by: str, at: datetime) -> Model:
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.disable(database, self._limits, provider, model_id, reason=reason, by=by, at=at)

    async def change_model(self, provider: str, model_id: str, **changes: Unpack[ModelChanges]) -> Model:
        """Set fields of a row. Raises `ValueError`, too, for a value that has no BSON form."""
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_catalog.change(database, self._limits, provider, model_id, changes)

    async def history(self) -> list[ModelHistory]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_questions.history(database, self._limits)

    async def outcomes(self, query: OutcomeQuery) -> list[Outcome]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_questions.outcomes(database, self._limits, query)

    async def rollups(self, *, since: datetime | None = None) -> list[ErrorRollup]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_questions.rollups(database, self._limits, since)

    async def put_rollup(self, rollup: ErrorRollup) -> bool:
        database = self._database()
        with store_errors(self._address), pymongo.timeout(self._limits.put):
            return await mongo_transfer.put_rollup(database, rollup)

    async def page(self, part: Part, *, after: Any = None, size: int) -> Page:
        database = self._database()
        with store_errors(self._address):
            return await mongo_transfer.page(database, self._limits, part, after, size)

    async def put_listing(self, listing: Listing) -> Recorded:
        database = self._database()
        with store_errors(self._address):
            return await mongo_lifecycle.put_listing(database, self._limits, listing)

    async def records(
        self, kind: type[R], *, provider: str | None = None, model_id: str | None = None, limit: int | None = None
    ) -> list[R]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_lifecycle.records(database, self._limits, kind, provider, model_id, limit)

    async def put_records(self, records: Sequence[Record]) -> list[Verdict]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_lifecycle.put_records(database, self._limits, records)

    async def counts(self) -> dict[Part, int]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_transfer.counts(database, self._limits)

    async def error_groups(self, query: ErrorQuery) -> list[ErrorGroup]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_errors.error_groups(database, self._limits, query)

    async def tallies(self, *, since: datetime | None = None) -> list[ModelTally]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_figures.tallies(database, self._limits, since)

    async def summary(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[ModelSummary]:
        database = self._database()
        query = OutcomeQuery(since=since, provider=provider, model=model)
        with store_errors(self._address):
            return await mongo_figures.summary(database, self._limits, query, until)

    async def trends(self, query: TrendQuery) -> list[Trend]:
        database = self._database()
        with store_errors(self._address):
            return await mongo_trends.trends(database, self._limits, query)

    def leases(self, runner: str, term: float) -> Leases:
        return MongoLeases(self._database, self._address, self._limits, runner, term)

    def _database(self) -> Database:
        if self._opened is None:
            raise StoreError(self._unreached or f"{self.description} is not open; open the store first")
        return self._opened.database


async def _closed(client: Client) -> None:
    # In a thread, since the driver says good-bye to the server.
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(client.close)
