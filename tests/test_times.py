"""Times as they are typed, to a command and on the screen: one way to read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from halotui import times

NOW = 1_790_000_000.0


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


BEGIN, END = "2026-11-19 22:00:30", "2026-11-21 04:00:00"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from zone(monkeypatch, "UTC")


def zone(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def berlin(utc: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from zone(monkeypatch, "CET-1CEST,M3.5.0,M10.5.0/3")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("60", 60),
        ("90s", 90),
        ("5m", 300),
        ("5 min", 300),
        ("8h", 28800),
        ("2d", 172800),
        (".5", 0.5),
        (" 7m ", 420),
    ],
)
def test_lengths(said: str, value: float) -> None:
    assert times.seconds(said) == value


@pytest.mark.parametrize(
    "said", ["", "0", "-5", "5w", "h", "1e3", "nan", "inf", "٣", "5m5", "9" * 400, "\x1b[2J"]
)
def test_no_lengths(said: str) -> None:
    with pytest.raises(ValueError, match="no length of time") as caught:
        times.seconds(said)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("said", "ago"), [("7d", 604800), ("12h", 43200), ("90m", 5400), ("30s", 30)])
def test_the_past(said: str, ago: float) -> None:
    assert times.past(said, NOW) == NOW - ago


def test_a_date_is_local(berlin: None) -> None:
    assert times.past("2026-11-01", NOW) == datetime(2026, 10, 31, 23, tzinfo=UTC).timestamp()
    assert times.past("2026-11-01T12:00+00:00", NOW) == datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "said", ["", "60", "2026", "yesterday", "2026-13-01", "12:00", "0d", "d", "9" * 400 + "d"]
)
def test_no_past(said: str) -> None:
    with pytest.raises(ValueError, match="no time like"):
        times.past(said, NOW)


ANYWHERE = [
    ("2026-11-20 03:12", "2026-11-20 03:12"),
    ("2026-11-19T22:00", "2026-11-19 22:00"),  # its minute has begun
    ("2026-11-21 03:12:01", "2026-11-21 03:12:01"),
    ("2026-11-20T03:12+01:00", "2026-11-20 02:12"),
    ("22:00:30.5", "2026-11-20 22:00:30.500"),
    ("2026-11-20", "2026-11-20 00:00"),
]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        *ANYWHERE,
        ("03:12:40", "2026-11-21 03:12:40"),  # the last that there is
        ("4:00", "2026-11-21 04:00"),
        ("04:01", "2026-11-20 04:01"),
        ("+90s", "2026-11-19 22:02:00"),
        ("+0", "2026-11-19 22:00:30"),
        ("-2h", "2026-11-21 02:00"),
        ("-9d", "2026-11-12 04:00"),  # beyond an end: whoever goes there stops at it
    ],
)
def test_within_a_recording(said: str, wanted: str) -> None:
    assert times.within(said, local(BEGIN), local(END)) == local(wanted)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        *ANYWHERE,
        ("23:00", "2026-11-19 23:00"),  # the nearest
        (" 3:12 ", "2026-11-20 03:12"),
        ("22:00", "2026-11-19 22:00"),
        ("+90s", "2026-11-20 06:01:30"),
        ("-30", "2026-11-20 05:59:30"),
        ("+1.5h", "2026-11-20 07:30"),
        ("-5m", "2026-11-20 05:55"),
        ("+2 min", "2026-11-20 06:02"),
    ],
)
def test_from_where_one_is(said: str, wanted: str) -> None:
    here = local("2026-11-20 06:00")
    if said == "22:00:30.5":
        here = local(END)
    assert times.within(said, local(BEGIN), local(END), here) == local(wanted)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        *(
            (said, "is no time like")
            for said in ("", "tea", "25:00", "3:61", "10", "+", "-", "+5y", "1:2:3:4")
        ),
        ("\x1b[31m", "is no time like"),
        ("2026-11-19 21:59", "is not in this recording: 2026-11-19 22:00:30 to 2026-11-21 04:00:00"),
        ("2027-01-01 00:00", "is not in"),
        ("0001-01-01", "is no"),
    ],
)
@pytest.mark.parametrize("here", [None, 0.0])
def test_nowhere(said: str, words: str, here: float | None) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        times.within(said, local(BEGIN), local(END), here)
    assert "\x1b" not in str(caught.value)


def test_the_hour_that_comes_twice(berlin: None) -> None:
    """03:00 summer time is 02:00 winter time."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    begin, end = first - 1800, first + 7200
    assert times.within("02:30", begin, end) == first + 3600
    assert times.within("02:30", begin, end, first - 600) == first


def test_a_recording_without_a_sane_clock() -> None:
    with pytest.raises(ValueError, match=r"is no time|is not in"):
        times.within("03:12", -1e300, 1e300)
