"""Ports that a helper of a container engine forwards, as its command line tells: the engine may not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from halotui.collectors import netspace
from halotui.hosts import Host, Process

# Port of ours -> where it goes: an address, or "" where the command line has none, and a port there.
Ways = Iterator[tuple[str, str, int]]


def _docker_proxy(argv: Sequence[str]) -> Ways:
    said = dict(pairwise(argv))
    if said.get("-proto", "tcp") == "tcp":
        with suppress(KeyError, ValueError):
            place = netspace.here(said["-host-ip"], int(said["-host-port"]))
            yield place, said["-container-ip"], int(said["-container-port"])


def _pasta(argv: Sequence[str]) -> Ways:
    """``-t [ADDRESS/]FIRST[-LAST][:FIRST[-LAST]],...``"""
    for flag, value in pairwise(argv):
        for spec in value.split(",") if flag in ("-t", "--tcp-ports") else ():
            address, _, ports = spec.rpartition("/")
            outside, _, inside = ports.partition(":")
            with suppress(ValueError):
                ours, theirs = _range(outside), _range(inside or outside)
                for one, other in zip(ours, theirs, strict=False):
                    yield netspace.here(address, one), "", other


READERS: dict[str, Callable[[Sequence[str]], Ways]] = {
    "docker-proxy": _docker_proxy,
    "pasta": _pasta,
    "passt": _pasta,  # pasta is a link to it
}


def forwarded(
    host: Host, process: Process, port: int, ancestors: Collection[int], helpers: Iterable[Process]
) -> str | None:
    """Where on this box a port of a process's network namespace is: ``127.0.0.1:8080``. None: not to be told.

    ``helpers`` are the processes that ``READERS`` names. One that says no address is believed by its own
    descendants alone: it may serve any namespace.
    """
    inside = {str(address) for address in netspace.addresses(host, process.pid)}
    for helper in helpers:
        for place, there, inner in _ways(helper):
            if inner == port and (there in inside if there else helper.pid in ancestors):
                return place
    return None


def _ways(process: Process) -> Ways:
    for name, reader in READERS.items():
        if process.name.startswith(name):
            yield from reader(process.argv)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    whole = range(int(first), int(last or first) + 1)
    if not 0 < whole.start < whole.stop <= 65536:
        raise ValueError(text)
    return whole
