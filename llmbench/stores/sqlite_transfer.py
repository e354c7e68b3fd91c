"""What moving everything out of the embedded store, or into it, takes beside `put`: pages, counts, whole rollups."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from llmbench.messages import Envelope
from llmbench.stores.base import ErrorRollup, Page, Part, StoreError, Verdict
from llmbench.stores.sqlite_outcomes import SAMPLE_MESSAGES, microseconds, read_outcome, read_rollup
from llmbench.stores.sqlite_schema import transaction

_TABLES: dict[Part, tuple[str, str]] = {
    "samples": ("samples", "publish"),
    "probes": ("samples", "NOT publish"),
    "failures": ("failures", "true"),
}

_ONE = """
SELECT fingerprint, provider, model_name, stage, error_kind, first_seen, last_seen, count, sample_messages
FROM error_rollups WHERE fingerprint = ?
"""

# Names its own columns only, as counting does.
_PUT = """
INSERT INTO error_rollups (
    fingerprint, provider, model_name, stage, error_kind, first_seen, last_seen, count, sample_messages
) VALUES (:fingerprint, :provider, :model_name, :stage, :error_kind, :first_seen, :last_seen, :count, :sample_messages)
ON CONFLICT (fingerprint) DO UPDATE SET
    first_seen = excluded.first_seen,
    last_seen = excluded.last_seen,
    count = excluded.count,
    sample_messages = excluded.sample_messages
"""


def page(connection: sqlite3.Connection, part: Part, after: Any, size: int) -> Page:
    """Return outcomes of a part in the order of their ids; see `llmbench.stores.base.Store.page`."""
    table, condition = _TABLES[part]
    rows = connection.execute(
        f"SELECT id, document, publish FROM {table} "  # noqa: S608 - the names above, no input
        f"WHERE id > :after AND {condition} ORDER BY id LIMIT :size",
        {"after": "" if after is None else after, "size": size},
    ).fetchall()
    items: list[Envelope] = []
    unreadable: list[Verdict] = []
    for key, document, publish in rows:
        try:
            items.append(Envelope(outcome=read_outcome(table, key, document), publish=bool(publish)))
        except StoreError as error:
            unreadable.append(Verdict(key, "rejected", str(error)))
    return Page(items, rows[-1][0] if len(rows) == size else None, unreadable)


def counts(connection: sqlite3.Connection) -> dict[Part, int]:
    """Return how many outcomes each part has."""
    return {
        part: connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]  # noqa: S608 - as above
        for part, (table, condition) in _TABLES.items()
    }


def put_rollup(connection: sqlite3.Connection, rollup: ErrorRollup) -> bool:
    """Take over what a rollup tells; see `llmbench.stores.base.Store.put_rollup`."""
    with transaction(connection, "IMMEDIATE"):
        row = connection.execute(_ONE, (rollup.fingerprint,)).fetchone()
        known = None if row is None else read_rollup(row)
        new = rollup if known is None else known.joined_with(rollup, SAMPLE_MESSAGES)
        if new == known:
            return False
        values = msgspec.structs.asdict(new)
        values.update(
            first_seen=microseconds(new.first_seen),
            last_seen=microseconds(new.last_seen),
            sample_messages=msgspec.json.encode(new.sample_messages).decode(),
        )
        connection.execute(_PUT, values)
        return True
