"""One server as it was seen: its process, its command line, its environment; and what is made of that."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from halotui.collectors import llama_process
from halotui.hosts import Host, Process
from halotui.hosts.hands import Hands, Identity
from halotui.model import ServerProcess
from halotui.safe import clean
from halotui.servers import lineage, runners, there
from halotui.servers.as_it_was import AS_IT_WAS
from halotui.servers.launch import Launch, Runner
from halotui.servers.lineage import Lineage, NotOurs
from halotui.servers.secret import withdraw

# Of the terminal, login or unit that it was started in; what is not named here, a server may need.
SESSION_VARIABLES = re.compile(
    r"(TERM|COLORTERM|COLUMNS|LINES|SHLVL|_|OLDPWD|PWD|PS[0-4]|PROMPT_COMMAND|LS_COLORS|LESS\w*|PAGER|EDITOR"
    r"|VISUAL|STY|WINDOW|WINDOWID|MAIL|HIST\w*|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|SESSION_MANAGER|DESKTOP_\w*"
    r"|INVOCATION_ID|JOURNAL_STREAM|MANAGERPID\w*|SYSTEMD_EXEC_PID|NOTIFY_SOCKET|LISTEN_\w+|MEMORY_PRESSURE\w*"
    r"|GPG_\w+|HALOTUI_LAUNCH|HALOTUI_PROFILE"
    r"|(SSH|TMUX|TERM_PROGRAM|TERM_SESSION|VTE|KONSOLE|KITTY|ALACRITTY|WEZTERM|GHOSTTY|GNOME|ZELLIJ|VSCODE"
    r"|XDG_(SESSION|SEAT|VTNR|ACTIVATION|CURRENT_DESKTOP|MENU))(_\w*)?)"
)


class Running(Struct, frozen=True, kw_only=True):
    """A server that runs now."""

    who: Identity
    process: Process
    facts: ServerProcess
    runner: Runner
    binary: tuple[str, ...]  # what launches it and the binary, as run inside the runner
    arguments: tuple[str, ...]  # without keys
    env: dict[str, str]  # plain, systemd: all but the session's; others: what was set inside. With the keys
    cwd: str
    container: str = ""
    unit: str = ""
    image: str = ""
    profile: str = ""  # that it was launched from
    api_key: str | None = None
    back: Launch  # puts it back
    notes: tuple[str, ...] = ()  # what would not be the same

    def __repr__(self) -> str:
        """Without command line, environment and key: a traceback may print it."""
        return f"Running(pid={self.who.pid}, url={self.facts.url!r})"


class Sight(NamedTuple):
    """All that was seen of a process."""

    host: Host
    hands: Hands
    who: Identity
    process: Process
    lineage: Lineage
    facts: ServerProcess
    binary: tuple[str, ...]
    arguments: tuple[str, ...]
    keys: dict[str, str]  # withdrawn from the arguments
    log_dir: PurePath

    @property
    def profile(self) -> str:
        return clean(self.process.environ.get(runners.PROFILE, ""))

    @property
    def name(self) -> str:
        return self.profile or AS_IT_WAS

    @property
    def mark(self) -> dict[str, str]:
        """It stays a server of its profile when it is put back."""
        return {runners.PROFILE: self.profile} if self.profile else {}

    @property
    def client(self) -> dict[str, str]:
        """What podman and systemctl need there."""
        return runners.client_env(self.host.environ)

    @property
    def env(self) -> dict[str, str]:
        return session_free(self.process.environ) | self.keys

    def running(self, runner: Runner, back: Launch, env: dict[str, str], **more: Any) -> Running:
        return Running(
            who=self.who,
            process=self.process,
            facts=self.facts,
            runner=runner,
            binary=self.binary,
            arguments=self.arguments,
            env=env,
            cwd=self.process.cwd or "/",
            profile=self.profile,
            api_key=self.facts.api_key,
            back=back,
            **more,
        )


def session_free(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what belongs to a terminal or a login."""
    return {name: value for name, value in environ.items() if not SESSION_VARIABLES.fullmatch(name)}


async def look(host: Host, hands: Hands, pid: int, log_dir: PurePath) -> Sight:
    """Raises ``NotOurs``: it is gone, no server, or somebody else looks after it."""
    who = await asyncio.to_thread(hands.identify, pid)
    process = await asyncio.to_thread(_described, host, pid)
    if who is None or process is None:
        raise NotOurs(f"there is no process {pid}", "halotui servers lists what runs")
    lineage.refuse_strangers(process)
    family = await asyncio.to_thread(lineage.of, host, process)
    lineage.refuse_owned(process, family)
    launcher, arguments = llama_process.split(process.argv)
    kept, keys = withdraw(arguments)
    facts = llama_process.launch_facts(process)
    key = facts.api_key or await asyncio.to_thread(_key_in_file, host, arguments, process)
    facts = replace(facts, api_key=key)
    return Sight(host, hands, who, process, family, facts, tuple(launcher), kept, keys, log_dir)


def _described(host: Host, pid: int) -> Process | None:
    comm = there.known(lambda: host.read(host.procfs / str(pid) / "comm"))
    if comm is None:
        return None
    name = os.fsdecode(comm.rstrip(b"\n"))
    return next((found for found in host.processes((name,), ()) if found.pid == pid), None)


def _key_in_file(host: Host, arguments: Sequence[str], process: Process) -> str | None:
    """The first one."""
    files = [value for flag, value in pairwise(arguments) if flag == runners.KEY_FILE]
    if not files:
        return None
    told = there.known(lambda: host.read(str(PurePath(process.cwd or "/", files[-1]))).decode().split())
    return told[0] if told else None
