"""Speculation as the log tells it: whether it came up, and the sums of its ``statistics`` lines (-lv 4)."""

from __future__ import annotations

import re

import msgspec

from halotui.safe import clean

MOST_SUMS = 256


class DraftTotals(msgspec.Struct, frozen=True):
    """Sums since the server started. ``accepted_per_position``: share of drafts, as printed, of one kind."""

    kind: str | None = None  # draft-simple, ngram-mod ...; several with a comma
    drafts: int | None = None
    drafted: int | None = None  # tokens
    accepted: int | None = None
    accepted_per_position: tuple[float, ...] = ()
    draft_seconds: float | None = None  # that drafting itself took


class Speculation:
    """``on`` stays ``None`` until a line proves either: at default verbosity newer builds only say that a
    draft model loads, and they load it without using it when ``--spec-type`` is missing.
    """

    def __init__(self) -> None:
        self.on: bool | None = None
        self._sums: dict[tuple[int | None, str], DraftTotals] = {}

    def forget(self) -> None:
        self.on = None
        self._sums.clear()

    def feed(self, text: bytes, slot: int | None) -> bool:
        """Take a statistics line; ``slot``: of the block it stands in, as older builds count slot by slot."""
        if b"#gen drafts =" not in text or not (found := _STATISTICS.search(text)):
            return False
        kind = clean(found[1], 40).replace("_", "-")
        drafts, drafted, accepted = (int(found[n]) for n in (2, 3, 4))
        rates = _RATES.search(text)
        took = _TOOK.search(text)
        if len(self._sums) < MOST_SUMS or (slot, kind) in self._sums:
            self._sums[slot, kind] = DraftTotals(
                kind,
                drafts,
                drafted,
                accepted,
                tuple(float(rate) for rate in _NUMBER.findall(rates[1])) if rates else (),
                round(sum(map(float, took.groups())) / 1e3, 6) if took else None,
            )
        self.on = True
        return True

    @property
    def totals(self) -> DraftTotals:
        """All kinds and slots together."""
        sums = list(self._sums.values())
        if len(sums) <= 1:
            return sums[0] if sums else DraftTotals()
        seconds = [one.draft_seconds for one in sums if one.draft_seconds is not None]
        return DraftTotals(
            ",".join(dict.fromkeys(one.kind or "" for one in sums)),
            sum(one.drafts or 0 for one in sums),
            sum(one.drafted or 0 for one in sums),
            sum(one.accepted or 0 for one in sums),
            (),
            round(sum(seconds), 6) if seconds else None,
        )


_STATISTICS = re.compile(
    rb"statistics +([\w-]{1,40}): .*#gen drafts = *(\d{1,15}),.*#gen tokens = *(\d{1,15}),"
    rb" #acc tokens = *(\d{1,15})"
)
_RATES = re.compile(rb"#acc rate/pos = \(([\d., ]{0,2000})\)")
_NUMBER = re.compile(rb"\d{1,6}(?:\.\d{1,6})?")
_TOOK = re.compile(
    rb"dur\(b,g,a\) = *(\d{1,15}(?:\.\d{1,6})?), *(\d{1,15}(?:\.\d{1,6})?), *(\d{1,15}(?:\.\d{1,6})?) ms"
)
