"""A scripted box for pictures and tests: the same frames on every machine, as fast as they can be made.

Its clock and its llama-server are a script; the frames are made by the real collectors, sampler and
rules, which read a real tree of files, a real log and the server's real formats.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from halotui.collectors.llama_http import LlamaHttp
from halotui.demo import header, kernel_words
from halotui.demo.script import DIRECTORY, LOG, MODEL, Script
from halotui.demo.tenants import Invented, Tenant
from halotui.demo.tree import KV_BYTES_PER_TOKEN, MODEL_BYTES, Load, Tree, scratch
from halotui.feed import LiveFeed
from halotui.hosts import Process
from halotui.hosts.local import LocalHost
from halotui.model import Frame
from halotui.sampler.clock import Clock
from halotui.sampler.core import Options, Sampler

HOST = "strix"
START = 1795171320.0  # Unix seconds of the first frame: 2026-11-20 10:42:00 UTC
UPTIME = 8052.0  # seconds that the server has been up by then
WARM = 60.0  # seconds since its users came
SECONDS = 163  # from the first frame to the last, which shows slots in every phase
FAULTS = (
    "np-slots",
    "spec-decay",
    "gtt-pressure",
    "thermal",
    "gpu-fault",
    "source-stale",
)  # that it can show
DECAY_AFTER = 45.0  # seconds
HANG_BEFORE = 8.0  # seconds before the last frame
ROOM_BYTES = 1 << 20  # tree and log
PATIENCE = 30.0  # real seconds for answers, which all come at once
HUNG_PATIENCE = 0.1  # the same beside a hung server, whose answers never come
HUNG_ALLOWANCE = 1.0  # real seconds for a read that may never come back
EMPTY = Load(tokens=-(MODEL_BYTES // KV_BYTES_PER_TOKEN))  # no model either
TOOK = {  # seconds, about as measured
    "gpu": 0.0009,
    "gpu_metrics": 0.0009,
    "memory": 0.0002,
    "system": 0.0003,
    "holders": 0.0011,
    "platform": 0.0034,
    "kernel": 0.0001,
    "processes": 0.0021,
    "server": 0.0016,
    "model": 0.0104,
}
PID = 2719
USER = "ada"
MODULES = 8  # of memory
FURNITURE = {  # below the root
    "sysfs/firmware/dmi/tables/DMI": "",  # root's: udev tells of it
    "run/udev/data/+dmi:id": f"E:MEMORY_ARRAY_NUM_DEVICES={MODULES}\n"
    + "".join(f"E:MEMORY_DEVICE_{module}_SIZE={16 << 30}\n" for module in range(MODULES)),
    "var/lib/containers/storage/overlay-images/images.json": json.dumps(
        [{"names": ["docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7.1.1"]}]
    ),
}
SINCE_BOOT = 31.0  # seconds, to the server's start


class Scene:
    """A Feed: a box second by second without a pause, then its last frame for good.

    ``shown`` is set once the consumer has taken the last frame. ``bare``: a box without GPU and server.
    """

    def __init__(self, fault: str | None = None, *, seconds: int = SECONDS, bare: bool = False) -> None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"'{fault}' is none of {', '.join(FAULTS)}")
        self.interval = 1.0
        self.shown = asyncio.Event()
        self.hung = False
        self.script = Script(
            UPTIME - WARM,
            UPTIME + DECAY_AFTER if fault == "spec-decay" else float("inf"),
            np_fault=fault == "np-slots",
        )
        self._hangs = seconds - HANG_BEFORE if fault in ("gpu-fault", "source-stale") else float("inf")
        self._told = fault == "gpu-fault"  # by the kernel; the server stands still as well
        self._bare = bare
        self._seconds = seconds
        self._now = 0.0
        self._directory = tempfile.TemporaryDirectory(
            prefix="halotui-scene-", dir=scratch(ROOM_BYTES), ignore_cleanup_errors=True
        )
        root = Path(self._directory.name)
        self._log = root / LOG
        self._tree = Tree(
            root,
            pressure=fault == "gtt-pressure",
            hot=fault == "thermal",
            booted=START - UPTIME - SINCE_BOOT,
            uptime=lambda: SINCE_BOOT + UPTIME + self._now,
            desktop=not bare,
        )
        if not bare:
            self._tree.invent(PID, _process(self.script.argv), Tenant(MODEL_BYTES, counted=False))
            _furnish(root)
        self._sampler = Sampler(
            SceneHost(root, None if bare else self.script.argv),
            Options(gpu_source="sysfs", interval=self.interval),
            Clock(lambda: UPTIME + self._now, lambda: START + self._now, _go_on, self._allow),
            lambda url, key: LlamaHttp(url, key, wire=SceneWire(self)),
        )
        self._feed = LiveFeed(self._sampler)
        self.history = self._feed.history

    async def frames(self) -> AsyncIterator[Frame]:
        for second in range(self._seconds + 1):
            yield await self._frame(second)
        self.shown.set()
        await asyncio.Event().wait()

    async def take(self) -> list[Frame]:
        """All frames, without the waiting."""
        return [await self._frame(second) for second in range(self._seconds + 1)]

    async def close(self) -> None:
        self._tree.recover()
        await self._feed.close()
        self._directory.cleanup()

    async def _frame(self, now: float) -> Frame:
        """Turn the clock to ``now``, let the box follow, and look at it."""
        self._now = now
        if now >= self._hangs and not self.hung:
            self.hung = True
            self._tree.hang()
            if self._told:
                self._tree.say(kernel_words.hang(PID))
        if not self.hung:
            if not self._bare:
                self.script.advance(UPTIME + now)
            self._tree.update(EMPTY if self._bare else self.script.load, now)
            self._write_log()
        frame = await self._sampler.tick(HUNG_PATIENCE if self.hung else PATIENCE)
        return self._feed.judge(_settled(frame, self._directory.name))

    def _allow(self, seconds: float) -> float:
        return max(seconds, HUNG_ALLOWANCE if self.hung else PATIENCE)

    def _write_log(self) -> None:
        lines, self.script.log = self.script.log, []
        with self._log.open("a") as log:
            log.writelines(f"{line}\n" for line in lines)


class SceneHost(LocalHost):
    """The tree's files, and the scripted server as the one process; nothing where there is no ``argv``."""

    def __init__(self, root: Path, argv: tuple[str, ...] | None) -> None:
        super().__init__(root / ("sysfs" if argv else "nothing"), root / "procfs")
        self.name = HOST
        self._processes = [
            Process(
                pid=PID,
                name="llama-server",
                argv=argv,
                environ={"ROCBLAS_USE_HIPBLASLT": "1"},
                cwd=str(root),
                started_time=START - UPTIME,
                ports=(8080,),
            )
            for argv in ([argv] if argv else [])
        ]

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        return self._processes


