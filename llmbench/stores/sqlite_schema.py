"""The file of the embedded store: how it is made, opened, brought up to date and refused; what its errors mean."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

from llmbench.files import make_folder
from llmbench.stores.base import StoreError, StoreUnusable

APPLICATION_ID = 0x6C6C6D62
"""``llmb`` in ASCII: SQLite's own mark of whose file this is (`PRAGMA application_id`)."""

_VERSION_1 = """
-- Each outcome is kept whole, as canonical JSON; the columns beside it repeat what questions filter and add up.
-- Times are integer microseconds since 1970, UTC. NOCASE: two spellings of a model are one model.
CREATE TABLE samples (
    id TEXT NOT NULL PRIMARY KEY,
    run_ts INTEGER NOT NULL,
    provider TEXT NOT NULL COLLATE NOCASE,
    model_name TEXT NOT NULL COLLATE NOCASE,
    publish INTEGER NOT NULL,
    sample_role TEXT NOT NULL,
    outcome TEXT NOT NULL,
    benchmark_profile_id TEXT NOT NULL,
    clock TEXT NOT NULL,
    resolution TEXT NOT NULL,
    runner_id TEXT NOT NULL,
    output_tokens INTEGER NOT NULL,
    generate_time REAL NOT NULL,
    tokens_per_second REAL NOT NULL,
    decode_tokens_per_second REAL,
    time_to_first_token REAL,
    inter_token_p95 REAL,
    cost_usd REAL,
    digest BLOB NOT NULL,
    document TEXT NOT NULL
);
-- A row fills a page, its index entry a thirtieth of one: a question about figures is answered from this index alone.
CREATE INDEX samples_by_model ON samples (
    model_name, provider, run_ts, sample_role, outcome, publish, benchmark_profile_id, resolution,
    tokens_per_second, decode_tokens_per_second, time_to_first_token, output_tokens
);
CREATE INDEX samples_by_provider ON samples (provider, run_ts, cost_usd);
CREATE INDEX samples_by_time ON samples (run_ts);

CREATE TABLE failures (
    id TEXT NOT NULL PRIMARY KEY,
    run_ts INTEGER NOT NULL,
    provider TEXT NOT NULL COLLATE NOCASE,
    model_name TEXT NOT NULL COLLATE NOCASE,
    publish INTEGER NOT NULL,
    sample_role TEXT NOT NULL,
    benchmark_profile_id TEXT NOT NULL,
    runner_id TEXT NOT NULL,
    stage TEXT NOT NULL,
    error_kind TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    http_status INTEGER,
    retry_after REAL,
    digest BLOB NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX failures_by_model ON failures (model_name, provider, run_ts, sample_role, error_kind, retry_after);
CREATE INDEX failures_by_provider ON failures (provider, run_ts, error_kind);
CREATE INDEX failures_by_time ON failures (run_ts);

CREATE TABLE error_rollups (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL,
    model_name TEXT NOT NULL,
    stage TEXT NOT NULL,
    error_kind TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sample_messages TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE models (
    provider TEXT NOT NULL COLLATE NOCASE,
    model_id TEXT NOT NULL COLLATE NOCASE,
    enabled INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE UNIQUE INDEX models_enabled ON models (provider, model_id) WHERE enabled;
"""

_VERSION_2 = """
-- Failures of a window are counted, by whatever they have in common, from this index alone.
DROP INDEX failures_by_time;
CREATE INDEX failures_by_window ON failures (run_ts, provider, model_name, error_kind, fingerprint);

-- What is kept of models beside their runs, whole in the column "document" as the rest is.
CREATE TABLE provider_catalog (
    provider TEXT NOT NULL COLLATE NOCASE,
    model_id TEXT NOT NULL COLLATE NOCASE,
    last_seen_at INTEGER NOT NULL,
    in_our_db INTEGER NOT NULL,
    chat INTEGER,
    document TEXT NOT NULL
);
CREATE UNIQUE INDEX provider_catalog_models ON provider_catalog (provider, model_id);

CREATE TABLE bench_discovery_runs (
    provider TEXT NOT NULL COLLATE NOCASE,
    started_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE UNIQUE INDEX bench_discovery_runs_by_provider ON bench_discovery_runs (provider, started_at);
CREATE INDEX bench_discovery_runs_by_time ON bench_discovery_runs (started_at);

CREATE TABLE model_status (
    provider TEXT NOT NULL COLLATE NOCASE,
    model_id TEXT NOT NULL COLLATE NOCASE,
    status TEXT,
    computed_at INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE UNIQUE INDEX model_status_models ON model_status (provider, model_id);

CREATE TABLE deprecation_snapshots (
    provider TEXT NOT NULL COLLATE NOCASE,
    model_id TEXT NOT NULL COLLATE NOCASE,
    deprecation_date INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE UNIQUE INDEX deprecation_snapshots_models ON deprecation_snapshots (provider, model_id, deprecation_date);
"""

