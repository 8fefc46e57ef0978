"""Between the structs of ``runs`` and the rows of the tables."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from halotui.hosts.hands import Identity
from halotui.runs import Environment, Kind, Mark, Result, Run, Samples, Status, Summary
from halotui.store import packing

T = TypeVar("T")

_RUN = (
    "SELECT runs.id, kind, status, label, suite, series, item, started_time, seconds, exit_code, reason,"
    " command, env, evidence, summary, environments.body"
    " FROM runs LEFT JOIN environments ON environments.id = runs.environment WHERE runs.id = ?"
)


def to_json(value: object) -> str:
    """ASCII: what is no text in a command line stays what it was."""
    return json.dumps(msgspec.to_builtins(value))


def to_text(text: str) -> str:
    """As SQLite can keep it: a byte that is no text becomes ``?``."""
    return text.encode(errors="replace").decode()


def insert(connection: sqlite3.Connection, run: Run, owner: Identity | None) -> int:
    """A new run with all that is in it; its id."""
    values: dict[str, Any] = {
        "kind": str(run.kind),
        "label": to_text(run.label),
        "suite": to_text(run.suite),
        "series": to_text(run.series),
        "item": to_text(run.item),
        "started_time": run.started_time,
        "command": to_json(run.command),
        "env": to_json(run.env),
        "owner_pid": owner.pid if owner else None,
        "owner_ticks": owner.ticks if owner else None,
        "owner_boot": owner.boot if owner else None,
        **_end(connection, run),
    }
    places = ", ".join("?" * len(values))
    added = connection.execute(
        f"INSERT INTO runs ({', '.join(values)}) VALUES ({places})", [*values.values()]
    )
    assert added.lastrowid
    _add_parts(connection, added.lastrowid, run)
    return added.lastrowid


def end(connection: sqlite3.Connection, id_: int, run: Run) -> bool:
    """How a run ended; what is stored of it already stays, unless it is told anew and whole. False when there
    is none of that id."""
    values = {"owner_pid": None, "owner_ticks": None, "owner_boot": None, **_end(connection, run)}
    for name in ("label", "summary", "environment"):
        if not values[name]:
            del values[name]
    places = ", ".join(f"{name} = ?" for name in values)
    if not connection.execute(f"UPDATE runs SET {places} WHERE id = ?", [*values.values(), id_]).rowcount:
        return False
    _add_parts(connection, id_, run)
    return True


def add_result(connection: sqlite3.Connection, id_: int, result: Result) -> None:
    connection.execute(
        "INSERT INTO results SELECT ?, coalesce(max(n), 0) + 1, ? FROM results WHERE run = ?",
        (id_, to_json(result), id_),
    )


def add_mark(connection: sqlite3.Connection, id_: int, mark: Mark) -> None:
    connection.execute(
        "INSERT INTO marks SELECT ?, coalesce(max(n), 0) + 1, ?, ? FROM marks WHERE run = ?",
        (id_, mark.time, to_text(mark.label), id_),
    )


def add_samples(connection: sqlite3.Connection, id_: int, samples: Samples, time: float) -> None:
    columns = to_json(samples.columns)
    connection.execute("INSERT OR IGNORE INTO columns (body) VALUES (?)", (columns,))
    connection.execute(
        "INSERT INTO samples SELECT ?, coalesce(max(n), 0) + 1, ?, (SELECT id FROM columns WHERE body = ?), ?"
        " FROM samples WHERE run = ?",
        (id_, time, columns, packing.pack(samples), id_),
    )


def load(connection: sqlite3.Connection, id_: int) -> Run | None:
    """A run, whole. A part that is damaged is left out, and said so in ``evidence``."""
    row = connection.execute(_RUN, (id_,)).fetchone()
    if row is None:
        return None
    damaged: list[str] = []

    def part(name: str, text: str | None, kind: type[T], default: T) -> T:
        try:
            return default if text is None else msgspec.convert(json.loads(text), kind)
        except (msgspec.ValidationError, ValueError, TypeError, RecursionError):
            damaged.append(f"the store: {name} of this run cannot be read")
            return default

    results = connection.execute("SELECT body FROM results WHERE run = ? ORDER BY n", (id_,))
    marks = connection.execute("SELECT time, label FROM marks WHERE run = ? ORDER BY n", (id_,))
    summary, environment = part("summary", row[14], _SUMMARY, None), part("environment", row[15], _BOX, None)
    found = [part(f"result {n}", body, _RESULT, None) for n, (body,) in enumerate(results, 1)]
    return Run(
        id=row[0],
        kind=Kind(row[1]),
        status=Status(row[2]),
        label=row[3],
        suite=row[4],
        series=row[5],
        item=row[6],
        started_time=row[7],
        seconds=row[8],
        exit_code=row[9],
        reason=row[10],
        command=part("command", row[11], tuple[str, ...], ()),
        env=part("env", row[12], dict[str, str], {}),
        environment=environment,
        results=tuple(one for one in found if one),
        summary=summary,
        marks=tuple(Mark(time=time, label=label) for time, label in marks),
        evidence=(*part("evidence", row[13], tuple[str, ...], ()), *damaged),
    )


_SUMMARY: Any = Summary | None
_BOX: Any = Environment | None
_RESULT: Any = Result | None


def _end(connection: sqlite3.Connection, run: Run) -> dict[str, Any]:
    return {
        "label": to_text(run.label),
        "status": str(run.status),
        "seconds": run.seconds,
        "exit_code": run.exit_code,
        "reason": to_text(run.reason),
        "evidence": to_json(run.evidence),
        "summary": to_json(run.summary) if run.summary else None,
        "environment": _environment(connection, run.environment) if run.environment else None,
    }


def _environment(connection: sqlite3.Connection, box: Environment) -> int:
    """Kept once, however many runs were made on it."""
    body = to_json(box)
    digest = hashlib.sha256(body.encode()).digest()
    connection.execute("INSERT OR IGNORE INTO environments (digest, body) VALUES (?, ?)", (digest, body))
    return int(connection.execute("SELECT id FROM environments WHERE digest = ?", (digest,)).fetchone()[0])


def _add_parts(connection: sqlite3.Connection, id_: int, run: Run) -> None:
    """Those results and marks that are not there yet. As many results as there are take their place: what the
    end of the output tells of all of them, as their build, is in them."""
    there = Counter(body for (body,) in connection.execute("SELECT body FROM results WHERE run = ?", (id_,)))
    if there and len(run.results) >= there.total():
        connection.execute("DELETE FROM results WHERE run = ?", (id_,))
        there.clear()
    for result in _more(run.results, there, to_json):
        add_result(connection, id_, result)
    marks = connection.execute("SELECT time, label FROM marks WHERE run = ?", (id_,))
    for mark in _more(run.marks, Counter(marks), lambda mark: (mark.time, to_text(mark.label))):
        add_mark(connection, id_, mark)


def _more(items: Iterable[T], there: Counter[Any], key: Any) -> Iterable[T]:
    for item in items:
        if there[key(item)]:
            there[key(item)] -= 1
        else:
            yield item
