"""All keys, from the one table, and how the screen reads."""

from __future__ import annotations

from itertools import groupby

from rich.text import Text

from halotui.keymap import usable

_READING = """\
Read from the top: what is wrong, how fast, how full, who is doing it, why.
– means unknown: put the cursor on it and press e for the reason. A dim number is late.
█ GTT is ordinary RAM that the GPU has mapped; ▓ VRAM is the BIOS carve-out (many notes say GART).
"""


def help_text(acting: bool = False) -> Text:
    """The help pop-up's text; ``acting``: with the keys that change a server."""
    text = Text()
    text.append("halotui\n\n", "bold")
    text.append(_READING + "\n")
    for tooltip, keys in groupby(usable(acting), key=lambda key: key.tooltip):
        text.append(f"  {' '.join(key.shown for key in keys):<14}", "bold")
        text.append(f"{tooltip}\n")
    text.append("\nWith the mouse: click a number to point at it, again to explain it.\n", "dim")
    text.append("Keys can be changed under [keys] in config.toml, by id.", "dim")
    return text
