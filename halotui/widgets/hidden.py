"""The facts that a server keeps to itself, as a finding: ``e`` explains it, ``r`` offers the way out."""

from __future__ import annotations

from halotui.model import Finding, Server, ServerState, Severity

ID = "facts-hidden"
TELLING = 4  # the log level from which buffers, KV types and layers are told


def finding(server: Server) -> Finding | None:
    """None where nothing is hidden, or nothing runs. The patch is there while a higher log level can help."""
    if server.facts_hidden is None or server.state in (ServerState.DOWN, ServerState.FAILED):
        return None
    level = server.facts.verbosity if server.facts is not None else None
    own = server.engine == "llama.cpp" and server.behind is None  # a child is started as its router wants
    able = own and (level is None or level < TELLING)
    return Finding(
        id=ID,
        severity=Severity.INFO,
        title="Memory and KV facts are hidden",
        evidence=server.facts_hidden,
        why="llama-server tells what it took of which device in its log alone, while it loads; builds since "
        f"May 2026 do so from -lv {TELLING} on.",
        fix=f"Relaunch with -lv {TELLING}: the model loads again. The log then has a few hundred more lines "
        "a start, and some more a request.",
        subject=server.url,
        patch={"lv": TELLING} if able else None,
    )
