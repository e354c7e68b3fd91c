"""A process that does nothing but store: outcomes in batches, one after the other, into an empty database."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import anyio
import msgspec

from llmbench.ids import new_outcome_id
from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.messages import Envelope, Outcome
from llmbench.secrets import Secret
from llmbench.stores.base import Store
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import envelope, failure, moment, sample

_MODELS = 20
_FAILURES = 10
"""One outcome in so many is a failure."""


class Result(msgspec.Struct, frozen=True):
    """The seconds that all puts took, and the resident memory in bytes after a tenth of them and at the end."""

    seconds: float
    before: int
    after: int


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=("sqlite", "mongo"), required=True)
    parser.add_argument("--at", required=True, help="a folder, or a URI")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--outcomes", type=int, required=True)
    options = parser.parse_args()
    made = made_store(options.store, options.at)
    result = anyio.run(_put_all, made, options.batch, options.outcomes, backend_options=BACKEND_OPTIONS)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


def made_store(kind: str, place: str) -> Store:
    name = f"llm-bench-{new_outcome_id()}"
    if kind == "mongo":
        return MongoStore(Address(uri=Secret(place), database=name))
    return SQLiteStore(Path(place) / f"{name}.db")


async def _put_all(store: Store, size: int, outcomes: int) -> Result:
    await store.open()
    seconds, stored, before = 0.0, 0, 0
    while stored < outcomes:
        batch = [outcome_of(number) for number in range(stored, min(stored + size, outcomes))]
        began = time.perf_counter()
        verdicts = await store.put(batch)
        seconds += time.perf_counter() - began
        assert {verdict.status for verdict in verdicts} == {"stored"}
        stored += len(batch)
        if not before and stored >= outcomes / 10:
            before = _resident()
    after = _resident()
    await store.close()
    return Result(seconds, before, after)


def outcome_of(number: int) -> Envelope:
    changes = {"model_name": f"model-{number % _MODELS}", "run_ts": moment(number / 60)}
    outcome: Outcome = failure(**changes) if number % _FAILURES == 0 else sample(**changes)
    return envelope(outcome)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    main()
