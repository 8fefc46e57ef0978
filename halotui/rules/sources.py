"""Who does not answer: servers that are down or silent, and sources that stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from halotui.fields import CHARTED
from halotui.format import count, duration
from halotui.model import GPU_SOURCE, NO_FORWARDING, Server, ServerState, Severity, Source, SourceState
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View

_RESET = {
    "severity": Severity.CRITICAL,
    "title": "GPU reads do not come back: GPU in reset?",
    "why": "A GPU that is hung or in reset blocks whoever reads it, some for ever.",
    "fix": "Look for 'GPU reset' and 'ring timeout' in the kernel log (journalctl -k).",
}

_DOWN = "server-down"
_GPU_FAULT = "gpu-fault"
_TOGETHER = 60.0  # seconds between two sources of which one drags the other along: most are read more often
_NAMED = 4  # of those that stopped together
_LATE = (SourceState.STALE, SourceState.HUNG)
_OF_GPU = ("gpu_metrics", "amdgpu_top", "amdsmi")  # what the GPU's numbers are made of: late with them
_ENGINES = {  # else as it is called
    "llama.cpp": "llama-server",
    "ollama": "Ollama",
    "vllm": "vLLM",
    "lmstudio": "LM Studio",
    "lemonade": "Lemonade",
}
_SERIES = tuple(field.id for field in CHARTED if field.owner == "server")
_WORK = ("server.slots_busy", "server.requests_deferred", "server.generation_tokens_per_second")
_LAG = 5.0  # seconds by which the clocks of log and frames may differ


def _server_down(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.frame.servers:
        if server.state == ServerState.FAILED:
            yield Symptom(
                subject=server.url,
                title=f"No healthy {_name(server)} answers here",
                evidence=server.reason or "an answer that makes no sense",
                why=_why_failed(server),
                fix="Check which program owns the port, and the URL given to halotui."
                if server.behind is None
                else "Read the log of what starts it.",
            )
        elif server.state == ServerState.DOWN:
            barred = server.reason == NO_FORWARDING
            worst = (Severity.WARNING, f"No {_name(server)} answers") if barred else _how_bad(view, server)
            severity, title = worst
            stopped = severity is Severity.INFO
            requests = sum(1 for _ in view.history.requests(server.url))
            evidence = server.reason or "connection refused"
            yield Symptom(
                subject=server.url,
                severity=severity,
                title=title,
                evidence=f"{evidence}, after {count(requests)} finished requests" if requests else evidence,
                why="It was asked to, by Ctrl-C or another signal."
                if stopped
                else "Whether it runs is not known: no connection to it is let through."
                if barred
                else None,
                fix="Start it again, if that was a mistake."
                if stopped
                else "In its sshd_config: AllowTcpForwarding local, PermitOpen; or permitopen of the key."
                if barred
                else f"Read the end of {server.log_path}, then start it again."
                if server.log_path
                else None,
            )


def _how_bad(view: View, server: Server) -> tuple[Severity, str]:
    """And in which words: what is lost counts. Once said, it stays said."""
    found = view.findings.get((_DOWN, server.url))
    name = _name(server)
    gone, stopped, never = f"{name} went down", f"{name} was stopped", f"No {name} answers"
    if found is not None and found.title in (gone, stopped, never):
        return found.severity, found.title
    seen = _last_seen(view, server)
    requests = [sample.time for sample in view.history.requests(server.url)]
    if seen is None and not requests:
        return Severity.WARNING, never
    last, busy = seen or (max(requests), False)
    told = view.history.events(server.url).get("stopped", ())
    if any(one.time >= last - _LAG for one in told):
        return Severity.INFO, stopped
    return Severity.CRITICAL if busy else Severity.WARNING, gone


def _last_seen(view: View, server: Server) -> tuple[float, bool] | None:
    """When it last answered, and whether it was at work then; None: never, as far as history reaches."""
    series = {field: view.history.series(server.url, field) for field in _SERIES}
    values = {field: ring.last(ring.pushed)[::-1] for field, ring in series.items() if ring is not None}
    ago = min((found for ring in values.values() if (found := _first(ring)) is not None), default=None)
    times = view.history.times.last(view.history.times.pushed)[::-1]
    if ago is None or ago >= len(times):
        return None
    return times[ago] or 0.0, any(ago < len(values[field]) and values[field][ago] for field in _WORK)


def _first(values: Sequence[float | None]) -> int | None:
    """Where the first one that is known stands."""
    return next((at for at, value in enumerate(values) if value is not None), None)


def _why_failed(server: Server) -> str:
    if server.behind is not None:
        return "The router or llama-swap that starts it says so."
    other = "another program, a proxy, or a server in trouble"
    return f"The port answers, but not as {_name(server)} does: {other}."


def _name(server: Server) -> str:
    return _ENGINES.get(server.engine, server.engine)


def _source_stale(view: View) -> Iterator[Symptom | Undefined]:
    late = [source for source in view.frame.sources if source.state in _LATE]
    gpu = next((source for source in late if source.id == GPU_SOURCE), None)
    hangs = gpu is not None and gpu.state is SourceState.HUNG
    with_it = [source for source in late if gpu is not None and _drags(gpu, source)]
    for source in late:
        if source not in with_it:
            yield _late(source)
    if gpu is not None and not (hangs and _explained(view)):
        yield _late(gpu, [source for source in with_it if source.id not in (GPU_SOURCE, *_OF_GPU)])
    for server in view.frame.servers:
        if server.state is not ServerState.WAITING or hangs:
            continue
        if server.waiting_seconds is None:
            yield Undefined(server.url)
        elif server.waiting_seconds > view.levels["silent_seconds"]:
            yield Symptom(
                subject=server.url,
                title="Server is silent: a long prompt batch, or wedged",
                evidence=f"no answer for {duration(server.waiting_seconds)}",
                why="Older builds answer between two prompt batches only; one that hangs looks the same.",
                fix="Watch its log and the GPU: if both stand still, stop it and start it again.",
            )


def _explained(view: View) -> bool:
    """The kernel says that the GPU hangs: that nobody can read it is no news."""
    return any(
        id_ == _GPU_FAULT and found.severity is Severity.CRITICAL for (id_, _), found in view.findings.items()
    )


def _drags(gpu: Source, other: Source) -> bool:
    """Whether the GPU's trouble explains the other's: a part of it, or what stopped at about that time."""
    if other.id in (GPU_SOURCE, *_OF_GPU) or None in (gpu.since_time, other.since_time):
        return True
    return abs((other.since_time or 0.0) - (gpu.since_time or 0.0)) <= _TOGETHER


def _late(source: Source, others: Sequence[Source] = ()) -> Symptom:
    """``others`` stopped with it."""
    hung = source.state == SourceState.HUNG
    kind = _kind(source)
    age = source.age_seconds
    facts = (
        source.name,
        source.reason or ("a read does not come back" if hung else "late"),
        f"last answer {duration(age)} ago" if age is not None else "never answered",
    )
    symptom = Symptom(
        subject=source.id,
        title=f"Source {kind} hangs" if hung else f"Source {kind} has stopped answering",
        evidence=", ".join(fact for fact in facts if fact) + _named(others),
        fix=source.hint,
    )
    return replace(symptom, **_RESET) if hung and source.id == GPU_SOURCE else symptom


def _named(others: Sequence[Source]) -> str:
    kinds = list(dict.fromkeys(map(_kind, others)))
    more = f" and {len(kinds) - _NAMED} more" if len(kinds) > _NAMED else ""
    return f"; with it: {', '.join(kinds[:_NAMED])}{more}" if kinds else ""


def _kind(source: Source) -> str:
    """Without the server that it is of."""
    return (source.id.partition(" ")[0] if "://" in source.id else source.id)[:20]


RULES = (
    Rule(
        id=_DOWN,
        check=_server_down,
        title="A server does not answer, or not as it should",
        hold_seconds=1,
        clears="it answers",
        evidence="{reason}[, after {number} finished requests]",
        proof=Proof.REAL,
        needs=("server.state", "server.reason", "server.log_path"),
        why="Its port refuses connections: it ended, crashed, or was killed.",
        fix="Start it again. If it was killed, 'journalctl -k' names the reason, such as a lack of memory.",
    ),
    Rule(
        id="source-stale",
        check=_source_stale,
        title="A source has stopped answering",
        hold_seconds=3,
        clears="it answers",
        levels=(
            # a prompt batch at great depth may take a minute on an older build
            Level(name="silent_seconds", value=60, help="seconds that a server says nothing", least=5),
        ),
        evidence="[{source}, ]{reason}[, last answer {age} ago][, never answered][; with it: {others}]",
        freezes=True,
        proof=Proof.DEMO,
        needs=(
            "source.state",
            "source.since_time",
            "source.age_seconds",
            "server.state",
            "server.waiting_seconds",
        ),
        why="It answered before and is late now. Its last numbers are old.",
        fix="Wait, or look at what it reads: the machine may be overloaded.",
    ),
)
