"""Looks at what the frame does not tell: device nodes, groups, drivers, programs; ``nursing`` at servers.

It only reads. Every look has a deadline of its own: what could not be seen in time is unknown.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR

from halotui.doctor.libraries import linked
from halotui.doctor.lines import Linked, Node, Person, Sighted
from halotui.doctor.nursing import Aside, nursed, text
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
_IDS = ("vendor", "device")
_NODES = ("kfd", "dri/renderD*")
_GROUPS = ("etc/group", "usr/lib/group")
_RELEASES = ("run/host/etc/os-release", "etc/os-release", "usr/lib/os-release")


async def look(host: Host, hands: Hands, frame: Frame, binaries: Sequence[str] = ()) -> Sighted:
    """All of it, side by side. ``binaries``: llama-servers that do not run now. Never raises."""
    aside = Aside(host)
    servers = [server for server in frame.servers if server.pid is not None]
    nursing = asyncio.gather(*(nursed(host, hands, server) for server in servers))
    system, nodes, person, drivers, found = await asyncio.gather(
        aside(lambda: _system(host), (False, "", False, True, False)),
        aside(lambda: _nodes(host), None),
        aside(lambda: _person(host), None),
        aside(lambda: _drivers(host), None),
        aside(lambda: _unused(host, binaries), _NONE),
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
    devices = host.sysfs / "bus/pci/devices"
    releases = [host.root / name for name in _RELEASES]
    host.expect(str(host.procfs / "cmdline"), *map(str, releases), *(f"{devices}/*/{part}" for part in _IDS))
    release = ""
    for file in releases:
        release = release or text(host, file)
    ids = re.findall(r"^(?:ID|ID_LIKE)=[\"']?([^\"'\n]*)", release, re.MULTILINE)
    return (
        bool(text(host, host.procfs / "cmdline")),
        clean(" ".join(ids), 200),
        bool(host.glob(host.root / "run", "ostree-booted")),
        not host.native or host.access(host.root / "etc/default/grub", os.F_OK),
        any(
            _ON_BUS.get(text(host, device / "vendor").strip()) == text(host, device / "device").strip()
            for device in host.glob(devices, "*")
        ),
    )


def _unused(host: Host, binaries: Sequence[str]) -> tuple[Linked, ...]:
    return tuple(linked(host, Path(binary), environ=host.environ) for binary in binaries)


def _nodes(host: Host) -> tuple[Node, ...] | None:
    dev = host.root / "dev"
    if not _is_dir(host, dev):
        return None
    groups = _groups(host)
    nodes = tuple(_node(host, node, groups) for pattern in _NODES for node in host.glob(dev, pattern))
    return nodes if nodes or host.native else None  # a tree of files need not have any


def _node(host: Host, path: Path, groups: dict[int, str]) -> Node:
    group, public = "", False
    with suppress(OSError):
        told = host.stat(path)
        public = told.mode & 0o006 == 0o006
        group = groups.get(told.gid, "")
    name = path.relative_to(host.root)
    return Node(clean(f"/{name}"), host.access(path, os.R_OK | os.W_OK), clean(group), public)


def _groups(host: Host) -> dict[int, str]:
    """By number. Those of an image are not in /etc."""
    found: dict[int, str] = {}
    for file in _GROUPS:
        for line in text(host, host.root / file).splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2].isdecimal():
                found.setdefault(int(fields[2]), fields[0])
    return found


def _person(host: Host) -> Person | None:
    """Who may do what in a tree of files is not to be told."""
    if not host.native:
        return None
    user = host.user
    return Person(user.name, user.uid == 0, frozenset(user.groups), frozenset(user.listed))


def _drivers(host: Host) -> tuple[str, ...] | None:
    places = [place for name in _MANIFESTS if _is_dir(host, place := host.root / name)]
    if not places and not host.native:
        return None
    return tuple(clean(str(file.name)) for place in places for file in host.glob(place, "*.json"))


def _is_dir(host: Host, path: Path) -> bool:
    with suppress(OSError):
        return S_ISDIR(host.stat(path).mode)
    return False