class SceneWire:
    """HTTP without a network: the script answers at once, or never."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def get(self, path: str) -> tuple[int, bytes]:
        if self._scene.hung:
            await asyncio.Event().wait()
        return 200, self._scene.script.answer(path).encode()

    async def aclose(self) -> None:
        return


def _process(argv: tuple[str, ...]) -> Invented:
    """Its RAM is not what the GPU holds: buffers, tokenizer, the program."""
    return Invented(
        name="llama-server",
        argv=argv,
        cgroup="/user.slice/user-1000.slice/session-3.scope",
        began=SINCE_BOOT,
        resident=1_640 << 20,
        at_rest=0.004,
        at_work=1.1,
    )


def _furnish(root: Path) -> None:
    """What a box of its own has: the model where its server sees it, memory modules, images of toolboxes."""
    header.write(root / DIRECTORY[1:] / f"{MODEL}.gguf")
    for process, files in ((str(PID), "mnt:[4026532907]"), ("self", "mnt:[4026531841]")):
        spaces = root / "procfs" / process / "ns"
        spaces.mkdir(parents=True)
        (spaces / "mnt").symlink_to(files)
    (root / "procfs" / str(PID) / "root").symlink_to(root)
    for place, text in FURNITURE.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)


async def _go_on(seconds: float) -> None:
    """A pause takes no time here: the next frame is a second later all the same."""
    await asyncio.sleep(0)


def _settled(frame: Frame, root: str) -> Frame:
    """Without what differs from run to run: where files lie, who runs this, how long reading took."""
    log = f"{DIRECTORY}/{LOG}"
    servers = (replace(server, log_path=log if server.log_path else None) for server in frame.servers)
    sources = (
        replace(source, duration_seconds=TOOK.get(source.id.partition(" ")[0]))
        if source.duration_seconds is not None
        else source
        for source in frame.sources
    )
    holders = (replace(holder, user=USER) if holder.user else holder for holder in frame.holders)
    platform = frame.platform
    if platform is not None:
        places = {key: _place(told, root) for key, told in platform.provenance.items()}
        platform = replace(platform, provenance=places)
    return replace(
        frame,
        servers=tuple(servers),
        holders=tuple(holders),
        platform=platform,
        sources=tuple(sources),
    )


def _place(told: str, root: str) -> str:
    """A path as the box would have it."""
    for ours, theirs in ((f"{root}/sysfs", "/sys"), (f"{root}/procfs", "/proc"), (root, "")):
        told = told.replace(ours, theirs)
    return told
