"""The tables, and the steps from each version of them to the next.

A version is for what an older halotui could not read or must not write: a table, a column, a new word for
``kind`` or ``status``. Within one version a newer halotui may only add keys with a default to the JSON
columns; an older one ignores them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from halotui.runs import StoreError

APPLICATION_ID = 0x48414C4F  # "HALO", in the file's header
PAGE = 4096  # bytes
BUSY_SECONDS = 10.0  # how long another halotui may be writing

Migrations = Mapping[int, tuple[str, ...]]

# JSON is kept as ASCII: command lines hold any bytes, which Python keeps as lone surrogates.
MIGRATIONS: Migrations = {
    1: (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "CREATE TABLE environments (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL)",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice
            kind TEXT NOT NULL,
            status TEXT NOT NULL,
            label TEXT NOT NULL,
            suite TEXT NOT NULL,
            series TEXT NOT NULL,
            item TEXT NOT NULL,
            started_time REAL NOT NULL,
            seconds REAL,
            exit_code INTEGER,
            reason TEXT NOT NULL,
            command TEXT NOT NULL,  -- JSON, as all below but the owner
            env TEXT NOT NULL,
            evidence TEXT NOT NULL,
            summary TEXT,
            environment INTEGER REFERENCES environments (id),
            owner_pid INTEGER,  -- of a run that is running: see hands.Identity
            owner_ticks INTEGER,
            owner_boot TEXT
        )""",
        "CREATE INDEX runs_started ON runs (started_time)",
        "CREATE INDEX runs_series ON runs (series) WHERE series != ''",
        "CREATE INDEX runs_running ON runs (id) WHERE status = 'running'",
        "CREATE INDEX runs_environment ON runs (environment)",
        """CREATE TABLE results (
            run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            n INTEGER NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (run, n)
        ) WITHOUT ROWID""",
        """CREATE TABLE marks (
            run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            n INTEGER NOT NULL,
            time REAL NOT NULL,
            label TEXT NOT NULL,
            PRIMARY KEY (run, n)
        ) WITHOUT ROWID""",
        "CREATE TABLE columns (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE)",
        """CREATE TABLE samples (
            run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            n INTEGER NOT NULL,
            stored_time REAL NOT NULL,  -- Unix seconds, just after the last of them was taken
            columns INTEGER NOT NULL REFERENCES columns (id),
            body BLOB NOT NULL,  -- see packing
            PRIMARY KEY (run, n)
        ) WITHOUT ROWID""",
    ),
    2: (
        """CREATE TABLE baselines (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,  -- JSON
            metric TEXT NOT NULL,
            model TEXT NOT NULL,
            count INTEGER NOT NULL,
            first_time REAL NOT NULL,
            last_time REAL NOT NULL,
            observations BLOB NOT NULL,  -- JSON, deflated
            software TEXT NOT NULL  -- JSON
        )""",
        "CREATE INDEX baselines_last ON baselines (last_time)",
        """CREATE TABLE incidents (
            id INTEGER PRIMARY KEY,
            rule TEXT NOT NULL,
            subject TEXT NOT NULL,
            host TEXT NOT NULL,
            since_time REAL NOT NULL,
            until_time REAL,
            severity TEXT NOT NULL,
            title TEXT NOT NULL,
            evidence TEXT NOT NULL
        )""",
        "CREATE INDEX incidents_since ON incidents (since_time)",
        """CREATE TABLE silences (
            rule TEXT NOT NULL,
            subject TEXT NOT NULL,
            until_time REAL,
            PRIMARY KEY (rule, subject)
        ) WITHOUT ROWID""",
    ),
}


def check(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> int:
    """The version of what is there, 0 for a file that is still empty. Raises StoreError for one of a newer
    halotui or of another program, sqlite3.Error for one that cannot be read. Writes nothing."""
    found, newest = _number(connection, "user_version"), max(migrations)
    whose = _number(connection, "application_id")
    if whose != APPLICATION_ID and (whose or found or _number(connection, "schema_version")):
        raise StoreError(f"{path} belongs to another program", "name another file with --store")
    if found > newest:
        raise StoreError(
            f"{path} was written by a newer halotui (schema {found}, this one knows {newest})",
            "update halotui, or name another file with --store; nothing was touched",
        )
    return found


def upgrade(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    """Make the tables, or take them through each step that is missing: all of them or none.

    Raises StoreError and sqlite3.Error.
    """
    there = check(connection, path, migrations)
    if not there:  # heeded before the first table alone; later it would be a write at every opening
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    journal = _patiently(connection, "PRAGMA journal_mode = WAL")
    if journal != "wal":  # a file system without shared memory: there a commit is not an append
        connection.execute("PRAGMA synchronous = EXTRA")
    if there == max(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = check(connection, path, migrations)  # another one may have been quicker
        for version in range(found + 1, max(migrations) + 1):
            for statement in migrations[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _patiently(connection: sqlite3.Connection, statement: str) -> object:
    """SQLite does not wait by itself where several turn one new file to WAL at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return connection.execute(statement).fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
