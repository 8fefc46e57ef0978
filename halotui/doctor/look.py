"""Looks at what the frame does not tell: device nodes, groups, drivers, programs; ``nursing`` at servers.

It only reads. Every look has a deadline of its own: what could not be seen in time is unknown.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from halotui.doctor.libraries import linked
from halotui.doctor.lines import Linked, Node, Person, Sighted
from halotui.doctor.nursing import aside, nursed, text
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.model import Frame
from halotui.safe import clean

_NONE: tuple[Linked, ...] = ()
_MANIFESTS = (
    *("etc/vulkan/icd.d", "usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d"),
    "run/opengl-driver/share/vulkan/icd.d",  # NixOS
)
_ON_BUS = {"0x1002": "0x1586"}  # PCI vendor and device of the chip's GPU
_NODES = ("kfd", "dri/renderD*")


async def look(host: Host, hands: Hands, frame: Frame, binaries: Sequence[str] = ()) -> Sighted:
    """All of it, side by side. ``binaries``: llama-servers that do not run now. Never raises."""
    servers = [server for server in frame.servers if server.pid is not None]
    nursing = asyncio.gather(*(nursed(host, hands, server) for server in servers))
    system, nodes, person, drivers, found = await asyncio.gather(
        aside(lambda: _system(host), (False, "", False, True, False)),
        aside(lambda: _nodes(host), None),
        aside(_person if host.native else _nobody, None),
        aside(lambda: _drivers(host), None),
        aside(lambda: _unused(binaries), _NONE),
    )
    cmdline, os_id, ostree, grub, on_bus = system
    return Sighted(
        frame=frame,
        native=host.native,
        cmdline=cmdline,
        os_id=os_id,
        ostree=ostree,
        grub=grub,
        on_bus=on_bus,
        nodes=nodes,
        person=person,
        drivers=drivers,
        binaries=found,
        servers=tuple(await nursing),
    )


def _system(host: Host) -> tuple[bool, str, bool, bool, bool]:
    """Whether the kernel's command line is there, the distribution's ids, whether it is one of images, has
    GRUB's settings, and the chip's GPU on its bus."""
    release = ""
    for name in ("run/host/etc/os-release", "etc/os-release", "usr/lib/os-release"):
        release = release or text(host, host.root / name)
    ids = re.findall(r"^(?:ID|ID_LIKE)=[\"']?([^\"'\n]*)", release, re.MULTILINE)
    return (
        bool(text(host, host.procfs / "cmdline")),
        clean(" ".join(ids), 200),
        bool(host.glob(host.root / "run", "ostree-booted")),
        not host.native or (host.root / "etc/default/grub").exists(),
        any(
            _ON_BUS.get(text(host, device / "vendor").strip()) == text(host, device / "device").strip()
            for device in host.glob(host.sysfs / "bus/pci/devices", "*")
        ),
    )


def _unused(binaries: Sequence[str]) -> tuple[Linked, ...]:
    return tuple(linked(Path(binary), environ=os.environ) for binary in binaries)


def _nodes(host: Host) -> tuple[Node, ...] | None:
    dev = host.root / "dev"
    if not dev.is_dir():
        return None
    nodes = tuple(_node(host, node) for pattern in _NODES for node in host.glob(dev, pattern))
    return nodes if nodes or host.native else None  # a tree of files need not have any


def _node(host: Host, path: Path) -> Node:
    group, public = "", False
    with suppress(OSError, KeyError):
        told = path.stat()
        public = told.st_mode & 0o006 == 0o006
        group = grp.getgrgid(told.st_gid).gr_name
    name = path.relative_to(host.root)
    return Node(clean(f"/{name}"), os.access(path, os.R_OK | os.W_OK), clean(group), public)


def _nobody() -> Person | None:
    """Who may do what in a tree of files is not to be told."""
    return None


def _person() -> Person:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
        listed = os.getgrouplist(name, os.getegid())
    except KeyError:
        name, listed = str(uid), []
    return Person(clean(name), uid == 0, _names([os.getegid(), *os.getgroups()]), _names(listed))


def _names(gids: Iterable[int]) -> frozenset[str]:
    names = set()
    for gid in gids:
        with suppress(KeyError):
            names.add(grp.getgrgid(gid).gr_name)
    return frozenset(names)


def _drivers(host: Host) -> tuple[str, ...] | None:
    places = [place for name in _MANIFESTS if (place := host.root / name).is_dir()]
    if not places and not host.native:
        return None
    return tuple(clean(str(file.name)) for place in places for file in host.glob(place, "*.json"))