MIGRATIONS = (_VERSION_1, _VERSION_2)
"""Step n brings a file of version n to version n + 1. A step that was released is never edited."""

SCHEMA_VERSION = len(MIGRATIONS)

_UNUSABLE = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH})
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, making it and its folder if need be. Raises `StoreUnusable` or `StoreError`.

    The connection is in autocommit mode: a transaction is begun by saying so. It may change threads, since the
    store's calls take turns.
    """
    with errors_of_opening(path):
        if not path.exists():
            _create(path, busy_timeout)
        _check_place(path)
        return _open(path, busy_timeout)


def check(path: Path, busy_timeout: float = 5.0) -> None:
    """Refuse what `connect` would refuse, as far as that shows without making or changing anything.

    Raises `StoreUnusable` or `StoreError`.
    """
    with errors_of_opening(path):
        if not path.exists() and not path.is_symlink():
            _check_folder(path)
            return
        _check_place(path)
        with closing(_reading(path, busy_timeout)) as connection:
            refuse_unknown(connection, path)


@contextmanager
def reading(path: Path, busy_timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Connect to a file that is there, to look at it; nothing is made or changed. Raises like `check`."""
    with errors_of_opening(path), closing(_reading(path.resolve(), busy_timeout)) as connection:
        yield connection


def _reading(path: Path, busy_timeout: float) -> sqlite3.Connection:
    # Without a log beside it, nobody has the file open; "immutable" then keeps SQLite from making a log.
    way = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?{way}", uri=True, timeout=busy_timeout)


def _check_folder(path: Path) -> None:
    missing, folder = next(pair for pair in pairwise((path, *path.parents)) if pair[1].exists())
    try:
        # Permissions alone don't tell: root may do anything, but /proc takes no files from anyone.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(missing)) from error


def _create(path: Path, busy_timeout: float) -> None:
    # The file appears whole or not at all: made under another name, then linked. Otherwise two programs that start
    # together on nothing would meet in the change to WAL, where SQLite does not wait for a lock but fails. No
    # descriptor of ours may ever be closed on a file that SQLite has open: that drops SQLite's locks.
    make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    made = Path(name)
    try:
        _open(made, busy_timeout).close()
        os.link(made, path)
    except FileExistsError:
        pass  # another program was first, and its file is as good
    finally:
        made.unlink()


def identity(path: Path, *, logged: bool = True) -> tuple[tuple[int, int], ...] | None:
    """Return what tells the file and its log from others at their paths, device and inode; None if one is gone.

    Without ``logged`` that is of the file alone, which may have no log. An inode is not given to another file while a
    connection has it open. SQLite keeps the log beside the file that a symbolic link leads to.
    """
    file = path.resolve()
    try:
        found = [place.stat() for place in (file, *([file.with_name(f"{file.name}-wal")] if logged else []))]
    except OSError:
        return None
    return tuple((one.st_dev, one.st_ino) for one in found)


