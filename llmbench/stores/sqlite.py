"""The embedded store: one SQLite file, no server. It is the default where nothing is configured.

The file, its schema and its errors are in `sqlite_schema`, the statements in `sqlite_outcomes` and
`sqlite_catalog`; this module sees to it that they run one after another, off the event loop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, Unpack

import anyio
import anyio.to_thread

from llmbench.lifecycle import Listing, R, Record
from llmbench.messages import Envelope, Model, Outcome
from llmbench.stores import (
    sqlite_catalog,
    sqlite_lifecycle,
    sqlite_outcomes,
    sqlite_questions,
    sqlite_transfer,
    sqlite_trends,
)
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
from llmbench.stores.leases import Leases, Unshared
from llmbench.stores.sqlite_look import connect_to_look, has_log
from llmbench.stores.sqlite_schema import (
    checkpoint_from_now_on,
    connect,
    identity,
    leave,
    store_errors,
)
from llmbench.stores.trends import Trend, TrendQuery

T = TypeVar("T")


class SQLiteStore:
    """A `Store` in the SQLite file at ``path``, for one event loop; several may have the file open at once.

    A call that meets a file locked by another program waits ``busy_timeout`` seconds, then raises `StoreError`.

    A call that is cancelled while it waits for its turn does nothing. One that is running is carried to its end
    first, so a batch is stored whole or not at all; but whether it was stored is then unknown to the caller. Putting it
    again is safe, as its ids tell.

    A file that is deleted, moved or replaced while it is open takes with it what is written from then on. The call that
    finds this raises `StoreError`, and the next one opens the path again, making a new file if need be.

    With ``read_only`` the file has to be there, and is neither made nor changed.
    """

    def __init__(self, path: Path, *, busy_timeout: float = 5.0, read_only: bool = False) -> None:
        self.description = f"SQLite file {path}"
        self._path = path
        self._busy_timeout = busy_timeout
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[tuple[int, int], ...] | None = None
        self._logged = True
        self._lost = False
        self._checkpoints = False
        # One connection, used by one thread at a time: SQLite has one writer anyhow, and a transaction belongs to the
        # connection. The limiter keeps calls that wait from holding threads that others need. It gives the turn
        # away early if the task is cancelled by asyncio's own means, past anyio's shield; the lock does not.
        self._turn = anyio.CapacityLimiter(1)
        self._in_use = threading.Lock()

    async def open(self) -> None:
        """Connect, making the file (mode 0600) and its folder (0700) if there are none. Open already is no error."""
        await self._in_thread(self._connect)

    async def close(self) -> None:
        """Wait for the call that is running and close the file, even if cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            await self._in_thread(self._disconnect)

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        """Store a batch in one transaction. See the class for what a cancelled call leaves."""
        return await self._call(lambda connection: self._put(connection, items))

    async def models(self, *, provider: str | None = None, enabled: bool | None = None) -> list[Model]:
        return await self._call(lambda connection: sqlite_catalog.models(connection, provider, enabled))

    async def unreadable_models(self) -> list[str]:
        """Return nothing: the file takes only rows that name a model."""
        return []

    async def model(self, provider: str, model_id: str) -> Model:
        return await self._call(lambda connection: sqlite_catalog.model(connection, provider, model_id))

    async def add_model(self, model: Model) -> Model:
        """Add it, or enable the disabled row of its id, whose fields it replaces where it says something.

        Raises `ModelExists`, and `ValueError` for a model that has no JSON form, such as one with NaN in ``request``.
        """
        return await self._call(lambda connection: sqlite_catalog.add(connection, model))

    async def put_model(self, model: Model) -> Model | None:
        """Add a row as it is, or return the one in its place. Raises `ValueError` for one that has no JSON form."""
        return await self._call(lambda connection: sqlite_catalog.put(connection, model))

    async def seed_models(self, models: Sequence[Model]) -> list[Model]:
        return await self._call(lambda connection: sqlite_catalog.seed(connection, models))

    async def enable_model(self, provider: str, model_id: str) -> Model:
        return await self._call(lambda connection: sqlite_catalog.enable(connection, provider, model_id))

    async def disable_model(self, provider: str, model_id: str, *, reason: str, by: str, at: datetime) -> Model:
        return await self._call(
            lambda connection: sqlite_catalog.disable(connection, provider, model_id, reason=reason, by=by, at=at)
        )

    async def change_model(self, provider: str, model_id: str, **changes: Unpack[ModelChanges]) -> Model:
        """Set fields of a row. Raises `ValueError`, too, for a value that has no JSON form."""
        return await self._call(lambda connection: sqlite_catalog.change(connection, provider, model_id, changes))

    async def history(self) -> list[ModelHistory]:
        return await self._call(sqlite_outcomes.history)

    async def outcomes(self, query: OutcomeQuery) -> list[Outcome]:
        return await self._call(lambda connection: sqlite_outcomes.outcomes(connection, query))

    async def rollups(self, *, since: datetime | None = None) -> list[ErrorRollup]:
        return await self._call(lambda connection: sqlite_outcomes.rollups(connection, since))

    async def put_rollup(self, rollup: ErrorRollup) -> bool:
        return await self._call(lambda connection: sqlite_transfer.put_rollup(connection, rollup))

    async def page(self, part: Part, *, after: Any = None, size: int) -> Page:
        return await self._call(lambda connection: sqlite_transfer.page(connection, part, after, size))

    async def put_listing(self, listing: Listing) -> Recorded:
        return await self._call(lambda connection: sqlite_lifecycle.put_listing(connection, listing))

    async def records(
        self, kind: type[R], *, provider: str | None = None, model_id: str | None = None, limit: int | None = None
    ) -> list[R]:
        return await self._call(
            lambda connection: sqlite_lifecycle.records(connection, kind, provider, model_id, limit)
        )

    async def put_records(self, records: Sequence[Record]) -> list[Verdict]:
        return await self._call(lambda connection: sqlite_lifecycle.put_records(connection, records))

    async def counts(self) -> dict[Part, int]:
        return await self._call(sqlite_transfer.counts)

    async def error_groups(self, query: ErrorQuery) -> list[ErrorGroup]:
        return await self._call(lambda connection: sqlite_questions.error_groups(connection, query))

    async def tallies(self, *, since: datetime | None = None) -> list[ModelTally]:
        return await self._call(lambda connection: sqlite_questions.tallies(connection, since))

    async def summary(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[ModelSummary]:
        return await self._call(lambda connection: sqlite_questions.summary(connection, since, until, provider, model))

    async def trends(self, query: TrendQuery) -> list[Trend]:
        return await self._call(lambda connection: sqlite_trends.trends(connection, query))

    def leases(self, runner: str, term: float) -> Leases:
        """Return leases that grant everything: the file is one engine's own."""
        return Unshared()

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(lambda: self._with_connection(work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(self._alone, work, limiter=self._turn)

    # What follows runs in the worker thread.

    def _alone(self, work: Callable[[], T]) -> T:
        with self._in_use:
            return work()

    def _connect(self) -> None:
        if self._connection is None:
            way = connect_to_look if self._read_only else connect
            self._connection = way(self._path, self._busy_timeout)
            self._logged = not self._read_only or has_log(self._connection)
            self._files, self._lost = identity(self._path, logged=self._logged), False

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._checkpoints = self._lost = False
        if connection is not None:
            connection.close()

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._lost:
            self._connect()
        if self._connection is None:
            raise StoreError(f"{self.description} is not open; open the store first")
        self._check_place(self._connection)
        with store_errors(self._path):
            answer = work(self._connection)
        self._check_place(self._connection)
        return answer

    def _check_place(self, connection: sqlite3.Connection) -> None:
        """Raise `StoreError`, and give up the connection, if it leads to a file that nobody finds at its path."""
        if self._files is not None and identity(self._path, logged=self._logged) == self._files:
            return
        self._connection, self._checkpoints, self._lost = None, False, True
        with store_errors(self._path):
            leave(connection)
        if self._read_only:
            what = "so it tells nothing new; the next attempt opens the file that is there then"
        else:
            what = "so what is written there would be lost; the next attempt makes a new file if there is none"
        raise StoreError(
            f"SQLite file '{self._path}' or its log beside it was deleted, moved or replaced while it was in use, "
            f"{what}: leave both files in their place while llmbench runs"
        )

    def _put(self, connection: sqlite3.Connection, items: Sequence[Envelope]) -> list[Verdict]:
        if not self._checkpoints:
            checkpoint_from_now_on(connection)
            self._checkpoints = True
        return sqlite_outcomes.put(connection, items)
