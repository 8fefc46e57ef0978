"""The servers of this box, of every engine: where each is asked, what it runs in, who started it, its log."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import PurePath
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from halotui.collectors import cgroups, containers, forwarders, llama_process, log_place, netspace, reach
from halotui.collectors.containers import Container
from halotui.collectors.engine_process import ENGINES, SCRIPTS, Engine, engine_of, facts
from halotui.collectors.llama_models import child_url
from halotui.collectors.llama_process import FORWARDERS, launch_facts, port_here, said
from halotui.collectors.log_place import Stand
from halotui.hosts import Host, Process
from halotui.model import LogPlace, ServerProcess
from halotui.safe import clean

__all__ = ["ENGINES", "find"]

LLAMA = ENGINES[llama_process.NAME]
ANCESTORS = 8  # looked at for who started a server
_LONGEST = 200  # characters of a name
_LOWEST = 1024  # of the ports that are no service's by custom


class _Found(Struct, frozen=True):
    """A server, its process, and the pids of its ancestors, the nearest first."""

    server: ServerProcess
    process: Process
    engine: Engine
    ancestors: tuple[int, ...]


def find(host: Host, urls: Sequence[str]) -> list[ServerProcess]:
    """All servers; with ``urls`` those that answer there, as asked, whatever they are called, and what they
    have started. A URL of another machine, or of a process that is not ours to look into, gives none.

    Blocking: some milliseconds, and a command of its engine for a container that is new.
    """
    ports = {port for url in urls if (port := port_here(url, host.name))}
    processes = host.processes(tuple(ENGINES), tuple(ports), SCRIPTS)
    found = _apart(list(_Look(host, processes).servers()))
    servers = _linked(found)
    if not urls:
        return servers
    at = ((url, _at(host, url, found, servers, processes)) for url in dict.fromkeys(urls))
    return [one for url, server in at if server for one in _as_asked(url, server, servers)]


class _Look:
    """One look at a host: what is the same for all of its servers."""

    def __init__(self, host: Host, processes: Sequence[Process]) -> None:
        self._host = host
        self._processes = processes
        self._engines = {one.pid: engine for one in processes if (engine := engine_of(one))}
        self._parents = {one.pid: one.parent for one in processes}
        self._ours = cgroups.container(_cgroup(host))
        self._containers = containers.engines(host)
        self._helpers = cache(partial(host.processes, tuple(forwarders.READERS), ()))
        self._containers.forget_others(
            {place for one in processes if (place := cgroups.container(one.cgroup))}
        )
        netspace.forget_others(host, processes)

    def servers(self) -> Iterator[_Found]:
        """Without the workers of an engine: they are part of the server that started them."""
        for one in self._processes:
            engine = self._engines.get(one.pid)
            ancestors = tuple(_ancestors(self._host, one, self._parents)) if engine else ()
            if engine is None or (
                engine is not LLAMA and any(self._engines.get(pid) is engine for pid in ancestors)
            ):
                continue
            if engine is not LLAMA:
                held = (port for two in self._processes if two.parent == one.pid for port in two.ports)
                one = replace(one, ports=(*one.ports, *held))
            yield _Found(self._server(one, engine, ancestors), one, engine, ancestors)

    def _server(self, process: Process, engine: Engine, ancestors: Sequence[int]) -> ServerProcess:
        told = said(process) if engine is LLAMA else {}
        view = netspace.View()
        if process.foreign_net:
            view = netspace.view(self._host, process, [told["port"]] if told.get("port") else [])
            process = replace(process, ports=tuple(sorted(view.bound)))
        elif (
            engine is LLAMA and not (process.ports or told.get("port")) and process.uid != self._host.user.uid
        ):
            process = replace(process, ports=self._guessed(process, engine))
        server = launch_facts(process) if engine is LLAMA else facts(self._host, process, engine)
        container, box = self._container(process)
        stand = Stand(
            host=self._host,
            process=process,
            said=told,
            container=container,
            main=container is not None and container.main_pid in (0, process.pid, *ancestors),
        )
        unit = cgroups.user_unit(process.cgroup) or cgroups.system_unit(process.cgroup)
        server = replace(
            server,
            unit=(not process.terminal and clean(unit)) or None,
            container=(container.name if container else box) or None,
            own_network=process.foreign_net,
            log=log_place.find(stand),
        )
        if server.url.startswith("unix:"):
            path = server.url.removeprefix("unix:")
            place = self._host.procfs / str(process.pid) / "root"
            return replace(server, address=f"unix:{place}{path}") if process.foreign_files else server
        if process.foreign_net:
            return reach.outside(self._host, process, server, container, view, ancestors, self._helpers)
        return server

    def _guessed(self, process: Process, engine: Engine) -> tuple[int, ...]:
        """Another user's, whose command line names no port: the usual one, or the only one of that user."""
        own = netspace.view(self._host, process, engine.ports).bound
        usual = tuple(port for port in engine.ports if port in own)[:1]
        only = tuple(port for port in own if len(own) == 1 and port >= _LOWEST and process.uid)
        return usual or only  # of root's and of the lowest ports it could be any service

    def _container(self, process: Process) -> tuple[Container | None, str]:
        """A container that is not ours too; or the name of a toolbox, where the engine need not be asked."""
        inside = cgroups.container(process.cgroup)
        if inside is None or inside == self._ours:
            return None, ""
        if not process.foreign_net and (box := containers.box(self._host, process)):
            return None, box
        return self._containers.ask(self._host, inside), ""


