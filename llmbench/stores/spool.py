"""The spool: outcomes are durable here before anybody is told that they are recorded, and wait for the store.

One file, one process, one connection, one thread; the parts are in the modules ``spool_*``. What is recorded leaves
only by a positive word for its id, or stays in quarantine, where it can be seen.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from llmbench.clock import Clock, SystemClock
from llmbench.messages import Envelope, Failure
from llmbench.stores import spool_history
from llmbench.stores import spool_rows as rows
from llmbench.stores import spool_salvage as salvage
from llmbench.stores.base import ModelHistory, StoreError, Verdict
from llmbench.stores.canonical import UnstorableError
from llmbench.stores.spool_lock import SpoolInUse, SpoolLock, prepare_folder
from llmbench.stores.spool_rows import Kept, RecordStatus, State, Waiting
from llmbench.stores.spool_salvage import Damage
from llmbench.stores.spool_schema import SpoolFailed, SpoolFull, refusal
from llmbench.stores.spool_writer import Job, Level, Limits, Writer
from llmbench.stores.sqlite_outcomes import microseconds

__all__ = [
    "Damage",
    "Kept",
    "Level",
    "Limits",
    "RecordStatus",
    "Spool",
    "SpoolCounts",
    "SpoolFailed",
    "SpoolFull",
    "SpoolInUse",
    "Waiting",
]

T = TypeVar("T")

_LONGEST_PEEK = 1000
_PAGE = 100


class SpoolCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How full the spool is. ``waiting`` outcomes are its depth; ``oldest`` is when the first of them was recorded.

    ``delivered`` ones are kept for audit. ``in_flight`` attempts were begun and have no outcome yet. ``file_bytes`` is
    what the file and its log take on the disk, ``used_bytes`` what counts for the cap. ``damages`` are those that
    nobody has acknowledged.
    """

    waiting: int
    delivered: int
    quarantined: dict[str, int]
    oldest: datetime | None
    in_flight: int
    file_bytes: int
    used_bytes: int
    cap_bytes: int
    level: Level
    damages: int
    sqlite_version: str


