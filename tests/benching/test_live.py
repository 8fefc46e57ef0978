"""The line of live status: the shell loops' form, fitted to the width."""

from __future__ import annotations

import os
import time

import pytest

from halotui.benching import live
from halotui.benching.tables import GTT, RAM, VRAM
from halotui.runs import Summary, Track

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def utc() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()


def summary(*pools: tuple[str, float, float, float]) -> Summary:
    tracks = tuple(
        Track(field=field, baseline=first * MIB, peak=peak * MIB, last=last * MIB)
        for field, first, peak, last in pools
    )
    return Summary(hertz=20, began_time=0, seconds=1, samples=20, tracks=tracks)


BOX = summary((VRAM, 455, 512, 500), (GTT, 63, 7761, 6644), (RAM, 9000, 20000, 19000))


def test_the_loops_form() -> None:
    assert live.line(BOX, 200, 0.0) == (
        "00:00:00  GTT 6644 Δ6581 peak 7761 Δpeak 7698 | VRAM 500 Δ45 peak 512 Δpeak 57"
        " | RAM 19000 Δ10000 peak 20000 Δpeak 11000 (MiB)"
    )


def test_what_fell_is_negative_and_what_is_unknown_a_dash() -> None:
    line = live.line(summary((RAM, 100, 100, 90)), 100, 0.0)
    assert line == "00:00:00  RAM 90 Δ-10 peak 100 Δpeak 0 (MiB)"
    unknown = Summary(hertz=20, began_time=0, seconds=0, samples=0, tracks=(Track(field=RAM),))
    assert "RAM – Δ– peak – Δpeak –" in live.line(unknown, 100, 0.0)


@pytest.mark.parametrize("width", range(0, 140, 7))
def test_it_fits(width: int) -> None:
    line = live.line(BOX, width, 0.0)
    assert len(line) <= width
    if width >= 60:  # all three pools
        assert all(pool in line for pool in ("GTT 6644", "VRAM 500", "RAM 19000"))


def test_nothing_to_show() -> None:
    assert live.line(Summary(hertz=20, began_time=0, seconds=0, samples=0), 80, 0.0).startswith("00:00:00")
