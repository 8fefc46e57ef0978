"""What a fleet is made of: boxes as they are known, and the rows that tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from halotui.model import Finding, Frame, Link, LinkState, Severity

WORST = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


class Box(NamedTuple):
    """What is known of one box."""

    name: str  # as the user calls it
    frame: Frame | None = None  # the last one, however old
    link: Link | None = None  # None: it is the box we run on
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()  # its own
    trouble: str = ""  # why there are no frames, where that is not the link

    @property
    def linked(self) -> bool:
        return self.link is None or self.link.state is LinkState.UP

    @property
    def live(self) -> bool:
        """Whether its frame is of now."""
        return self.linked and self.frame is not None and not self.trouble

    @property
    def findings(self) -> Sequence[Finding]:
        """Those that fire now: of a box that cannot be asked none is known to."""
        return self.frame.findings if self.frame is not None and self.live else ()

    @property
    def title(self) -> str:
        return self.name or (self.frame.host if self.frame is not None else "this box")


class Figures(Struct, frozen=True, kw_only=True):
    """Of one box, or of a job over several. Unknown is None."""

    model: str | None = None  # of the server that works hardest
    models: int = 0  # servers that have one
    backend: str | None = None
    decode: float | None = None  # tokens/s, all servers
    prefill: float | None = None
    slots_busy: int | None = None
    slots_total: int | None = None
    gtt_used: int | None = None  # bytes
    gtt_total: int | None = None
    vram_used: int | None = None
    vram_total: int | None = None
    watts: float | None = None  # of the package
    celsius: float | None = None
    findings: tuple[Finding, ...] = ()  # the worst first


class Kind(StrEnum):
    GROUP = "group"
    JOB = "job"  # over the hosts below it
    BOX = "box"
    PEER = "peer"  # of a job, and told elsewhere or not at all


class Row(NamedTuple):
    kind: Kind
    name: str
    box: int | None = None  # which; of a job: its head's
    figures: Figures = Figures()
    stem: str = ""  # where it hangs in the tree of its job
    note: str = ""  # its part in a job; how many a group has
    trouble: str = ""  # of a job: which host it lacks
    live: bool = True
    whole: bool = True  # of a job: whether the sums are of now for all its hosts


class Totals(NamedTuple):
    boxes: int
    up: int
    findings: Mapping[Severity, int]
    decode: float | None  # tokens/s
    watts: float | None
