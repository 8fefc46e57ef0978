"""The kernel's log: what concerns GPU and memory, the newest first; or why nothing can be seen of it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from halotui.model import KERNEL_SOURCE, KernelEvent, Severity, SourceState
from halotui.widgets.findings import MARKS
from halotui.widgets.rows import EVENT, Ref, Run
from halotui.widgets.sheet import Line, Section, note, wrapped
from halotui.widgets.view import View, name_of_event

SHOWN = 20  # events
NEWS = ("recovered", "culprit", "suspend", "resume")  # worth a line though nothing is wrong
_DAY = 86400.0  # seconds
_MARK = 12  # cells of time and mark


def kernel(view: View, width: int) -> Section:
    noted = [one for one in view.history.kernel() if _matters(one.event)][-SHOWN:]
    source = view.sources.get(KERNEL_SOURCE)
    now = view.frame.time if view.frame is not None else 0.0
    lines = [line for one in reversed(noted) for line in _event(one.event, one.time, now, width)]
    if source is not None and source.state not in (SourceState.OK, SourceState.NO_DATA):
        said = [": ".join((str(source.state), source.reason or "")).removesuffix(": "), source.hint or ""]
        shown = [note(line, "warning") for line in wrapped(said[0], width - 2)]
        shown += [note(line) for line in wrapped(said[1], width - 2)]
        return Section("kernel log", [*shown, *lines])
    return Section("kernel log", lines or [note("nothing to report since boot")])


def _matters(event: KernelEvent) -> bool:
    """Every boot says how large its pools are, every dump that it is made."""
    return event.severity is not Severity.INFO or event.kind in NEWS


def _event(event: KernelEvent, at: float, now: float, width: int) -> Iterable[Line]:
    mark, style = MARKS[event.severity]
    shown = time.strftime("%H:%M:%S" if now - at < _DAY else "%m-%d", time.localtime(at))
    named = event.process is None or event.process in event.text
    who = " ".join(str(part) for part in ("pid" if named else event.process, event.pid) if part is not None)
    ref = Ref(EVENT, name_of_event(event))
    text = event.text if who == "pid" else f"{event.text} · {who}"
    for first, line in enumerate(wrapped(text, width - _MARK - 1)):
        lead = (
            (Run(f" {'':8} {'':2}"), Run(line, "text", ref))
            if first
            else (Run(f" {shown:<8} ", "dim"), Run(f"{mark} ", style), Run(line, "text", ref))
        )
        yield Line(lead)
