"""Memory against ``free`` on this box, and against meminfo files of our own."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halotui.collectors import memory
from halotui.hosts.local import LocalHost
from halotui.model import Memory, SourceState, Unavailable

KIB = 1024
MEMINFO = """\
MemTotal:       131161644 kB
MemFree:         8123456 kB
MemAvailable:   60000000 kB
Buffers:          100000 kB
Cached:         50000000 kB
SwapCached:            0 kB
Active:          1000000 kB
Inactive:        2000000 kB
SwapTotal:       8388604 kB
SwapFree:        8000000 kB
Shmem:             50000 kB
Slab:             900000 kB
SReclaimable:     700000 kB
"""


@pytest.fixture(autouse=True)
def own_procfs() -> object:
    yield
    psutil.PROCFS_PATH = "/proc"


def read(procfs: Path, meminfo: str | None = MEMINFO) -> Memory:
    if meminfo is not None:
        (procfs / "meminfo").write_text(meminfo)
    return memory.read(LocalHost(procfs=procfs))


def test_counts(tmp_path: Path) -> None:
    assert read(tmp_path) == Memory(
        total_bytes=131161644 * KIB,
        used_bytes=71161644 * KIB,
        available_bytes=60000000 * KIB,
        free_bytes=8123456 * KIB,
        cache_bytes=50800000 * KIB,
        swap_total_bytes=8388604 * KIB,
        swap_used_bytes=388604 * KIB,
    )


@pytest.mark.skipif(not shutil.which("free"), reason="no free(1)")
def test_as_free_counts_it() -> None:
    out = subprocess.run(["free", "-b"], capture_output=True, text=True, check=True).stdout
    total, used, _free, _shared, cache, available = (int(n) for n in out.splitlines()[1].split()[1:])
    if used != total - available:
        pytest.skip("free of procps before 4: used left out what it counts now")
    now = memory.read(LocalHost())
    slack = 512 * 1024 * KIB  # other processes go on between the two readings
    assert now.total_bytes == total
    assert now.used_bytes == pytest.approx(used, abs=slack)
    assert now.cache_bytes == pytest.approx(cache, abs=slack)


def test_nothing_is_said_on_stderr(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = read(tmp_path, "MemTotal: 1000 kB\nMemFree: 400 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    assert short.total_bytes == 1000 * KIB


@pytest.mark.parametrize(
    "meminfo",
    ["", "MemTotal:\n", "MemFree: 5 kB\n", "MemTotal: many kB\n", MEMINFO.replace("131161644", "0")],
)
def test_garbled(tmp_path: Path, meminfo: str) -> None:
    with pytest.raises(Unavailable) as caught:
        read(tmp_path, meminfo)
    assert caught.value.state is SourceState.FAILED


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        read(tmp_path, None)
    assert caught.value.state is SourceState.ABSENT


lines = st.lists(st.sampled_from(MEMINFO.splitlines()) | st.text(max_size=30), max_size=14).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(lines | st.text(max_size=100))
def test_any_meminfo_gives_memory_or_unavailable(meminfo: str) -> None:
    with TemporaryDirectory() as root:
        try:
            now = read(Path(root), meminfo)
        except Unavailable:
            return
        assert 0 <= (now.used_bytes or 0) <= now.total_bytes
