"""What the doctor says, a line at a time, and what it says it from."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from halotui.actions import Check, Verdict
from halotui.doctor import distributions
from halotui.model import Frame

PATIENCE = 2.0  # seconds for each look that may hang
FAR_PATIENCE = 10.0  # the same of a far box: a look takes some round trips


class Section(StrEnum):
    """In the order they are told."""

    BOX = "Box"
    GPU = "GPU"
    MEMORY = "Memory"
    SOFTWARE = "Software"
    SERVER = "Server"


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One point of the audit. ``id`` is stable, and that of the rule where one judged."""

    section: Section
    id: str
    title: str
    verdict: Verdict
    subject: str = ""  # the server's URL, or the file it is about
    detail: str = ""  # what was read, with numbers
    read: str = ""  # where: a file or command
    fix: str = ""  # what to do
    commands: tuple[str, ...] = ()  # the same, to be copied


def line(
    section: Section,
    id_: str,
    title: str,
    verdict: Verdict,
    detail: str,
    read: str,
    *,
    fix: str = "",
    commands: tuple[str, ...] = (),
) -> Line:
    """One of the box."""
    return Line(
        section=section,
        id=id_,
        title=title,
        verdict=verdict,
        detail=detail,
        read=read,
        fix=fix,
        commands=commands,
    )


class Node(Struct, frozen=True):
    """A device file: whether we may open it, and to which group it belongs."""

    path: str
    open: bool
    group: str = ""
    public: bool = False  # everybody may: udev's default on Fedora and Arch


class Person(Struct, frozen=True):
    """Who looks."""

    name: str
    root: bool
    groups: frozenset[str]  # that count in this login
    listed: frozenset[str]  # that the system has them in: what the next login brings


class Linked(Struct, frozen=True, kw_only=True):
    """The libraries of one binary and of the llama.cpp backends beside it."""

    path: str
    backends: tuple[str, ...] = ()  # names of the libggml-*.so beside it
    found: Mapping[str, str] = {}  # name -> path
    missing: Mapping[str, str] = {}  # name -> who needs it: it does not start
    left_out: Mapping[str, str] = {}  # the same of a backend beside it: that one is not loaded
    problem: str = ""  # why it could not be read


class Nursed(Struct, frozen=True, kw_only=True):
    """What only a look into a server's process and files tells."""

    url: str
    pid: int | None = None
    linked: Linked | None = None
    loaded: tuple[str, ...] = ()  # GPU libraries in its memory: names of files
    checks: tuple[Check, ...] = ()  # of the pre-flight, for the server as it is
    refusal: str = ""  # why there are none
    hint: str = ""


class Sighted(Struct, frozen=True, kw_only=True):
    """All that was looked at."""

    frame: Frame
    native: bool = True  # it is this box, and no tree of files
    cmdline: bool = True  # whether the kernel's command line could be read
    os_id: str = ""  # ID and ID_LIKE of os-release
    ostree: bool = False  # a system of images: rpm-ostree
    grub: bool = True  # its file of settings is there
    on_bus: bool = False  # the chip's GPU is among the PCI devices, with or without a driver
    nodes: tuple[Node, ...] | None = None  # None: no /dev to look into
    person: Person | None = None
    drivers: tuple[str, ...] | None = None  # Vulkan's, by their manifests; None: no place to look
    binaries: tuple[Linked, ...] = ()  # llama-server on PATH and of the user's profiles
    servers: tuple[Nursed, ...] = ()

    @property
    def kin(self) -> str:
        """The family of its distribution."""
        return distributions.family(self.os_id, self.ostree)
