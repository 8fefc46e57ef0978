"""SQLite's errors as one line that says what is wrong, and one that says what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from halotui.runs import StoreError

_ELSEWHERE = "name another file with --store"
_DAMAGED = "it is left as it is; move it away to begin anew, `sqlite3 FILE .recover` may save what is in it"
_ROOM = 64 * 1024  # less than this left: the disk is full, whatever SQLite calls it

_TOLD = {
    sqlite3.SQLITE_NOTADB: ("{} is no store: it is not an SQLite file", f"it is left as it is; {_ELSEWHERE}"),
    sqlite3.SQLITE_CORRUPT: ("{} is damaged", _DAMAGED),
    sqlite3.SQLITE_FULL: ("{}: the disk is full", "make room; what was stored is whole"),
    sqlite3.SQLITE_BUSY: ("{}: another program has kept it locked", "wait for it, or end it"),
    sqlite3.SQLITE_LOCKED: ("{}: another program has kept it locked", "wait for it, or end it"),
    sqlite3.SQLITE_READONLY: ("{} may not be written", _ELSEWHERE),
    sqlite3.SQLITE_PERM: ("{} may not be opened", _ELSEWHERE),
    sqlite3.SQLITE_CANTOPEN: ("{} cannot be opened", f"see who may read and write there, or {_ELSEWHERE}"),
    sqlite3.SQLITE_IOERR: ("{}: the disk does not read or write it", "see `dmesg`"),
    sqlite3.SQLITE_CONSTRAINT: ("{}: that run has been deleted meanwhile", ""),
}


def of_sqlite(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # 0: of Python's own module
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _full(path):
        code = sqlite3.SQLITE_FULL
    reason, hint = _TOLD.get(code, (f"{{}}: {error}", ""))
    return StoreError(reason.format(path), hint)


def damaged(path: Path) -> StoreError:
    reason, hint = _TOLD[sqlite3.SQLITE_CORRUPT]
    return StoreError(reason.format(path), hint)


def of_system(error: OSError, path: Path) -> StoreError:
    return StoreError(f"{path}: {error.strerror or error}", _ELSEWHERE)


def _full(path: Path) -> bool:
    try:
        there = os.statvfs(path.parent)
    except OSError:
        return False
    return there.f_bavail * there.f_frsize < _ROOM
