"""What runs, and how it would be put back as it was. Looks only; what could not be put back is refused here,
before anything is touched.
"""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from urllib.parse import urlsplit

from halotui.actions import ActionError
from halotui.collectors import cgroups, llama_process
from halotui.hosts import Host
from halotui.hosts.hands import MARK, Hands
from halotui.model import ServerProcess
from halotui.safe import clean
from halotui.servers import as_it_was, contained, containers, lineage, units
from halotui.servers.launch import Runner
from halotui.servers.lineage import NotOurs
from halotui.servers.sight import Running, Sight, look, session_free

NOWHERE = PurePath("/nonexistent")

__all__ = ["NotOurs", "Running", "find", "inspect", "session_free"]


async def inspect(host: Host, hands: Hands, pid: int, *, log_dir: PurePath) -> Running:
    """All about one server. ``log_dir`` is for what it would say once it is put back, where its output goes
    to no file now. Raises ``NotOurs``."""
    sight = await look(host, hands, pid, log_dir)
    try:
        running = await _captured(sight)
    except NotOurs:
        raise
    except ActionError as error:
        raise NotOurs(error.reason, error.hint) from None
    if await asyncio.to_thread(hands.identify, pid) != sight.who:
        raise NotOurs(f"process {pid} has just ended")
    return running


async def find(host: Host, hands: Hands, server: str = "", *, log_dir: PurePath = NOWHERE) -> int:
    """The pid of a server named by pid or URL; empty: the only one there is. Raises ActionError."""
    if server.isdecimal():
        if await asyncio.to_thread(hands.identify, int(server)) is None:
            raise NotOurs(f"there is no process {server}", "halotui servers lists what runs")
        return int(server)
    found = await asyncio.to_thread(llama_process.find, host, [server] if server else [])
    if not found and server:
        found = await _published(host, hands, server, log_dir)
    if not server:
        found = await asyncio.to_thread(_heads, host, found)
    match found:
        case [one]:
            return one.pid
        case []:
            here = f"no server of this box answers at {clean(server)}" if server else "no server runs here"
            raise ActionError(here, "halotui servers lists what runs")
    raise ActionError(f"{len(found)} servers run: which one?", " ".join(one.url for one in found))


async def _captured(sight: Sight) -> Running:
    cgroup = sight.lineage.cgroup
    inside = containers.place(cgroup)
    if inside and inside != containers.place(sight.lineage.ours):  # we may stand in the same toolbox
        return await contained.capture(sight, inside)
    if manager := cgroups.foreign(cgroup):
        raise NotOurs(f"it runs in a container of {manager}", "change it there")
    lineage.refuse_others(sight.host, sight.process)
    if sight.lineage.foreign_files:
        raise NotOurs(
            "it sees other files than halotui: a sandbox, or another container", "run halotui in there"
        )
    if name := cgroups.system_unit(cgroup):
        await _refuse_system(sight, name)
    unit = await _service(sight)
    return contained.by_unit(sight, unit) if unit else await asyncio.to_thread(_plain, sight)


def _plain(sight: Sight) -> Running:
    if not (sight.process.argv and sight.process.environ):
        raise NotOurs("its command line and environment cannot be read, so it could not be put back")
    argv = (*sight.binary, *sight.arguments)
    back, notes = as_it_was.launch(
        sight.host,
        sight.process,
        sight.facts,
        sight.lineage,
        argv,
        sight.env | sight.mark,
        sight.log_dir,
        name=sight.name,
        api_key=sight.facts.api_key,
    )
    return sight.running(Runner.PLAIN, back, sight.env, notes=notes)


async def _service(sight: Sight) -> units.Unit | None:
    """The user's unit that is this server; None where it only stands in one, as in a terminal's."""
    name = cgroups.user_unit(sight.lineage.cgroup)
    if not name or sight.lineage.terminal or MARK in sight.process.environ:
        return None
    unit = await units.look(sight.hands, name, sight.client)
    if not _is_it(unit, sight):
        return None
    if not unit.transient:
        return unit
    if unit.restart != units.NO:
        raise NotOurs(f"{name} is transient: once stopped, systemd forgets it", "make it a unit file")
    return None


def _is_it(unit: units.Unit, sight: Sight) -> bool:
    """Whether the unit's main process is the server, a script around it, or not known."""
    parent = sight.lineage.kin[0] if sight.lineage.kin else None
    script = parent is not None and parent.is_shell and parent.pid == unit.main_pid
    return unit.main_pid in (0, sight.process.pid) or script


async def _refuse_system(sight: Sight, name: str) -> None:
    if sight.lineage.terminal or MARK in sight.process.environ:
        return
    unit = await units.look(sight.hands, name, sight.client, ("systemctl",))
    if _is_it(unit, sight):
        raise NotOurs(f"{name} is a service of the box, and needs root", f"sudo systemctl stop {name}")


def _heads(host: Host, found: list[ServerProcess]) -> list[ServerProcess]:
    """Without the models of a router: it stands for them."""
    pids = {one.pid for one in found}
    return [one for one in found if lineage.parent(host, one.pid) not in pids]


async def _published(host: Host, hands: Hands, url: str, log_dir: PurePath) -> list[ServerProcess]:
    """In containers with a network of their own, whose port the engine forwards."""
    found = []
    for one in await asyncio.to_thread(llama_process.find, host, []):
        cgroup = await asyncio.to_thread(lineage.cgroup, host, one.pid)
        if containers.place(cgroup):
            try:
                running = await inspect(host, hands, one.pid, log_dir=log_dir)
            except NotOurs:
                continue
            if urlsplit(running.facts.url).port == urlsplit(url).port:
                found.append(one)
    return found
