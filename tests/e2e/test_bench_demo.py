"""The published table by one command on the demo box; and the plug pulled in the midst of it.

One course of the demo's suite: everything is killed while an item runs, what was measured is looked at, and
``--resume`` makes the rest, on another box, until the table is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from binaries import MARK, living
from halotui.benching import llama_bench
from halotui.demo.backends import SUITE_RUNS
from halotui.demo.bench import COMPUTE_BYTES, HEADS
from halotui.demo.room import BENCH_BYTES
from halotui.demo.tree import KV_BYTES_PER_TOKEN, VRAM_FULL, VRAM_REST
from halotui.runs import Run, Status
from halotui.store import open_store
from running import HALOTUI, environment, run

REAL = os.environ.get("HALOTUI_LLAMA_BENCH", "")
needs_the_real_one = pytest.mark.skipif(
    not REAL, reason="HALOTUI_LLAMA_BENCH names no llama-bench: tools/llama_bench.sh builds one"
)
LABELS = [label for label, _, _ in SUITE_RUNS]
HEAD = ["Run", "pp512", "tg128", "Max Mem (MiB)", "pp8192", "tg8192", "Max Mem (MiB)"]
COURSE_SECONDS = 400.0  # it takes 80 where nobody else is at work
LAST_SECOND = 1.0
SLACK_SECONDS = 0.75  # of a busy machine, and of our own look at the clock
MIB = 1 << 20


class Course:
    """``halotui bench --demo`` in the background, and all that it started."""

    def __init__(self, store: Path, mark: str, *words: str) -> None:
        self.mark = mark
        self.output = store.with_name(f"{mark}.out")
        self.talk = store.with_name(f"{mark}.err")
        with self.output.open("wb") as out, self.talk.open("wb") as err:
            self.process = subprocess.Popen(
                [*HALOTUI, "bench", "--demo", "--store", str(store), *words],
                env=environment(**{MARK: mark}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def boxes(self) -> set[Path]:
        """Directories of its box, as its processes name them."""
        found = set()
        for pid in living(self.mark):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            found |= {Path(at[0]) for word in words if (at := re.match(r"/.*/halotui-demo-\w+(?=/)", word))}
        return found

    def pull_the_plug(self) -> float:
        """KILL, for all of it at once; when."""
        boxes = self.boxes()
        when = time.time()
        deadline = time.monotonic() + 10
        while pids := living(self.mark):
            assert time.monotonic() < deadline
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)
        self.process.wait(10)
        for box in boxes:  # a killed box cannot
            shutil.rmtree(box, ignore_errors=True)
        return when


def until(found: Callable[[], Any], seconds: float, talk: Path) -> Any:
    deadline = time.monotonic() + seconds
    while not (it := found()):
        assert time.monotonic() < deadline, talk.read_text()
        time.sleep(0.1)
    return it


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("course") / "store.sqlite"


@pytest.fixture
def course(store: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Course]]:
    started: list[Course] = []

    def start(*words: str) -> Course:
        started.append(Course(store, f"{request.node.name}-{os.getpid()}", *words))
        return started[-1]

    yield start
    for each in started:
        each.pull_the_plug()


def runs(store: Path) -> list[Run]:
    """As another process sees them."""
    try:
        opened = open_store(store, readonly=True)
    except Exception:
        if store.exists():
            raise
        return []
    try:
        return opened.runs()
    finally:
        opened.close()


@pytest.mark.timeout(COURSE_SECONDS + 60)
def test_what_was_measured_outlives_a_pulled_plug(course: Callable[..., Course], store: Path) -> None:
    going = course()

    def midst() -> Run | None:
        """One whose first test is done and whose second goes on, after one that is whole."""
        there = runs(store) if store.exists() else []
        whole = any(each.status is Status.OK for each in there)
        half = [each for each in there if each.status is Status.RUNNING and len(each.results) == 1]
        return next((each for each in half if whole and each.results[0].test == "pp8192"), None)

    seen = until(midst, COURSE_SECONDS, going.talk)
    time.sleep(1.5)  # into its second test, of which nothing was told yet
    killed = going.pull_the_plug()
    assert "Traceback" not in going.talk.read_text()

    done = run("runs", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    assert any(each["status"] == "lost" for each in json.loads(done.stdout))
    table = run("runs", "--store", store).stdout
    assert re.search(rf"^{seen.id} .*\blost\b.*pp8192", table, re.MULTILINE)

    kept = {each.id: each for each in runs(store)}
    lost = kept.pop(seen.id)
    assert lost.status is Status.LOST
    assert [result.test for result in lost.results][:1] == ["pp8192"]
    assert lost.results[0] == seen.results[0]
    assert kept and all(each.status is Status.OK for each in kept.values())
    for each in kept.values():
        assert [result.test[:2] for result in each.results] == ["pp", "tg"] and each.summary

    opened = open_store(store, readonly=True)
    try:
        samples = opened.samples(lost.id)
    finally:
        opened.close()
    assert lost.summary
    last = lost.summary.began_time + samples[-1].seconds[-1]
    assert killed - last < LAST_SECOND + SLACK_SECONDS
    # what it held is known to its peak, by the samples
    peak = lost.summary.track("gpu.gtt_used_bytes")
    assert peak and peak.delta_peak and peak.delta_peak > BENCH_BYTES - VRAM_FULL


@pytest.mark.timeout(COURSE_SECONDS + 60)
def test_the_rest_is_made_on_another_box_and_the_table_is_whole(
    course: Callable[..., Course], store: Path
) -> None:
    before = {each.item: each for each in runs(store) if each.status is Status.OK}
    if not before:
        pytest.skip("there is no course to go on with: the test before failed")
    going = course("--resume", "--format", "markdown")
    assert going.process.wait(COURSE_SECONDS) == 0, going.talk.read_text()
    talk = going.talk.read_text()
    assert f"8 items, {8 - len(before)} of them left" in talk
    after = [each for each in runs(store) if each.status is Status.OK]
    assert len(after) == 8  # none of them twice
    assert len({each.series for each in runs(store)}) == 1

    lines = going.output.read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *rows = cells
    assert head == HEAD
    assert [row[0] for row in rows] == LABELS
    for row in rows:
        assert all(float(row[column]) > 0 for column in (1, 2, 4, 5))
        assert all(re.fullmatch(r"\d+\+\d+", row[column]) for column in (3, 6))
        assert float(row[1]) > float(row[2]) and float(row[4]) > float(row[5])  # prefill, decode

    peaks = {row[0]: [tuple(map(int, row[column].split("+"))) for column in (3, 6)] for row in rows}
    carved = (VRAM_FULL - VRAM_REST) // MIB
    for label, pools in peaks.items():
        for pool, tokens in zip(pools, (512, 8192), strict=True):
            scores = 0 if "FA" in label else 512 * tokens * HEADS * 4
            held = (BENCH_BYTES + COMPUTE_BYTES + tokens * KV_BYTES_PER_TOKEN + scores) / MIB
            assert sum(pool) == pytest.approx(held, abs=3)
            assert pool[0] == (carved if "Vulkan" in label else 0)  # who fills the carve-out


def test_the_table_again_from_the_store(store: Path) -> None:
    if sum(each.status is Status.OK for each in runs(store)) < 8:
        pytest.skip("there is no whole course: a test before failed")
    done = run("compare", "demo-backends", "--store", store)
    assert done.returncode == 0, done.stderr
    lines = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines()]
    assert HEAD in lines
    assert sorted(line[0] for line in lines if len(line) == len(HEAD) and line != HEAD) == sorted(LABELS)


@needs_the_real_one
@pytest.mark.parametrize("form", ["md", "csv", "json", "jsonl", "sql"])
def test_a_real_llama_bench_through_halotui(models: Path, tmp_path: Path, form: str) -> None:
    """Its output untouched, its results in the table, its exit code ours."""
    words = ("-m", models / "tiny.gguf", "-p", 64, "-n", 8, "-r", 2, "-t", 1, "-o", form, "--progress")
    done = run(
        "bench", "-o", tmp_path / "table", "--store", tmp_path / "s", "--label", "real", "--", REAL, *words
    )
    assert done.returncode == 0, done.stderr
    assert [result.test for result in llama_bench.parse(done.stdout)] == ["pp64", "tg8"]
    assert "llama-bench: benchmark 2/2: generation run 2/2" in done.stderr
    (kept,) = runs(tmp_path / "s")
    assert [result.test for result in kept.results] == ["pp64", "tg8"]
    assert re.search(r"^Run +pp64 +tg8 +Max Mem.*\nreal +\d", (tmp_path / "table").read_text(), re.MULTILINE)
    failed = run("bench", "--no-store", "--", REAL, "-m", tmp_path / "none.gguf")
    assert failed.returncode == 1
    assert "failed to load model" in failed.stderr
