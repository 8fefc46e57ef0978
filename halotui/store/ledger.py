"""The ledger over SQLite, in the store's file. Several halotui may share it, and watch the same servers."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from halotui.ledger import KEPT, Baseline, Incident, Key, Ledger, Observation, Silence, Software
from halotui.store.connected import Connected
from halotui.store.rows import to_json, to_text

_T = TypeVar("_T")

KEYS = 400  # baselines kept, 50 KB each in memory: those that were learned of longest ago go
INCIDENTS = 10_000
INCIDENT_SECONDS = 400 * 24 * 3600.0
SAME_SECONDS = 5.0  # two halotui see the same a moment apart: a finding begin, a request end
MAJORITY = KEPT // 2  # votes that the usual software may gather
LONGEST = 1 << 24  # bytes of the observations of one key, inflated: KEPT of them are a hundredth of it

_BASELINE = "id, key, count, first_time, last_time, observations, software"
_KEY = msgspec.json.Decoder(Key)
_OBSERVATIONS = msgspec.json.Decoder(tuple[Observation, ...])
_UNREADABLE = (ValueError, TypeError, RecursionError, zlib.error)  # msgspec's are ValueErrors


class _Elected(Software, frozen=True, kw_only=True, omit_defaults=True):
    """As a row keeps it; one without votes is of a time when the last observation decided."""

    votes: int = 0


_SOFTWARE = msgspec.json.Decoder(_Elected)


def open_ledger(path: Path, *, readonly: bool = False) -> Ledger:
    """The ledger in ``path``, made if it is not there; for reading only, one that is not there is empty.
    Raises StoreError, and leaves a file that it cannot read as it is."""
    return SqliteLedger(path, readonly=readonly)


class SqliteLedger(Connected):
    """See ``ledger.Ledger``. A row that is damaged costs that row alone."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        super().__init__(path, readonly=readonly)
        self._read: dict[int, tuple[tuple[int, float], Baseline | None]] = {}  # by row, as it was then
        self._version: int | None = None
        self.changed()

    def baselines(self) -> list[Baseline]:
        """Only rows that are not what they were are read anew."""
        with self._reading() as connection:
            if connection is None:
                return []
            heads = connection.execute("SELECT id, count, last_time FROM baselines").fetchall()
            found: dict[int, tuple[tuple[int, float], Baseline | None]] = {}
            for id_, *stamp in heads:
                known = self._read.get(id_)
                if known is None or known[0] != tuple(stamp):
                    row = connection.execute(f"SELECT {_BASELINE} FROM baselines WHERE id = ?", (id_,))
                    known = ((stamp[0], stamp[1]), _baseline(row.fetchone()))
                found[id_] = known
            self._read = found
            return [baseline for _, baseline in found.values() if baseline is not None]

    def learn(self, observed: Sequence[tuple[Key, Observation]], software: Software) -> list[Baseline]:
        by_key: dict[Key, list[Observation]] = {}
        for key, observation in observed:
            by_key.setdefault(key, []).append(observation)
        learned: list[Baseline] = []
        with self._writing() as connection:
            for key, new in by_key.items():
                text = to_json(key)
                row = connection.execute(f"SELECT {_BASELINE} FROM baselines WHERE key = ?", (text,))
                before = _baseline(row.fetchone())
                after = _merged(before, key, new, software)
                if after is not before:
                    _put(connection, text, after)
                learned.append(after)
            connection.execute(
                "DELETE FROM baselines WHERE id IN"
                " (SELECT id FROM baselines ORDER BY last_time DESC LIMIT -1 OFFSET ?)",
                (KEYS,),
            )
        return learned

    def forget(self, model: str = "") -> int:
        with self._writing() as connection:
            if not model:
                return connection.execute("DELETE FROM baselines").rowcount
            return connection.execute("DELETE FROM baselines WHERE model = ?", (to_text(model),)).rowcount

    def began(self, incident: Incident) -> None:
        with self._writing() as connection:
            self._note(connection, incident)
            connection.execute(
                "DELETE FROM incidents WHERE since_time < ? OR id IN"
                " (SELECT id FROM incidents ORDER BY since_time DESC LIMIT -1 OFFSET ?)",
                (time.time() - INCIDENT_SECONDS, INCIDENTS),
            )

    def ended(self, incident: Incident) -> None:
        with self._writing() as connection:
            self._note(connection, incident)

    def incidents(self, since: float, until: float, limit: int = 1000) -> list[Incident]:
        """Those that any of that time saw, as far as is known."""
        with self._reading() as connection:
            if connection is None:
                return []
            found = connection.execute(
                "SELECT rule, subject, host, since_time, until_time, severity, title, evidence FROM incidents"
                " WHERE since_time < ? AND coalesce(until_time, since_time) >= ?"
                " ORDER BY since_time DESC, id DESC LIMIT ?",
                (until, since, limit),
            )
            names = ("id", "subject", "host", "since_time", "until_time", "severity", "title", "evidence")
            return _structs(found, names, Incident)

    def silences(self) -> list[Silence]:
        with self._reading() as connection:
            if connection is None:
                return []
            found = connection.execute(
                "SELECT rule, subject, until_time FROM silences"
                " WHERE until_time IS NULL OR until_time > ? ORDER BY rule, subject",
                (time.time(),),
            )
            names = ("id", "subject", "until_time")
            return _structs(found, names, Silence)

    def silence(self, silence: Silence) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM silences WHERE until_time <= ?", (time.time(),))
            connection.execute(
                "INSERT OR REPLACE INTO silences VALUES (?, ?, ?)",
                (to_text(silence.id), to_text(silence.subject), silence.until_time),
            )

    def hear(self, id_: str, subject: str = "") -> bool:
        with self._writing() as connection:
            gone = connection.execute(
                "DELETE FROM silences WHERE rule = ? AND subject = ?", (to_text(id_), to_text(subject))
            )
            return gone.rowcount > 0

    def changed(self) -> bool:
        with self._reading() as connection:
            if connection is None:
                return False
            before = self._version
            self._version = connection.execute("PRAGMA data_version").fetchone()[0]
            return before != self._version

    def _note(self, connection: sqlite3.Connection, incident: Incident) -> None:
        """The row of the same finding, which another halotui may have seen a moment before, or a new one."""
        who = (to_text(incident.id), to_text(incident.subject), to_text(incident.host))
        words = (to_text(incident.severity), to_text(incident.title), to_text(incident.evidence))
        since = incident.since_time
        same = connection.execute(
            "SELECT id FROM incidents WHERE rule = ? AND subject = ? AND host = ?"
            " AND since_time BETWEEN ? AND ? ORDER BY abs(since_time - ?) LIMIT 1",
            (*who, since - SAME_SECONDS, since + SAME_SECONDS, since),
        ).fetchone()
        if same is not None:
            if incident.until_time is not None:  # the worst that it was stays: it may have eased before
                end = "UPDATE incidents SET until_time = ? WHERE id = ?"
                connection.execute(end, (incident.until_time, same[0]))
            else:
                worse = "until_time = NULL, severity = ?, title = ?, evidence = ?"
                connection.execute(f"UPDATE incidents SET {worse} WHERE id = ?", (*words, same[0]))
            return
        connection.execute(
            "INSERT INTO incidents (rule, subject, host, since_time, until_time, severity, title, evidence)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*who, since, incident.until_time, *words),
        )


