"""The answer to ``e``: what a field is, where it comes from, how old it is; or an event of the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from halotui import fields, format
from halotui.model import (
    Cause,
    Finding,
    Gpu,
    Holder,
    KernelEvent,
    Platform,
    Request,
    ServedModel,
    Server,
    ServerFacts,
    Slot,
    Source,
)
from halotui.screens.finding import cause
from halotui.screens.finding import text as in_full
from halotui.screens.popup import plain
from halotui.widgets.rows import EVENT, FINDING, Ref
from halotui.widgets.view import SOURCES, Struct, View

CHART_FRAMES = 300
WIDEST = 82  # cells inside the pop-up
_OF_SERVER = ("server", "facts", "slot", "request", "model")  # owners in ``fields``
_ALSO = {"account": ("gpu", "holders"), "gpu": ("gpu_metrics",)}  # what else an owner's numbers are made of
_MADE_OF = {  # a key of Server -> the fact that it stands on
    "decode_ceiling_tokens_per_second": "token_bytes",
    "decode_bandwidth_ratio": "token_bytes",
    "prefill_ceiling_tokens_per_second": "active_parameters",
    "prefill_compute_ratio": "active_parameters",
}
_ASKED = ("server", "log", "model", "/")  # sources that are known by their address
_SECRET = ("gtt_bytes", "vram_bytes", "gpu_percent")  # of a holder


class Explain(ModalScreen[None]):
    """A pop-up over the cockpit; any of esc, e, q or enter puts it away."""

    BINDINGS: ClassVar = [Binding("escape,e,q,enter", "dismiss", "Back")]
    DEFAULT_CSS = """
    Explain { align: center middle; background: $background 60%; }
    Explain > VerticalScroll {
        width: 90%; max-width: 92; height: auto; max-height: 90%;
        padding: 1 2; background: $surface; border: round $primary;
        border-subtitle-color: $foreground; scrollbar-size-vertical: 1;
    }
    Explain Static { height: auto; }
    """

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_subtitle = "esc"
            yield Static(self._text)


def explain(view: View, ref: Ref, width: int, causes: Sequence[Cause] = ()) -> Text:
    """The pop-up's text for what is under the cursor, on a screen of ``width`` cells; ``causes``: why it is
    lower than usual, where it is."""
    if ref.field == FINDING:
        found = view.finding(ref)
        return Text(in_full(view, found, width) if found is not None else "This finding is over.")
    if ref.field == EVENT:
        event = view.kernel(ref)
        return event_text(event) if event is not None else Text("This line is no longer kept.")
    return field_text(view, ref, min(WIDEST, width * 9 // 10 - 8), causes)


def to_copy(view: View, ref: Ref | None, width: int) -> str:
    """What is under the cursor, in words; without one the findings, if there are any."""
    if ref is None:
        return "\n".join(f"{found.title}: {found.evidence}" for found in _findings(view))
    told = explain(view, ref, width).plain
    if ref.field in (FINDING, EVENT):
        return told
    label = fields.BY_ID[ref.field].label
    return f"{label} {told.splitlines()[0].removeprefix(label).strip()}"


def event_text(event: KernelEvent) -> Text:
    """A line of the kernel's log."""
    text = Text()
    text.append(f"{event.text}\n", "bold")
    text.append(f"{event.severity} · {event.kind} · kernel log\n\n", "dim")
    who = " ".join(str(part) for part in (event.process, event.pid) if part is not None)
    when = format.clock(event.time) if event.time is not None else ""
    for label, body in (("Time", when), ("Process", who), ("Line", event.detail)):
        if body:
            text.append(f"{label:<9}", "bold")
            text.append(f"{body}\n")
    return text


def field_text(view: View, ref: Ref, width: int, causes: Sequence[Cause] = ()) -> Text:
    field = fields.BY_ID[ref.field]
    struct = _struct(view, ref)
    value = getattr(struct, field.key, None)
    text = Text()
    text.append(f"{field.label}  ", "bold")
    text.append(f"{_shown(field, value)}\n", "bold" if value is not None else "dim")
    text.append(f"{field.owner}.{field.key}, {field.unit}\n\n", "dim")
    text.append(f"{field.help}\n\n")
    text.append("Source   ", "bold")
    text.append(f"{field.source}\n")
    if field.formula:
        text.append("Formula  ", "bold")
        text.append(f"{field.formula}\n")
    if told := _told_by(view, ref, field.key):
        text.append("From     ", "bold")
        text.append(f"{told}\n")
    if isinstance(struct, Server) and struct.facts is not None and (made := _MADE_OF.get(field.key)):
        part = fields.BY_ID[f"facts.{made}"]
        amount = format.show(part, getattr(struct.facts, made))
        text.append("From     ", "bold")
        text.append(f"{part.label} {amount}, by {struct.provenance.get(made, format.DASH)}\n")
    for source in _sources(view, field, ref.subject):
        text.append("Now      ", "bold")
        text.append(f"{_standing(source)}\n")
    if value is None and isinstance(struct, Holder) and struct.hidden and field.key in _SECRET:
        text.append("\nHidden: it is another user's. Root sees it, and so does that user.\n", "dim")
    elif value is None and struct is not None:
        text.append("\nNo value: the source above does not give it on this box or build.\n", "dim")
    if causes:
        text.append("\nLower than usual here. Likely causes\n", "bold")
        text.append(plain(part for number, one in enumerate(causes, 1) for part in cause(number, one)))
    if isinstance(struct, Request):
        text.append_text(request_text(struct))
    if field.chart:
        text.append("\n")
        text.append_text(chart(view, ref, width))
    return text


