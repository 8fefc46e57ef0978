"""The demo's llama-bench: the real one's words, forms and figures; and what the box's sensors show of it.

``fixtures/demo_bench`` is what a real llama-bench of build 11549 said (``tools/llama_bench.sh``): each run
gave two formats at once, jsonl beside another, so one can be made of the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from halotui.benching import llama_bench
from halotui.collectors import amdgpu_sysfs
from halotui.demo.at_work import notes
from halotui.demo.backends import BENCH_MODEL, SUITE_RUNS, SUITE_TESTS, lay_binaries
from halotui.demo.bench import COMPUTE_BYTES, HEADS
from halotui.demo.bench_flags import BadArgument, parse, usage
from halotui.demo.bench_formats import FIELDS, FORMATS
from halotui.demo.box import Box, start_box
from halotui.demo.model import BENCH, write_preset
from halotui.demo.room import BENCH_BYTES
from halotui.demo.tree import DESKTOP, GTT_REST, KV_BYTES_PER_TOKEN, VRAM_FULL, VRAM_REST
from halotui.hosts.local import LocalHost

SAID = Path(__file__).parents[1] / "fixtures/demo_bench"
COMMAND = "-m models/tiny.gguf -p 64 -n 8 -pg 16,8 -d 0,32 -b 512 -ctk bf16 -r 2 -t 1"
REAL = os.environ.get("HALOTUI_LLAMA_BENCH", "")
needs_the_real_one = pytest.mark.skipif(
    not REAL, reason="HALOTUI_LLAMA_BENCH names no llama-bench: tools/llama_bench.sh builds one"
)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bench binaries")
    lay_binaries(directory)
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preset(tmp_path_factory.mktemp("bench model") / "bench.gguf", BENCH)


def run(binary: Path | str, *arguments: object, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(binary), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.mark.parametrize("name", ["csv", "json", "md", "sql"])
def test_the_forms_are_the_real_ones_byte_for_byte(name: str) -> None:
    records = [json.loads(line) for line in (SAID / f"{name}.jsonl").read_text().splitlines()]
    assert len(records) == 6
    form = FORMATS[name](parse(COMMAND.split()), False)
    text = form.head() + "".join(form.test(record) for record in records) + form.foot("unknown (11549)")
    assert text == (SAID / f"{name}.txt").read_text()
    assert tuple(records[0]) == (*FIELDS, "samples_ns", "samples_ts")


def test_jsonl_as_the_real_one_writes_it() -> None:
    lines = (SAID / "md.jsonl").read_text().splitlines(keepends=True)
    form = FORMATS["jsonl"](parse(COMMAND.split()), False)
    assert [form.test(json.loads(line)) for line in lines] == lines


def test_every_flag_is_one_of_the_real_ones() -> None:
    def flags(text: str) -> dict[str, str]:
        return dict(re.findall(r"^  (-[^\n]*?)(?:  +(.*))?$", text, re.MULTILINE))

    ours, theirs = flags(usage("llama-bench")), flags((SAID / "help.txt").read_text())
    assert set(ours) <= set(theirs)
    # as many threads as it shall have here, and no more
    differing = {heading for heading in ours if ours[heading] != theirs[heading]}
    assert differing <= {"-t, --threads <n>"}


@pytest.mark.parametrize(
    ("words", "tests"),
    [
        ("", [(512, 0, 0), (0, 128, 0)]),
        ("-p 0 -n 16,32", [(0, 16, 0), (0, 32, 0)]),
        ("-p 1-4 -n 0", [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)]),
        ("-p 16-64*2 -n 0", [(16, 0, 0), (32, 0, 0), (64, 0, 0)]),
        ("-p 1-9+4 -n 0", [(1, 0, 0), (5, 0, 0), (9, 0, 0)]),
        ("-p 16 -n 0 -d 0,64", [(16, 0, 0), (16, 0, 64)]),
        ("-p 16 -p 32 -n 0", [(16, 0, 0), (32, 0, 0)]),
        ("-p 0 -n 0 -pg 16,8 -pg 32,8", [(16, 8, 0), (32, 8, 0)]),
    ],
)
def test_lists_and_ranges_make_tests(words: str, tests: list[tuple[int, int, int]]) -> None:
    made = parse(words.split()).tests()
    assert [(test["n_prompt"], test["n_gen"], test["n_depth"]) for test in made] == tests


def test_settings_make_a_product() -> None:
    words = "-p 8 -n 0 -fa on,0,auto -ub 64,128 -ngl 99 -ctk q8_0"
    tests = list(parse(words.split()).tests())
    assert [(test["n_ubatch"], test["flash_attn"]) for test in tests] == [
        (size, flash) for size in (64, 128) for flash in (1, 0, -1)
    ]
    assert {(test["n_gpu_layers"], test["type_k"], test["type_v"]) for test in tests} == {(99, "q8_0", "f16")}


@pytest.mark.parametrize(
    "words", ["--bad", "-p", "-p many", "-p 4-", "-ctk f3", "-fa maybe", "-r 0", "-o xml"]
)
def test_what_it_does_not_know_ends_it(words: str, binaries: Path) -> None:
    flag = words.split()[0]
    with pytest.raises(BadArgument, match=f"^error: invalid parameter for argument: {flag}$"):
        parse(words.split())
    if words in ("--bad", "-p"):
        done = run(binaries / "rocm/llama-bench", *words.split())
        assert done.returncode == 1
        assert done.stderr == f"error: invalid parameter for argument: {flag}\n"
        assert done.stdout.startswith("usage: ")


def test_it_says_what_it_is(binaries: Path) -> None:
    done = run(binaries / "vulkan/llama-bench", "--version")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"version: 0\.6\.0-dev \(build \d{4,6}, commit demo\)\n", done.stderr)
    assert "demo" in run(binaries / "vulkan/llama-bench", "--list-devices").stdout
    done = run(binaries / "vulkan/llama-bench", "-m", "/nowhere.gguf")
    assert (done.returncode, done.stderr) == (
        1,
        "llama_bench: error: failed to load model '/nowhere.gguf'\n",
    )


def test_progress_is_told_as_the_real_one_does(binaries: Path, models: Path) -> None:
    words = "-p 16 -n 4 -pg 8,4 -d 0,32 -r 2 -t 1 --progress"
    done = run(binaries / "rocm/llama-bench", "-m", models / "tiny.gguf", *words.split())
    assert done.returncode == 0
    # the real one keeps a depth from one test to the next, where this one begins again
    told, real = (
        re.sub(r"(depth run 1/2) \(cached\)", r"\1", text)
        for text in (done.stderr, (SAID / "progress.txt").read_text())
    )
    assert told == real


@pytest.mark.parametrize(("backend", "called"), [("vulkan", "Vulkan"), ("rocm", "ROCm")])
@pytest.mark.parametrize("form", ["md", "csv", "json", "jsonl", "sql"])
def test_it_measures(binaries: Path, model: Path, backend: str, called: str, form: str) -> None:
    began = time.monotonic()
    done = run(
        *(
            binaries / backend / "llama-bench",
            "-m",
            model,
            "-p",
            256,
            "-n",
            32,
            "-pg",
            "64,16",
            "-d",
            "0,128",
        ),
        *("-fa", "on", "-ngl", 99, "-r", 3, "-o", form),
    )
    took = time.monotonic() - began
    assert (done.returncode, done.stderr) == (0, "")
    results = llama_bench.parse(done.stdout)
    assert [result.test for result in results] == [
        *("pp256", "tg32", "pp64+tg16"),
        *("pp256 @ d128", "tg32 @ d128", "pp64+tg16 @ d128"),
    ]
    for result in results:
        tokens = result.prompt_tokens + result.generation_tokens
        assert result.backend == called
        assert result.build.endswith("(demo)") and result.build.startswith("b")
        assert result.tokens_per_second and result.tokens_per_second > 3 * tokens / took
        assert result.spread is not None
        if form in ("json", "jsonl"):
            assert len(result.samples) == 3
            assert result.tokens_per_second == pytest.approx(sum(result.samples) / 3, rel=1e-3)
        if form != "md":
            assert result.settings["flash_attn"] == "1" and result.settings["n_threads"] == "1"
            assert "demo" in result.settings["gpu_info"]
    prefill, decode = results[0].tokens_per_second, results[1].tokens_per_second
    assert prefill and decode and prefill > decode


def test_depth_costs(binaries: Path, model: Path) -> None:
    """It is really there before the test: attention over it takes its time."""
    done = run(
        *(
            binaries / "rocm/llama-bench",
            "-m",
            model,
            "-p",
            0,
            "-n",
            64,
            "-d",
            "0,6000",
            "-fa",
            "on",
            "-r",
            2,
        ),
        *("-o", "jsonl"),
    )
    shallow, deep = (result.tokens_per_second for result in llama_bench.parse(done.stdout))
    assert shallow and deep and shallow > 1.5 * deep


def test_both_outputs_and_a_reader_that_goes(binaries: Path, model: Path) -> None:
    bench = binaries / "vulkan/llama-bench"
    words = ("-m", model, "-p", 16, "-n", 4, "-r", 1, "--no-warmup")
    done = run(bench, *words, "-oe", "jsonl")
    assert len(llama_bench.parse(done.stdout)) == len(llama_bench.parse(done.stderr)) == 2
    assert llama_bench.parse(done.stdout)[0].spread is not None
    piped = subprocess.run(
        f"'{bench}' -m '{model}' -p 16,32,64 -n 4 -r 1 | head -1", shell=True, capture_output=True, timeout=60
    )
    assert piped.stdout.startswith(b"| model") and piped.stderr == b""


@needs_the_real_one
@pytest.mark.parametrize("form", ["md", "csv", "json", "jsonl", "sql"])
def test_the_real_one_is_read(model: Path, form: str) -> None:
    done = run(
        REAL, "-m", model, "-p", 64, "-n", 8, "-pg", "16,8", "-d", "0,32", "-r", 2, "-t", 1, "-o", form
    )
    assert done.returncode == 0
    results = llama_bench.parse(done.stdout)
    assert [result.test for result in results] == [
        *("pp64", "tg8", "pp16+tg8", "pp64 @ d32", "tg8 @ d32", "pp16+tg8 @ d32")
    ]
    assert all(result.backend == "CPU" for result in results)


@needs_the_real_one
def test_the_figures_are_those_of_the_real_one(binaries: Path, model: Path) -> None:
    """Of long tests: a server does a little more for each token than llama-bench."""
    words = ("-m", model, "-p", 4096, "-n", 512, "-d", 2048, "-fa", "on", "-r", 3, "-t", 1, "-o", "jsonl")
    ours, theirs = (
        [max(result.samples) for result in llama_bench.parse(run(bench, *words).stdout)]
        for bench in (binaries / "rocm/llama-bench", REAL)
    )
    assert len(ours) == len(theirs) == 2
    for mine, real in zip(ours, theirs, strict=True):
        assert 0.4 < mine / real < 2.5  # within a tenth where nobody else is at work


@asynccontextmanager
async def a_box(*, serve: bool = False) -> AsyncIterator[Box]:
    box = await start_box(seed=1, serve=serve)
    try:
        yield box
    finally:
        await box.stop()


def memory(box: Box) -> tuple[int, int]:
    """VRAM and GTT in use."""
    gpu = amdgpu_sysfs.read(LocalHost(box.sysfs, box.procfs))[0]
    return gpu.vram_used_bytes or 0, gpu.gtt_used_bytes or 0


async def peak(box: Box, backend: str, *words: object) -> tuple[tuple[int, int], float, list[Any]]:
    """Of both pools together, the most power, and the results."""
    process = await asyncio.create_subprocess_exec(
        *map(str, (box.directory / backend / "llama-bench", "-m", box.directory / BENCH_MODEL, *words)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    reading = asyncio.create_task(process.stdout.read())
    host = LocalHost(box.sysfs, box.procfs)
    most, watts = (0, 0), 0.0
    while process.returncode is None:
        most = max(most, memory(box), key=sum)
        watts = max(watts, amdgpu_sysfs.read(host)[0].socket_power_watts or 0)
        await asyncio.sleep(0.02)
    return most, watts, llama_bench.parse((await reading).decode())


async def test_a_box_without_a_server_is_at_rest() -> None:
    async with a_box() as box:
        assert box.pid == 0
        assert memory(box) == (VRAM_REST, GTT_REST)
        assert (box.directory / BENCH_MODEL).stat().st_size == BENCH_BYTES
        assert [path.name for path in box.procfs.iterdir() if path.name.isdecimal()] == [str(DESKTOP)]
    assert not box.directory.exists()


async def test_the_suite_names_what_is_there() -> None:
    import tomllib

    async with a_box() as box:
        suite = tomllib.loads(box.suite.read_text())
        assert suite["model"] == BENCH_MODEL  # beside it
        assert [run["label"] for run in suite["run"]] == [label for label, _, _ in SUITE_RUNS]
        assert suite["test"] == list(SUITE_TESTS)
        assert all(os.access(box.suite.parent / run["bench"], os.X_OK) for run in suite["run"])


async def test_the_sensors_show_what_a_bench_holds() -> None:
    short = ("-p", 512, "-n", 0, "-r", 2, "-o", "jsonl")
    long = ("-p", 4096, "-n", 0, "-r", 3, "-o", "jsonl")
    async with a_box() as box:
        vulkan, _, results = await peak(box, "vulkan", *short, "-fa", "on")
        assert [result.test for result in results] == ["pp512"]
        held = BENCH_BYTES + 512 * KV_BYTES_PER_TOKEN + COMPUTE_BYTES
        assert vulkan[0] == VRAM_FULL  # the carve-out first
        assert sum(vulkan) == VRAM_REST + GTT_REST + held
        rocm, _, _ = await peak(box, "rocm", *short, "-fa", "on")
        assert rocm == (VRAM_REST, GTT_REST + held)
        deep, watts, _ = await peak(box, "rocm", *long, "-fa", "on")
        assert deep[1] - rocm[1] == (4096 - 512) * KV_BYTES_PER_TOKEN
        assert watts > 20  # 11 at rest
        plain, _, _ = await peak(box, "rocm", *long, "-fa", "off")
        assert plain[1] - deep[1] == 512 * 4096 * HEADS * 4
        small, _, _ = await peak(box, "rocm", *long, "-fa", "on", "-ctk", "q8_0", "-ctv", "q8_0")
        assert deep[1] - small[1] == int(4096 * KV_BYTES_PER_TOKEN * (1 - 8.5 / 16))
        assert memory(box) == (VRAM_REST, GTT_REST)  # at once: the next one begins with a free GPU


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_killed_bench_holds_nothing(number: int) -> None:
    async with a_box() as box:
        process = await asyncio.create_subprocess_exec(
            *map(str, (box.directory / "rocm/llama-bench", "-m", box.directory / BENCH_MODEL, "-p", 8192)),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await until(lambda: memory(box)[1] > BENCH_BYTES)
        assert (box.procfs / str(process.pid) / "status").exists()  # its own memory can be read
        process.send_signal(number)
        assert await process.wait() == -number
        await until(lambda: memory(box) == (VRAM_REST, GTT_REST), 3)
        assert notes(box.directory) == []


async def test_a_bench_ends_with_its_box() -> None:
    async with a_box() as box:
        words = (
            box.directory / "vulkan/llama-bench",
            "-m",
            box.directory / BENCH_MODEL,
            "-p",
            8192,
            "-r",
            99,
        )
        process = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.DEVNULL)
        await until(lambda: memory(box)[1] > BENCH_BYTES // 2)
        box.process.kill()
        assert await asyncio.wait_for(process.wait(), 5) < 0
        for place in sorted(box.directory.rglob("*"), reverse=True):  # a killed box cleans nothing
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
        box.directory.rmdir()


async def test_the_users_of_a_serving_box_wait_for_a_bench() -> None:
    async with a_box(serve=True) as box:
        assert memory(box)[1] > BENCH_BYTES
        before = memory(box)

        def asked() -> int:
            return box.log.read_text().count("processing task")

        words = (box.directory / "rocm/llama-bench", "-m", box.directory / BENCH_MODEL, "-p", 4096, "-r", 99)
        process = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.DEVNULL)
        try:
            await until(lambda: memory(box)[1] > before[1] + BENCH_BYTES)  # beside the server
            await asyncio.sleep(1)
            count = asked()
            await asyncio.sleep(4)
            assert asked() == count
        finally:
            process.kill()
            await process.wait()
        await until(lambda: asked() > count, 40)
