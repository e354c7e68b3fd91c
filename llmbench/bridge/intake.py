"""Where the outcomes of many requests become few writes: what comes while others are written goes together into one.

An answer is given once the store has said what became of the items, and only then. A request that is given up takes
nothing away from the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import anyio

from llmbench.messages import Envelope
from llmbench.stores.base import Store, StoreError, Verdict

_MOST_AT_ONCE = 1000
_MOST_WAITING = 10_000


class IntakeFull(Exception):
    """More waits to be stored than may; trying again later helps."""


class _Waiting:
    """One request's items, and what became of them: verdicts in their order, or the error that kept them out."""

    def __init__(self, items: Sequence[Envelope]) -> None:
        self.items = items
        self.done = anyio.Event()
        self.verdicts: Sequence[Verdict] = ()
        self.error: Exception | None = None


class Intake:
    """Stores what requests bring. `run` does the writing, and has to be running."""

    def __init__(
        self, store: Store, *, at_once: int = _MOST_AT_ONCE, waiting: int = _MOST_WAITING, writers: int = 1
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._writers = writers
        self._most = waiting
        self._queue: deque[_Waiting] = deque()
        self._filled = anyio.Event()
        self.waiting = 0
        """Items that no write has begun for yet."""

    async def put(self, items: Sequence[Envelope]) -> Sequence[Verdict]:
        """Return a verdict for each item, in their order. Raises `StoreError`, and `IntakeFull`."""
        if not items:
            return ()
        if self.waiting + len(items) > self._most:
            raise IntakeFull(f"{self.waiting} outcomes wait to be stored already")
        entry = _Waiting(items)
        self._queue.append(entry)
        self.waiting += len(items)
        self._filled.set()
        try:
            await entry.done.wait()
        finally:
            self._withdraw(entry)
        if entry.error is not None:
            raise entry.error
        return entry.verdicts

    async def run(self) -> None:
        """Write until cancelled; then whoever waits still gets a `StoreError`."""
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._writers):
                    group.start_soon(self._write_on)
        finally:
            while self._queue:
                _fail([self._queue.popleft()], StoreError("the bridge ends"))
            self.waiting = 0

    async def _write_on(self) -> None:
        while True:
            if not self._queue:
                if self._filled.is_set():
                    self._filled = anyio.Event()
                await self._filled.wait()
                continue  # the other writer may have been quicker
            await self._write(self._together())

    def _together(self) -> list[_Waiting]:
        """Take what goes into the next write: the oldest request, and those after it for which there is room."""
        taken: list[_Waiting] = []
        room = self._at_once
        while self._queue and (not taken or len(self._queue[0].items) <= room):
            entry = self._queue.popleft()
            taken.append(entry)
            room -= len(entry.items)
            self.waiting -= len(entry.items)
        return taken

    async def _write(self, entries: list[_Waiting]) -> None:
        items = [item for entry in entries for item in entry.items]
        try:
            verdicts = await self._store.put(items)
        except Exception as error:  # noqa: BLE001  whoever waits gets it, and what comes next has its own chance
            _fail(entries, error)
        except BaseException:
            _fail(entries, StoreError("the bridge ended while it stored this"))
            raise
        else:
            _hand_out(entries, verdicts)

    def _withdraw(self, entry: _Waiting) -> None:
        """Take back what no write has begun for: its request was given up."""
        if not entry.done.is_set() and entry in self._queue:
            self._queue.remove(entry)
            self.waiting -= len(entry.items)


def _hand_out(entries: list[_Waiting], verdicts: Sequence[Verdict]) -> None:
    position = 0
    for entry in entries:
        entry.verdicts = verdicts[position : position + len(entry.items)]
        position += len(entry.items)
        entry.done.set()


def _fail(entries: list[_Waiting], error: Exception) -> None:
    for entry in entries:
        entry.error = error
        entry.done.set()
