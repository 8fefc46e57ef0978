"""What no live rule says of a running server: state, flash attention, libraries, memory. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from msgspec.structs import replace

from halotui.actions import Verdict
from halotui.doctor.libraries import OF_A_GPU
from halotui.doctor.lines import Line, Linked, Nursed, Section
from halotui.doctor.ruled import relaunch
from halotui.model import Server, ServerState
from halotui.rules import ALL
from halotui.rules.launch import PAIRS


def of_server(server: Server, nursed: Nursed | None) -> Iterator[Line]:
    """What no rule says of it."""
    yield _state(server)
    yield from _flash(server)
    if nursed is not None:
        if nursed.linked is not None:
            found = libraries(nursed.linked, Section.SERVER, server.url, nursed.loaded)
            # it runs: what is not found now would be missed by the next start
            yield replace(found, verdict=Verdict.WARN) if found.verdict is Verdict.FAIL else found
        yield from _checks(server, nursed)


def _state(server: Server) -> Line:
    words = (server.model, f"build {server.build}" if server.build else None, server.backend)
    told = ", ".join(filter(None, words)) or "not known"
    bad = server.state in (ServerState.DOWN, ServerState.FAILED)
    known = Verdict.UNKNOWN if server.state is ServerState.LOCKED else Verdict.OK
    return Line(
        section=Section.SERVER,
        id="server",
        title="Server",
        subject=server.url,
        verdict=Verdict.WARN if bad else known,
        detail=f"{told}; {server.state}" + (f": {server.reason}" if server.reason else ""),
        read="/props, its process",
        fix="Name the variable that holds its key: --api-key-env NAME." if known is Verdict.UNKNOWN else "",
    )


def _flash(server: Server) -> Iterator[Line]:
    facts = server.facts
    if facts is None or facts.flash_attention is None or server.backend not in ("vulkan", "rocm"):
        return
    off = facts.flash_attention == "off"
    yield Line(
        section=Section.SERVER,
        id="flash-attention",
        title="Flash attention",
        subject=server.url,
        verdict=Verdict.WARN if off else Verdict.OK,
        detail=f"-fa {facts.flash_attention}",
        read=server.provenance.get("flash_attention", ""),
        fix="Without it decoding at 8K of context was four times slower (7.5 t/s, not 32)." if off else "",
        commands=(relaunch(server.url, {"fa": "on"}),) if off else (),
    )


# Of the pre-flight's checks those that say something of a server that runs.
_WANTED = {"memory": "Memory fit", "kv-blocks": "Cache types", "logout": "Logout"}


def _checks(server: Server, nursed: Nursed) -> Iterator[Line]:
    ruled = {rule.id for rule in ALL}
    pairs = {pair.id for pair in PAIRS} - ruled
    if nursed.refusal:
        yield Line(
            section=Section.SERVER,
            id="memory",
            title=_WANTED["memory"],
            subject=server.url,
            verdict=Verdict.UNKNOWN,
            detail=nursed.refusal,
            read="its command line and files",
            fix=nursed.hint,
        )
    for check in nursed.checks:
        if check.id not in _WANTED and check.id not in pairs:
            continue
        yield Line(
            section=Section.SERVER,
            id=check.id,
            title=_WANTED.get(check.id, check.title),
            subject=server.url,
            # it runs: what would speak against its start speaks against the next one
            verdict=Verdict.WARN if check.verdict is Verdict.FAIL else check.verdict,
            detail=check.detail,
            read="the GGUF headers, /proc/meminfo" if check.id == "memory" else "its command line",
            fix=check.fix if check.verdict is not Verdict.OK else "",
        )


def libraries(one: Linked, section: Section, subject: str, loaded: tuple[str, ...] = ()) -> Line:
    """What it links, and the backends beside it; what is not found is what ``ldd`` would say."""
    gpu = [name for name in one.found if name.startswith(OF_A_GPU)]
    parts = [
        f"{len(one.found)} found",
        f"backends {', '.join(one.backends)}" if one.backends else "",
        f"GPU {', '.join(sorted(gpu))}" if gpu else "",
        f"loaded {', '.join(loaded)}" if loaded else "",
    ]
    told = Line(
        section=section,
        id="libraries",
        title="Libraries",
        verdict=Verdict.OK,
        subject=subject,
        detail="; ".join(filter(None, parts)),
        read=f"ELF headers of {one.path}" if one.path else "/proc/PID/exe",
    )
    if one.problem:
        return replace(told, verdict=Verdict.UNKNOWN, detail=one.problem)
    lacking = one.missing or one.left_out
    if lacking:
        # a package may bring backends for GPUs that are not here: only a program's own must be there
        cost = "it does not start" if one.missing else "that backend is left out without a word"
        by = next(iter(lacking.values()))
        asked = one.path if one.missing else str(PurePath(one.path).with_name(by))
        return replace(
            told,
            verdict=Verdict.FAIL if one.missing else Verdict.WARN,
            detail=f"not found: {', '.join(f'{name} (for {by})' for name, by in lacking.items())}",
            fix=f"Install what brings them, or set LD_LIBRARY_PATH: without, {cost}.",
            commands=(f"ldd {shlex.quote(asked)}",),
        )
    return told
