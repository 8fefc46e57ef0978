"""Times as they are said, and where the store is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from halotui.commands import keeping
from halotui.config import Settings
from halotui.exits import UsageError

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("60", 60),
        ("90s", 90),
        ("5m", 300),
        ("8h", 28800),
        ("2d", 172800),
        ("1.5h", 5400),
        (".5", 0.5),
        (" 7m ", 420),
    ],
)
def test_lengths(said: str, value: float) -> None:
    assert keeping.seconds(said) == value


@pytest.mark.parametrize(
    "said", ["", "0", "-5", "5w", "h", "1e3", "nan", "inf", "٣", "5m5", "9" * 400, "\x1b[2J"]
)
def test_no_lengths(said: str) -> None:
    with pytest.raises(UsageError, match="no length of time") as caught:
        keeping.seconds(said)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("said", "ago"), [("7d", 604800), ("12h", 43200), ("90m", 5400), ("30s", 30)])
def test_moments_ago(said: str, ago: float) -> None:
    assert keeping.moment(said, NOW) == NOW - ago


def test_dates_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # +5:30, all year
    time.tzset()
    try:
        midnight = datetime(2026, 10, 31, 18, 30, tzinfo=UTC).timestamp()
        assert keeping.moment("2026-11-01", NOW) == midnight
        assert keeping.moment("2026-11-01T12:00", NOW) == midnight + 12 * 3600
        assert keeping.moment("2026-11-01 12:00:30", NOW) == midnight + 12 * 3600 + 30
        assert keeping.moment("2026-11-01T12:00+00:00", NOW) == midnight + 17.5 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("said", ["", "60", "2026", "yesterday", "2026-13-01", "12:00", "0d", "d"])
def test_no_moments(said: str) -> None:
    with pytest.raises(UsageError, match="no time like"):
        keeping.moment(said, NOW)


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keeping.open_store({}, Settings()).close()
    assert (tmp_path / "halotui/store.sqlite").is_file()
    keeping.open_store({"store": tmp_path / "mine/own.db"}, Settings()).close()
    assert (tmp_path / "mine/own.db").is_file()
    keeping.open_store({"store": tmp_path / "none/own.db"}, Settings(), readonly=True).close()
    assert not (tmp_path / "none").exists()


def test_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keeping.try_store({"store": tmp_path / "own.db", "no_store": True}, Settings()) is None
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert keeping.try_store({"store": tmp_path}, Settings()) is None
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err == f"halotui: nothing will be kept: {tmp_path} is a directory (name a file with --store)\n"
    store = keeping.try_store({"store": tmp_path / "own.db"}, Settings())
    assert store is not None
    store.close()
