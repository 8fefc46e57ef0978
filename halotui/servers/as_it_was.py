"""A plain server put back exactly: its command line, environment, directory and log; and what cannot be."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from halotui.hosts import Host, Process
from halotui.model import ServerProcess
from halotui.safe import clean
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
    log_dir: Path,
    **more: Any,
) -> tuple[Launch, tuple[str, ...]]:
    """The launch and what will not be the same. ``argv`` and ``env`` are whole, the keys in ``env``.
    Raises ``NotOurs`` when its program is gone."""
    place = host.procfs / str(process.pid)
    cwd, gone = _directory(process.cwd)
    words, replaced = _program(place, argv, env, cwd)
    words, fixed = _address(words, facts.url, env)
    log, unheard = _log(process, facts, lineage, log_dir)
    notes = (gone, replaced, fixed, unheard, *_inherited(host, place))
    model = _whole(_as_written(facts.model_path, (*argv, *env.values())), cwd)
    back = Launch(
        argv=words,
        env=dict(env),
        cwd=cwd,
        log=log,
        url=facts.url,
        model=model,
        weights_bytes=weights(model),
        **more,
    )
    return back, tuple(note for note in notes if note)


def weights(model: str) -> int | None:
    """Bytes of a model file and its siblings, where it is split; None: not to be seen."""
    path = Path(model)
    if not model:
        return None
    with suppress(OSError):
        if not _SPLIT.search(path.name):
            return path.stat().st_size
        stem = path.name[: -len("-00001-of-00001.gguf")]
        parts = (part for part in path.parent.iterdir() if part.name.startswith(stem))
        return sum(part.stat().st_size for part in parts if _SPLIT.search(part.name)) or None
    return None


def _whole(path: str | None, cwd: str) -> str:
    return str(Path(cwd, path)) if path else ""


def _as_written(shown: str | None, words: Iterable[str]) -> str | None:
    """The path itself: what is shown of it has been made harmless."""
    return next((word for word in words if shown and clean(word) == shown), shown)


def _directory(cwd: str | None) -> tuple[str, str]:
    if cwd and not cwd.endswith(_GONE):
        return cwd, ""
    shown = clean((cwd or "unknown").removesuffix(_GONE))
    return "/", f"its working directory is gone ({shown}): it would be put back in /"


def _program(
    place: Path, argv: Sequence[str], env: Mapping[str, str], cwd: str
) -> tuple[tuple[str, ...], str]:
    """The command line with a program that can be found, and whether it is still the same."""
    with suppress(OSError):
        exe = str((place / "exe").readlink())
        known = exe.removesuffix(_GONE)
        found = shutil.which(str(Path(cwd, argv[0])) if "/" in argv[0] else argv[0], path=env.get("PATH", ""))
        if exe.endswith(_GONE):
            if not found and not Path(known).exists():
                raise NotOurs(f"its program is gone: {clean(known)}", "it could not be put back")
            return (tuple(argv) if found else (known, *argv[1:])), (
                f"{clean(known)} was replaced since: putting it back would start the new one"
            )
        if found is None or not _same(found, exe):  # by another name or PATH: the program itself is certain
            return (exe, *argv[1:]), ""
    return tuple(argv), ""


def _same(one: str, other: str) -> bool:
    with suppress(OSError):
        return Path(one).samefile(other)
    return False


def _address(argv: tuple[str, ...], url: str, env: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """``--port 0`` would give it another one than its clients know."""
    said = [value for flag, value in zip(argv, (*argv[1:], ""), strict=True) if flag == "--port"]
    port = urlsplit(url).port
    if port is None or (said or [env.get("LLAMA_ARG_PORT", "")])[-1] != "0":
        return argv, ""
    return (*argv, "--port", str(port)), f"its port was given by the kernel: it would be put back on {port}"


def _log(process: Process, facts: ServerProcess, lineage: Lineage, log_dir: Path) -> tuple[str, str]:
    if process.stderr:
        return process.stderr, ""
    path = log_dir / f"as-it-was-{urlsplit(facts.url).port or process.pid}.log"
    what = "a terminal" if lineage.terminal else "somewhere that is not a file"
    return str(path), f"its output goes to {what}: put back, it would go to {path}"


def _inherited(host: Host, place: Path) -> list[str]:
    return [
        f"{what} would be as halotui's: {now}, not {was}"
        for what, name, line in _INHERITED
        if (was := _first(host, place / name, line)) is not None
        and (now := _first(host, Path("/proc/self", name), line)) is not None
        and was != now
    ]


def _first(host: Host, path: Path, line: re.Pattern[str]) -> str | None:
    with suppress(OSError):
        found = line.search(os.fsdecode(host.read(path)))
        return clean(found[1]) if found else None
    return None
