"""A connection that is used by one at a time, and its transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halotui.runs import StoreError
from halotui.store import errors, opening


class Connected:
    """What the store and the ledger have in common."""

    def __init__(self, path: Path, *, readonly: bool) -> None:
        """Raises StoreError."""
        self._path = path
        self._readonly = readonly
        self._closed = False
        self._lock = threading.RLock()
        self._connection = opening.to_read(path) if readonly else opening.to_write(path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):  # what was committed is in the journal
                    connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """None for a file that is not there."""
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._path} has been closed")
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise errors.of_sqlite(error, self._path) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk when this ends, or nothing."""
        with self._reading() as connection:
            if self._readonly or connection is None:
                raise StoreError(f"{self._path} was opened for reading only")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
