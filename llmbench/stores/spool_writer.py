"""The thread that owns the spool's connection, and commits rows in groups."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from llmbench.clock import Clock
from llmbench.stores import spool_rows as rows
from llmbench.stores import spool_schema as schema
from llmbench.stores.canonical import UnstorableError
from llmbench.stores.spool_lock import SpoolLock
from llmbench.stores.sqlite_outcomes import microseconds
from llmbench.stores.sqlite_schema import identity

Level = Literal["ok", "warning", "paused"]

WARN_AT = 0.80
PAUSE_AT = 0.95
_LOG_BYTES = 4 * 2**20
_PRUNE_STEP = 32
_PRUNE_STEP_WHEN_FULL = 1000
"""No less than what is delivered at a time, or a backlog that is delivered would still fill the spool."""
_ROOM_ROWS = 256
_GONE = "the file or its log was deleted, moved or replaced while it was in use"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """``cap_bytes`` is what the rows may take; ``keep_seconds`` how long delivered ones are kept for audit.

    A row is committed once there are ``group_rows`` of them, or ``group_seconds`` after the first.
    """

    cap_bytes: int = 2 * 2**30
    group_rows: int = 16
    group_seconds: float = 0.05
    keep_seconds: float = 24 * 3600.0


@dataclass(frozen=True)
class Job:
    """Something to do in a transaction. Rows wait for company; others are done at once, with the rows before them.

    What ``takes_room`` is refused at the cap. Nobody waits for the answer if there is no ``future``. Before it is
    given, ``noted`` is called with it in the loop, unless it is an error; also if nobody waits any more.
    """

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any] | None = None
    row: bool = False
    takes_room: bool = False
    noted: Callable[[Any], None] | None = None


Answer = tuple[Job, Any]


class _Lost(Exception):
    """What is written now is found by nobody; the message is a clause."""


class Writer:
    """Carries out jobs one after another, in a thread of its own, until it is stopped or the file fails.

    It is made in a thread, since it opens the file, and gives its answers to ``loop``.
    """

    def __init__(
        self, path: Path, lock: SpoolLock, clock: Clock, limits: Limits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._lock = lock
        self._clock = clock
        self._limits = limits
        self._connection = schema.connect(path, limits.cap_bytes)
        self._loop = loop
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._taking = threading.Lock()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.failure: str | None = None
        self.commits = 0
        """Transactions that changed something."""
        self.level: Level = "ok"
        self.used_bytes = 0
        self._files = identity(path)
        self._in_hand: list[Job] = []
        self._measure()
        # A daemon, because a program that dies of something else must not be kept alive by it. What it has not
        # committed then was not acknowledged.
        threading.Thread(target=self._run, name="llmbench-spool", daemon=True).start()

    def submit(self, *jobs: Job) -> None:
        """Let them be done after all that was submitted before. Raises `SpoolFailed`, and does none of them then."""
        with self._taking:
            if self.failure is not None:
                raise schema.SpoolFailed(self.failure)
            for job in jobs:
                self._jobs.put(job)

    async def stop(self) -> None:
        """Do what was submitted, close the file and end the thread."""
        self._jobs.put(None)
        await asyncio.shield(self.ended)

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            self._make_room()
            while (group := self._collect()) is not None:
                self._carry_out(group)
                self._make_room()
                self._checkpoint()
        except sqlite3.Error as error:
            self._fail(f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}")
        except _Lost as lost:
            self._fail(str(lost))
        finally:
            self._fail("its thread has ended")
            with contextlib.suppress(sqlite3.Error):  # all that was acknowledged is durable, in the file or its log
                self._connection.close()
            self._tell(lambda: self.ended.set_result(None))

    def _collect(self) -> list[Job] | None:
        """Return the next group; None to stop."""
        first = self._jobs.get()
        if first is None:
            return None
        group = [first]
        end = self._clock.monotonic_ns() + int(self._limits.group_seconds * 1e9)
        while group[-1].row and len(group) < self._limits.group_rows:
            try:
                job = self._jobs.get(timeout=max(0.0, (end - self._clock.monotonic_ns()) / 1e9))
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            group.append(job)
        return group

    def _carry_out(self, group: list[Job], rest: Sequence[Job] = ()) -> None:
        """Do a group in one transaction; if there is no room for it, each job in one of its own."""
        self._in_hand = [*group, *rest]
        try:
            answers = self._transaction(group)
        except sqlite3.Error as error:
            if not schema.is_full(error):
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if len(group) > 1:
                self._one_by_one(group)
                return
            answers = [(group[0], schema.SpoolFull(f"Spool '{self._path}' can't grow ({error}); free some space"))]
        self._in_hand = list(rest)
        self._tell(lambda: _answer_all(answers))

    def _one_by_one(self, group: list[Job]) -> None:
        for n, job in enumerate(group):
            self._carry_out([job], group[n + 1 :])

    def _transaction(self, group: list[Job]) -> list[Answer]:
        before = self._connection.total_changes
        self._connection.execute("BEGIN IMMEDIATE")
        answers = [(job, self._answer(job)) for job in group]
        # While there is little room every call helps: once all is delivered, nothing else may come that changes a row.
        if self.level != "ok" or self._connection.total_changes != before:
            self._prune()
        changed = self._connection.total_changes != before
        last = rows.last_seq(self._connection)
        schema.commit(self._connection)
        if changed:
            self.commits += 1
            if identity(self._path) != self._files:
                raise _Lost(_GONE)
            self._lock.note_committed(last)
            self._measure()
        return answers

    def _answer(self, job: Job) -> Any:
        if job.takes_room and self.used_bytes >= self._limits.cap_bytes:
            return schema.SpoolFull(
                f"Spool '{self._path}' has reached its cap of {self._limits.cap_bytes} bytes; it takes outcomes again "
                "when some were delivered, or with a greater cap"
            )
        try:
            return job.work(self._connection)
        except UnstorableError as error:
            return error

    def _prune(self) -> None:
        """Delete a few delivered rows: old ones, or any while the spool is rather full, since those are the luxury."""
        if self.level == "ok":
            age = int(self._limits.keep_seconds * 1e6)
            rows.prune(self._connection, microseconds(self._clock.now()) - age, _PRUNE_STEP)
        else:
            rows.prune(self._connection, rows.EVER, _PRUNE_STEP_WHEN_FULL)

    def _make_room(self) -> None:
        """Delete more of them while the spool is rather full and there is nothing else to do.

        Or it would stay full of what was delivered: while it is, there is nothing new, and so no other occasion.
        """
        try:
            while self.level != "ok" and self._jobs.empty() and self._pruned():
                pass
        except sqlite3.Error as error:
            if not schema.is_full(error):
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _pruned(self) -> bool:
        self._connection.execute("BEGIN IMMEDIATE")
        deleted = rows.prune(self._connection, rows.EVER, _ROOM_ROWS)
        schema.commit(self._connection)
        self._measure()
        return deleted > 0

    def _measure(self) -> None:
        self.used_bytes = schema.used_pages(self._connection) * schema.PAGE_SIZE
        used = self.used_bytes / self._limits.cap_bytes
        if used >= PAUSE_AT or (used >= WARN_AT and self.level == "paused"):
            self.level = "paused"
        else:
            self.level = "warning" if used >= WARN_AT else "ok"

    def _checkpoint(self) -> None:
        try:
            if self._log.stat().st_size > _LOG_BYTES:
                schema.checkpoint(self._connection)
        except FileNotFoundError as error:
            raise _Lost(_GONE) from error
        except sqlite3.Error as error:
            if not schema.is_full(error):  # with no room for it now, the log goes on
                raise

    def _fail(self, why: str) -> None:
        """Let no call in any more, and answer those that wait."""
        with self._taking:
            if self.failure is None:
                self.failure = (
                    f"Spool '{self._path}' can't be used any more ({why}); start llmbench again, which checks the file"
                )
            waiting, self._in_hand = self._in_hand, []
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None:
                    waiting.append(job)
        answers = [(job, schema.SpoolFailed(self.failure)) for job in waiting]
        self._tell(lambda: _answer_all(answers))

    def _tell(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for an answer
            self._loop.call_soon_threadsafe(callback)


def _answer_all(answers: list[Answer]) -> None:
    for job, answer in answers:
        if job.noted is not None and not isinstance(answer, Exception):
            job.noted(answer)
        if job.future is None or job.future.done():
            continue
        if isinstance(answer, Exception):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)
