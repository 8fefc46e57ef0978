"""The file itself: who may read it, what lies beside it, and a connection to it.

The database file is looked at by ``stat`` alone. To open it and close it again by hand would drop the locks
that SQLite holds on it in this process, and with them the promise that nobody else checkpoints meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote_from_bytes

from halotui.runs import StoreError
from halotui.store import errors, schema

_WAL = "-wal"  # holds what was committed and is not in the database yet
_JOURNAL = "-journal"  # holds what must be taken back
_opening = threading.RLock()  # in this process; others are kept apart by SQLite's locks


def to_write(path: Path) -> sqlite3.Connection:
    """Opened, made or upgraded as needed. Raises StoreError."""
    with _opening, _told(path):
        where = _settled(path)
        if where is None:
            where = path.resolve()
            _make(where)
        connection = _connect(where, "mode=rw")
        with _closing_on_error(connection):
            schema.check(connection, path, schema.MIGRATIONS)
            _check_end(where, path)
            connection.execute("PRAGMA synchronous = FULL")
            schema.upgrade(connection, path, schema.MIGRATIONS)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")  # whether it may be written shows only now
            connection.execute("COMMIT")
        return connection


def to_read(path: Path) -> sqlite3.Connection | None:
    """None when it is not there. Raises StoreError.

    SQLite reads a WAL database through a file in shared memory that it makes beside it. Where that may not be
    made (a read-only or full disk) the database is all there is if it was closed properly, and is read alone.
    """
    with _opening, _told(path):
        where = _settled(path)
        if where is None or not where.stat().st_size:
            return None
        ways = ["mode=rw", "mode=ro"]
        if not _size(where, _WAL) and not _size(where, _JOURNAL):
            ways.append("mode=ro&immutable=1")
        trouble: sqlite3.Error | None = None
        for way in ways:
            connection = _connect(where, way)
            with _closing_on_error(connection):
                try:
                    found = schema.check(connection, path, schema.MIGRATIONS)
                except sqlite3.OperationalError as error:
                    connection.close()
                    trouble = trouble or error
                    continue
                _check_end(where, path)
                if found == max(schema.MIGRATIONS):
                    connection.execute("PRAGMA query_only = ON")
                    return connection
            connection.close()
            to_write(path).close()  # of an older halotui: to be upgraded first
            return to_read(path)
        assert trouble
        raise trouble


def _settled(path: Path) -> Path | None:
    """Where it lies, links followed; None when there is none. Raises StoreError for what cannot be one."""
    where = path.resolve()
    try:
        there = where.stat()
    except FileNotFoundError:
        there = None
    if there and not stat.S_ISREG(there.st_mode):
        kind = "a directory" if stat.S_ISDIR(there.st_mode) else "not a regular file"
        raise StoreError(f"{path} is {kind}", "name a file with --store")
    if not (there and there.st_size) and _size(where, _WAL):  # SQLite would delete it as a leftover
        raise StoreError(
            f"{path} is {'empty' if there else 'not there'}, but what belongs to it lies beside it",
            f"put the file back, or move {where.name}{_WAL} away",
        )
    return where if there else None


def _check_end(where: Path, path: Path) -> None:
    """SQLite takes no notice of a last page that was cut, nor of a file that is shorter than a header. While
    there is a journal it may be that which makes it whole. Raises StoreError."""
    if where.stat().st_size % schema.PAGE and not _size(where, _WAL) and not _size(where, _JOURNAL):
        raise errors.damaged(path)


def _size(path: Path, suffix: str) -> int:
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except FileNotFoundError:
        return 0


def _make(path: Path) -> None:
    """An empty file for nobody else's eyes, in directories likewise, whose entries are on the disk."""
    missing = [one for one in (path.parent, *path.parent.parents) if not one.exists()]
    for directory in reversed(missing):
        directory.mkdir(0o700, exist_ok=True)
        _sync(directory.parent)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote_from_bytes(os.fsencode(path))}?{how}",
        uri=True,
        timeout=schema.BUSY_SECONDS,
        isolation_level=None,  # transactions are begun by hand
        check_same_thread=False,  # one at a time: the store sees to it
    )


@contextmanager
def _closing_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.of_sqlite(error, path) from error
    except OSError as error:
        raise errors.of_system(error, path) from error
    except RuntimeError as error:  # a link that leads to itself
        raise StoreError(f"{path}: {error}") from error
