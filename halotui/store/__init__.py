"""What was measured, kept: one SQLite file in the state directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halotui.runs import Store


def open_store(path: Path, *, readonly: bool = False, timeline_days: int = 90) -> Store:
    """The store in ``path``, made if it is not there; for reading only, one that is not there is empty.

    ``timeline_days``: samples of runs that began earlier go, at most once a day; 0 keeps them. Imports
    sqlite3 only now. Raises StoreError, and leaves a file that it cannot read as it is.
    """
    from halotui.store.sqlite import SqliteStore

    return SqliteStore(path, readonly=readonly, timeline_days=timeline_days)