def _put(connection: sqlite3.Connection, text: str, baseline: Baseline) -> None:
    values = (
        text,
        baseline.key.metric,
        to_text(baseline.key.setup.model),
        baseline.count,
        baseline.first_time,
        baseline.last_time,
        zlib.compress(to_json(baseline.observations).encode()),
        to_json(_Elected(**msgspec.structs.asdict(baseline.software), votes=baseline.votes)),
    )
    connection.execute(
        "INSERT INTO baselines (key, metric, model, count, first_time, last_time, observations, software)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET count = excluded.count,"
        " first_time = excluded.first_time, last_time = excluded.last_time,"
        " observations = excluded.observations, software = excluded.software",
        values,
    )


def _merged(before: Baseline | None, key: Key, new: Iterable[Observation], software: Software) -> Baseline:
    """What was known, and what is new of it: another halotui may have told of the same request."""
    there = list(before.observations) if before is not None else []
    added = 0
    for one in new:
        if not any(old.value == one.value and abs(old.time - one.time) <= SAME_SECONDS for old in there):
            there.append(one)
            added += 1
    if before is not None and not added:
        return before
    there.sort(key=lambda one: one.time)
    elected, votes = _voted(before, added, software)
    return Baseline(
        key=key,
        count=(before.count if before is not None else 0) + added,
        first_time=min(there[0].time, before.first_time) if before is not None else there[0].time,
        last_time=there[-1].time,
        observations=tuple(there[-KEPT:]),
        software=elected,
        votes=votes,
    )


def _voted(before: Baseline | None, added: int, software: Software) -> tuple[Software, int]:
    """By majority, after Boyer and Moore: the first slow numbers after an upgrade shall not hide it."""
    if before is None or before.software == Software():
        return software, min(added, MAJORITY)
    if software == Software():  # not known: no vote
        return before.software, before.votes
    votes = before.votes or min(before.count, MAJORITY)
    if software == before.software:
        return software, min(votes + added, MAJORITY)
    return (before.software, votes - added) if added < votes else (software, min(added - votes + 1, MAJORITY))


def _baseline(row: tuple[int, str, int, float, float, bytes, str] | None) -> Baseline | None:
    """None where it cannot be read: what is learned next takes its place."""
    if row is None:
        return None
    _, key, count, first, last, packed, software = row
    try:
        observations = _OBSERVATIONS.decode(zlib.decompressobj().decompress(packed, LONGEST))
        elected = _SOFTWARE.decode(software)
        return (
            Baseline(
                key=_KEY.decode(key),
                count=int(count),
                first_time=float(first),
                last_time=float(last),
                observations=observations,
                software=_software(elected),
                votes=elected.votes,
            )
            if observations
            else None
        )
    except _UNREADABLE:
        return None


def _software(elected: _Elected) -> Software:
    return Software(**{name: getattr(elected, name) for name in Software.__struct_fields__})


def _structs(rows: Iterable[tuple[object, ...]], names: tuple[str, ...], kind: type[_T]) -> list[_T]:
    found: list[_T] = []
    for row in rows:
        with suppress(msgspec.ValidationError):  # somebody else's hand
            found.append(msgspec.convert(dict(zip(names, row, strict=True)), kind))
    return found
