"""What the tests of the store put into it, and how they act as somebody else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from halotui.runs import Environment, Kind, Result, Run, Samples, Status, Store
from halotui.store import open_store

GTT, RAM = "gpu.gtt_used_bytes", "memory.used_bytes"
COLUMNS = ((GTT, "0000:c5:00.0"), (RAM, ""))
BOX = Environment(host="strix", kernel="6.18.4", kernel_parameters=("amd_iommu=off",))
NOBODY = 65534


def block(second: int, rate: int = 20) -> Samples:
    """The samples of that second: GTT grows by 1 MiB each, memory is unknown every other time."""
    at = [second * rate + number for number in range(rate)]
    return Samples(
        columns=COLUMNS,
        seconds=tuple(number / rate for number in at),
        values=(
            tuple(float(number << 20) for number in at),
            tuple(float("nan") if number % 2 else 5e9 + number for number in at),
        ),
    )


def speed(test: str = "pp512", rate: float = 884.2) -> Result:
    return Result(test=test, tokens_per_second=rate, spread=2.31, settings={"flash_attn": "1"})


def template(label: str = "Vulkan + FA", kind: Kind = Kind.COMMAND) -> Run:
    return Run(kind=kind, label=label, command=("llama-bench", "-fa", "1"), environment=BOX)


def ended(run: Run | None = None) -> Run:
    return Run(kind=(run or template()).kind, status=Status.OK, seconds=3.5, exit_code=0)


def same(one: Samples, other: Samples) -> bool:
    """To the bit: NaN is not equal to itself."""
    return repr(one) == repr(other)


@contextmanager
def opened(path: Path, **options: object) -> Iterator[Store]:
    store = open_store(path, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        store.close()


def elsewhere(function: Callable[[], object], *, uid: int | None = None) -> str:
    """Call it in a process of its own, which ends without a goodbye. What it returned, or the error."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            said = str(function())
        except BaseException:
            said = traceback.format_exc()
        os.write(into, said.encode()[:60_000])
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(into)
    with os.fdopen(out, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    return said


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Path]:
    """A file system of its own; skips where we may not mount."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount")
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, directory], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def tmpfs(directory: Path, size: str) -> object:
    return mounted(directory, "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs")
