"""The pre-flight list: what was seen, judged line by line. Pure; ``preflight`` looks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from urllib.parse import urlsplit

from halotui.actions import ActionError, Check, Verdict
from halotui.format import count, size
from halotui.gguf.model_file import Header, mismatch
from halotui.hosts.hands import Done
from halotui.model import Severity
from halotui.rules.launch import Deal, bad_pairs
from halotui.safe import clean
from halotui.servers.fit import judge, layout, undivided
from halotui.servers.launch import Runner
from halotui.servers.running import Running
from halotui.servers.seen import Seen


def judged(seen: Seen) -> tuple[Check, ...]:
    """Every check that applies, in the order of the list."""
    return tuple(check for judge_one in CHECKS for check in judge_one(seen))


def _check(id_: str, title: str, verdict: Verdict, detail: str = "", fix: str = "") -> Check:
    return Check(id=id_, title=title, verdict=verdict, detail=clean(detail, 500), fix=clean(fix, 300))


_ERROR = re.compile(r"error\b", re.I)


def told(done: Done) -> str:
    """The line of a failed command that says why."""
    lines = [line for line in (clean(raw) for raw in f"{done.err}\n{done.out}".splitlines()) if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines[-1:] or [f"exit code {done.code}"])[0]


def _binary(seen: Seen) -> Iterator[Check]:
    title, done = "Binary", seen.version
    if done is None:
        return
    if isinstance(done, str):
        yield _check("binary", title, Verdict.FAIL, done, "Name the binary in the profile.")
    elif done.code:
        yield _check("binary", title, Verdict.FAIL, told(done), "Run it with --version in a terminal.")
    else:
        lines = [line for line in f"{done.err}\n{done.out}".splitlines() if line.startswith("version:")]
        yield _check("binary", title, Verdict.OK, lines[0] if lines else "")


def _flags(seen: Seen) -> Iterator[Check]:
    if seen.arguments:
        flags = sum(word.startswith("-") and not word[1:2].isdecimal() for word in seen.arguments)
        build = f" to b{seen.dialect.build}" if seen.dialect.build else ""
        yield _check("flags", "Flags", Verdict.OK, f"all {flags} known{build}")


def _parses(seen: Seen) -> Iterator[Check]:
    title, done = "Command line", seen.parsed
    if done is None:
        return
    if isinstance(done, str):
        yield _check("arguments", title, Verdict.UNKNOWN, done)
    elif done.code:
        yield _check("arguments", title, Verdict.FAIL, told(done), "Change or take away that flag.")
    else:
        yield _check("arguments", title, Verdict.OK, "accepted by the binary itself")


def _model(seen: Seen) -> Iterator[Check]:
    if seen.wish.runner is Runner.SYSTEMD:
        return
    if seen.model is None:
        yield _check("model", "Model", Verdict.UNKNOWN, "no file is named: a router, or fetched by name")
    elif isinstance(seen.model, ActionError) and "No such file" in seen.model.reason and fetched(seen):
        yield _check("model", "Model", Verdict.UNKNOWN, "not here yet: it is fetched by name")
    else:
        yield _weights("model", "Model", seen.model, seen.wish.runner)


_SOURCES = ("-hf", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo")


def fetched(seen: Seen) -> bool:
    """Whether the server gets its model itself: a path then only says where to put it, or which file."""
    return seen.says(*_SOURCES)


def _draft(seen: Seen) -> Iterator[Check]:
    if seen.draft is not None:
        yield _weights("draft", "Draft model", seen.draft, seen.wish.runner)


def _weights(id_: str, title: str, model: Header | ActionError, runner: Runner) -> Check:
    if isinstance(model, ActionError):
        inside = runner in (Runner.TOOLBOX, Runner.DISTROBOX) and "No such file" in model.reason
        verdict = Verdict.UNKNOWN if inside else Verdict.FAIL
        return _check(id_, title, verdict, model.reason, model.hint or "" if inside else "Name another file.")
    if model.part:
        fix = "Name the first one, -00001-of-…"
        return _check(id_, title, Verdict.FAIL, f"part {model.part + 1} of a model", fix)
    if model.missing:
        names = ", ".join(model.missing[:3]) + (" ..." if len(model.missing) > 3 else "")
        return _check(id_, title, Verdict.FAIL, f"parts are missing: {names}", "Download them again.")
    if model.architecture == "clip":
        return _check(id_, title, Verdict.FAIL, "a projector, not a model", "Give it to --mmproj.")
    name = f"{model.name}, " if model.name else ""
    return _check(id_, title, Verdict.OK, f"{name}{model.architecture}, {size(model.weights_bytes)}")


def _files(seen: Seen) -> Iterator[Check]:
    bad = [file for file in seen.files if file.problem]
    if bad:
        detail = "; ".join(f"{file.flag} {file.path}: {file.problem}" for file in bad)
        yield _check("files", "Other files", Verdict.FAIL, detail, "Put them there, or take the flag away.")
    elif seen.files:
        yield _check("files", "Other files", Verdict.OK, f"{len(seen.files)} readable")


_PLACES = {
    Runner.TOOLBOX: ("Container", "container", "Make it: toolbox create {}"),
    Runner.DISTROBOX: ("Container", "container", "Make it: distrobox create --name {}"),
    Runner.PODMAN: ("Image", "image", "Fetch it first: podman pull {}"),
    Runner.DOCKER: ("Image", "image", "Fetch it first: docker pull {}"),
    Runner.SYSTEMD: ("Unit", "unit", "See systemctl --user status {}"),
}


def _place(seen: Seen) -> Iterator[Check]:
    if seen.wish.runner not in _PLACES or seen.place is None:
        return
    title, what, fix = _PLACES[seen.wish.runner]
    name = getattr(seen.wish, what) or seen.wish.container
    if isinstance(seen.place, str):
        yield _check(what, title, Verdict.UNKNOWN, seen.place)
        return
    there = not seen.place.code and (
        seen.wish.runner is not Runner.SYSTEMD or seen.place.out.strip() == "loaded"
    )
    verdict = Verdict.OK if there else Verdict.FAIL
    yield _check(
        what, title, verdict, name if there else f"there is no {name}", "" if there else fix.format(name)
    )


def _cwd(seen: Seen) -> Iterator[Check]:
    if seen.cwd:
        yield _check("cwd", "Directory", Verdict.FAIL, seen.cwd, "Set cwd in the profile.")


def _log(seen: Seen) -> Iterator[Check]:
    if seen.log:
        yield _check("log", "Log", Verdict.FAIL, seen.log, "Set log in the profile.")


def _port(seen: Seen) -> Iterator[Check]:
    ours = _held_by(seen.running)
    for _, port in seen.ports:
        pid = seen.running.process.pid if seen.running else None
        others = [f"{name or '?'} (pid {held})" for held, name in seen.holders.get(port, ()) if held != pid]
        if port in ours and not others:
            yield _check("port", "Port", Verdict.OK, f"{port}: free when the old server has left")
        elif port in ours:
            detail = f"{port} is shared with {', '.join(others)}: each would get some of the requests"
            yield _check("port", "Port", Verdict.WARN, detail, "Stop the other one.")
        elif port in seen.taken:
            detail = f"{port} is held by {', '.join(others) or 'a process that is not ours to see'}"
            yield _check("port", "Port", Verdict.FAIL, detail, "Set another port, or stop what holds it.")
        else:
            yield _check("port", "Port", Verdict.OK, f"{port} is free")


def _held_by(running: Running | None) -> tuple[int, ...]:
    if running is None:
        return ()
    own = urlsplit(running.facts.url).port if running.facts.url.startswith("http") else None
    return (*running.process.ports, *((own,) if own else ()))


def _memory(seen: Seen) -> Iterator[Check]:
    if seen.wish.runner is Runner.SYSTEMD and seen.need is None:
        return
    if seen.need is None:
        known = seen.model is not None and not isinstance(seen.model, ActionError)
        why = "the model's header tells too little" if known else "no model to reckon with"
        yield _check("memory", "Memory", Verdict.UNKNOWN, why)
        return
    verdict, detail, fix = judge(
        seen.need,
        seen.room,
        backend=seen.wish.backend,
        layers=on_gpu(seen),
        mapped=seen.values.get("mmap") is not False and seen.values.get("mlock") is not True,
    )
    if verdict is Verdict.FAIL and (seen.room.others or seen.says("--rpc")):
        verdict, detail = Verdict.WARN, f"{detail}; what other GPUs or boxes take of it is not counted"
    yield _check("memory", "Memory", verdict, detail, fix)


# Then not all of it is on the GPU, whatever -ngl says.
_OFFLOADED = (
    *("-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "--rpc"),
    *("-nkvo", "--no-kv-offload"),
)


def on_gpu(seen: Seen) -> str:
    """Where the layers go: ``all``, ``some`` or ``none`` on the GPU; unsaid, the server may choose."""
    layers, whole = seen.values.get("ngl"), seen.model.layers if isinstance(seen.model, Header) else None
    if seen.wish.backend == "cpu" or seen.values.get("device") == "none" or str(layers) == "0":
        return "none"
    if seen.says(*_OFFLOADED) or "GGML_CUDA_ENABLE_UNIFIED_MEMORY" in seen.wish.env:
        return "some"  # unified memory is RAM, and not bounded by GTT
    text = str(layers).lower()
    if text == "all" or (text.isdecimal() and whole is not None and int(text) > whole):
        return "all"
    return "some"


def _vocabulary(seen: Seen) -> Iterator[Check]:
    if not isinstance(seen.model, Header) or not isinstance(seen.draft, Header):
        return
    kinds = {kind.strip() for kind in str(seen.values.get("spec", "draft-simple")).split(",")}
    if not kinds & {"draft-simple"}:
        return  # the other kinds come with models made for their target
    reason = mismatch(seen.model.vocabulary, seen.draft.vocabulary)
    if reason:
        # newer builds go on without drafts; older ones translate them by their text, slowly
        verdict = Verdict.FAIL if seen.needs_spec_type else Verdict.WARN
        fix = "Pair it with a draft model of its own family."
        yield _check("draft-vocab", "Draft vocabulary", verdict, reason, fix)
    elif seen.model.vocabulary.tokens and seen.draft.vocabulary.tokens:
        detail = f"{count(seen.model.vocabulary.tokens)} tokens agree"
        yield _check("draft-vocab", "Draft vocabulary", Verdict.OK, detail)
    else:
        yield _check("draft-vocab", "Draft vocabulary", Verdict.UNKNOWN, "no tokens in the header")


SINCE_BLOCKS = 11549  # the oldest build known to refuse them with -fa on too


def _caches(seen: Seen) -> Iterator[Check]:
    """As llama_init_from_model refuses it; without flash attention it does not mind."""
    flash = str(seen.values.get("fa", "auto"))
    fa = seen.dialect.flags.get("-fa")
    if flash == "off" or (fa is not None and not fa.arity):  # builds that do not choose do not look
        return
    certain = flash == "auto" or (seen.dialect.build or 0) >= SINCE_BLOCKS
    for what, model, draft in (("", seen.model, False), ("draft: ", seen.draft, True)):
        reason = undivided(model, layout(seen.values, draft=draft)) if isinstance(model, Header) else None
        if reason:
            verdict = Verdict.FAIL if certain else Verdict.WARN
            yield _check("kv-blocks", "Cache types", verdict, what + reason, "Take f16 for it.")


_SEVERITIES = {Severity.CRITICAL: Verdict.FAIL, Severity.WARNING: Verdict.WARN, Severity.INFO: Verdict.WARN}


def _pairs(seen: Seen) -> Iterator[Check]:
    if seen.wish.runner is Runner.SYSTEMD and not seen.values:
        return
    found = list(bad_pairs(_deal(seen)))
    for pair, evidence in found:
        detail = f"{evidence}. {pair.why}"
        fix = f"{pair.fix} {pair.reference}" if pair.reference else pair.fix
        yield _check(pair.id, pair.title, _SEVERITIES[pair.severity], detail, fix)
    if not found:
        yield _check("pairs", "Known-bad pairs", Verdict.OK, "none")


def _deal(seen: Seen) -> Deal:
    model = seen.model if isinstance(seen.model, Header) else None
    named = [model.name if model else None, PurePath(str(seen.values.get("model", ""))).name]
    return Deal(
        values=seen.values,
        backend=seen.wish.backend,
        build=seen.dialect.build,
        needs_spec_type=seen.needs_spec_type,
        model=clean(" ".join(filter(None, named)), 200),
        architecture=model.architecture if model else None,
        weights_bytes=model.weights_bytes if model else None,
        experts=model.experts if model else None,
        env=seen.wish.env,
        kernel=seen.kernel,
    )


def _devices(seen: Seen) -> Iterator[Check]:
    if seen.wish.backend not in NODES or on_gpu(seen) == "none":
        return
    if seen.devices is None:
        yield _check("devices", "GPU devices", Verdict.UNKNOWN, "no /dev to look into")
        return
    bad = [file for file in seen.devices if file.problem]
    if not bad:
        yield _check("devices", "GPU devices", Verdict.OK, ", ".join(file.path for file in seen.devices))
        return
    denied = any("ermission" in file.problem for file in bad)
    fix = "sudo usermod -aG video,render $USER, then log in again." if denied else "Check the amdgpu driver."
    detail = "; ".join(f"{file.path}: {file.problem}" for file in bad)
    yield _check("devices", "GPU devices", Verdict.WARN, detail, fix)


NODES = {"vulkan": ("dri/renderD*",), "rocm": ("dri/renderD*", "kfd")}  # below /dev


def _busy(seen: Seen) -> Iterator[Check]:
    if seen.running is None or seen.busy == 0:
        return
    if seen.busy is None:
        yield _check("busy", "Requests", Verdict.UNKNOWN, "whether any run cannot be told")
        return
    some = f"{seen.busy} requests run" if seen.busy > 1 else "1 request runs"
    yield _check("busy", "Requests", Verdict.WARN, f"{some} and will be cut off")


def _logout(seen: Seen) -> Iterator[Check]:
    logout, title = seen.logout, "Logout"
    if logout.in_manager and logout.lingers is False:
        detail = "it runs under your systemd, which ends with your last session"
        yield _check("logout", title, Verdict.WARN, detail, "loginctl enable-linger")
    elif logout.in_session and seen.kills and logout.far:
        yield _left_there(title, logout.lingers)
    elif logout.in_session and seen.kills:
        fix = "Set KillUserProcesses=no in logind.conf; or loginctl enable-linger and run halotui by "
        detail = "logind kills what a session leaves behind (KillUserProcesses=yes)"
        yield _check("logout", title, Verdict.WARN, detail, fix + "systemd-run --user --scope")


def _left_there(title: str, lingers: bool | None) -> Check:
    """A far box would end it with our login, unless its user's systemd takes it."""
    if lingers:
        return _check("logout", title, Verdict.OK, "it runs in a scope of your systemd there, which lingers")
    verdict = Verdict.UNKNOWN if lingers is None else Verdict.FAIL
    detail = "logind there kills what a login leaves behind (KillUserProcesses=yes)"
    return _check("logout", title, verdict, detail, "On that box: loginctl enable-linger")


def _notes(seen: Seen) -> Iterator[Check]:
    for note in seen.running.notes if seen.running else ():
        yield _check("note", "Way back", Verdict.WARN, note)


CHECKS: tuple[Callable[[Seen], Iterator[Check]], ...] = (
    _binary,
    _flags,
    _parses,
    _place,
    _model,
    _draft,
    _vocabulary,
    _files,
    _cwd,
    _log,
    _port,
    _memory,
    _caches,
    _pairs,
    _devices,
    _busy,
    _logout,
    _notes,
)
