"""All keys, from the one table, and how the screen reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from halotui.keymap import KEYS, Key

_READING = """\
Read from the top: what is wrong, how fast, how full, who is doing it, why.
– means unknown: put the cursor on it and press {explain} for the reason. A dim number is late.
█ GTT is ordinary RAM that the GPU has mapped; ▓ VRAM is the BIOS carve-out (many notes say GART).
"""
_REQUESTS = """
In the requests ({requests}) a click on a heading orders by it; the keys of that view stand at its foot.
A filter takes words of an end or a reason, and comparisons: end=error slot=1 ttft>2 prompt>=4k.
✖ error, ▲ truncated, ■ cancelled. p95 wants 20 requests, p99 100: of fewer it would only be the largest.
"""
_BOX = """
In the box ({box}) the right end of a line says what told it. In the processes ({processes}) GTT of
nobody is the driver's own, is hidden from you, or has leaked.
"""
_HISTORY = """
In the history ({history}): ← → pan, + - or the wheel zoom, 0 the last hour, d the last day, end to now;
[ ] another field, f choose one by name, n N from event to event, y copy and w write as CSV.
The line is the mean, ░ goes from the least to the most; ✖ ▲ findings, ✚ marks, ● captures.
"""


def help_text(able: Sequence[Key] = KEYS) -> Text:
    """The help pop-up's text, with the keys that are there."""
    text = Text()
    shown = {key.id: key.shown.partition(" ")[0] for key in able}
    text.append("halotui\n\n", "bold")
    text.append(_READING.format(**shown) + "\n")
    for tooltip, keys in groupby(able, key=lambda key: key.tooltip):
        text.append(f"  {' '.join(key.shown for key in keys):<14}", "bold")
        text.append(f"{tooltip}\n")
    text.append(_REQUESTS.format(**shown) + _BOX.format(**shown))
    if "history" in shown:
        text.append(_HISTORY.format(**shown))
    text.append(
        "\nWith the mouse: click a number to point at it, again to explain it; a tab to look there.\n", "dim"
    )
    text.append("Keys can be changed under [keys] in config.toml, by id.", "dim")
    return text
