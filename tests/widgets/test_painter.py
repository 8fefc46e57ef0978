"""What the painter writes behind a pop-up: its tint, and nothing on its box."""

from __future__ import annotations

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.renderables.background_screen import BackgroundScreen

from halotui.themes import load_all
from halotui.widgets.painter import gaps, veiled
from halotui.widgets.styles import styles

BOXES = (Region(10, 5, 20, 3), Region(25, 6, 10, 4), Region(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("row", "free"),
    [
        (Region(0, 4, 40, 1), [(0, 40)]),  # above
        (Region(0, 5, 40, 1), [(0, 10), (30, 40)]),
        (Region(0, 6, 40, 1), [(0, 10), (35, 40)]),  # two boxes, one over the other
        (Region(0, 9, 40, 1), [(0, 25), (35, 40)]),
        (Region(12, 5, 5, 1), []),  # covered
        (Region(8, 5, 4, 1), [(8, 10)]),
        (Region(28, 5, 4, 1), [(30, 32)]),
        (Region(0, 5, 5, 1), [(0, 5)]),  # ends before it
        (Region(30, 5, 5, 1), [(30, 35)]),
    ],
)
def test_what_a_box_covers_is_left_out(row: Region, free: list[tuple[int, int]]) -> None:
    assert list(gaps(row, BOXES)) == free


@pytest.mark.parametrize("color", [True, False])
def test_the_tint_is_the_compositors(color: bool) -> None:
    tint = Color.parse("#101820").with_alpha(0.6)
    for theme in load_all()[0].values():
        palette = styles(theme, color)
        for name, style in veiled(palette, tint).items():
            (painted,) = BackgroundScreen.process_segments([Segment("x", palette[name])], tint)
            assert style == painted.style
            assert not color or name == "cursor" or style != palette[name] or style == Style()
