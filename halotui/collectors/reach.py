"""Where this box reaches a server that has a network namespace of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.collectors import forwarders, netspace
from halotui.collectors.containers import Container
from halotui.collectors.netspace import View
from halotui.hosts import Host, Process
from halotui.model import ServerProcess

Helpers = Callable[[], Sequence[Process]]  # of the engines: see ``forwarders``


def outside(
    host: Host,
    process: Process,
    server: ServerProcess,
    container: Container | None,
    view: View,
    ancestors: Collection[int],
    helpers: Helpers,
) -> ServerProcess:
    """``server`` as it is known and asked from here, or with the reason why it cannot be asked.

    A published port is its URL. Else it is known by where it stands, since its address changes with each
    start: ``http://CONTAINER:PORT``.
    """
    parts = urlsplit(server.url)
    port = parts.port or 0

    def at(netloc: str) -> str:
        return parts._replace(netloc=netloc).geturl()

    if container is not None and not container.why:  # the engine's own word
        published = container.ports.get(port)
    else:
        published = forwarders.forwarded(host, process, port, ancestors, helpers())
    named = replace(server, url=at(f"{_stand(server, container)}:{port}"))
    inside = f"container {container.name}" if container else f"the network namespace of pid {server.pid}"
    if netspace.loopback_only(view.bound.get(port, set())) and (view.bridge or not published):
        why = f"it listens on 127.0.0.1 inside {inside}: start it with --host 0.0.0.0"
        return replace(named, unreachable=why)
    if published:
        return replace(server, url=at(published))
    if view.bridge:
        return replace(named, address=at(f"{view.bridge}:{port}"))
    return replace(named, unreachable=_why(inside, port, container))


def _stand(server: ServerProcess, container: Container | None) -> str:
    return container.name if container else (server.unit or f"pid-{server.pid}").removesuffix(".service")


def _why(inside: str, port: int, container: Container | None) -> str:
    ways = f"publish it (-p {port}:{port}) or run it with --network=host"
    if container is None:
        return f"it listens in {inside}, which nothing here leads into"
    if container.why:
        unknown = f"whether port {port} of {inside} is published is not known ({container.why})"
        return f"{unknown}: give --url, or {ways}"
    return f"port {port} of {inside} is not published: {ways}"
