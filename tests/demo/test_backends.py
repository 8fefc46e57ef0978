"""The box's two llama-servers: binaries as any other, relaunched by whoever wants, and gone with the box."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halotui.collectors import amdgpu_sysfs, llama_process
from halotui.demo.backends import DRAFT, MODEL, command, lay_binaries
from halotui.demo.box import Box, start_box
from halotui.demo.flags import HELP, table
from halotui.demo.household import mark
from halotui.demo.tree import GIB, MODEL_BYTES
from halotui.hosts.local import LocalHost
from halotui.servers.profile import Profile

SECONDS = 15.0
STOP_SECONDS = 5.0


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("binaries with a space")
    lay_binaries(directory)
    return directory


def run(binary: Path, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, *map(str, arguments)],
        env={**os.environ, **env},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )


def alive(pid: int) -> bool:
    """Neither gone nor waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status(url: str) -> int:
    """Of ``GET /slots``; 0 when nothing listens."""
    try:
        return int(urllib.request.urlopen(f"{url}/slots", timeout=5).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def slots(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/slots", timeout=5) as answer:
        return msgspec.json.decode(answer.read(), type=list[dict[str, Any]])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def launched(argv: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """As halotui does it: in a session of its own, its output in a file."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **env},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_help_is_whole_and_the_table_is_read_from_it(binaries: Path) -> None:
    done = run(binaries / "rocm/llama-server", "--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, HELP, "")
    heads = sum(bool(re.match(r"-[-a-z]", line)) for line in HELP.splitlines() if not line.startswith("---"))
    flags = list(table())
    assert len(flags) == heads > 40
    assert all(len(line) <= 110 for line in HELP.splitlines())
    spellings = [spelling for flag in flags for spelling in flag.spellings]
    assert len(spellings) == len(set(spellings))


def test_version_goes_to_stderr_after_all_else_was_parsed(binaries: Path) -> None:
    binary = binaries / "vulkan/llama-server"
    done = run(binary, "-m", "nothing.gguf", "-np", 4, "-fa", "on", "-lm", "none", "--version")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"version: 0\.6\.0-dev \(build \d{4,6}, commit demo\)\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-mmap"], "error: invalid argument: --no-mmap"),
        (["--draft-max", "4"], "the argument has been removed. use --spec-draft-n-max"),
        (["-np", "many"], 'error while handling argument "-np"'),
        (["-fa", "on", "-np"], "expected value for argument"),
        (["-lm", "slow"], 'error while handling argument "-lm"'),
        (["-ctk", "q9_0"], 'error while handling argument "-ctk"'),
        (["--spec-type", "draft-simple,guess"], 'error while handling argument "--spec-type"'),
    ],
)
def test_what_it_does_not_know_ends_it(binaries: Path, arguments: list[str], said: str) -> None:
    done = run(binaries / "rocm/llama-server", "-m", "nothing.gguf", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "nothing.gguf" not in done.stderr  # no thought of loading


def test_the_command_line_wins_over_the_environment(binaries: Path) -> None:
    assert run(binaries / "rocm/llama-server", "--version", LLAMA_ARG_N_PARALLEL="x").returncode == 1
    assert run(binaries / "rocm/llama-server", "--version", LLAMA_ARG_N_PARALLEL="2").returncode == 0


def test_it_answers_503_while_it_loads_and_can_be_stopped_then(
    binaries: Path, models: Path, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    words = f"-m {models}/tiny.gguf --port {port} -c 512 -t 1 -lm none -ctk bf16".split()
    argv = [str(binaries / "rocm/llama-server"), *words]
    with launched(argv, log, {"HALOTUI_DEMO_LOAD_SECONDS": "1.5"}) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: status(url) == 503)
        until(lambda: status(url) == 200)
        assert "listening on" in log.read_text()
        assert Path(f"/proc/{process.pid}/comm").read_text() == "llama-server\n"
        taken = run(binaries / "rocm/llama-server", *words, HALOTUI_DEMO_LOAD_SECONDS="1")
        assert taken.returncode == 1
        assert "couldn't bind HTTP server socket" in taken.stderr
        assert status(url) == 200
    with launched(argv, log, {"HALOTUI_DEMO_LOAD_SECONDS": "30"}) as process:
        until(lambda: status(url) == 503)
        process.terminate()
        assert process.wait(5) == 0


def test_without_its_box_it_does_not_start(binaries: Path, models: Path) -> None:
    binary, model = binaries / "rocm/llama-server", models / "tiny.gguf"
    gone = mark().replace(":", ":1")  # our pid, another start
    done = run(binary, "-m", model, "--port", "0", HALOTUI_DEMO_BOX=gone)
    assert done.returncode == 1
    assert "the demo box has gone" in done.stderr


@asynccontextmanager
async def a_box(fault: str | None = None) -> AsyncIterator[Box]:
    box = await start_box(fault=fault, seed=1)
    try:
        yield box
    finally:
        await box.stop()


def gpu(box: Box) -> Any:
    return amdgpu_sysfs.read(LocalHost(box.sysfs, box.procfs))[0]


def servers(box: Box) -> list[tuple[int, str | None]]:
    return [(found.pid, found.backend) for found in llama_process.find(LocalHost(box.sysfs, box.procfs), ())]


def other(box: Box) -> tuple[list[str], dict[str, str]]:
    """Command line, without a log of its own, and environment of the profile ``rocm``."""
    profile = box.profiles["rocm"]
    return command(profile, Path())[:-2], profile["env"]


async def test_the_model_is_as_large_as_the_sensors_say_and_takes_no_room() -> None:
    async with a_box() as box:
        files = [(box.directory / name).stat() for name in (MODEL, DRAFT)]
        assert sum(about.st_size for about in files) == MODEL_BYTES
        argv, env = other(box)
        argv[argv.index("-lm") + 1] = "mmap"  # would fill the hole, were it heeded
        argv[argv.index("--port") + 1] = str(free_port())
        with launched(argv, box.directory / "log", {**env, "HALOTUI_DEMO_LOAD_SECONDS": "0"}):
            url = f"http://127.0.0.1:{argv[argv.index('--port') + 1]}"
            await asyncio.to_thread(until, lambda: status(url) == 200)
            blocks = [(box.directory / name).stat().st_blocks for name in (MODEL, DRAFT)]
            assert sum(blocks) * 512 < 128 << 20


async def test_profiles_are_profiles() -> None:
    async with a_box() as box:
        read = {name: msgspec.convert(told, Profile) for name, told in box.profiles.items()}
        assert {name: profile.backend for name, profile in read.items()} == {
            "vulkan": "vulkan",
            "rocm": "rocm",
        }
        assert read["vulkan"].flags != read["rocm"].flags
        assert {(profile.host, profile.port) for profile in read.values()} == {
            ("127.0.0.1", int(box.url.rpartition(":")[2]))
        }
        for profile in read.values():
            assert profile.description
            assert (profile.model, profile.draft) == (str(box.directory / MODEL), str(box.directory / DRAFT))
            assert os.access(profile.binary_words[0], os.X_OK)
        assert box.state.stat().st_mode & 0o777 == 0o700
        assert servers(box) == [(box.pid, "vulkan")]


async def test_a_swap_is_seen_and_nothing_is_left() -> None:
    async with a_box() as box:
        assert gpu(box).vram_used_bytes > 400 << 20
        os.kill(box.pid, signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not servers(box))
        await asyncio.to_thread(until, lambda: gpu(box).gtt_used_bytes < GIB)
        await asyncio.to_thread(until, lambda: gpu(box).socket_power_watts < 15)
        assert box.process.returncode is None
        argv, env = other(box)
        with launched(argv, box.state / "log", env) as process:
            await asyncio.to_thread(until, lambda: servers(box) == [(process.pid, "rocm")], 5)
            await asyncio.to_thread(until, lambda: GIB < gpu(box).gtt_used_bytes < MODEL_BYTES // 2, 5)
            await asyncio.to_thread(until, lambda: gpu(box).gtt_used_bytes >= MODEL_BYTES, 10)
            assert gpu(box).vram_used_bytes < 200 << 20
            await asyncio.to_thread(until, lambda: status(box.url) == 200)
            # its users come back
            await asyncio.to_thread(until, lambda: "print_timing" in (box.state / "log").read_text())
            await box.stop()
            assert process.wait(1) == 0
    assert not box.directory.exists()


async def test_a_relaunched_server_follows_its_killed_box() -> None:
    async with a_box() as box:
        os.kill(box.pid, signal.SIGTERM)
        argv, env = other(box)
        await asyncio.to_thread(until, lambda: not alive(box.pid))
        with launched(argv, box.state / "log", env) as process:
            await asyncio.to_thread(until, lambda: status(box.url) == 200)
            box.process.kill()
            await asyncio.to_thread(until, lambda: process.poll() is not None, STOP_SECONDS)
    shutil.rmtree(box.directory)  # nobody was left to do it


async def test_a_crash_is_shown_and_survived() -> None:
    async with a_box() as box:
        os.kill(box.pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: gpu(box).gtt_used_bytes < GIB)
        assert servers(box) == []
        assert box.process.returncode is None
    assert box.process.returncode == 0


async def test_a_relaunch_under_way_ends_with_the_box() -> None:
    """It would write into a directory that has gone."""
    async with a_box() as box:
        worker = sleeper("halotui.servers.worker", "--state", str(box.state))
        bystander = sleeper("halotui", "--sysfs", str(box.sysfs))
    try:
        assert worker.wait(2) == -signal.SIGKILL
        assert bystander.poll() is None
    finally:
        for process in (worker, bystander):
            process.kill()
            process.wait()


def sleeper(*words: str) -> subprocess.Popen[bytes]:
    """A process with these words on its command line."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *words])


async def test_another_server_ends_a_hang() -> None:
    async with a_box("gpu-fault") as box:
        await asyncio.to_thread(until, (box.sysfs / "class/drm/card1/device/gpu_metrics").is_fifo)
        os.kill(box.pid, signal.SIGKILL)
        argv, env = other(box)
        with launched(argv, box.state / "log", env):
            await asyncio.to_thread(until, lambda: status(box.url) == 200)
            assert len((box.sysfs / "class/drm/card1/device/gpu_metrics").read_bytes()) == 264


async def test_np_slots_is_cured_by_saying_kvu() -> None:
    async with a_box("np-slots") as box:
        argv, env = other(box)
        os.kill(box.pid, signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not alive(box.pid))
        for flags, count in (([], 4), (["-kvu"], 1)):
            with launched([*argv, *flags], box.state / "log", env | {"HALOTUI_DEMO_LOAD_SECONDS": "0"}):
                await asyncio.to_thread(until, lambda: status(box.url) == 200)
                assert len(await asyncio.to_thread(slots, box.url)) == count


async def test_users_wait_for_an_undertaking() -> None:
    async with a_box() as box:
        log = box.log
        await asyncio.to_thread(until, lambda: "launch_slot_" in log.read_text())
        (box.state / "launches").mkdir()
        (box.state / "launches/current.json").touch()
        quiet = 0.0
        deadline = time.monotonic() + 2 * SECONDS
        while quiet < 3 and time.monotonic() < deadline:  # the requests under way end, then none comes
            idle = not any(slot["is_processing"] for slot in await asyncio.to_thread(slots, box.url))
            quiet = quiet + 0.2 if idle else 0.0
            await asyncio.sleep(0.2)
        assert quiet >= 3
        asked = log.read_text().count("launch_slot_")
        await asyncio.sleep(3)
        assert log.read_text().count("launch_slot_") == asked
