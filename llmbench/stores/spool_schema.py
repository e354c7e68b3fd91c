"""The file of the spool: how it is made, opened and checked, and what its errors mean.

One connection has the file to itself (`locking_mode = EXCLUSIVE`): nobody reads along, there is no shared memory
beside it, and SQLite's race of two connections over the log can't happen.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.sqlite_schema import transaction

APPLICATION_ID = 0x6C6C6D73
"""``llms`` in ASCII: SQLite's own mark of whose file this is (`PRAGMA application_id`)."""

SCHEMA_VERSION = 1
PAGE_SIZE = 4096
_ANY_PAGES = 2**30

_SOUND_OUTCOME = """typeof(id) = 'text' AND conflicting IN (0, 1)
        AND state IN ('waiting', 'delivered', 'quarantined')
        AND typeof(since) = 'integer' AND typeof(tries) = 'integer' AND typeof(next_try) = 'integer'
        AND typeof(recorded_at) = 'integer' AND recorded_at BETWEEN 0 AND 253402300799999999
        AND typeof(digest) = 'blob' AND typeof(body) = 'blob'"""
_SOUND_ATTEMPT = """typeof(id) = 'text' AND typeof(opened_at) = 'integer'
        AND typeof(digest) = 'blob' AND typeof(body) = 'blob'"""
_SOUND_HISTORY = "typeof(past) = 'text'"
# Said twice, in the schema and by `check`: SQLite does not check constraints of a file that it may only read.

_SCHEMA = f"""
-- Times are integer microseconds since 1970, UTC. The body is the canonical JSON of an envelope, packed by zlib and
-- decoded only to be delivered; the columns before it say what became of it. Two rows have one id only if the second
-- came with other content: it is "conflicting", and stays in quarantine. Words for the states: no single bad bit makes
-- one of another.
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    conflicting INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    error TEXT,
    recorded_at INTEGER NOT NULL,
    body_version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    CHECK ({_SOUND_OUTCOME})
);
CREATE UNIQUE INDEX outcomes_recorded ON outcomes (id) WHERE conflicting = 0;
CREATE UNIQUE INDEX outcomes_conflicting ON outcomes (id, digest) WHERE conflicting = 1;
CREATE INDEX outcomes_by_state ON outcomes (state, seq, next_try);
CREATE INDEX outcomes_delivered ON outcomes (since) WHERE state = 'delivered';
CREATE INDEX outcomes_quarantined ON outcomes (reason) WHERE state = 'quarantined';

-- Attempts that were begun and have no outcome yet. The body is the failure that each of them becomes if this process
-- ends before they do.
CREATE TABLE attempts (
    id TEXT NOT NULL PRIMARY KEY,
    opened_at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    CHECK ({_SOUND_ATTEMPT})
);

-- What is remembered of each model, as JSON. Names in lower case: two spellings of a model are one model.
CREATE TABLE history (
    provider TEXT NOT NULL,
    model_id TEXT NOT NULL,
    past TEXT NOT NULL,
    PRIMARY KEY (provider, model_id),
    CHECK ({_SOUND_HISTORY})
) WITHOUT ROWID;
"""


class SpoolFull(StoreError):
    """There is no room: the spool has reached its cap, or the disk is full. Nothing was written; trying again is safe.

    The message says which of the two it was.
    """


class SpoolFailed(Exception):
    """The spool's file could not be written: what the last commit left is unknown until the file is checked again.

    Every later call raises this, too. The program should end; the next start checks the file.
    """


class Damaged(Exception):
    """The spool's files can't be trusted; the message is a clause that says what is wrong with them."""


