"""What the tests of the spool share."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from llmbench.messages import Envelope
from llmbench.stores.spool import Damage, Kept, Limits, Spool
from llmbench.stores.spool_rows import State
from tests.stores.documents import NOON, envelope, failure, sample

QUICK = Limits(group_seconds=0.0)
"""Nobody waits for company, so calls that are made one by one are quick."""


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def monotonic_ns(self) -> int:
        return 0

    def now(self) -> datetime:
        return self.time

    def advance(self, **how_far: float) -> None:
        self.time += timedelta(**how_far)


@asynccontextmanager
async def opened_spool(folder: Path, limits: Limits = QUICK, clock: SetClock | None = None) -> AsyncIterator[Spool]:
    spool = Spool(folder, limits=limits, clock=clock or SetClock())
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


async def exported(spool: Spool, state: State) -> list[Kept]:
    return [kept async for kept in spool.export(state)]


async def record(spool: Spool, item: Envelope) -> str:
    """Put one outcome, and return what became of it."""
    (verdict,) = await spool.put([item])
    assert verdict.id == item.outcome.id
    return verdict.status


def begun(**changes: Any) -> Envelope:
    """Return what an attempt is opened with: the failure that it becomes if it is interrupted."""
    return envelope(
        failure(**{"error_kind": "local", "error_cause": "interrupted", "message": "llmbench ended", **changes})
    )


async def filled(spool: Spool, count: int) -> list[Envelope]:
    """Record so many outcomes, samples and failures by turns."""
    items = [envelope(sample() if n % 2 else failure()) for n in range(count)]
    assert [verdict.status for verdict in await spool.put(items)] == ["stored"] * count
    return items


@contextmanager
def crashed(source: Path, target: Path) -> Iterator[Path]:
    """Yield a copy of an open spool's folder, as a kill would leave it."""
    target.mkdir(mode=0o700)
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
    yield target


async def crashed_spool(tmp_path: Path, count: int, *, checkpointed: int = 0) -> tuple[Path, list[str]]:
    """Return a folder as a kill leaves it, and the ids that were recorded; so many of them are in the file itself."""
    ids: list[str] = []
    if checkpointed:
        async with opened_spool(tmp_path / "live") as spool:
            ids += [item.outcome.id for item in await filled(spool, checkpointed)]
    async with opened_spool(tmp_path / "live") as spool:
        ids += [item.outcome.id for item in await filled(spool, count)]
        with crashed(tmp_path / "live", tmp_path / "crashed") as folder:
            return folder, ids


async def reopened(folder: Path) -> tuple[list[Damage], set[str], set[str]]:
    """Open the spool, and return the damages, the ids that wait, and those in quarantine."""
    async with opened_spool(folder) as spool:
        damages = spool.damages
        assert (await spool.counts()).damages == len(damages)
        due = {one.id for one in await spool.peek(1000, NOON)}
        waiting = {kept.id for kept in await exported(spool, "waiting")}
        assert due == waiting
        await filled(spool, 1)
        return damages, waiting, {kept.id for kept in await exported(spool, "quarantined")}


def contents(folder: Path) -> dict[str, bytes]:
    """Return what all files but the lock's hold."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "spool.lock"}