def _apart(found: Sequence[_Found]) -> list[_Found]:
    """Of those with one URL the ones that listen there. Old builds let two share a port: the older one keeps
    it, and the other is marked."""
    first: dict[str, _Found] = {}
    kept: list[_Found] = []
    for one in sorted(found, key=lambda one: (not _holds(one), one.server.started_time or 0.0)):
        other = first.setdefault(one.server.url, one)
        if other is not one:
            if not _holds(one):
                continue  # it could not bind, or is on its way out
            port, pid = urlsplit(one.server.url).port, other.process.pid
            why = f"shares port {port} with pid {pid}: both answer in turn"
            one = replace(one, server=replace(one.server, unreachable=why))
        kept.append(one)
    return sorted(kept, key=lambda one: one.process.pid)


def _holds(one: _Found) -> bool:
    """Whether it is known to listen there: in its own namespace that is not asked."""
    return one.process.foreign_net or urlsplit(one.server.url).port in one.process.ports


def _linked(found: Sequence[_Found]) -> list[ServerProcess]:
    """Those that another one started are known by its URL and their model's name."""
    servers: dict[int, ServerProcess] = {}
    by_pid = {one.process.pid: one for one in found}

    def linked(one: _Found) -> ServerProcess:
        pid = one.process.pid
        if pid not in servers:
            servers[pid] = one.server  # a pid that is given anew while we look may close a circle
            above = (by_pid[pid] for pid in one.ancestors if pid in by_pid)
            if parent := next((other for other in above if _starts(other)), None):
                servers[pid] = _child(one, linked(parent))
        return servers[pid]

    known: set[str] = set()
    for pid, server in ((one.process.pid, linked(one)) for one in found):
        if server.behind and server.url in known:  # two of one model, which llama-swap may start
            servers[pid] = server = replace(server, url=f"{server.url}&pid={pid}")
        known.add(server.url)
    return [servers[one.process.pid] for one in found]


def _starts(one: _Found) -> bool:
    """Whether it starts servers: a llama-server with a model of its own does not, nor does an rpc-server."""
    return one.server.router is not False and one.server.engine != "rpc-server"


def _child(one: _Found, parent: ServerProcess) -> ServerProcess:
    server = one.server
    why = server.unreachable
    if why and one.process.foreign_net:
        why = f"it listens inside {parent.container or 'a network namespace'}, for {parent.url} alone"
    return replace(
        server,
        url=child_url(parent.url, _model(server)),
        address=server.address or server.url,  # its port is how its log is told from its parent's
        unreachable=why,
        behind=parent.url,
        container=server.container or parent.container,
        log=_own_log(one, parent),
    )


def _own_log(one: _Found, parent: ServerProcess) -> LogPlace | None:
    """What it says to a pipe its parent repeats; a file that both name is the parent's."""
    log, piped = one.server.log, one.process.stderr_to == "pipe"
    if log is None or (piped and log.kind != "file"):
        return None
    return None if parent.log is not None and log.name == parent.log.name else log


def _model(server: ServerProcess) -> str:
    stem = PurePath(server.model_path or "").name.removesuffix(".gguf")
    return (server.alias or stem or f"pid-{server.pid}")[:_LONGEST]


def _at(
    host: Host, url: str, found: Sequence[_Found], servers: Sequence[ServerProcess], others: Sequence[Process]
) -> ServerProcess | None:
    """The server that is known to be asked there, else whatever listens there, unless for somebody else."""
    plain, port = url.rstrip("/"), port_here(url, host.name)
    known = sorted(zip(found, servers, strict=True), key=lambda pair: pair[1].unreachable is not None)
    for _, server in known:
        if plain in (server.url, server.address):
            return server
    for one, server in known:
        if port and (port in one.process.ports or port == port_here(server.url, host.name)):
            return server
    for process in others:
        if port in process.ports and not process.name.startswith(FORWARDERS):
            return launch_facts(process)
    return None


def _as_asked(url: str, server: ServerProcess, servers: Sequence[ServerProcess]) -> Iterator[ServerProcess]:
    """A server under the URL that was given, what shares it, and what it has started."""
    yield replace(server, url=url, address=None, unreachable=None)
    for other in servers:
        if other.behind == server.url:
            yield replace(other, url=url + other.url.removeprefix(server.url), behind=url)
        elif other.url == server.url and other.pid != server.pid:
            yield replace(other, url=url)


def _ancestors(host: Host, process: Process, known: Mapping[int, int | None]) -> Iterator[int]:
    pid = process.parent
    for _ in range(ANCESTORS):
        if not pid or pid == 1:
            return
        yield pid
        pid = known[pid] if pid in known else _parent(host, pid)


def _parent(host: Host, pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int(host.read(host.procfs / str(pid) / "stat").rpartition(b")")[2].split()[1])
    return None


def _cgroup(host: Host) -> str:
    with suppress(OSError):
        return os.fsdecode(host.read(host.procfs / "self/cgroup"))
    return ""
