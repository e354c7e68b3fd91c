"""`llmbench store copy`: everything from one store into another, as often as it takes.

Nothing is marked as copied anywhere: whatever is there already is recognised by its id, so a copy that was interrupted
is completed by the same command.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from llmbench.cli import output
from llmbench.cli.context import load_config, mongo_address, opened, quiet_indexes, store_errors
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.config import Config
from llmbench.config.environment import INGEST_API_URL
from llmbench.error_text import fingerprint, visible
from llmbench.lifecycle import CatalogEntry, DeprecationSnapshot, DiscoveryRun, ModelStatus, Record
from llmbench.messages import Envelope, Failure
from llmbench.stores.base import PARTS, ErrorRollup, Part, Store, Verdict
from llmbench.stores.records import record_key

Place = Path | str
"""The path of an SQLite file, or the name of the variable that holds a MongoDB URI."""

_BATCH = 500
_SECONDS_BETWEEN_NOTES = 5.0
_REASONS = 20
"""So many refusals are told one by one."""

_NAMES: dict[Part, str] = {"samples": "samples", "probes": "samples, not published", "failures": "failures"}

_RECORDS: dict[type[Record], str] = {
    CatalogEntry: "listed models",
    DiscoveryRun: "discoveries",
    ModelStatus: "statuses of models",
    DeprecationSnapshot: "deprecation snapshots",
}


class Copied(msgspec.Struct, kw_only=True):
    """What became of one sort of document. ``target`` is how many of it the target has at the end."""

    what: str
    read: int = 0
    added: int = 0
    there_already: int = 0
    refused: int = 0
    target: int = 0


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    _check_places(options.source, options.target)
    with quiet_indexes():
        found = anyio.run(_copy_all, config, options.source, options.target)
    if options.json:
        for one in found:
            output.json_line(one)
    else:
        _print(found)
    return ExitCode.UNHEALTHY if any(one.refused for one in found) else ExitCode.OK


def _check_places(source: Place, target: Place) -> None:
    for name, place in (("FROM", source), ("TO", target)):
        if isinstance(place, str) and _is_bridge(place):
            raise CommandError(
                f"{name} is {place!r}, the variable of an HTTP bridge, which can't be asked what it has: run this "
                "where the store behind it can be reached, and write env:MONGODB_URI or the path of its SQLite file"
            )
    if isinstance(source, str) and isinstance(target, str):
        raise CommandError(
            "FROM and TO are both MongoDB: mongodump and mongorestore copy databases as they are, with all their fields"
        )
    for name, place in (("FROM", source), ("TO", target)):
        if isinstance(place, Path) and place.name in os.environ and not place.exists():
            raise CommandError(
                f"{name} is {place.name!r}, the name of an environment variable: write env:{place.name} "
                "if a MongoDB database is meant, or give the file another name"
            )
    if isinstance(source, Path) and not source.exists():
        raise CommandError(f"FROM is '{source}', which does not exist: name an SQLite file of llmbench")
    if isinstance(source, Path) and source.is_file() and not source.stat().st_size:
        raise CommandError(f"FROM is '{source}', which is empty: name an SQLite file of llmbench")
    if isinstance(source, Path) and isinstance(target, Path) and target.exists() and source.samefile(target):
        raise CommandError(f"FROM and TO are the same file, '{source}': name another place to copy to")


def _is_bridge(variable: str) -> bool:
    return variable == INGEST_API_URL or os.environ.get(variable, "").strip().lower().startswith(
        ("http://", "https://")
    )


async def _copy_all(config: Config, source: Place, target: Place) -> list[Copied]:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_at(config, place)) for place in (source, target)]
        output.note(f"copying from {stores[0].description} to {stores[1].description}")
        try:
            with store_errors():
                return await Copy(*stores).all()
        except CommandError:
            output.note("what was copied until now stays; the same command once more does the rest")
            raise


@asynccontextmanager
async def _at(config: Config, place: Place) -> AsyncIterator[Store]:
    store: Store
    if isinstance(place, Path):
        from llmbench.stores.sqlite import SQLiteStore

        store = SQLiteStore(place)
    else:
        from llmbench.stores.mongo import MongoStore

        table = msgspec.structs.replace(config.store.mongo, uri_env=place)
        chosen = msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, mongo=table))
        store = MongoStore(mongo_address(chosen, os.environ))
    async with opened(store):
        yield store


class Copy:
    """One copy from one open store to another."""

    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        self._told = time.monotonic()
        self._reasons = 0

    async def all(self) -> list[Copied]:
        """Copy everything, failures before rollups: storing a failure counts it.

        Rollups are read before failures are. One that is stored in the source meanwhile may miss this copy; had a
        rollup told of it already, the copy that brings it would count it once more.
        """
        totals, rollups = await self._source.counts(), await self._source.rollups()
        known = {rollup.fingerprint for rollup in await self._target.rollups()}
        models, outcomes = await self._models(), [await self._part(part, totals[part]) for part in PARTS]
        found = [models, *outcomes, await self._rollups(rollups, known)]
        found += [await self._records(kind) for kind in _RECORDS]
        if self._reasons > _REASONS:
            output.note(f"and {self._reasons - _REASONS} more were refused")
        return found

    async def _models(self) -> Copied:
        done = Copied(what="models")
        # Of several rows of one spelling the enabled one is the model.
        for model in sorted(await self._source.models(), key=lambda model: not model.enabled):
            done.read += 1
            try:
                there = await self._target.put_model(model)
            except ValueError as error:
                done.refused += 1
                self._refused(f"{model.provider}/{model.model_id}", str(error))
                continue
            done.added += there is None
            done.there_already += there is not None
        done.target = len(await self._target.models())
        return done

    async def _part(self, part: Part, total: int) -> Copied:
        done = Copied(what=_NAMES[part])
        after = None
        while True:
            page = await self._source.page(part, after=after, size=_BATCH)
            self._add(done, [*page.unreadable, *await self._target.put([_whole(item) for item in page.items])])
            self._progress(done, total)
            after = page.next
            if after is None:
                break
        done.target = (await self._target.counts())[part]
        return done

    def _add(self, done: Copied, verdicts: Sequence[Verdict]) -> None:
        counts = Counter(verdict.status for verdict in verdicts)
        done.read += len(verdicts)
        done.added += counts["stored"]
        done.there_already += counts["duplicate"]
        done.refused += counts["conflict"] + counts["rejected"]
        for verdict in verdicts:
            if not verdict.acknowledged:
                self._refused(verdict.id, verdict.reason or verdict.status)

    async def _rollups(self, rollups: Sequence[ErrorRollup], known: Set[str]) -> Copied:
        """Copy the counts; ``known`` were in the target before. The copied failures have added others already."""
        done = Copied(what="counted errors")
        for rollup in rollups:
            if not rollup.fingerprint:
                continue  # of an earlier writer, who had none: nothing could be added to it
            await self._target.put_rollup(rollup)
            done.read += 1
            done.added += rollup.fingerprint not in known
            done.there_already += rollup.fingerprint in known
        done.target = len(await self._target.rollups())
        return done

    async def _records(self, kind: type[Record]) -> Copied:
        done = Copied(what=_RECORDS[kind])
        known = {record_key(one) for one in await self._target.records(kind)}
        records = await self._source.records(kind)
        for start in range(0, len(records), _BATCH):
            part = records[start : start + _BATCH]
            for record, verdict in zip(part, await self._target.put_records(part), strict=True):
                # One that was there and is newer now is not one more.
                there = verdict.acknowledged and record_key(record) in known
                self._add(done, [msgspec.structs.replace(verdict, status="duplicate") if there else verdict])
                known.add(record_key(record))
            self._progress(done, len(records))
        done.target = len(await self._target.records(kind))
        return done

    def _refused(self, name: str, reason: str) -> None:
        self._reasons += 1
        if self._reasons <= _REASONS:
            output.note(visible(f"refused: {name}: {reason}"))

    def _progress(self, done: Copied, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN_NOTES:
            self._told = now
            output.note(f"{done.what}: {done.read} of {max(total, done.read)}")


def _whole(item: Envelope) -> Envelope:
    """Give a failure of an earlier writer the fingerprint that it lacks, by which it is counted."""
    failure = item.outcome
    if not isinstance(failure, Failure) or failure.fingerprint:
        return item
    made = fingerprint(
        failure.provider, failure.model_name, failure.stage, failure.error_kind, failure.normalized_message
    )
    return msgspec.structs.replace(item, outcome=msgspec.structs.replace(failure, fingerprint=made))


def _print(found: Sequence[Copied]) -> None:
    columns = ("what", "read", "added", "there already", "refused", "in TO now")
    rows = [tuple(str(value) for value in msgspec.structs.astuple(one)) for one in found]
    output.table(columns, rows, right=(1, 2, 3, 4, 5), wrap=0)
