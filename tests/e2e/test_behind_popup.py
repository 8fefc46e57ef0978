"""The cockpit behind a pop-up: it goes on, looks as the compositor has it, and costs no full redraws."""

from __future__ import annotations

import pytest

from terminal import Terminal

FULL = 9000  # bytes of a whole screen of this size, at the least


@pytest.mark.slow
@pytest.mark.parametrize("env", [{}, {"TERM": "xterm", "COLORTERM": ""}, {"NO_COLOR": "1"}])
def test_frames_behind_a_pop_up_are_a_few_cells(env: dict[str, str]) -> None:
    with Terminal("demo", width=80, height=24, **env) as screen:
        screen.wait_for("decode ", 30)
        screen.read(3)
        screen.press("?")
        screen.wait_for("Leave halotui")
        screen.read(2)
        began, head = len(screen.raw), screen.rows[0]
        screen.read(5)
        assert screen.rows[0] != head  # its up time goes on
        if "NO_COLOR" not in env:  # Textual's own way, then
            assert len(screen.raw) - began < FULL  # of five frames

        screen.press("esc", "-", "-")  # a frame every five seconds
        screen.wait_gone("Leave halotui")
        screen.wait_for("a frame every 5 s")
        screen.wait_gone("a frame every")
        screen.press("?")
        screen.wait_for("Leave halotui")
        head = screen.rows[0]
        screen.wait_until(lambda: screen.rows[0] != head, 15)
        screen.read(0.3)
        painted = screen.cells()
        screen.press("esc", "?")
        screen.wait_for("Leave halotui")
        screen.read(0.5)
        assert screen.cells() == painted  # by the compositor, anew
        screen.press("esc", "q")
        screen.wait_end(15)