class Spool:
    """The spool in a folder, for one event loop.

    Every call raises `SpoolFailed` once the file could not be written, and `StoreError` before `open` and after
    `close`. A call that is cancelled while it waits is carried out all the same.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None, limits: Limits | None = None) -> None:
        self.description = f"spool in {folder}"
        self._folder = folder
        self._clock: Clock = clock or SystemClock()
        self._limits = limits or Limits()
        self._lock: SpoolLock | None = None
        self._writer: Writer | None = None
        self._damages: list[Damage] = []
        self._news = asyncio.Event()
        self.recorded = 0
        """How many outcomes became due since this object was made: new ones, interrupted ones, released ones."""

    async def open(self) -> list[Failure]:
        """Take the lock, check the file, mend it if need be, and record the attempts that were interrupted.

        Their failures are returned; they are durable, and wait. Look at `damages` then. Raises `SpoolInUse`,
        `StoreUnusable` for a place or a file that can't be used, and `StoreError` for what may pass, such as a full
        disk.
        """
        if self._writer is not None:
            raise StoreError(f"{self.description} is open already")
        path = self._folder / salvage.SPOOL
        try:
            self._writer = await anyio.to_thread.run_sync(self._start, asyncio.get_running_loop())
            self._writer.ended.add_done_callback(lambda _: self._wake())
            return await self._call(
                lambda connection: rows.interrupted(connection, self._now()),
                noted=lambda found: self._now_due(len(found)),
            )
        except (sqlite3.Error, OSError) as error:
            await self.close()
            raise refusal(path, error) from error
        except BaseException:
            await self.close()
            raise

    def _start(self, loop: asyncio.AbstractEventLoop) -> Writer:
        prepare_folder(self._folder)
        lock = SpoolLock(self._folder)
        lock.acquire()
        try:
            salvage.make_sound(self._folder, lock.committed, self._clock.now())
            self._damages = salvage.damages(self._folder)
            writer = Writer(self._folder / salvage.SPOOL, lock, self._clock, self._limits, loop)
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return writer

    async def close(self) -> None:
        """Commit what was given, close the file and give the lock away, even if cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            writer, self._writer = self._writer, None
            if writer is not None:
                await writer.stop()
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    @property
    def level(self) -> Level:
        """How full it is: ``warning`` from 80 % of the cap on, ``paused`` from 95 % until it is below 80 % again.

        While it is ``paused``, nothing new should be started: the rest is for the results of what runs.
        """
        return self._open().level

    @property
    def commits(self) -> int:
        """How many transactions changed something since it was opened."""
        return self._open().commits

    @property
    def damages(self) -> list[Damage]:
        """What was found damaged, now or earlier, and not acknowledged: until then, the spool is not healthy."""
        return list(self._damages)

    async def acknowledge_damage(self) -> None:
        """Say that a person knows of the `damages`. Files that were moved aside stay."""
        await anyio.to_thread.run_sync(salvage.acknowledge, self._folder)
        self._damages = []

    def opened(self, envelope: Envelope) -> None:
        """Note that an attempt begins, by the failure that it becomes if this process ends before it does.

        It is not waited for, and committed with the next rows. Not kept if there is no room, or if it can't be stored;
        then a crash leaves no trace of this attempt.
        """
        if not isinstance(envelope.outcome, Failure):
            raise TypeError(f"an attempt is opened with a Failure, not with a {type(envelope.outcome).__name__}")
        self._open().submit(Job(lambda connection: rows.opened(connection, envelope), row=True))

    def withdrawn(self, *ids: str) -> None:
        """Note, without waiting for it, that there will be no outcome of these attempts: they never started."""
        sound = _all_sound(ids)
        self._open().submit(Job(lambda connection: rows.withdraw(connection, sound), row=True))

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        """Keep outcomes, and with that end their attempts; one verdict for each, in order.

        ``stored``: it is durable. ``duplicate``: it was already. ``conflict``: its id is here with other content, which
        stays as it is; this one is kept in quarantine. ``rejected``: it has no JSON form. ``unknown``: there is no
        room for it, and nothing of it was kept. Raises `SpoolFull` if there is room for none.
        """
        futures = [self._future() for _ in items]
        self._open().submit(*(self._record(*each) for each in zip(items, futures, strict=True)))
        found = await asyncio.gather(*futures, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, SpoolFull | UnstorableError):
                raise one
        if found and isinstance(found[0], SpoolFull) and all(isinstance(one, SpoolFull) for one in found):
            raise found[0]
        return [_verdict(item.outcome.id, one) for item, one in zip(items, found, strict=True)]

    def _record(self, envelope: Envelope, future: asyncio.Future[Any]) -> Job:
        return Job(
            lambda connection: rows.record(connection, envelope, self._now()),
            future,
            row=True,
            takes_room=True,
            noted=lambda status: self._now_due(status == "recorded"),
        )

    async def more_than(self, seen: int) -> None:
        """Return once `recorded` is greater.

        Raises `SpoolFailed` if the spool fails meanwhile, and `StoreError` if it is closed.
        """
        while self.recorded <= seen:
            failure = self._open().failure
            if failure is not None:
                raise SpoolFailed(failure)
            await self._news.wait()

    def _now_due(self, count: int) -> None:
        if count:
            self.recorded += count
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def history(self) -> list[ModelHistory]:
        """Return what is remembered of every model that was recorded here, also of outcomes that are gone by now.

        The rules are those of every store's histories; of failures in a row no more than 32 are counted.
        """
        return await self._call(lambda connection: spool_history.histories(connection, self._clock.now()))

    async def peek(self, limit: int, now: datetime) -> list[Waiting]:
        """Return at most so many outcomes (2 to 1,000) that are due for delivery, in the order they were recorded.

        Half of them are the newest that are due and the rest the oldest: a fresh outcome goes out with the next batch
        however long the backlog is, and the backlog gets shorter with every batch. Nothing is taken out: the same is
        returned again until it is delivered, postponed or quarantined. What can't be decoded goes into quarantine.
        """
        if not 2 <= limit <= _LONGEST_PEEK:
            raise ValueError(f"limit is {limit}; it must be from 2 to {_LONGEST_PEEK}")
        return await self._call(lambda connection: rows.peek(connection, limit, microseconds(now)))

    async def delivered(self, ids: Sequence[str]) -> int:
        """Note that the store has these for good; return how many of them were waiting.

        They are kept for a day, or less if the spool gets rather full, and are deleted a few at a time.
        """
        sound = _all_sound(ids)
        return await self._call(lambda connection: rows.delivered(connection, sound, self._now()))

    async def retry_later(self, ids: Sequence[str], error: str, at: datetime) -> int:
        """Let these be due only then, and remember why; return how many of them were waiting.

        ``at`` is within an hour. What is put off for longer seems so because the clock was set back: it is due.
        """
        sound = _all_sound(ids)
        return await self._call(lambda connection: rows.retry_later(connection, sound, error, at))

    async def quarantine(self, outcome_id: str, reason: str, detail: str | None = None) -> bool:
        """Keep what waits under this id out of delivery; say whether something did.

        ``reason`` is one of a few words that are counted, such as ``rejected``; ``detail`` is the store's own text.
        """
        sound = _sound(outcome_id)
        return bool(
            await self._call(lambda connection: rows.quarantine(connection, sound, reason, detail, self._now()))
        )

    async def release_quarantined(self, ids: Sequence[str]) -> int:
        """Let these be delivered after all, at once; return how many. Conflicting ones are never released."""
        sound = _all_sound(ids)
        return await self._call(lambda connection: rows.release(connection, sound, self._now()), noted=self._now_due)

    async def release_all(self) -> int:
        """Do as `release_quarantined` with all that is in quarantine now, some at a time; return how many."""
        released, after = 0, 0
        while page := await self.page("quarantined", after, _PAGE):
            released += await self.release_quarantined([kept.id for kept in page if not kept.conflicting])
            after = page[-1].seq
        return released

    async def export(self, state: State) -> AsyncIterator[Kept]:
        """Yield the rows of a state in the order they were recorded, as they are; others may come and go meanwhile."""
        after = 0
        while page := await self.page(state, after, _PAGE):
            for kept in page:
                yield kept
            after = page[-1].seq

    async def page(self, state: State, after: int, limit: int) -> list[Kept]:
        """Return at most so many rows of a state as they are, from the one after this ``seq`` on."""
        return await self._call(lambda connection: rows.page(connection, state, after, limit))

    async def quarantined(self, ids: Sequence[str]) -> list[Kept]:
        """Return what is in quarantine under these ids, conflicting ones, too."""
        sound = _all_sound(ids)
        return await self._call(lambda connection: rows.quarantined(connection, sound))

    async def discard(self, seqs: Sequence[int]) -> int:
        """Delete rows of the quarantine for good, because a person says so; return how many there were."""
        return await self._call(lambda connection: rows.discard(connection, seqs))

    async def counts(self) -> SpoolCounts:
        """Count what is here."""
        tallies = await self._call(lambda connection: {**rows.tallies(connection), "file_bytes": self._file_bytes()})
        writer = self._open()
        return SpoolCounts(
            **tallies,
            used_bytes=writer.used_bytes,
            cap_bytes=self._limits.cap_bytes,
            level=writer.level,
            damages=len(self._damages),
            sqlite_version=sqlite3.sqlite_version,
        )

    def _file_bytes(self) -> int:
        return sum(_size(self._folder / f"{salvage.SPOOL}{part}") for part in ("", "-wal"))

    def _now(self) -> int:
        return max(0, microseconds(self._clock.now()))

    def _open(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"{self.description} is not open; open it first")
        return self._writer

    def _future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def _call(self, work: Callable[[sqlite3.Connection], T], *, noted: Callable[[T], None] | None = None) -> T:
        future: asyncio.Future[T] = self._future()
        self._open().submit(Job(work, future, noted=noted))
        return await future


def _verdict(outcome_id: str, answer: object) -> Verdict:
    if isinstance(answer, SpoolFull):
        return Verdict(outcome_id, "unknown", str(answer))
    if isinstance(answer, UnstorableError):
        return Verdict(outcome_id, "rejected", str(answer))
    if answer == "conflict":
        return Verdict(outcome_id, "conflict", f"{outcome_id!r} is in the spool with other content, which was kept")
    return Verdict(outcome_id, "stored" if answer == "recorded" else "duplicate")


def _sound(outcome_id: str) -> str:
    """Return an id that SQLite can take. Raises `ValueError` for one with a lone surrogate."""
    outcome_id.encode()
    return outcome_id


def _all_sound(ids: Sequence[str]) -> list[str]:
    return [_sound(one) for one in ids]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
