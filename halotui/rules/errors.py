"""What a server's log reported and a person should know: said for ten minutes, with numbers and a way out.

Its kinds are those of ``collectors.log_events``. That a draft model was refused is ``draft-vocab``'s or
``spec-unused``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from msgspec import Struct

from halotui.format import count, duration, size
from halotui.history import EVENTS, Noted
from halotui.model import Patch, Server, ServerState, Severity
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View

WINDOW = "window_seconds"
STEP = 1024  # tokens that a context is rounded up to

_TOO_LONG = re.compile(r"\((\d{1,12}) tokens\) exceeds the available context size \((\d{1,12}) tokens\)")
_FOLDED = re.compile(r" \((\d{1,12}) times\)\Z")
_Cure = tuple[Patch | None, str]  # what a relaunch would change, and what it costs or needs, in words


class _Kind(Struct, frozen=True, kw_only=True):
    """One kind of event. ``outlives`` a restart: a crash is news after it as well. ``lasts`` as long as the
    server's reason has these words. ``freezes``: requests beside it are no example of the usual speed."""

    kind: str
    title: str
    why: str
    fix: str
    id: str = ""  # of the rule, where it is not the kind's
    severity: Severity = Severity.WARNING
    outlives: bool = False
    lasts: str = ""
    freezes: bool = False
    proof: Proof = Proof.RECORDED
    cure: Callable[[View, Server, Sequence[Noted]], _Cure | None] | None = None
    marks: tuple[str, ...] = ()


def _check(kind: _Kind, view: View) -> Iterator[Symptom | Undefined]:
    for server in view.frame.servers:
        told = view.history.events(server.url).get(kind.kind)
        noted = _recent(view, server, kind, told) if told else []
        lasts = bool(kind.lasts) and kind.lasts in (server.reason or "")
        if noted or lasts:
            cure = kind.cure(view, server, noted) if kind.cure is not None else None
            patch, words = cure if cure is not None else (None, "")
            yield Symptom(
                subject=server.url,
                title=kind.title,
                evidence=server.reason or "" if lasts else _evidence(view, noted),
                fix=f"{kind.fix} {words}".strip() + (_read(server) if server.log_path else ""),
                patch=patch,
            )


def _recent(view: View, server: Server, kind: _Kind, told: Sequence[Noted]) -> list[Noted]:
    """Those of the window, and since the last process began that served."""
    now, since = view.frame.time, view.frame.time - view.levels[WINDOW]
    started = view.history.started(server.url)
    if not kind.outlives and started is not None:
        since = max(since, started)
    return [one for one in told if since <= min(one.time, now)]


def _evidence(view: View, noted: Sequence[Noted]) -> str:
    last = max(noted, key=lambda one: one.time)
    text, _ = _times(last)
    times = sum(_times(one)[1] for one in noted)
    more = "+" if len(noted) == EVENTS else ""  # older ones are forgotten
    often = f"{count(times)}{more} times, last " if times > 1 else ""
    where = f"slot {last.event.slot}: " if last.event.slot is not None else ""
    return f"{where}{text}; {often}{duration(view.frame.time - last.time)} ago"


def _times(noted: Noted) -> tuple[str, int]:
    """The words of an event, and how many lines it stands for."""
    folded = _FOLDED.search(noted.event.text)
    if folded is None:
        return noted.event.text, 1
    return noted.event.text[: folded.start()], int(folded[1])


def _read(server: Server) -> str:
    return f" Log: {server.log_path}."


def _longer(view: View, server: Server, noted: Sequence[Noted]) -> _Cure | None:
    """A context that holds the longest request that was refused, and a quarter more."""
    asked, limit = 0, server.slot_context_tokens or 0
    for one in noted:
        found = _TOO_LONG.search(one.event.detail or one.event.text)
        if found:
            asked, limit = max(asked, int(found[1])), int(found[2])
    if not asked:
        return None
    trained = server.facts.context_trained_tokens if server.facts is not None else None
    if trained is not None and asked > trained:
        return None, f"The model was trained for {count(trained)} tokens: the request has to be shorter."
    slots = server.slots_total or 1
    if server.kv_unified is False and slots > 1 and asked * 1.25 <= limit * slots:
        return {"kvu": True}, f"With -kvu its {slots} slots share {count(limit * slots)} tokens."
    each = _rounded(asked * 1.25) if trained is None else min(_rounded(asked * 1.25), trained)
    parts = 1 if server.kv_unified is not False else slots
    return _context(view, server, each * parts, limit * parts)


