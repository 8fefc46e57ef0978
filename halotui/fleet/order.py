"""In what order the boxes stand, and which are shown: what the keys of the view change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from halotui.fleet.shape import WORST, Box, Row

SORTS: dict[str, Callable[[Row], float | str | None]] = {
    "name": lambda row: row.name.lower(),
    "link": lambda row: row.live,
    "model": lambda row: row.figures.model,
    "backend": lambda row: row.figures.backend,
    "decode": lambda row: row.figures.decode,
    "prefill": lambda row: row.figures.prefill,
    "slots": lambda row: row.figures.slots_busy,
    "gtt": lambda row: row.figures.gtt_used,
    "vram": lambda row: row.figures.vram_used,
    "watts": lambda row: row.figures.watts,
    "celsius": lambda row: row.figures.celsius,
}
FINDINGS = "findings"
_NAMES = ("name", "link", "model", "backend")  # the smallest first


@dataclass
class Order:
    sort: str = ""  # of SORTS, or FINDINGS; "": as the boxes were named
    descending: bool = False
    words: str = ""  # all of which are to be in a row

    def next(self, sorts: Sequence[str]) -> None:
        """By the next of these, and after the last as they were named."""
        at = sorts.index(self.sort) + 1 if self.sort in sorts else 0
        self.by(sorts[at] if at < len(sorts) else "")

    def by(self, sort: str) -> None:
        """The largest first, but for what only names a box; the same again turns it round."""
        self.descending = not self.descending if sort == self.sort else sort not in ("", *_NAMES)
        self.sort = sort

    def sorted(self, units: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
        """What stands together goes by its first row. The unknown, and what is not of now, comes last."""
        if not self.sort:
            return list(units)[::-1] if self.descending else list(units)
        keyed = [(self._value(unit), unit) for unit in units]
        known = [(value, unit) for value, unit in keyed if value is not None]
        known.sort(key=lambda pair: pair[0], reverse=self.descending)
        return [unit for _, unit in known] + [unit for value, unit in keyed if value is None]

    def shows(self, unit: Sequence[Row], boxes: Sequence[Box]) -> bool:
        """Whether the words are all there, in any of its rows."""
        wanted = self.words.lower().split()
        said = " ".join(text.lower() for row in unit for text in _said(row, boxes)) if wanted else ""
        return all(word in said for word in wanted)

    def _value(self, unit: Sequence[Row]) -> Any:
        if self.sort == FINDINGS:
            found = Counter(one.severity for row in unit if row.live for one in row.figures.findings)
            return tuple(found[severity] for severity in WORST)
        first = unit[0]
        return SORTS[self.sort](first) if first.live or self.sort in _NAMES else None


def _said(row: Row, boxes: Sequence[Box]) -> Iterator[str]:
    """The words of a row."""
    yield from (row.name, row.note, row.trouble, row.figures.model or "", row.figures.backend or "")
    yield from (f"{finding.severity} {finding.title}" for finding in row.figures.findings if row.live)
    if row.box is not None:
        box = boxes[row.box]
        yield from (*box.groups, box.trouble, box.frame.host if box.frame is not None else "")
        yield str(box.link.state) if box.link is not None else "here"
