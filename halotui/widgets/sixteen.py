"""The styles of a terminal with sixteen colours: ``TERM=xterm``, ``linux``.

The nearest of sixteen to a label, a warning and a title is the same grey. So each role has a number of its
own here, as the colour that stands for exactly that number: whatever blends or converts it later keeps it.
"""

from __future__ import annotations

from rich.style import Style

_DARK = {  # role -> number
    "text": 7,
    "dim": 7,
    "faint": 8,
    "rule": 8,
    "title": 7,
    "value": 15,
    "late": 8,
    "life": 14,
    "chart": 14,
    "chart2": 12,
    "warning": 11,
    "trouble": 9,
    "vram": 13,
    "gtt": 14,
    "ram": 12,
    "free": 8,
}
_LIGHT = {
    "text": 0,
    "dim": 8,
    "faint": 7,
    "rule": 7,
    "title": 8,
    "value": 0,
    "late": 7,
    "life": 6,
    "chart": 6,
    "chart2": 4,
    "warning": 3,
    "trouble": 1,
    "vram": 5,
    "gtt": 6,
    "ram": 4,
    "free": 7,
}
_ODD = {3: "rgb(170,85,0)", 8: "rgb(85,85,85)"}  # brown and dark grey: they break the rule
_HEAD = "head"  # the same roles, in the header


def sixteen(palette: dict[str, Style]) -> dict[str, Style]:
    """The same styles, told apart. One without a colour stays as it is."""
    ground = palette["text"].bgcolor
    if ground is None or ground.triplet is None:
        return palette
    roles = _DARK if sum(ground.triplet) < 3 * 128 else _LIGHT
    return {
        name: _put(style, roles.get(name.removeprefix(_HEAD) or "text")) for name, style in palette.items()
    }


def _put(style: Style, number: int | None) -> Style:
    return style if number is None else style + Style(color=_colour(number))


def _colour(number: int) -> str:
    on, off = (255, 85) if number > 8 else (170, 0)
    red, green, blue = (on if number & bit else off for bit in (1, 2, 4))
    return _ODD.get(number, f"rgb({red},{green},{blue})")