def _roomier(view: View, server: Server, noted: Sequence[Noted]) -> _Cure | None:
    """Twice the context where memory allows it; else half the slots."""
    total = _total(server)
    if total is not None:
        cure = _context(view, server, total * 2, total)
        if cure[0] is not None:
            return cure
    slots = server.slots_total or 1
    return ({"np": slots // 2}, f"-np {slots // 2} leaves each twice the room.") if slots > 1 else None


def _context(view: View, server: Server, wanted: int, now: int) -> _Cure:
    token, free = server.kv_token_bytes, _free(view, server)
    if token is None:
        return {"c": wanted}, f"-c {wanted}."
    more = token * max(0, wanted - now)
    if free is not None and more > free:
        return None, f"-c {wanted} would take {size(more)} more, and {size(free)} are free."
    return {"c": wanted}, f"-c {wanted} takes {size(more)} more."


def _total(server: Server) -> int | None:
    """Context of all slots together, as -c counts it."""
    if server.facts is not None and server.facts.context_tokens:
        return server.facts.context_tokens
    if server.slot_context_tokens is None or server.kv_unified is None:
        return None
    return server.slot_context_tokens * (1 if server.kv_unified else server.slots_total or 1)


def _free(view: View, server: Server) -> int | None:
    """What its backend could still take: ROCm of one pool, Vulkan of both."""
    account = view.frame.account
    if account is None:
        return None
    free = account.rocm_free_bytes if server.backend == "rocm" else account.vulkan_free_bytes
    return account.headroom_bytes if free is None else free


def _rounded(tokens: float) -> int:
    return int(-(-tokens // STEP) * STEP)


def _smaller(view: View, server: Server, noted: Sequence[Noted]) -> _Cure | None:
    total = _total(server)
    if total is not None and total >= 4 * STEP:
        return {"c": _rounded(total / 2)}, f"-c {_rounded(total / 2)} halves the KV cache."
    return {"ctk": "q8_0", "ctv": "q8_0"}, "-ctk q8_0 -ctv q8_0 halves the KV cache."


def _after_abort(view: View, server: Server, noted: Sequence[Noted]) -> _Cure | None:
    words = " ".join(f"{one.event.detail} {one.event.text}" for one in noted)
    if "ngram" in words or "speculative" in words:  # ngram-map of b8390 and its kin
        return {"draft": None, "spec": None}, "It aborted while drafting: relaunch without speculation."
    if "ggml-rpc" in words:
        return None, "The rpc-server that it uses cannot be reached: start that one first."
    return None


def _ours(view: View, server: Server, noted: Sequence[Noted]) -> _Cure | None:
    if server.state is not ServerState.LOCKED:
        return None
    return None, "halotui has no key for it either: name the variable that holds it, --api-key-env."


_KINDS = (
    _Kind(
        kind="load-failed",
        severity=Severity.CRITICAL,
        title="The model did not load",
        why="The server gave up while it loaded, and ended.",
        fix="Check the file: its path, its size, and whether this build knows its architecture.",
    ),
    _Kind(
        kind="context-exceeded",
        proof=Proof.REAL,
        title="Requests are longer than the context",
        why="They are refused with status 400; the client sees an error, and no answer.",
        fix="Shorten the requests, or relaunch with more context.",
        cure=_longer,
        marks=("server.slot_context_tokens",),
    ),
    _Kind(
        kind="kv-full",
        severity=Severity.CRITICAL,
        title="The KV cache is full: all requests got an error",
        why="The slots share one cache. When it is full every running request ends with status 500, and all "
        "slots are cleared.",
        fix="Relaunch with more context or fewer slots.",
        cure=_roomier,
        marks=("server.kv_used_ratio",),
    ),
    _Kind(
        kind="context-shift",
        severity=Severity.INFO,
        title="A context was shifted: its oldest part is gone",
        why="The slot was full, so half of what it held was thrown away; answers may forget the beginning.",
        fix="Relaunch with more context, or begin a new conversation.",
        cure=_roomier,
    ),
    _Kind(
        kind="abort",
        id="server-abort",
        severity=Severity.CRITICAL,
        outlives=True,
        title="llama-server aborted",
        why="An assertion failed, or an error that it cannot survive. What it was doing is lost.",
        fix="Try another build, and report the line to llama.cpp.",
        cure=_after_abort,
    ),
    _Kind(
        kind="out-of-memory",
        severity=Severity.CRITICAL,
        outlives=True,
        freezes=True,
        title="Out of memory",
        why="A buffer could not be allocated. GTT, RAM or the limit of one Vulkan buffer was the end.",
        fix="Relaunch with a smaller context or KV type, or stop another server.",
        cure=_smaller,
        marks=("gpu.gtt_used_bytes",),
    ),
    _Kind(
        kind="port-in-use",
        severity=Severity.CRITICAL,
        title="The port is taken: the server did not start",
        why="Another process listens on it, perhaps an older server that has not ended.",
        fix="Stop the other one, or take another --port.",
    ),
    _Kind(
        kind="port-shared",
        lasts="servers share this port",
        freezes=True,
        proof=Proof.FRAMES,
        title="Two servers share one port",
        why="Builds up to about b7347 bind a port that is taken (SO_REUSEPORT): the two answer in turn, each "
        "with a model and slots of its own.",
        fix="Stop one of them.",
    ),
    _Kind(
        kind="bad-key",
        title="Someone asks with a wrong API key",
        why="Each such request is refused with status 401.",
        fix="Check the key of the client.",
        cure=_ours,
    ),
    _Kind(
        kind="bad-flag",
        severity=Severity.CRITICAL,
        title="The server does not know one of its flags",
        why="A flag that is unknown, removed or wrong ends it at once; names change between builds.",
        fix="Take it away, or see --help of this build for its new name.",
    ),
    _Kind(
        kind="gpu-hang",
        severity=Severity.CRITICAL,
        outlives=True,
        freezes=True,
        title="The GPU hung",
        why="A job on the GPU did not come back. The driver resets it, and what was on it is lost.",
        fix="See 'journalctl -k' for the ring that timed out; start it again, with a smaller -ub if need be.",
    ),
    _Kind(
        kind="device-lost",
        severity=Severity.CRITICAL,
        outlives=True,
        freezes=True,
        title="The GPU was lost",
        why="The driver took the device away from the server, as it does after a hang.",
        fix="See 'journalctl -k'; start the server again. A driver or firmware update may be the cure.",
    ),
    _Kind(
        kind="gpu-error",
        severity=Severity.CRITICAL,
        outlives=True,
        freezes=True,
        title="A call to the GPU failed",
        why="ROCm or CUDA refused a call: a kernel that is not there for this GPU, memory, or a fault.",
        fix="Read the line that names the call; another build or backend may be the cure.",
    ),
    _Kind(
        kind="compute-error",
        severity=Severity.CRITICAL,
        freezes=True,
        title="The backend fails to compute",
        why="The graph did not run to its end, so requests end in error.",
        fix="Relaunch; if it comes back, take another backend or build.",
    ),
    _Kind(
        kind="model-failed",
        title="The server of a model ended",
        why="The router started it, and it ended by itself. The router starts it again for the next request.",
        fix="Read what it wrote before; load it alone to see why.",
    ),
    _Kind(
        kind="request-error",
        title="Requests end with an error",
        why="The server could not compute them, and said so to its clients.",
        fix="Read what its log says beside it.",
    ),
)


def _clears(kind: _Kind) -> str:
    after = "10 minutes after the last one"
    if kind.outlives:
        return after
    return f"{after}, or when the server restarts" + ("; not while it lasts" if kind.lasts else "")


RULES = tuple(
    Rule(
        id=kind.id or kind.kind,
        check=partial(_check, kind),
        severity=kind.severity,
        title=kind.title,
        why=kind.why,
        fix=kind.fix,
        window="10 minutes",
        clears=_clears(kind),
        levels=(Level(name=WINDOW, value=600, help="seconds after the last one", least=1),),
        evidence="[slot {slot}: ]{what}[; [{number} times, last ]{age} ago]",
        freezes=kind.freezes,
        proof=kind.proof,
        may_patch=kind.cure not in (None, _ours),  # that one only has words
        needs=("server.events", "server.uptime_seconds", "server.state", "server.reason"),
        marks=kind.marks,
    )
    for kind in _KINDS
)
