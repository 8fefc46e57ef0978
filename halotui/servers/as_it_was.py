"""A plain server put back exactly: its command line, environment, directory and log; and what cannot be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from halotui.hosts import Host, Process, shell
from halotui.model import ServerProcess
from halotui.safe import clean
from halotui.servers import there
from halotui.servers.launch import Launch
from halotui.servers.lineage import Lineage, NotOurs

AS_IT_WAS = "as it was"

_GONE = " (deleted)"
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
# What a child inherits from us instead: what it is called, where it is read, and the line that tells.
_INHERITED = (
    ("its processors", "status", re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.M)),
    ("the memory that it may lock", "limits", re.compile(r"^Max locked memory\s+(\S+)", re.M)),
    ("its priority", "stat", re.compile(r"^.*\)(?: \S+){16} (-?\d+)", re.S)),
)


def launch(
    host: Host,
    process: Process,
    facts: ServerProcess,
    lineage: Lineage,
    argv: Sequence[str],
    env: Mapping[str, str],
    log_dir: PurePath,
    **more: Any,
) -> tuple[Launch, tuple[str, ...]]:
    """The launch and what will not be the same. ``argv`` and ``env`` are whole, the keys in ``env``.
    Raises ``NotOurs`` when its program is gone."""
    place = host.procfs / str(process.pid)
    cwd, gone = _directory(process.cwd)
    words, replaced = _program(host, place, argv, env, cwd)
    words, fixed = _address(words, facts.url, env)
    log, unheard = _log(process, facts, lineage, log_dir)
    notes = (gone, replaced, fixed, unheard, *_inherited(host, place), *_unsayable(host, env))
    model = _whole(_as_written(facts.model_path, (*argv, *env.values())), cwd)
    back = Launch(
        argv=words,
        env=dict(env),
        cwd=cwd,
        log=log,
        url=facts.url,
        model=model,
        weights_bytes=weights(host, model),
        **more,
    )
    return back, tuple(note for note in notes if note)


def weights(host: Host, model: str) -> int | None:
    """Bytes of a model file and its siblings, where it is split; None: not to be seen."""
    path = PurePath(model)
    if not model:
        return None
    with suppress(OSError):
        if not _SPLIT.search(path.name):
            return host.stat(model).size
        stem = path.name[: -len("-00001-of-00001.gguf")]
        names = host.listdir(str(path.parent))
        parts = (name for name in names if name.startswith(stem) and _SPLIT.search(name))
        return sum(host.stat(str(path.parent / part)).size for part in parts) or None
    return None


def _whole(path: str | None, cwd: str) -> str:
    return str(PurePath(cwd, path)) if path else ""


def _as_written(shown: str | None, words: Iterable[str]) -> str | None:
    """The path itself: what is shown of it has been made harmless."""
    return next((word for word in words if shown and clean(word) == shown), shown)


def _directory(cwd: str | None) -> tuple[str, str]:
    if cwd and not cwd.endswith(_GONE):
        return cwd, ""
    shown = clean((cwd or "unknown").removesuffix(_GONE))
    return "/", f"its working directory is gone ({shown}): it would be put back in /"


def _program(
    host: Host, place: Path, argv: Sequence[str], env: Mapping[str, str], cwd: str
) -> tuple[tuple[str, ...], str]:
    """The command line with a program that can be found, and whether it is still the same."""
    exe = there.known(lambda: host.readlink(place / "exe"))
    if exe is None:
        return tuple(argv), ""
    known = exe.removesuffix(_GONE)
    name = str(PurePath(cwd, argv[0])) if "/" in argv[0] else argv[0]
    found = there.program(host, name, env.get("PATH", ""))
    if exe.endswith(_GONE):
        if not found and there.stat(host, known) is None:
            raise NotOurs(f"its program is gone: {clean(known)}", "it could not be put back")
        return (tuple(argv) if found else (known, *argv[1:])), (
            f"{clean(known)} was replaced since: putting it back would start the new one"
        )
    if found is None or not there.same(host, found, exe):  # by another name: the program itself is certain
        return (exe, *argv[1:]), ""
    return tuple(argv), ""


def _address(argv: tuple[str, ...], url: str, env: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """``--port 0`` would give it another one than its clients know."""
    said = [value for flag, value in zip(argv, (*argv[1:], ""), strict=True) if flag == "--port"]
    port = urlsplit(url).port
    if port is None or (said or [env.get("LLAMA_ARG_PORT", "")])[-1] != "0":
        return argv, ""
    return (*argv, "--port", str(port)), f"its port was given by the kernel: it would be put back on {port}"


def _log(process: Process, facts: ServerProcess, lineage: Lineage, log_dir: PurePath) -> tuple[str, str]:
    if process.stderr:
        return process.stderr, ""
    path = log_dir / f"as-it-was-{urlsplit(facts.url).port or process.pid}.log"
    what = "a terminal" if lineage.terminal else "somewhere that is not a file"
    return str(path), f"its output goes to {what}: put back, it would go to {path}"


def _inherited(host: Host, place: Path) -> list[str]:
    whose, ours = ("halotui's", Path("/proc/self")) if host.here else ("a login's", host.procfs / "self")
    host.expect(*(str(where / name) for where in (place, ours) for _, name, _ in _INHERITED))
    return [
        f"{what} would be as {whose}: {now}, not {was}"
        for what, name, line in _INHERITED
        if (was := _first(host, place / name, line)) is not None
        and (now := _first(host, ours / name, line)) is not None
        and was != now
    ]


def _unsayable(host: Host, env: Mapping[str, str]) -> list[str]:
    """A far box's shell starts it, and can name some variables only."""
    lost = [] if host.here else sorted(clean(name) for name in env if not shell.sayable(name))
    return [f"its environment would lack {', '.join(lost)}"] if lost else []


def _first(host: Host, path: Path, line: re.Pattern[str]) -> str | None:
    found = line.search(os.fsdecode(there.known(lambda: host.read(path)) or b""))
    return clean(found[1]) if found else None
