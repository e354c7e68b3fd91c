"""A check of the embedded store's file. Nothing is made and nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from llmbench.stores import sqlite_catalog, sqlite_schema
from llmbench.stores.findings import Finding, Judge, LeftOut, answers, fail, ok, warn
from llmbench.stores.sqlite_outcomes import time_of, window

_DUPLICATES = """
SELECT provider || '/' || model_id FROM models WHERE enabled GROUP BY provider, model_id HAVING count(*) > 1 LIMIT 10
"""

_WAL = b"\2\2"
"""Bytes 18 and 19 of the file: the versions that writing and reading it take. Only the header tells when the file is
opened as immutable (https://www.sqlite.org/fileformat2.html)."""

_MEGABYTE = 1_000_000
_FAULTS = 5


def findings(path: Path, *, judge: Judge | None = None) -> list[Finding]:
    """Return what is to be said of the file, and with ``judge`` of the rows of its enabled models.

    Raises `StoreUnusable` or `StoreError` if it can't be looked at.
    """
    sqlite_schema.check(path)
    if not path.exists():
        return [ok("store", f"SQLite file {path} is not there yet: it is made when llmbench first needs it")]
    about = [_size(path), _journal(path)]
    with sqlite_schema.reading(path) as connection:
        return [*about, _version(connection), *_tables(connection, judge)]


def _size(path: Path) -> Finding:
    file = path.resolve()
    log = file.with_name(f"{file.name}-wal")
    beside = f", its log {_megabytes(log)}" if log.exists() else ""
    return ok("store", f"SQLite file {path}: {_megabytes(file)}{beside}; SQLite {sqlite3.sqlite_version}")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / _MEGABYTE:.1f} MB"


def _version(connection: sqlite3.Connection) -> Finding:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < sqlite_schema.SCHEMA_VERSION:
        return ok("schema", f"version {version}; the next command brings it to {sqlite_schema.SCHEMA_VERSION}")
    return ok("schema", f"version {version}")


def _journal(path: Path) -> Finding:
    with path.open("rb") as file:
        header = file.read(20)
    if header[18:20] == _WAL:
        return ok("journal", "write-ahead log, synchronised with each commit")
    return warn("journal", "no write-ahead log", "nothing: llmbench switches to one with its next command")


def _tables(connection: sqlite3.Connection, judge: Judge | None) -> Iterator[Finding]:
    faults = _faults(connection)
    if faults != ["ok"]:
        yield fail("integrity", "; ".join(faults), "stop the engine and restore a backup")
        return
    yield ok("integrity", "PRAGMA quick_check found nothing")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'models'").fetchone():
        return
    names = [name for (name,) in connection.execute(_DUPLICATES)]
    if names:
        yield fail("duplicates", f"enabled more than once: {', '.join(names)}", "restore a backup")
    else:
        yield ok("duplicates", "no model is enabled twice")
    yield from answers([_left_out(connection, table) for table in ("samples", "failures")])
    if judge is not None:
        yield from judge(sqlite_catalog.models(connection, None, True))


def _left_out(connection: sqlite3.Connection, table: str) -> LeftOut:
    values = window(None)

    def count(condition: str) -> int:
        found = connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}", values)  # noqa: S608 - from above
        return int(found.fetchone()[0])

    future = connection.execute(
        f"SELECT run_ts, runner_id FROM {table} WHERE run_ts >= :end ORDER BY run_ts DESC LIMIT 1",  # noqa: S608
        values,
    ).fetchone()
    return LeftOut(
        of=table,
        unnamed=count("provider = '' OR model_name = ''"),
        undated=count("run_ts < :since"),
        future=count("run_ts >= :end"),
        newest=None if future is None else time_of(future[0]),
        runner=None if future is None else future[1],
    )


def _faults(connection: sqlite3.Connection) -> list[str]:
    try:
        return [fault for (fault,) in connection.execute(f"PRAGMA quick_check({_FAULTS})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        return [str(error)]  # damaged so much that it can't even be checked