def leave(connection: sqlite3.Connection) -> None:
    """Close the connection to a file that is not at its path any more.

    The log goes into the file first, wherever that is now: a file that was moved is then whole, and no log is left
    that SQLite would take for that of a new file at the path.
    """
    with closing(connection):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _check_place(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreUnusable(f"SQLite file '{path}' is not a regular file; choose the path of a file")
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise StoreUnusable(
                f"SQLite file '{path}' can't be used, because {str(place)!r} is not writable for this user; "
                "SQLite writes the file and, beside it, a log: choose another path or change the permissions"
            )


def _open(path: Path, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        refuse_unknown(connection, path)
        _configure(connection, path)
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_unknown(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreUnusable` for a file of another program, or of a newer llmbench."""
    with transaction(connection, "DEFERRED"):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreUnusable(f"SQLite file '{path}' belongs to another program; choose another path")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"SQLite file '{path}' has schema version {version}, and this llmbench knows versions up to "
            f"{SCHEMA_VERSION}; it was left untouched: use the newer llmbench, or choose another path"
        )


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    """Make a commit mean that the machine may crash now.

    SQLite 3.7.0 to 3.51.2 (except 3.44.6 and 3.50.7) can lose committed pages when one connection resets the log
    during another's second checkpoint in a row. So only the connection that stores outcomes checkpoints as it goes
    (see `checkpoint_from_now_on`), never a command that reads, or changes a model, while the engine runs.
    """
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnusable(
            f"SQLite file '{path}' can't be switched to write-ahead logging (it stays in mode {mode!r}); "
            "choose a path on a local disk"
        )
    # fullfsync: on macOS an ordinary sync leaves the data in the disk's own cache. Elsewhere it means nothing.
    for setting in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def checkpoint_from_now_on(connection: sqlite3.Connection) -> None:
    """Let this connection move the log into the file whenever the log has grown past 1,000 pages (4 MB)."""
    connection.execute("PRAGMA wal_autocheckpoint = 1000")


def _migrate(connection: sqlite3.Connection) -> None:
    if version_of(connection) == SCHEMA_VERSION:
        return
    with transaction(connection, "IMMEDIATE"):
        # Asked again, because another program may have done it while this one waited for the lock.
        for step in MIGRATIONS[version_of(connection) :]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def version_of(connection: sqlite3.Connection) -> int:
    """Return which version of the schema a file has."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _statements(script: str) -> Iterator[str]:
    # Not executescript, which commits the transaction that it finds open.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), "a step of a migration ends with a semicolon"


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Commit at the end of the block, roll back if it raises. ``kind`` is SQLite's: DEFERRED or IMMEDIATE."""
    connection.execute(f"BEGIN {kind}")
    with connection:
        yield


@contextmanager
def errors_of_opening(path: Path) -> Iterator[None]:
    """Say in the contract's terms why a file can't be opened."""
    try:
        with store_errors(path, unusable=_UNUSABLE | {sqlite3.SQLITE_CANTOPEN}):
            yield
    except OSError as error:
        kind = StoreError if error.errno in _PASSING else StoreUnusable
        raise kind(
            f"SQLite file '{path}' can't be opened or created ({error.strerror}: {error.filename!r}); "
            "choose a path on a local disk that this user may write to"
        ) from error


@contextmanager
def store_errors(path: Path, unusable: frozenset[int] = _UNUSABLE) -> Iterator[None]:
    """Say in the contract's terms what SQLite refused. A misuse of the sqlite3 module itself passes through."""
    try:
        yield
    except sqlite3.Error as error:
        if not hasattr(error, "sqlite_errorcode"):
            raise
        raise _in_contract_terms(path, error, unusable) from error


def _in_contract_terms(path: Path, error: sqlite3.Error, unusable: frozenset[int]) -> StoreError:
    code = error.sqlite_errorcode & 0xFF  # the rest of an extended code says where it happened
    if code == sqlite3.SQLITE_NOTADB:
        what = "no SQLite database, or its beginning is damaged"
        return StoreUnusable(f"'{path}' is {what} ({error}); name another file, or restore or move it away")
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreUnusable(f"SQLite file '{path}' is damaged ({error}); restore or move it away")
    if code in unusable:
        return StoreUnusable(f"SQLite file '{path}' can't be written ({error}); check the place and its permissions")
    if code in _LOCKED:
        return StoreError(f"SQLite file '{path}' is locked by another program; try again when that has ended")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"SQLite file '{path}' can't grow ({error}); free some space on its disk")
    return StoreError(f"SQLite file '{path}' failed ({error.sqlite_errorname}: {error}); try again")
