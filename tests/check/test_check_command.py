"""``halotui check`` as its user meets it: logs, recordings, a live server; text, JSON, exit codes."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halotui import exits
from halotui.commands.judging import Judge
from halotui.demo.scene import Scene
from halotui.exporters.checked import Found
from halotui.model import Finding, Frame
from halotui.recording.file import Writer
from halotui.rules import ALL
from halotui.sampler.log_only import LogFrames
from running import HALOTUI, PATIENCE, environment, run

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"
UNWELL = {
    "mid-draft-refused": {"draft-vocab"},
    "new-draft-unused": {"spec-unused"},
    "served-b11549-two-slots": {"context-exceeded"},
    "served-b8672-two-slots": {"context-exceeded"},
    "served-b8672-kv-full": {"kv-full"},
    "served-b9873-kv-full": {"kv-full"},
}
START = """\
0.00.005.260 I srv    load_model: loading model 'models/tiny.gguf'
0.00.031.162 I srv    load_model: initializing, n_slots = 1, n_ctx_slot = 4096, kv_unified = 'false'
0.00.036.611 I srv  llama_server: model loaded
"""
STOP = "{at} I srv    operator(): operator(): cleaning up before exit...\n"
ABORT = "/src/llama.cpp/src/llama-kv-cache.cpp:1040: GGML_ASSERT(n_kv > 0) failed\n"
HANG = "HW Exception by GPU node-1 (Agent handle: 0x55d0) reason :GPU Hang\n"
TOO_LONG = (
    "{at} E srv    send_error: task id = 157, error: request (5000 tokens) exceeds the available context size"
    " (4096 tokens), try increasing it\n"
)
VERBOSE = """\
0.00.003.590 I cmn  common_param: common_params_print_info: build 9000 (de3ff81) with GNU 12.2.0 for Linux x86_64
0.00.003.700 I cmn  common_param:   - {gpu} : Radeon 8060S Graphics (122880 MiB, 122000 MiB free)
0.00.005.260 I srv    load_model: loading model 'models/big.gguf'
0.10.005.000 I load_tensors: offloaded {layers}/49 layers to GPU
0.10.005.100 I load_tensors:   CPU_Mapped model buffer size =   300.00 MiB
0.10.005.200 I load_tensors:      {gpu} model buffer size = 20000.00 MiB
0.10.006.200 I llama_kv_cache: size = 2000.00 MiB ( 32768 cells,  48 layers,  1/1 seqs), K ({k}): 1300.00 MiB, V (f16): 700.00 MiB
0.10.007.000 I sched_reserve: graph: nodes = 3318, splits = {splits}, input objects = 5, input tensors = 9
0.10.008.000 I srv  llama_server: model loaded
"""  # noqa: E501
DRAFTED = (
    "{at} I slot print_timing: id  0 | task {task} | draft acceptance = 0.90 ({n} accepted / {n} generated)\n"
)
ONE = """\
{at} I slot launch_slot_: id  0 | task {task} | processing task, is_child = 0
{at} I slot print_timing: id  0 | task {task} | prompt eval time =     100.00 ms /    73 tokens (    1.37 ms per token,   730.00 tokens per second)
{at} I slot print_timing: id  0 | task {task} |        eval time =    2370.85 ms /    96 tokens (    3.90 ms per token,    40.50 tokens per second)
{drafted}{at} I slot      release: id  0 | task {task} | stop processing: n_tokens = 168, truncated = 0
"""  # noqa: E501


def at(seconds: int) -> str:
    return f"{seconds // 60}.{seconds % 60:02}.000.000"


def request(second: int, drafts: int | None = None) -> str:
    drafted = "" if drafts is None else DRAFTED.format(at=at(second), task=second, n=drafts)
    return ONE.format(at=at(second), task=second, drafted=drafted)


def judged(text: bytes, size: int = 1 << 20) -> tuple[list[Found], list[Frame]]:
    """What the rules find in a log; blocks of whole lines, about so long."""
    judge = Judge(hold=False, without=("server-down",))
    log = LogFrames("server.log", lambda: judge.restless)
    frames: list[Frame] = []

    def see(frame: Frame) -> None:
        frames.append(frame)
        judge.see(frame)

    block = b""
    for line in text.splitlines(keepends=True):
        block += line
        if len(block) >= size:
            for frame in log.feed(block):
                see(frame)
            block = b""
    for frame in log.feed(block):
        see(frame)
    for frame in log.end():
        see(frame)
    return list(judge.verdict().findings), frames


def ids(text: str) -> list[str]:
    return [found.id for found in judged(text.encode())[0]]


# --- logs


@pytest.mark.parametrize(
    ("name", "expected"),
    [(path.stem, UNWELL.get(path.stem, set())) for path in sorted(LOGS.glob("*.log"))],
)
def test_the_logs_of_real_servers(name: str, expected: set[str]) -> None:
    text = (LOGS / f"{name}.log").read_bytes()
    findings, _ = judged(text)
    assert {found.id for found in findings} == expected
    assert [found.id for found in judged(text, 100)[0]] == [found.id for found in findings]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (START + request(5) + request(9) + STOP.format(at=at(12)), []),
        (START + request(5) + ABORT, ["server-abort"]),
        (request(3600) + ABORT, ["server-abort"]),  # it does not reach back to the start
        (START + ABORT + START + request(2000), ["server-abort"]),
        (START + request(5) + HANG, ["gpu-hang"]),
        (START + TOO_LONG.format(at=at(9)), ["context-exceeded"]),
        ("0.00.015.661 E srv  llama_server: exiting due to model loading error\n", ["load-failed"]),
        (VERBOSE.format(gpu="Vulkan0", layers=49, k="f16", splits=2) + request(20), []),
        (VERBOSE.format(gpu="Vulkan0", layers=49, k="q8_0", splits=2), ["kv-asymmetric"]),
        (VERBOSE.format(gpu="ROCm0", layers=20, k="f16", splits=2), ["cpu-fallback"]),
        (VERBOSE.format(gpu="ROCm0", layers=49, k="f16", splits=94), ["graph-splits"]),
        (START + "rocBLAS warning: No hipBLASLt solution found\n", ["hipblaslt-fallback"]),
        (START + "".join(request(n, 60) for n in (10, 20, 30)), []),
        (START + "".join(request(n, 90 if n < 30 else 2) for n in range(10, 90, 10)), ["spec-decay"]),
    ],
)
def test_what_a_log_tells_and_nothing_else(log: str, expected: list[str]) -> None:
    assert ids(log) == expected
    stamped = "".join(f"2026-11-20T10:00:00.000Z {line}\n" for line in log.splitlines())
    assert ids(stamped) == expected
    bare = "\n".join(line.split(" ", 2)[2] if line[0].isdigit() else line for line in log.splitlines())
    assert ids(f"{bare}\n") == expected  # no clock at all


def test_an_event_in_the_midst_of_a_long_log_is_found_with_its_times() -> None:
    log = START + TOO_LONG.format(at=at(20_000)) + "".join(map(request, range(30_000, 90_000, 5_000)))
    (found,), frames = judged(log.encode())
    assert found.since_time == 20_000
    assert found.until_time is not None and 600 <= found.until_time - 20_000 <= 1200
    assert len(frames) < 200  # a quiet day is not looked at second by second
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)


def test_what_comes_back_is_told_twice() -> None:
    log = START + TOO_LONG.format(at=at(100)) + request(2000) + TOO_LONG.format(at=at(3000)) + request(3001)
    first, second = judged(log.encode())[0]
    assert first.since_time == 100 and first.until_time is not None
    assert second.since_time == 3000 and second.until_time is None


def test_requests_of_the_last_second_count_before_the_end() -> None:
    decay = "".join(request(n, 90 if n < 30 else 2) for n in (10, 20, 30, 40))
    assert sorted(ids(START + decay + STOP.format(at=at(40)))) == ["spec-decay"]


def test_the_child_of_a_router_is_a_server_of_its_own() -> None:
    lines = [f"[41234] {line}" for line in (START + request(5) + ABORT).splitlines()]
    (found,), _ = judged("\n".join(lines).encode() + b"\n")
    assert (found.id, found.subject) == ("server-abort", "server.log?port=41234")


def test_a_log_as_text(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(START + request(5) + TOO_LONG.format(at=at(3725)) + ABORT.rstrip("\n"))
    done = run("check", "--log", path)
    assert done.returncode == exits.FAILURE
    lines = done.stdout.splitlines()
    assert lines[0] == "✗ CRITICAL server-abort: llama-server aborted"
    assert "    when: from +1:02:05, still at the end" in lines
    assert "! WARNING context-exceeded: Requests are longer than the context" in lines
    assert lines[-2].startswith("2 found in 1 h 02,") and lines[-2].endswith(": 1 critical, 1 warning")
    assert done.stderr == ""


def test_a_healthy_log_through_stdin() -> None:
    done = subprocess.run(
        [*HALOTUI, "check", "--log", "-"],
        input=START + request(5) + request(65),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (exits.OK, "")
    assert done.stdout.startswith("nothing found in 1 min, ")


def test_a_post_mortem_says_when_and_not_how_long_ago(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    log = START + TOO_LONG.format(at=at(60)) + request(3700)
    path.write_text(log)
    said = run("check", "--log", path).stdout
    assert "does not fit in 4096 of context; at +0:01:00\n" in said and " ago" not in said
    path.write_text("".join(f"{line.split(' ', 2)[2]}\n" for line in log.splitlines()))  # no clock at all
    assert "does not fit in 4096 of context\n" in run("check", "--log", path).stdout


def test_a_log_that_ends_in_quiet_is_as_long_as_it_is() -> None:
    launched = f"{at(50)} I slot launch_slot_: id  0 | task 1 | processing task, is_child = 0\n"
    _, frames = judged((START + launched).encode())
    assert frames[-1].time == 50


def test_json_has_the_findings_of_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(START + TOO_LONG.format(at=at(60)) + request(5000))
    done = run("check", "--log", path, "--json", "--fail-on", "critical")
    assert done.returncode == exits.OK  # a warning is not critical
    told = json.loads(done.stdout)
    assert set(told) == {
        "findings", "frames", "from_time", "to_time", "relative", "rules", "undefined", "silenced"
    }  # fmt: skip
    (found,) = told["findings"]
    assert set(found) <= {*Finding.__struct_fields__, "until_time", "seen_time"}
    assert found["seen_time"] == 60 and " ago" in found["evidence"]
    assert (found["id"], found["since_time"], found["subject"]) == ("context-exceeded", 60, str(path))
    assert 60 < found["until_time"] <= 5000
    assert (told["relative"], told["to_time"], told["rules"]) == (True, 5000, len(ALL))
    assert {"server-down", "gtt-pressure", "oom-kill"} <= set(told["undefined"])
    assert not {"context-exceeded", "server-abort", "kv-full"} & set(told["undefined"])


def test_hostile_logs_do_no_harm(tmp_path: Path) -> None:
    evil = b"\x1b]0;owned\x07\x1b[2J"
    path = tmp_path / "evil.log"
    junk = b"\x00\xff" * 3_000_000 + b"\n" + b"[99999] " * 1000 + b"\n9999999.99.999.999 E \n"
    path.write_bytes(
        START.encode() + junk + b"/x/" + b"a.cpp:12: " + evil + b"GGML_ASSERT(" + evil + b") failed\n"
    )
    done = run("check", "--log", path)
    assert done.returncode == exits.FAILURE and "server-abort" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout
    path.write_bytes(junk)
    done = run("check", "--log", path)
    assert done.returncode == exits.USAGE and len(done.stderr.splitlines()) == 1 and not done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--log", "/nonexistent/x.log"), "no such file"),
        (("--log", "/dev/zero"), "is no file"),
        (("--log", "/proc/self/mem"), "/proc/self/mem: "),
        (("--log", LOGS), "is no file"),
        (("--last", "--log", "y.log"), "one of them"),
        (("/nonexistent/x.halo",), "no such file"),
        (("x.halo", "--log", "y.log"), "one of them"),
        (("--log", "y.log", "--for", "10m"), "of a live box alone"),
        (("--for", "soon"), "no length of time"),
    ],
)
def test_what_cannot_be_checked_is_one_line(args: tuple[str, ...], words: str) -> None:
    done = run("check", *args)
    assert done.returncode == exits.USAGE and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_packed_log_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "server log.1.gz"
    path.write_bytes(gzip.compress(START.encode()))
    done = run("check", "--log", path)
    assert done.returncode == exits.USAGE and done.stdout == ""
    assert done.stderr.endswith(f"is packed: zcat '{path}' | halotui check --log -\n")


# --- recordings


def recorded(path: Path, fault: str | None, seconds: int = 120) -> Path:
    async def frames() -> list[Frame]:
        scene = Scene(fault, seconds=seconds)
        try:
            return await scene.take()
        finally:
            await scene.close()

    writer = Writer(path)
    for number, frame in enumerate(asyncio.run(frames())):
        writer.frame(frame)
        if number % 20 == 0:
            writer.flush()
    writer.close()
    return path


@pytest.mark.parametrize(
    "fault",
    [
        None,
        "spec-decay",
        "np-slots",
        "gtt-pressure",
    ],
)
def test_a_recording_is_judged_anew(fault: str | None, tmp_path: Path) -> None:
    path = recorded(tmp_path / "box.halo", fault)
    done = run("check", path, "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert [found["id"] for found in told["findings"]] == ([fault] if fault else [])
    assert done.returncode == (exits.FAILURE if fault else exits.OK)
    assert (told["frames"], told["relative"]) == (121, False)
    assert told["to_time"] - told["from_time"] == 120


def test_the_last_session_of_the_flight_recorder(tmp_path: Path) -> None:
    done = run("check", "--last", XDG_STATE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (exits.USAGE, "") and "holds nothing yet" in done.stderr
    flight = tmp_path / "halotui" / "flight"
    flight.mkdir(parents=True)
    path = recorded(flight / "20261120T100000.000Z-7.halo", "np-slots", 30)
    done = run("check", "--last", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == exits.FAILURE and "np-slots" in done.stdout, done.stderr
    assert done.stdout == run("check", path).stdout


def test_a_damaged_recording_is_judged_as_far_as_it_goes(tmp_path: Path) -> None:
    path = recorded(tmp_path / "box.halo", "np-slots", 60)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    path.write_bytes(raw)
    done = run("check", path)
    assert done.returncode == exits.FAILURE and "np-slots" in done.stdout
    assert "damaged" in done.stderr and len(done.stderr.splitlines()) == 1


# --- a live server


def test_a_healthy_server_and_none(server: Any, tmp_path: Path) -> None:
    done = run("check", "--url", server.url, "--store", tmp_path / "store.sqlite", "--json")
    told = json.loads(done.stdout)
    ours = [found for found in told["findings"] if found["subject"] == server.url]
    assert (ours, told["frames"]) == ([], 2)
    assert done.returncode == exits.OK, told["findings"]
    assert not (tmp_path / "store.sqlite").exists()
    done = run("check", "--url", "http://127.0.0.1:1")
    assert done.returncode == exits.UNREACHABLE
    assert "nothing reachable" in done.stderr


def test_a_while_with_slots_that_nobody_asked_for(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """The holds count; settings of the user do, too."""
    config = tmp_path / "config.toml"
    with start_server("-np", "1", "-c", "512", env={"HALOTUI_DEMO_FAULT": "np-slots"}) as server:
        watch = ("check", "--url", server.url, "--for", "6s", "--json")
        told = json.loads((done := run(*watch)).stdout)
        config.write_text("[rules]\nsilence = ['np-slots']\n")
        quiet = json.loads(run("check", "--url", server.url, "--config", config, "--json").stdout)
    assert done.returncode == exits.FAILURE and done.stderr == ""
    assert "np-slots" in [found["id"] for found in told["findings"] if found["subject"] == server.url]
    assert told["frames"] > 2
    assert quiet["silenced"] == ["np-slots"]
    assert server.url not in [found["subject"] for found in quiet["findings"]]
