"""A block in short: what the index, the events and the history view need of it, without its frames."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from halotui.fields import FIELDS
from halotui.model import GPU_SOURCE, SOLE, Finding, Frame, SourceState
from halotui.runs import Mark

GAP_SECONDS = 5.0  # and five times the interval: a longer silence is a gap

KEYS = {  # every number that is measured; not the ones that only name something
    owner: tuple(
        field.key
        for field in FIELDS
        if field.owner == owner and field.unit != "text" and field.key not in ("pid", "id", "task")
    )
    for owner in ("gpu", *SOLE, "server", "slot")
}


class Range(Struct, frozen=True, array_like=True):
    """One field over the frames of a block."""

    least: float
    mean: float
    most: float
    count: int  # frames that knew it


class Shown(Struct, frozen=True, omit_defaults=True):
    """A finding, from the first to the last of the frames in a row that show it."""

    id: str
    severity: str
    title: str
    begin: float  # Unix seconds
    end: float
    subject: str = ""


class Gap(Struct, frozen=True, array_like=True):
    """No frame in between."""

    begin: float  # the last frame before, Unix seconds
    end: float  # the first one after


class Digest(Struct, frozen=True, omit_defaults=True, kw_only=True):
    first: float  # time of the first frame; of the first mark, where there is no frame
    last: float
    frames: int
    interval: float = 1.0  # between its last two frames
    shown: tuple[Shown, ...] = ()
    marks: tuple[Mark, ...] = ()
    gaps: tuple[Gap, ...] = ()
    ranges: dict[str, dict[str, Range]] = {}  # subject -> field id -> its range


def is_gap(silence: float, interval: float) -> bool:
    return silence > GAP_SECONDS * max(1.0, interval)


class Digester:
    """Takes the frames and marks of one block, one by one."""

    def __init__(self, interval: float = 1.0) -> None:
        self.frames = 0
        self._first = 0.0
        self.last = 0.0  # time of the last frame
        self._interval = interval
        self._marks: list[Mark] = []
        self._gaps: list[Gap] = []
        self._shown: list[Shown] = []
        self._open: dict[tuple[str, str], Shown] = {}
        self._sums: dict[str, dict[str, list[float]]] = {}

    def mark(self, mark: Mark) -> None:
        self._marks.append(mark)

    def frame(self, frame: Frame) -> None:
        now = frame.time
        if self.frames:
            silence = now - self.last
            if is_gap(silence, self._interval):
                self._gaps.append(Gap(self.last, now))
            self._interval = max(0.0, silence)
        else:
            self._first = now
        self.frames, self.last = self.frames + 1, now
        self._findings(frame.findings, now)
        fresh = {source.id for source in frame.sources if source.state is SourceState.OK}
        for owner, source in SOLE.items():
            struct = getattr(frame, owner)
            if struct is not None and source in fresh:
                self._add(owner, owner, struct)
        if GPU_SOURCE in fresh:
            for gpu in frame.gpus:
                self._add(gpu.id, "gpu", gpu)
        for server in frame.servers:
            self._add(server.url, "server", server)
            for slot in server.slots:
                self._add(f"{server.url}#{slot.id}", "slot", slot)

    def _findings(self, findings: tuple[Finding, ...], now: float) -> None:
        before, self._open = self._open, {}
        for finding in findings:
            key = finding.id, finding.subject
            shown = before.pop(key, None)
            self._open[key] = (
                replace(shown, end=now)
                if shown is not None
                else Shown(finding.id, finding.severity, finding.title, now, now, finding.subject)
            )
        self._shown.extend(before.values())

    def _add(self, subject: str, owner: str, struct: object) -> None:
        sums = self._sums.setdefault(subject, {})
        for key in KEYS[owner]:
            value = getattr(struct, key)
            if value is None:
                continue
            if (sum_ := sums.get(f"{owner}.{key}")) is None:
                sums[f"{owner}.{key}"] = [value, value, value, 1]
                continue
            if value < sum_[0]:
                sum_[0] = value
            elif value > sum_[2]:
                sum_[2] = value
            sum_[1] += value
            sum_[3] += 1

    def digest(self) -> Digest:
        """Of what was taken so far."""
        first, last = self._first, self.last
        if not self.frames:
            first = last = self._marks[0].time if self._marks else 0.0
        return Digest(
            first=first,
            last=last,
            frames=self.frames,
            interval=self._interval,
            shown=(*self._shown, *self._open.values()),
            marks=tuple(self._marks),
            gaps=tuple(self._gaps),
            ranges={
                subject: {
                    field: Range(_six(s[0]), _six(s[1] / s[3]), _six(s[2]), int(s[3]))
                    for field, s in sums.items()
                }
                for subject, sums in self._sums.items()
            },
        )


def _six(value: float) -> float:
    """Six digits are more than a chart can show."""
    return float(f"{value:.6g}")
