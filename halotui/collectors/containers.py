"""The container that a process runs in, as its engine tells: asked once, and kept while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from halotui.collectors import cgroups, netspace
from halotui.collectors.cgroups import Inside
from halotui.hosts import Host, Process

ASK_SECONDS = 1.5  # well below the deadline of a whole look
AGAIN_SECONDS = 60.0  # until one that did not tell is asked again
SHORT = 12  # digits of an id that people are shown

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)
_CONTAINERENV = re.compile(r'^name="([^"]*)"', re.M)


class Container(Struct, frozen=True, kw_only=True):
    """``name`` is the short id where the engine did not tell; ``why`` not."""

    engine: str
    id: str
    name: str
    main_pid: int = 0  # 0: not known
    ports: dict[int, str] = {}  # its TCP port -> address and port of this box
    why: str = ""


class Engines:
    """Memory of what the engines of one host told."""

    def __init__(self) -> None:
        self._known: dict[Inside, Container] = {}
        self._failed: dict[Inside, float] = {}  # when

    def ask(self, host: Host, inside: Inside) -> Container:
        """Runs a command of the engine for a new container, and at most once a minute for a silent one."""
        known = self._known.get(inside)
        failed = self._failed.get(inside)
        if known is not None and (
            _runs(host, inside, known.main_pid)
            if failed is None
            else time.monotonic() - failed < AGAIN_SECONDS
        ):
            return known
        told = _look(host, inside)
        self._known[inside] = told
        if told.why or not _runs(host, inside, told.main_pid):
            self._failed[inside] = time.monotonic()
        else:
            self._failed.pop(inside, None)
        return told

    def forget_others(self, here: set[Inside]) -> None:
        for gone in self._known.keys() - here:
            self._known.pop(gone)
            self._failed.pop(gone, None)


_MEMORY: WeakKeyDictionary[Host, Engines] = WeakKeyDictionary()


def engines(host: Host) -> Engines:
    return _MEMORY.setdefault(host, Engines())


def box(host: Host, process: Process) -> str:
    """The name of the toolbox or distrobox that a process runs in; empty: in none that tells its name."""
    if named := process.environ.get("CONTAINER_ID", ""):
        return named if _NAME.fullmatch(named) else ""
    if not process.foreign_files:
        return ""
    root = host.procfs / str(process.pid) / "root/run"
    if _text(host, root / ".toolboxenv") is None:
        return ""
    found = _CONTAINERENV.search(_text(host, root / ".containerenv") or "")
    return found[1] if found and _NAME.fullmatch(found[1]) else ""


def published(bindings: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """A container's TCP ports, and where on this box: ``127.0.0.1:8080``. Raises where it is nonsense."""
    for port, places in bindings.items():
        for place in places or ():
            if port.endswith("/tcp") and place.get("HostPort"):
                address = str(place.get("HostIp") or "")
                yield int(port.partition("/")[0]), netspace.here(address, int(place["HostPort"]))
                break


def _look(host: Host, inside: Inside) -> Container:
    short = inside.id[:SHORT]
    try:
        out = host.run((inside.engine, "inspect", "--type", "container", inside.id), ASK_SECONDS)
        [answer] = msgspec.json.decode(out, type=list[dict[str, Any]])
        bound = answer.get("HostConfig", {}).get("PortBindings") or {}
        given = answer.get("NetworkSettings", {}).get("Ports") or {}  # those that the kernel chose, too
        name = str(answer["Name"]).removeprefix("/")
        return Container(
            engine=inside.engine,
            id=inside.id,
            name=name if _NAME.fullmatch(name) else short,
            main_pid=int(answer["State"]["Pid"]),
            ports=dict(published(bound)) | dict(published(given)),
        )
    except TimeoutError:
        why = f"{inside.engine} does not answer"
    except FileNotFoundError:
        why = f"there is no {inside.engine} command here"
    except OSError:
        why = f"{inside.engine} does not tell us: it is another user's"
    except (msgspec.DecodeError, LookupError, ValueError, TypeError, AttributeError):
        why = f"{inside.engine} inspect gave an answer that is not understood"
    return Container(engine=inside.engine, id=inside.id, name=short, why=why)


def _runs(host: Host, inside: Inside, pid: int) -> bool:
    """Whether it is still the container that told: one that was started again has another first process."""
    return cgroups.container(_text(host, host.procfs / str(pid) / "cgroup") or "") == inside


def _text(host: Host, path: Path) -> str | None:
    with suppress(OSError):
        return host.read(path).decode(errors="replace")
    return None
