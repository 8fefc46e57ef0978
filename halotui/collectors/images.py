"""Container images and toolboxes that run models.

Podman's are read from its storage: its command takes a hundred times as long, and leaves a process behind
where none ran. Docker's are asked for where its daemon runs: to knock at the socket would start it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from halotui.collectors.leash import leash
from halotui.collectors.platform_facts import Facts, text
from halotui.hosts import Host
from halotui.safe import clean

T = TypeVar("T")
MOST = 16
SECONDS = 3.0
LONGEST = 4 << 20  # bytes of a list in podman's storage: hundreds of images take a tenth
_MATTERS = re.compile(r"llama|rocm|vulkan|strix|toolbox|ollama|vllm|lemonade|kyuz0", re.IGNORECASE)

_USER = re.compile(r"^(?:[a-z-]+://)?[^/@]*:[^/@]*@(?!sha256:)")  # and password, of a registry


class _Image(Struct, frozen=True):
    names: list[str] | None = None


class _Container(Struct, frozen=True):
    names: list[str] | None = None
    metadata: str = ""  # JSON in JSON


class _Metadata(Struct, frozen=True, rename="kebab"):
    image_name: str = ""


def present(host: Host) -> Facts:
    """Blocking, up to 6 s: the names of images, and of podman's containers with theirs; at most 16."""
    podman = sorted({name for store in _stores(host) for name in _in_store(host, store)})
    docker = sorted({*_docker(host)}.difference(podman))
    names = (*podman, *docker)
    by = ", ".join(
        source for source, some in (("podman's storage", podman), ("docker image ls", docker)) if some
    )
    facts = Facts()
    facts.tell("images", tuple(clean(_USER.sub("", name), 120) for name in names[:MOST]), by)
    return facts


def _stores(host: Host) -> Iterator[Path]:
    yield host.root / "var/lib/containers/storage"  # root's
    if host.native:
        data = host.environ.get("XDG_DATA_HOME") or f"{_home(host)}/.local/share"
        yield Path(data, "containers/storage")


def _home(host: Host) -> str:
    return host.environ.get("HOME") or host.user.home


def _in_store(host: Host, store: Path) -> Iterator[str]:
    for index in host.glob(store, "*-images/images.json"):
        for image in _decoded(host, index, list[_Image]):
            yield from filter(_MATTERS.search, image.names or ())
    for index in host.glob(store, "*-containers/containers.json"):
        for container in _decoded(host, index, list[_Container]):
            metadata = _Metadata()
            with suppress(msgspec.MsgspecError, ValueError):
                metadata = msgspec.json.decode(container.metadata, type=_Metadata)
            for name in container.names or ():
                if _MATTERS.search(f"{name} {metadata.image_name}"):
                    yield f"{name} (container)"


def _decoded(host: Host, path: Path, kind: type[list[T]]) -> list[T]:
    try:
        if host.stat(path).size > LONGEST:
            return []
        return msgspec.json.decode(host.read(path), type=kind)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return []


def _docker(host: Host) -> Iterator[str]:
    places = (
        (host.root / "run", Path(host.environ.get("XDG_RUNTIME_DIR") or "/nowhere")) if host.native else ()
    )
    for place in places:
        pid = text(host, place / "docker.pid").strip()
        if not (pid.isdecimal() and text(host, host.procfs / pid / "comm").startswith("dockerd")):
            continue
        asked = ("docker", "--host", f"unix://{place}/docker.sock", "image", "ls")
        with suppress(OSError, TimeoutError):
            out = host.run((*leash(host), *asked, "--format", "{{.Repository}}:{{.Tag}}"), SECONDS)
            names = out.decode("utf-8", "replace").replace(":<none>", "").splitlines()
            yield from filter(_MATTERS.search, names)
