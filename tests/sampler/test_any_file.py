"""Whatever stands in a box's files: a frame comes, in time, and harmless."""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from box_trees import build
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.hosts.local import LocalHost
from halotui.model import Frame
from halotui.sampler.clock import Clock
from halotui.sampler.core import Options, Sampler

HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\\[nrt]|\\u00[01789]")
GROUPS = 4  # of the files of a box: one at a time, with the others whole
ODD = random.Random(7).randbytes(1 << 16)


class Dead(LlamaHttp):
    async def health(self) -> None:
        raise HttpProblem(HttpKind.REFUSED, "Connection refused")


class Refusing(LocalHost):
    """Its kernel refuses some files."""

    def __init__(self, root: Path, refused: list[Path] | None = None, number: int = 0) -> None:
        super().__init__(root / "sysfs", root / "procfs")
        self.refused, self.number = {os.fspath(path) for path in refused or ()}, number

    def read(self, path: str | Path) -> bytes:
        if os.fspath(path) in self.refused:
            raise OSError(self.number, os.strerror(self.number))
        return super().read(path)


async def look(host: LocalHost) -> Frame:
    """The third frame. None may take long, be harmful, or tell of an error that nobody foresaw."""
    now = 1_000.0
    clock = Clock(monotonic=lambda: now, wall=lambda: now)
    watch = Sampler(host, Options(urls=("http://127.0.0.1:9",)), clock=clock, client=Dead)
    try:
        for _ in range(3):
            began = time.monotonic()
            frame = await watch.tick()
            assert time.monotonic() - began < 2.0
            said = msgspec.json.encode(frame)
            assert not HARMFUL.search(said.decode()), HARMFUL.search(said.decode())
            assert msgspec.json.decode(said, type=Frame) == frame
            assert [one for one in frame.sources if "error of halotui" in (one.reason or "")] == []
            now += 1
        return frame
    finally:
        began = time.monotonic()
        await watch.close()
        assert time.monotonic() - began < 1.0


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "odd": ODD,
    "escapes": b"\x1b]0;x\x07\x1b[31mred\x1b[0m\nnext\r\n\x9b31m\xe2\x80\xae\tx\n",
    "negative": b"-1\n",
    "huge": b"99999999999999999999\n",
    "longer than an int may be": b"9" * 6000,
    "not UTF-8": b"\xff\xfe\xe9 \xf0\x28\n",
    "no number": b"nan inf -inf 1e999\n",
    "other digits": "١٢٣ ²\n".encode(),
    "zeros": b"\0" * 300,
}
IN_PLACE: dict[str, Callable[[Path], None]] = {
    "a directory": Path.mkdir,
    "a dangling link": lambda path: path.symlink_to("/nonexistent/x"),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", ["128-512m", "dgpu-and-apu"])
@pytest.mark.parametrize("damage", [*CONTENTS, *IN_PLACE])
async def test_any_content(tmp_path: Path, kind: str, damage: str) -> None:
    for group in range(GROUPS):
        build(tmp_path / str(group), kind)
        for path in files(tmp_path / str(group))[group::GROUPS]:
            path.unlink()
            if damage in CONTENTS:
                path.write_bytes(CONTENTS[damage])
            else:
                IN_PLACE[damage](path)
        await look(Refusing(tmp_path / str(group)))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EBUSY, errno.EINVAL, errno.ENODATA, errno.EIO])
async def test_any_refusal(tmp_path: Path, number: int) -> None:
    build(tmp_path, "dgpu-and-apu")
    for group in range(GROUPS):
        await look(Refusing(tmp_path, files(tmp_path)[group::GROUPS], number))


HANGS = {  # a file that blocks its reader: what is lost then, and nothing else
    "sysfs/class/drm/card1/device/gpu_metrics": {"gpu"},
    "sysfs/block/nvme0n1/stat": {"system"},
    "procfs/4242/fdinfo/7": {"holders"},
    "procfs/meminfo": {"memory"},
}


@pytest.mark.parametrize("name", HANGS)
async def test_a_file_that_hangs_costs_its_source(tmp_path: Path, name: str) -> None:
    build(tmp_path, "128-512m")
    fifo = tmp_path / name
    fifo.unlink()
    os.mkfifo(fifo)
    frame = await look(Refusing(tmp_path))
    assert {one.id for one in frame.sources if one.state in ("hung", "failed", "no_data")} - {
        "server http://127.0.0.1:9",
        "gpu_metrics",
    } == HANGS[name]
    os.close(os.open(fifo, os.O_RDWR))  # lets that thread go