def create(path: Path, last_seq: int = 0) -> None:
    """Make an empty spool, of which every row will have a ``seq`` above this one. There must be nothing at the path.

    All of it is in the file itself, none in a log, when this returns; it is not necessarily durable as a name yet.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        _configure(connection)
        with transaction(connection, "IMMEDIATE"):
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outcomes', ?)", (last_seq,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def connect(path: Path, cap_bytes: int) -> sqlite3.Connection:
    """Open a spool that `check` found sound, for use by one thread, in autocommit mode.

    The file can grow a little beyond its cap: what takes rows away needs room for a moment, too.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = readable
    try:
        _configure(connection)
        pages = cap_bytes // PAGE_SIZE
        connection.execute(f"PRAGMA max_page_count = {pages + max(64, pages // 50)}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def without_cap(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the file grow beyond its cap meanwhile."""
    (pages,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {_ANY_PAGES}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA max_page_count = {pages}")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to look at the file and its log; nothing that they hold is changed."""
    made = [path.with_name(f"{path.name}-shm")]
    if not (log := path.with_name(f"{path.name}-wal")).exists():
        made.append(log)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        with closing(connection):
            connection.text_factory = readable
            connection.execute("PRAGMA cell_size_check = ON")
            yield connection
    finally:
        for file in made:  # SQLite makes them to read by; whoever has the spool's lock has no other connection
            file.unlink(missing_ok=True)


def check(path: Path, committed: int) -> None:
    """Refuse a spool that can't be used: raises `StoreUnusable` for one of a newer llmbench or of another program.

    Raises `Damaged` for one that is not whole, such as one that lacks rows up to ``committed``, a ``seq`` that
    was told to be durable. Nothing is changed.
    """
    try:
        with reading(path) as connection:
            _refuse_unknown(connection, path)
            _check_whole(connection, committed)
    except sqlite3.DatabaseError as error:
        if _code(error) in (0, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise Damaged(f"SQLite can't read it ({error})") from error
        raise


def _refuse_unknown(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise StoreUnusable(
                f"Spool '{path}' belongs to another program; it was left untouched: set spool.folder to another folder"
            )
        raise Damaged("it is an empty database")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"Spool '{path}' has schema version {version}, and this llmbench knows versions up to {SCHEMA_VERSION}; "
            "it was left untouched: use the newer llmbench, or set spool.folder to another folder"
        )


def _check_whole(connection: sqlite3.Connection, committed: int) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(f"SQLite's check says: {verdict}")
    sound_rows = (("outcomes", _SOUND_OUTCOME), ("attempts", _SOUND_ATTEMPT), ("history", _SOUND_HISTORY))
    for table, sound in sound_rows:
        if connection.execute(f"SELECT 1 FROM {table} WHERE NOT ({sound}) LIMIT 1").fetchone():  # noqa: S608 - from here
            raise Damaged(f"a row of its table {table!r} can't be true")
    # The quick check does not compare an index with its table, and rows are found to be delivered by this one.
    tables, index = (
        connection.execute(f"SELECT state, count(*), sum(seq) FROM outcomes {source} GROUP BY state").fetchall()  # noqa: S608 - two names from the next line
        for source in ("NOT INDEXED", "INDEXED BY outcomes_by_state")
    )
    if sorted(tables) != sorted(index):
        raise Damaged("an index does not agree with its table")
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outcomes'").fetchone()
    found = last[0] if last else 0
    if found < committed or last is None:
        raise Damaged(f"it ends with outcome {found}, though {committed} was recorded: its log was cut or is gone")


def _configure(connection: sqlite3.Connection) -> None:
    """Make a commit mean that the machine may crash now."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    # fullfsync: on macOS an ordinary sync leaves the data in the disk's own cache. Elsewhere it means nothing.
    # No automatic checkpoints: SQLite would not tell that one failed.
    for setting in (
        "synchronous = FULL",
        "fullfsync = ON",
        "checkpoint_fullfsync = ON",
        "wal_autocheckpoint = 0",
        "cell_size_check = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {setting}")


def readable(text: bytes) -> str:
    """Return text as it is in the file, also where that is damaged: nothing must fail for a word in a message."""
    return text.decode("utf-8", "replace")


def used_pages(connection: sqlite3.Connection) -> int:
    """Return the pages that hold something; those that were given back don't count, though the file keeps them."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages) - int(free)


def commit(connection: sqlite3.Connection) -> None:
    """End the transaction; it is durable when this returns."""
    connection.execute("COMMIT")


def checkpoint(connection: sqlite3.Connection) -> None:
    """Move the log into the file and cut it to nothing."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def is_full(error: sqlite3.Error) -> bool:
    """Say whether an error means no more than that there is no room."""
    return _code(error) == sqlite3.SQLITE_FULL


def refusal(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Say in the store contract's terms why a spool can't be opened; `StoreError` itself is for what may pass."""
    if isinstance(error, sqlite3.Error):
        full = is_full(error) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE
        passing = full or _code(error) == sqlite3.SQLITE_NOMEM
        text = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    else:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        passing = full or error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        text = f"{error.strerror}: {error.filename!r}" if error.filename is not None else f"{error.strerror}"
    kind = StoreError if passing else StoreUnusable
    what_to_do = "make room on its disk" if full else "set spool.folder to one on a local disk that can be written to"
    return kind(f"Spool '{path}' can't be opened ({text}); {what_to_do}")


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code: the rest of an extended one says where it happened. 0: the module's own error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _statements(script: str) -> Iterator[str]:
    # Not executescript, which commits the transaction that it finds open.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
