"""Whose process a server is: its ancestors, its control group, and who would start it again."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path, PurePath

from msgspec import Struct

from halotui.actions import ActionError
from halotui.collectors import llama_process
from halotui.hosts import Host, Process
from halotui.safe import clean
from halotui.servers import there

# They own the servers that they start: one that is stopped they start again, or report as broken.
MANAGERS = (
    (r"llama-swap", "llama-swap", "put the flags into its config.yaml"),
    (r"ollama", "Ollama", "set OLLAMA_* or the Modelfile's parameters"),
    (r"lemonade\S*", "Lemonade", "use its own options"),
    (r"lms|lm-studio|lm studio|llmster", "LM Studio", "use its own options"),
    (r"kobold\S*", "KoboldCpp", "use its own options"),
    (r"ramalama", "RamaLama", "use ramalama stop, and ramalama serve with other flags"),
    (r"llamactl|gpustack|localai|local-ai|jan|gpt4all", "another manager", "use its own options"),
    (r"supervisord|circusd|pm2|god daemon\S*|s6-supervise|runsv|monit", "a supervisor", "stop it there"),
)
_SHELLS = re.compile(r"-?(ba|da|z|k|fi|a)?sh")
_LONGEST = 64  # ancestors


class NotOurs(ActionError):
    """A process that halotui does not touch."""


class Kin(Struct, frozen=True):
    """An ancestor."""

    pid: int
    name: str
    words: tuple[str, ...]  # of its command line, the first ones, without directories

    @property
    def is_shell(self) -> bool:
        return bool(_SHELLS.fullmatch(self.name))


class Lineage(Struct, frozen=True, kw_only=True):
    """Where a process comes from and stands. What cannot be read is empty."""

    kin: tuple[Kin, ...] = ()  # the parent first
    cgroup: str = ""
    terminal: bool = False  # it has a controlling one
    foreign_files: bool = False  # it sees other file systems than we do
    ours: str = ""  # our own cgroup


def of(host: Host, process: Process) -> Lineage:
    """Reads a handful of files."""
    place = host.procfs / str(process.pid)
    return Lineage(
        kin=_kin(host, process.pid),
        cgroup=cgroup(host, process.pid),
        terminal=_stat(host, process.pid)[4:5] not in ([], ["0"]),
        foreign_files=_foreign(host, place),
        ours=_text(host, _self(host) / "cgroup"),
    )


def parent(host: Host, pid: int) -> int:
    """The pid of its parent; 0: not to be read."""
    with suppress(ValueError, IndexError):
        return int(_stat(host, pid)[1])
    return 0


def cgroup(host: Host, pid: int) -> str:
    """All of /proc/PID/cgroup; empty: not to be read."""
    return _text(host, host.procfs / str(pid) / "cgroup")


def refuse_strangers(process: Process) -> None:
    """Only what is called llama-server is one. Raises ``NotOurs``."""
    words = [PurePath(word).name for word in process.argv[:3]]
    interpreted = bool(words) and words[0].startswith("python")
    called = (process.name, *words[: 3 if interpreted else 1])
    if not any(word.startswith(llama_process.NAME) for word in called):
        raise NotOurs(
            f"process {process.pid} is {process.name or 'nameless'}, not {llama_process.NAME}",
            "give the pid or the URL of the server itself",
        )


def refuse_owned(process: Process, lineage: Lineage) -> None:
    """One that somebody else looks after. Raises ``NotOurs``."""
    router = lineage.kin[0] if lineage.kin else None
    if router and router.name.startswith(llama_process.NAME):
        raise NotOurs(
            f"it is a model of the router with pid {router.pid}, which starts and stops it",
            f"name the router: {router.pid}",
        )
    for kin in lineage.kin:
        for pattern, manager, hint in MANAGERS:
            if any(re.fullmatch(pattern, word, re.I) for word in (kin.name, *kin.words)):
                raise NotOurs(f"it belongs to {manager} ({kin.name}, pid {kin.pid})", hint)


def refuse_others(host: Host, process: Process) -> None:
    """Another user's. Raises ``NotOurs``."""
    if process.uid is None or process.uid != host.user.uid:
        owner = "of an unknown user" if process.uid is None else f"of user {process.uid}"
        raise NotOurs(f"process {process.pid} is {owner}", "run halotui as that user")


def _kin(host: Host, pid: int) -> tuple[Kin, ...]:
    kin: list[Kin] = []
    while len(kin) < _LONGEST and (pid := parent(host, pid)) > 1:
        place = host.procfs / str(pid)
        host.expect(*(str(place / name) for name in ("stat", "cmdline", "comm")))
        words = _text(host, place / "cmdline").split("\0")[:3]
        name = clean(_text(host, place / "comm").rstrip("\n"))
        kin.append(Kin(pid, name, tuple(PurePath(clean(word)).name for word in words)))
    return tuple(kin)


def _stat(host: Host, pid: int) -> list[str]:
    """Fields 3 and on: state, parent, group, session, terminal ..."""
    return _text(host, host.procfs / str(pid) / "stat").rpartition(")")[2].split()


def _foreign(host: Host, place: Path) -> bool:
    its = there.known(lambda: host.readlink(place / "ns/mnt"))
    ours = there.known(lambda: host.readlink(_self(host) / "ns/mnt"))
    return its is not None and ours is not None and its != ours


def _self(host: Host) -> Path:
    """Of us, or of our login there."""
    return Path("/proc/self") if host.here else host.procfs / "self"


def _text(host: Host, path: Path) -> str:
    return os.fsdecode(there.known(lambda: host.read(path)) or b"")
