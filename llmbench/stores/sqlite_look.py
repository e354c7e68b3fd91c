"""The embedded store for whoever only looks: a file that is there, which is neither made nor changed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.sqlite_schema import SCHEMA_VERSION, errors_of_opening, refuse_unknown, version_of


def connect_to_look(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a file for questions only. Raises `StoreError` if there is none, and what `sqlite_schema.connect` raises."""
    with errors_of_opening(path):
        if not path.exists():
            raise StoreError(f"SQLite file '{path}' is not there: nothing has been stored in it yet")
        return _open(path, busy_timeout)


def _open(path: Path, busy_timeout: float) -> sqlite3.Connection:
    # Not "mode=ro": the last to leave brings the log into the file, and an engine may have left before us.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        refuse_unknown(connection, path)
        _refuse_older(connection, path)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def has_log(connection: sqlite3.Connection) -> bool:
    """Say whether changes go into a log beside the file; a copy that SQLite made has none until an engine opens it."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode) == "wal"


def _refuse_older(connection: sqlite3.Connection, path: Path) -> None:
    version = version_of(connection)
    if version < SCHEMA_VERSION:
        raise StoreUnusable(
            f"SQLite file '{path}' has schema version {version}, and this llmbench asks files of version "
            f"{SCHEMA_VERSION}; it was left untouched: an engine of this llmbench brings it up to date"
        )