def request_text(request: Request) -> Text:
    """All that is known of it: a narrow screen leaves columns out."""
    text = Text("\nThe whole request\n", "bold")
    for field in fields.FIELDS:
        value = getattr(request, field.key) if field.owner == "request" else None
        if value is not None:
            text.append(f"  {field.label:<13}", "dim").append(f"{format.show(field, value)}\n", "not bold")
    return text


def _shown(field: fields.Field, value: object) -> str:
    """A value, or a row of shares, words or settings."""
    if isinstance(value, dict):
        if field.id == "gpu.throttle":
            names = ((fields.BY_ID[f"throttle.{name}"].label, rate) for name, rate in value.items() if rate)
            return ", ".join(f"{name} {format.rate(rate)}/s" for name, rate in names) or "none engaged"
        return ", ".join(f"{name}={set_}" for name, set_ in value.items()) or format.DASH
    if not isinstance(value, tuple):
        return format.show(field, value)
    words = (format.percent(item) if isinstance(item, float) else str(item) for item in value)
    return ", ".join(words) or format.DASH


def _told_by(view: View, ref: Ref, key: str) -> str | None:
    """Which of its sources gave a fact."""
    struct = _struct(view, ref)
    if isinstance(struct, ServerFacts):
        struct = next((server for server in view.servers if server.url == ref.subject), None)
    return struct.provenance.get(key) if isinstance(struct, Gpu | Platform | Server) else None


def chart(view: View, ref: Ref, width: int) -> Text:
    """The last minutes of a field, drawn by plotext: on demand, so its cost does not matter."""
    ring = view.history.series(ref.subject, ref.field)
    values = ring.last(CHART_FRAMES) if ring is not None else []
    known = [(i - len(values) + 1, v) for i, v in enumerate(values) if v is not None]
    if len(known) < 2:
        return Text("History: nothing yet", "dim")
    from plotext import figure, uncolorize  # on a key, never on the live path

    scale, unit = _scales.get(fields.BY_ID[ref.field].unit, (1.0, fields.BY_ID[ref.field].unit))
    figure.clear()
    figure.plot_size(width, 12)
    signal = figure.signal(
        [x * view.interval for x, _ in known], [v / scale for _, v in known], marker="braille"
    )
    signal.lines()
    for index in range(1, len(known)):
        if known[index][0] - known[index - 1][0] > 1:
            signal.line(index, False)  # a gap stays a gap
    figure.draw(signal)
    return Text(f"{unit}, over seconds until now\n", "dim").append(uncolorize(str(figure.build())), "not dim")


_scales = {"bytes": (1024.0**3, "GiB"), "hertz": (1e6, "MHz"), "ratio": (0.01, "%"), "tokens/s": (1.0, "t/s")}


def _struct(view: View, ref: Ref) -> Struct | ServerFacts | Slot | Request | ServedModel | None:
    frame = view.frame
    if frame is None:
        return None
    owner = fields.BY_ID[ref.field].owner
    if owner == "account":
        return view.account
    if owner == ref.subject:  # what a box has one of
        one: Struct | None = getattr(frame, owner)
        return one
    if owner == "holder":
        return next((holder for holder in frame.holders if str(holder.pid) == ref.subject), None)
    if owner == "gpu":
        chips = (gpu for gpu in frame.gpus or (view.gpu,) if gpu is not None)
        return next((gpu for gpu in chips if gpu.id == ref.subject), None)
    url, _, part = ref.subject.partition("#")
    for server in frame.servers:
        if server.url == url:
            return _part(view, server, ref, part)
    return None


def _part(
    view: View, server: Server, ref: Ref, part: str
) -> Server | ServerFacts | Slot | Request | ServedModel | None:
    """What of the server it is."""
    owner = fields.BY_ID[ref.field].owner
    if owner == "request":
        from halotui.widgets.requests_view import find

        sample = find(view, ref.subject)
        return sample.request if sample is not None else None
    if owner == "model":
        return next((model for model in server.models if model.id == part), None)
    if owner == "facts":
        return server.facts
    return next((slot for slot in server.slots if str(slot.id) == part), None) if part else server


def _sources(view: View, field: fields.Field, subject: str) -> Iterator[Source]:
    owner, url = field.owner, subject.partition("#")[0]
    of_model = owner == "facts" or field.key in _MADE_OF
    ids = (SOURCES.get(owner, owner), *_ALSO.get(owner, ()))
    for source in view.sources.values():
        served = owner in _OF_SERVER and source.id.endswith(url)
        if source.id in ids or (served and (of_model or not source.id.startswith("model "))):
            yield source


def _standing(source: Source) -> str:
    by = source.name if source.name not in (None, source.id) else ""
    words = [
        f"{source.id}: {by}" if by and not source.id.startswith(_ASKED) else source.id,
        str(source.state),
    ]
    if source.age_seconds is not None:
        words.append(f"{source.age_seconds:.1f} s old")
    if source.duration_seconds is not None:
        words.append(f"read in {source.duration_seconds * 1000:.1f} ms")
    return " · ".join(words + [text for text in (source.reason, source.hint) if text])


def _findings(view: View) -> tuple[Finding, ...]:
    return view.frame.findings if view.frame is not None else ()
