"""The store over SQLite. One connection, one user of it at a time; several halotui may share the file.

WAL with ``synchronous=FULL``: a commit is one append and one fsync, 0.5 ms on the ext4 it was measured on,
against 1.3 ms and two and a half times the bytes with a rollback journal; and readers are not in its way.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from halotui.hosts.hands import Identity
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Kind, Mark, Result, Run, Samples, Status, StoreError
from halotui.store import lost, packing, rows
from halotui.store.connected import Connected

DAY = 24 * 3600.0
_PAGES = 512  # given back to the disk at once: 2 MiB
_MOST = 2**63  # SQLite's integers end before it


class SqliteStore(Connected):
    """See ``runs.Store``."""

    def __init__(self, path: Path, *, readonly: bool = False, timeline_days: int = 90) -> None:
        """Raises StoreError."""
        super().__init__(path, readonly=readonly)
        self._hands = LocalHands()
        self._lost: dict[int, Run] = {}  # made LOST here, where that could not be written
        if not readonly and timeline_days:
            with suppress(StoreError):  # another day will do
                self._sweep(timeline_days * DAY)

    def begin(self, run: Run) -> int:
        owner = self._hands.identify(os.getpid())
        now = msgspec.structs.replace(
            run, status=Status.RUNNING, started_time=run.started_time or time.time()
        )
        with self._writing() as connection:
            return rows.insert(connection, now, owner)

    def sink(self, id_: int) -> StoredSink:
        return StoredSink(self, id_)

    def result(self, id_: int, result: Result) -> None:
        with self._writing() as connection:
            rows.add_result(connection, id_, result)

    def mark(self, id_: int, mark: Mark) -> None:
        with self._writing() as connection:
            rows.add_mark(connection, id_, mark)

    def write(self, id_: int, samples: Samples) -> None:
        if samples.seconds:
            with self._writing() as connection:
                rows.add_samples(connection, id_, samples, time.time())

    def finish(self, id_: int, run: Run) -> None:
        """Raises StoreError also for a run that is not there, ValueError for one that still runs."""
        _ended(run)
        with self._writing() as connection:
            if not rows.end(connection, id_, run):
                raise StoreError(f"{self._path}: there is no run {id_} any more")

    def add(self, run: Run) -> int:
        """Raises ValueError for one that still runs."""
        _ended(run)
        with self._writing() as connection:
            return rows.insert(connection, run, None)

    def run(self, id_: int) -> Run | None:
        with self._reading() as connection:
            if connection is None or not 0 < id_ < _MOST:
                return None
            self._settle(connection)
            return self._load(connection, id_)

    def runs(
        self,
        *,
        label: str = "",
        kinds: tuple[Kind, ...] = (),
        statuses: tuple[Status, ...] = (),
        suite: str = "",
        series: str = "",
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        found: list[Run] = []
        with self._reading() as connection:
            if connection is None:
                return found
            self._settle(connection)
            heads = connection.execute(
                "SELECT id, kind, status, label, suite, series FROM runs"
                " WHERE started_time >= ? AND started_time < ? ORDER BY started_time DESC, id DESC",
                (-float("inf") if since is None else since, float("inf") if until is None else until),
            )
            for id_, kind, status, name, of_suite, of_series in heads:
                if limit is not None and len(found) >= limit:
                    break
                if (
                    (not kinds or kind in kinds)
                    and (not statuses or (Status.LOST if id_ in self._lost else status) in statuses)
                    and (not label or fnmatchcase(name, label))
                    and (not suite or fnmatchcase(of_suite, suite))
                    and (not series or of_series == series)
                    and (run := self._load(connection, id_))
                ):
                    found.append(run)
        return found

    def samples(self, id_: int) -> list[Samples]:
        with self._reading() as connection:
            if connection is None or not 0 < id_ < _MOST:
                return []
            return [samples for _, samples in self._blocks(connection, id_)]

    def delete(self, ids: tuple[int, ...]) -> int:
        """One that still runs stays."""
        with self._reading() as connection:
            if connection is not None:
                self._settle(connection)
        with self._writing() as connection:
            gone = connection.executemany(
                "DELETE FROM runs WHERE id = ? AND status != ?",
                [(id_, Status.RUNNING) for id_ in ids if 0 < id_ < _MOST],
            ).rowcount
            connection.execute(
                "DELETE FROM environments WHERE id NOT IN"
                " (SELECT environment FROM runs WHERE environment IS NOT NULL)"
            )
        with suppress(StoreError):  # they are gone; their room comes back another day
            self._give_back()
        return max(0, gone)

    def _load(self, connection: sqlite3.Connection, id_: int) -> Run | None:
        try:
            return self._lost.get(id_) or rows.load(connection, id_)
        except ValueError:
            raise StoreError(
                f"{self._path}: run {id_} cannot be read", f"halotui runs delete {id_} removes it"
            ) from None

    def _blocks(self, connection: sqlite3.Connection, id_: int) -> Iterator[tuple[float, Samples]]:
        """When each was stored, and its samples; a damaged one is left out: the others are whole."""
        names: dict[str, tuple[tuple[str, str], ...]] = {}
        blocks = connection.execute(
            "SELECT stored_time, columns.body, samples.body FROM samples"
            " JOIN columns ON columns.id = samples.columns WHERE run = ? ORDER BY n",
            (id_,),
        )
        for stored, columns, body in blocks:
            with suppress(ValueError):
                if columns not in names:
                    names[columns] = msgspec.json.decode(columns, type=tuple[tuple[str, str], ...])
                yield stored, packing.unpack(names[columns], body)

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Runs whose owner has gone are LOST, in the file where it may be written and in what is told."""
        running = connection.execute(
            "SELECT id, owner_pid, owner_ticks, owner_boot FROM runs WHERE status = 'running'"
        ).fetchall()
        self._lost = {id_: run for id_, run in self._lost.items() if any(id_ == row[0] for row in running)}
        here = self._hands.identify(os.getpid())
        for id_, pid, ticks, boot in running:
            owner = Identity(pid or 0, ticks or 0, boot or "")
            if id_ in self._lost or (pid and self._hands.alive(owner)):
                continue
            run = self._load(connection, id_)
            if run is None:
                continue
            rebooted = here is not None and owner.boot != here.boot
            end = lost.ended(run, self._blocks(connection, id_), rebooted=rebooted)
            self._lost[id_] = end
            if not self._readonly:
                with suppress(StoreError):
                    self._bury(id_, end)
                    del self._lost[id_]

    def _bury(self, id_: int, end: Run) -> None:
        """Unless its owner, or another halotui, has had the last word meanwhile."""
        with self._writing() as connection:
            running = "SELECT 1 FROM runs WHERE id = ? AND status = 'running'"
            if connection.execute(running, (id_,)).fetchone():
                rows.end(connection, id_, end)

    def _sweep(self, age: float) -> None:
        """Samples of runs that began longer ago than ``age`` seconds. Their numbers stay."""
        now = time.time()
        with self._reading() as connection:
            assert connection
            last = connection.execute("SELECT value FROM meta WHERE name = 'swept_time'").fetchone()
            if last and 0 <= now - last[0] < DAY:
                return
            old = connection.execute(
                "SELECT id FROM runs WHERE started_time < ? AND status != 'running'"
                " AND EXISTS (SELECT 1 FROM samples WHERE run = runs.id)",
                (now - age,),
            ).fetchall()
        for id_ in old:  # one at a time: somebody may be measuring
            with self._writing() as connection:
                connection.execute("DELETE FROM samples WHERE run = ?", id_)
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('swept_time', ?)", (now,))
        self._give_back()

    def _give_back(self) -> None:
        """Free pages to the disk, in bites."""
        with self._reading() as connection:
            assert connection
            while connection.execute("PRAGMA freelist_count").fetchone()[0]:
                connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()


class StoredSink:
    """See ``runs.Sink``."""

    def __init__(self, store: SqliteStore, id_: int) -> None:
        self._store = store
        self._id = id_

    def write(self, samples: Samples) -> None:
        with _as_os_error():
            self._store.write(self._id, samples)

    def mark(self, mark: Mark) -> None:
        """Raises OSError."""
        with _as_os_error():
            self._store.mark(self._id, mark)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise OSError(errno.EIO, error.reason) from error


def _ended(run: Run) -> None:
    if run.status is Status.RUNNING:
        raise ValueError("a run that has ended is not RUNNING")
