"""A big history, generated: the same runs of 300 models at 10 providers in SQLite or in MongoDB.

Documents are whole but for the list of gaps, which is cut short. Rollups are left out: no question that is timed asks
for them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import msgspec
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.messages import Failure, Outcome, Sample
from llmbench.secrets import Secret
from llmbench.stores import sqlite_outcomes
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits
from llmbench.stores.sqlite_schema import connect
from tests.stores.documents import failure, sample

DAYS = 30
_MODELS = [(f"provider-{n % 10}", f"family-{n // 10}/model-{n}-instruct") for n in range(300)]
_KINDS = ("rate_limit", "timeout", "transient_provider", "network", "auth", "token_mismatch", "local")
_BATCH = 10_000


class History(msgspec.Struct, frozen=True):
    """So many successes and failures, spread evenly over the last `DAYS` days."""

    samples: int = 1_000_000
    failures: int = 200_000

    def outcomes(self) -> Iterator[Outcome]:
        """Yield every run, the oldest of each sort first; the same every time but for the dates."""
        chance = random.Random(1)
        end = datetime.now(UTC).replace(microsecond=0)
        for n in range(self.samples):
            yield _sample(chance, _at(end, n, self.samples), n)
        for n in range(self.failures):
            yield _failure(chance, _at(end, n, self.failures), self.samples + n)


def _at(end: datetime, n: int, count: int) -> datetime:
    return end - timedelta(milliseconds=round((count - n) / count * DAYS * 86_400_000))


def _id(when: datetime, n: int) -> str:
    return f"{int(when.timestamp()):08x}{n:016x}"


_SAMPLE = sample(times_between_tokens=[0.013, 0.014, 0.012])
_FAILURE = failure(traceback=None)


def _sample(chance: random.Random, when: datetime, n: int) -> Sample:
    provider, model_name = chance.choice(_MODELS)
    return msgspec.structs.replace(
        _SAMPLE,
        id=_id(when, n),
        run_ts=when,
        gen_ts=when,
        provider=provider,
        model_name=model_name,
        tokens_per_second=chance.lognormvariate(4, 0.6),
        time_to_first_token=None if chance.random() < 0.02 else chance.lognormvariate(-1, 0.5),
        resolution="coarse" if chance.random() < 0.05 else "fine",
    )


def _failure(chance: random.Random, when: datetime, n: int) -> Failure:
    provider, model_name = chance.choice(_MODELS)
    kind, wording = chance.choice(_KINDS), chance.randrange(3)
    return msgspec.structs.replace(
        _FAILURE,
        id=_id(when, n),
        run_ts=when,
        ts=when,
        provider=provider,
        model_name=model_name,
        error_kind=kind,
        message=f"Error {wording} of kind {kind}, request {n}",
        fingerprint=hashlib.sha256(f"{provider}\n{model_name}\n{kind}\n{wording}".encode()).hexdigest(),
    )


def fill_sqlite(path: Path, history: History) -> None:
    """Make a file of the current schema and fill it in one transaction."""
    with closing(connect(path, 5.0)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for batch in _batches(history.outcomes()):
            for kind in (Sample, Failure):
                rows = [_row(one) for one in batch if isinstance(one, kind)]
                connection.executemany(sqlite_outcomes._INSERT[kind], rows)  # noqa: SLF001  the store's own statement
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _row(outcome: Outcome) -> dict[str, Any]:
    document = msgspec.json.encode(outcome).decode()
    run_ts = sqlite_outcomes.microseconds(outcome.run_ts)
    return {**msgspec.structs.asdict(outcome), "run_ts": run_ts, "publish": 1, "digest": b"", "document": document}


def fill_mongo(uri: str, database: str, history: History) -> None:
    """Fill an empty database, then have the store make its indexes and wait for them."""
    with MongoClient[dict[str, Any]](uri) as client:
        for batch in _batches(history.outcomes()):
            for kind, name in ((Sample, "metrics_cloud_v2"), (Failure, "errors_cloud")):
                documents = [_document(one) for one in batch if isinstance(one, kind)]
                if documents:
                    client[database][name].insert_many(documents, ordered=False)
    anyio.run(_index, Address(uri=Secret(uri), database=database))


def _document(outcome: Outcome) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(outcome, builtin_types=(datetime,))
    return {**made, "_id": ObjectId(outcome.id)}


async def _index(address: Address) -> None:
    store = MongoStore(address, Limits(indexing=600.0))
    await store.open()
    await store.close()


def _batches(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    iterator = iter(outcomes)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
