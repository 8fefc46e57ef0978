"""measure(): real commands from baseline to end, on this box and on a tree that a script drives."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benched import FIXTURES, Place, Raw, replay, script

from halotui.benching.measure import measure
from halotui.benching.relay import Relay
from halotui.benching.tables import GTT, VRAM
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Environment, Kind, Run, Status, Store
from halotui.store import open_store
from sysfs_tree import SLOT, build

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
BOX = Environment(host="test")  # read once for all: a read takes half a second


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "store.sqlite")
    yield store
    store.close()


class Bench:
    def __init__(self, tmp_path: Path, store: Store | None) -> None:
        self.log = tmp_path / "command.log"
        self.told: list[str] = []
        self.store = store
        self.sysfs = tmp_path / "sys"

    async def __call__(self, *command: str, **more: Any) -> Run:
        run = more.pop("run", Run(kind=Kind.SUITE, environment=BOX))
        sysfs = self.sysfs if self.sysfs.exists() else Path("/sys")
        return await measure(
            command,
            host=LocalHost(sysfs),
            hands=LocalHands(),
            store=self.store,
            run=run,
            relay=Relay.quiet(self.log),
            tell=self.told.append,
            **more,
        )


@pytest.fixture
def bench(tmp_path: Path, store: Store) -> Bench:
    return Bench(tmp_path, store)


async def test_memory_on_a_schedule(bench: Bench, tmp_path: Path) -> None:
    """64 MiB for 0.3 s, then 200 MiB for 0.3 s, then nothing: the larger is the peak of the process."""
    command = script(
        tmp_path / "rss.py",
        "import time\n"
        "for size in (64, 200):\n"
        "    block = bytearray(size << 20)\n"
        "    for at in range(0, len(block), 4096): block[at] = 1\n"
        "    time.sleep(0.3); del block; time.sleep(0.3)\n",
    )
    run = await bench(*command)
    assert run.status is Status.OK and run.exit_code == 0 and run.summary
    peak = max(process.rss_bytes or 0 for process in run.summary.processes)
    assert 200 * MIB <= peak < 260 * MIB
    track = run.summary.track("process.rss_bytes")
    assert track and track.peak and 200 * MIB <= track.peak < 260 * MIB


async def test_gtt_and_vram_on_a_schedule(bench: Bench, tmp_path: Path) -> None:
    """A script drives the tree: 1 GiB of GTT for 0.3 s, 300 MiB of VRAM to the end."""
    device = build(bench.sysfs, mem_info_gtt_used="1048576", mem_info_vram_used="104857600")
    command = script(
        tmp_path / "gpu.py",
        "import os, time\n"
        "def put(name, value):\n"  # in place: a sensor is one open file
        f"    fd = os.open({str(device)!r} + '/mem_info_' + name, os.O_WRONLY)\n"
        "    os.pwrite(fd, b'%-16d' % value, 0); os.close(fd)\n"
        "time.sleep(0.5)\n"
        "put('gtt_used', (1 << 30) + (1 << 20)); time.sleep(0.3); put('gtt_used', 1 << 20)\n"
        "put('vram_used', 400 << 20); time.sleep(0.4)\n",
    )
    run = await bench(*command)
    assert run.summary
    gtt, vram = run.summary.track(GTT, SLOT), run.summary.track(VRAM, SLOT)
    assert gtt and vram
    assert (gtt.baseline, gtt.delta_peak, gtt.delta) == (MIB, 1 << 30, 0)
    assert (vram.baseline, vram.delta_peak, vram.delta) == (100 * MIB, 300 * MIB, 300 * MIB)
    assert gtt.peak_seconds and vram.peak_seconds and 0.4 < gtt.peak_seconds < vram.peak_seconds


@pytest.mark.parametrize("form", ["md", "json", "jsonl", "csv", "sql"])
async def test_results_in_every_form(bench: Bench, store: Store, tmp_path: Path, form: str) -> None:
    fixture = f"bench-v0.5.0.{form}"
    run = await bench(*replay(tmp_path / "llama-bench", fixture))
    assert len(run.results) >= 2
    assert all(result.tokens_per_second for result in run.results)
    assert bench.log.read_bytes() == (FIXTURES / fixture).read_bytes()
    stored = store.run(run.id)
    assert stored and stored.results == run.results and stored.status is Status.OK
    assert run.label == "CPU"


def test_results_on_stderr_count_where_stdout_has_none(tmp_path: Path) -> None:
    """``llama-bench -oe md``; here through a relay that keeps the two apart."""
    place = Place(tmp_path)
    done = place.run(
        "bench",
        "--json",
        "-o",
        tmp_path / "out.json",
        "--",
        *replay(tmp_path / "bench.py", "bench-v0.5.0.md", err=True),
    )
    assert done.returncode == 0 and done.stdout == b""
    assert [result["test"] for result in json.loads((tmp_path / "out.json").read_text())["results"]] == [
        "pp32",
        "tg8",
    ]
    both = script(
        tmp_path / "both.py",
        "import sys\n"
        f"sys.stdout.write(open({str(FIXTURES / 'bench-v0.5.0.jsonl')!r}).read())\n"
        f"sys.stderr.write(open({str(FIXTURES / 'bench-v0.5.0.md')!r}).read())\n",
    )
    done = place.run("bench", "--", *both)
    assert done.stdout == (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    assert {result.test for result in place.last().results}.isdisjoint({"pp32", "tg8"})


def test_two_forms_of_one_record_on_one_terminal_count_once(tmp_path: Path) -> None:
    """``llama-bench -o jsonl -oe md``: the row has two decimals, the record all of them."""
    lines = (FIXTURES / "bench-v0.5.0.jsonl").read_text().splitlines()
    command = script(
        tmp_path / "llama-bench",
        f"import sys\nprint({lines[0]!r}, flush=True)\n"
        "print('| model | size | params | backend | threads | test | t/s |', file=sys.stderr)\n"
        "print('| ----- | ---: | -----: | ------- | ------: | ---: | --: |', file=sys.stderr)\n"
        "print('| llama | 2.51 MiB | 0.66 M | CPU | 2 | pp64 | 143.51 ± 0.91 |', file=sys.stderr)\n"
        "print('| llama | 2.51 MiB | 0.66 M | CPU | 2 | pp64 | 150.00 ± 0.91 |', file=sys.stderr)\n",
    )
    place = Place(tmp_path)
    screen = Raw(place, "bench", "--quiet", "--", *command)
    assert screen.end() == 0
    assert [result.tokens_per_second for result in place.last().results] == [143.508979, 150.0]


def test_a_record_after_its_row_takes_its_place(tmp_path: Path) -> None:
    """``llama-bench -o md -oe jsonl``."""
    lines = (FIXTURES / "bench-v0.5.0.jsonl").read_text().splitlines()
    command = script(
        tmp_path / "llama-bench",
        "import sys\n"
        "print('| model | size | params | backend | threads | test | t/s |')\n"
        "print('| ----- | ---: | -----: | ------- | ------: | ---: | --: |')\n"
        "print('| llama | 2.51 MiB | 0.66 M | CPU | 2 | pp64 | 143.51 ± 0.91 |', flush=True)\n"
        f"print({lines[0]!r}, file=sys.stderr, flush=True)\n"
        "print('| llama | 2.51 MiB | 0.66 M | CPU | 2 | tg16 | 83.64 ± 0.91 |', flush=True)\n"
        f"print({lines[1]!r}, file=sys.stderr, flush=True)\n",
    )
    place = Place(tmp_path)
    screen = Raw(place, "bench", "--quiet", "--", *command)
    assert screen.end() == 0
    found = place.last().results
    assert [result.test for result in found] == ["pp64", "tg16"] and all(result.samples for result in found)


async def test_each_result_is_on_disk_before_the_next(bench: Bench, store: Store, tmp_path: Path) -> None:
    command = script(
        tmp_path / "slow.py",
        "import time\n"
        f"lines = open({str(FIXTURES / 'bench-v0.5.0.jsonl')!r}).read().splitlines()\n"
        "print(lines[0], flush=True); time.sleep(4); print(lines[1], flush=True)\n",
    )
    task = asyncio.create_task(bench(*command))
    deadline = time.monotonic() + 15
    counts: set[int] = set()
    while not task.done() and time.monotonic() < deadline:
        counts |= {len(run.results) for run in store.runs() if run.status is Status.RUNNING}
        await asyncio.sleep(0.1)
    assert 1 in counts
    assert len((await task).results) == 2


async def test_exit_codes(bench: Bench) -> None:
    run = await bench("sh", "-c", "echo because >&2; exit 7")
    assert (run.status, run.exit_code, run.reason) == (Status.FAILED, 7, "exit code 7")
    assert run.evidence[-1] == "because"
    run = await bench("sh", "-c", "kill -SEGV $$")
    assert (run.status, run.exit_code, run.reason) == (Status.CRASHED, -11, "SIGSEGV")


async def test_what_cannot_be_started(bench: Bench, tmp_path: Path) -> None:
    run = await bench("/nowhere/at/all")
    assert (run.status, run.exit_code) == (Status.FAILED, 127)
    (tmp_path / "text").write_text("no program")
    run = await bench(str(tmp_path / "text"))
    assert (run.status, run.exit_code) == (Status.FAILED, 126)
    assert "Permission denied" in run.reason
    run = await bench("true", cwd="/nowhere")
    assert (run.status, run.exit_code) == (Status.FAILED, 126)


async def test_a_gpu_hang_by_the_command_s_own_words(bench: Bench) -> None:
    line = "HW Exception by GPU node-1 (Agent handle: 0x55) reason :GPU Hang"
    run = await bench("sh", "-c", f"echo '{line}' >&2; kill -ABRT $$")
    assert run.status is Status.HUNG and run.reason.startswith("GPU Hang")
    assert line in run.evidence
    run = await bench("sh", "-c", f"echo '{line}'")
    assert run.status is Status.OK  # it got over it


async def test_timeout_ends_the_whole_tree(bench: Bench, tmp_path: Path) -> None:
    """A child that ignores TERM under a shell that does not."""
    stubborn = script(
        tmp_path / "stubborn.py",
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n",
    )
    began = time.monotonic()
    run = await bench("sh", "-c", f"{stubborn[0]} {stubborn[1]}; true", timeout=1.5)
    assert (run.status, run.exit_code) == (Status.HUNG, 124)
    assert run.reason == "longer than 1.5 s"
    assert 10 < time.monotonic() - began < 40  # ten seconds' grace
    assert LocalHands().identify(int((tmp_path / "pid").read_text())) is None


async def test_cancelled(bench: Bench, store: Store, tmp_path: Path) -> None:
    task = asyncio.create_task(bench("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"))
    deadline = time.monotonic() + 20
    while not (pid := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else "").strip():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert LocalHands().identify(int(pid)) is None
    assert [run.status for run in store.runs()] == [Status.INTERRUPTED]


async def test_environment_and_directory(bench: Bench, tmp_path: Path) -> None:
    env = {"RADV_PERFTEST": "nogttspill", "MY_TOKEN": "hush"}
    run = await bench("sh", "-c", "echo $RADV_PERFTEST $MY_TOKEN; pwd", env=env, cwd=str(tmp_path))
    assert bench.log.read_text() == f"nogttspill hush\n{tmp_path}\n"
    assert run.env == {"RADV_PERFTEST": "nogttspill", "MY_TOKEN": "***"}


async def test_nothing_secret_is_stored(bench: Bench, tmp_path: Path, store: Store) -> None:
    command = script(tmp_path / "says.py", "import sys; print(*sys.argv); sys.exit(1)")
    run = await bench(*command, "--api-key", "sk-hush", "HF_TOKEN=hf-hush", env={"A_KEY": "env-hush"})
    assert "sk-hush" in bench.log.read_text() and run.evidence
    store.close()
    kept = b"".join(
        (tmp_path / f"store.sqlite{end}").read_bytes() for end in ("", "-wal") if end in _ends(tmp_path)
    )
    assert b"says.py" in kept
    assert b"hush" not in kept


def _ends(place: Path) -> set[str]:
    return {path.name.removeprefix("store.sqlite") for path in place.iterdir()}


async def test_our_signals_are_put_back(bench: Bench) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)]
    await bench("true")
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)]
    assert before == after


async def test_without_a_store(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    run = await bench("true")
    assert (run.id, run.status, bench.told) == (0, Status.OK, [])


async def test_a_store_that_refuses_is_told_once(tmp_path: Path, store: Store) -> None:
    bench = Bench(tmp_path, store)
    store.close()
    run = await bench(*replay(tmp_path / "llama-bench", "bench-v0.5.0.jsonl"))
    assert run.status is Status.OK and len(run.results) >= 2
    assert len(bench.told) == 1


async def test_the_box_is_read_before(tmp_path: Path) -> None:
    run = await Bench(tmp_path, None)("true", run=Run(kind=Kind.COMMAND))
    assert run.environment and run.environment.kernel == os.uname().release
