"""What a copy writes to the terminal, byte by byte; and that sixteen colours tell trouble from all else."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

import pytest
from rich.color import ColorSystem
from rich.style import Style

from halotui.screens.clipboard import LONGEST, wrapped
from halotui.themes import load_all
from halotui.widgets.painter import veiled
from halotui.widgets.sixteen import sixteen
from halotui.widgets.styles import styles

HI = "\x1b]52;c;aGk=\x07"


def copied(text: str) -> str:
    """As Textual writes it."""
    return f"\x1b]52;c;{b64encode(text.encode()).decode()}\x07"


def test_a_plain_terminal() -> None:
    assert copied("hi") == HI
    assert wrapped(HI, {}) == HI
    assert wrapped(HI, {"TMUX": "", "STY": "", "TERM": "screen-256color"}) == HI


def test_tmux_is_sent_both_forms() -> None:
    assert wrapped(HI, {"TMUX": "/tmp/tmux-0/default,1,0"}) == (
        "\x1b]52;c;aGk=\x07\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"
    )
    assert wrapped(HI, {"TMUX": "x", "STY": "1.pts-0.box"}) == wrapped(HI, {"TMUX": "x"})  # tmux in screen


def test_screen_is_sent_pieces() -> None:
    assert wrapped(HI, {"STY": "1.pts-0.box"}) == "\x1bP\x1b]52;c;aGk=\x07\x1b\\"
    text = "zebra " * 500
    said = wrapped(copied(text), {"STY": "1.pts-0.box"})
    assert said is not None
    pieces = re.findall(r"\x1bP(.*?)\x1b\\", said, re.DOTALL)
    assert len(pieces) > 10 and max(map(len, pieces)) <= 250
    assert sum(len(piece) + 4 for piece in pieces) == len(said)  # nothing beside them
    whole = "".join(pieces)
    assert b64decode(whole.removeprefix("\x1b]52;c;").removesuffix("\x07")).decode() == text


@pytest.mark.parametrize("environ", [{}, {"TMUX": "x"}, {"STY": "x"}])
def test_too_much_is_not_sent(environ: dict[str, str]) -> None:
    most = LONGEST // 4 * 3
    assert wrapped(copied("x" * most), environ) is not None
    assert wrapped(copied("x" * (most + 3)), environ) is None


# --- sixteen colours


def looks(style: Style) -> tuple[int | None, int | None, bool | None]:
    """What a terminal of sixteen colours shows of it."""
    assert style.color is not None and style.bgcolor is not None
    front = style.color.downgrade(ColorSystem.STANDARD).number
    return front, style.bgcolor.downgrade(ColorSystem.STANDARD).number, style.bold


@pytest.mark.parametrize("name", load_all()[0])
def test_sixteen_colours_tell_them_apart(name: str) -> None:
    palette = sixteen(styles(load_all()[0][name]))
    seen = {role: looks(style) for role, style in palette.items()}
    assert all(front != back for front, back, _ in seen.values())
    for head in ("", "head"):
        loud = [seen[f"{head}{role}"] for role in ("trouble", "warning", "life", "value")]
        calm = [seen[head or "text"], seen[f"{head}dim"], seen["title"], seen["faint"]]
        assert len(set(loud)) == 4 and not set(loud[:2]) & set(calm)
    assert len({seen[role] for role in ("vram", "gtt", "ram", "free")}) == 4


def test_without_colour_nothing_is_coloured() -> None:
    plain = styles(load_all()[0]["halo-dark"], color=False)
    assert sixteen(plain) == plain


def test_behind_a_pop_up_they_are_tinted_as_ever() -> None:
    from textual.color import Color

    palette = sixteen(styles(load_all()[0]["halo-dark"]))
    tinted = veiled(palette, Color.parse("#101820").with_alpha(0.6))
    assert tinted["trouble"] != palette["trouble"] and all(style.color for style in tinted.values())
