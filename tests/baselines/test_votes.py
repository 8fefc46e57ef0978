"""What a baseline was measured on: what most of it was, so that an upgrade stays to be seen."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from halotui.ledger import Observation, Software
from halotui.store.ledger import MAJORITY, SqliteLedger
from rules.usual import baseline

KEY = baseline().key
OLD, NEW = Software(kernel="6.18.9"), Software(kernel="6.19.2")


def learn(ledger: SqliteLedger, software: Software, count: int, start: float = 0.0) -> Software:
    for i in range(count):
        ledger.learn([(KEY, Observation(time=start + 60.0 * i, value=40.0 + i / 100))], software)
    (one,) = ledger.baselines()
    assert 0 < one.votes <= MAJORITY
    return one.software


def test_the_first_numbers_after_an_upgrade_do_not_hide_it(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "store.db")
    assert learn(ledger, OLD, 12) == OLD
    assert learn(ledger, NEW, 8, 1e5) == OLD
    assert learn(ledger, Software(), 8, 2e5) == OLD  # not known: no vote
    assert learn(ledger, NEW, 6, 3e5) == NEW  # and yet it is followed
    ledger.close()


def test_a_row_without_votes_is_as_many_as_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ledger = SqliteLedger(path)
    learn(ledger, OLD, 20)
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute('UPDATE baselines SET software = \'{"kernel":"6.18.9"}\'')
    connection.close()
    ledger = SqliteLedger(path)
    assert ledger.baselines()[0].software == OLD
    assert learn(ledger, NEW, 10, 1e5) == OLD
    ledger.close()
