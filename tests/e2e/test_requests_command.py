"""``halotui requests`` as its user meets it: logs, tables, lines, figures, and what goes wrong."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer
from halotui import exits
from halotui.collectors.llama_log import LogParser
from halotui.commands import request_log
from halotui.commands.request_log import Row
from halotui.commands.request_table import KEYS, Lines, table
from halotui.commands.requests import Kept
from halotui.figures import SORTS
from halotui.history import Sample
from running import HALOTUI, PATIENCE, environment, run

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
START = """\
0.00.005.260 I srv    load_model: loading model 'models/tiny.gguf'
0.00.031.162 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 4096, kv_unified = 'false'
0.00.036.611 I srv  llama_server: model loaded
"""
ONE = """\
{at} I slot launch_slot_: id  {slot} | task {task} | processing task, is_child = 0
{at} I slot print_timing: id  {slot} | task {task} | prompt eval time =     100.00 ms /    73 tokens (    1.37 ms per token,   730.00 tokens per second)
{at} I slot print_timing: id  {slot} | task {task} |        eval time =     370.85 ms /    96 tokens (    3.90 ms per token,   {rate:.2f} tokens per second)
{at} I slot print_timing: id  {slot} | task {task} |       total time =     470.85 ms /   169 tokens
{at} I slot print_timing: id  {slot} | task {task} | draft acceptance = 0.38168 (   50 accepted /   131 generated), mean len =  2.14
{at} I slot      release: id  {slot} | task {task} | stop processing: n_tokens = 168, truncated = {truncated}
"""  # noqa: E501


def request(task: int, *, rate: float = 256.17, slot: int = 0, truncated: int = 0) -> str:
    at = f"{task // 60}.{task % 60:02}.000.000"
    return ONE.format(at=at, slot=slot, task=task, rate=rate, truncated=truncated)


def log_of(count: int) -> str:
    return START + "".join(request(task, rate=100 + task, slot=task % 2) for task in range(1, count + 1))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text(log_of(4))
    return path


def requests(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return run("requests", *args, **env)


def told(*args: object) -> dict[str, Any]:
    done = requests("--json", *args)
    assert done.returncode == exits.OK, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def tasks(answer: dict[str, Any]) -> list[int]:
    return [one["task"] for one in answer["requests"]]


# --- a log


def test_a_request_to_its_last_digit(log: Path) -> None:
    one = told("--log", log)["requests"][0]
    assert list(one)[: len(KEYS)] == list(KEYS)
    assert {key: one[key] for key in KEYS} == {
        "slot": 1,
        "task": 1,
        "prompt_tokens": 73,
        "cached_tokens": 0,
        "prompt_tokens_per_second": 730.0,
        "generation_tokens": 96,
        "generation_tokens_per_second": 101.0,
        "draft_tokens": 131,
        "draft_accepted_tokens": 50,
        "draft_coverage_ratio": 131 / 96,
        "end": "done",
    }


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    lines = [line for line in request(7).splitlines(True) if "eval time" not in line and "draft" not in line]
    file.write_text(
        START + lines[0] + "0.07.000.000 W srv          stop: cancel task, id_task = 7\n" + lines[-1]
    )
    (one,) = told("--log", file)["requests"]
    assert (one["task"], one["end"]) == (7, "cancelled")
    assert {one[key] for key in KEYS if key not in ("slot", "task", "end")} == {None}


def test_the_table_and_what_is_under_it(log: Path) -> None:
    done = requests("--log", log)
    head, *rows = done.stdout.split("\n\n")[0].splitlines()
    assert head.split()[:4] == ["slot", "task", "prompt", "cached"] and "server" not in head
    assert [row.split()[1] for row in rows] == ["1", "2", "3", "4"]
    assert " 730.00 " in rows[0] and " 101.00 " in rows[0] and rows[0].endswith("done")
    assert "4 requests: 4 done" in done.stdout
    assert ["decode", "102.00", "–", "–", "101.00", "104.00"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    assert done.stderr == ""


def test_a_table_for_a_terminal(log: Path) -> None:
    """What there is no room for is left out, the least first; what counts stays, however narrow."""
    rows = [Row(Sample(1_763_740_000.0, one)) for one in LogParser().feed(log.read_bytes()).requests]
    for room in (200, 100, 80):
        lines = table(rows, server=False, room=room).splitlines()
        assert max(map(len, lines)) <= room and ("length" in lines[0]) is (room == 200)
    assert {"slot", "task", "prefill", "TTFT", "decode", "end"} <= set(lines[0].split())
    assert len(Lines(server=False, port=True, room=80).head()) <= 87  # widths for what may come
    head = table([row._replace(sample=Sample(time.time(), row.request)) for row in rows], server=False)
    assert "length" in head and "draft" in head


def test_percentiles(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log_of(100))
    found = told("--log", tmp_path / "log")["figures"]
    assert found["count"] == 100 and found["by_end"] == {"done": 100}
    assert found["generation_tokens_per_second"] == {
        "count": 100,
        "p50": 150.0,
        "p95": 195.0,
        "p99": 199.0,
        "least": 101.0,
        "most": 200.0,
    }


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--last", "2"], [3, 4]),
        (["--reverse"], [4, 3, 2, 1]),
        (["--sort", "decode", "--reverse", "--last", "3"], [4, 3, 2]),
        (["--sort", "slot"], [2, 4, 1, 3]),
        (["--where", "slot=1 decode>101"], [3]),
        (["--where", "slot=1", "--where", "task<3"], [1]),
        (["--where", "slot=0", "-n", "1"], [4]),
        (["--where", "cancelled"], []),
    ],
)
def test_which_and_in_what_order(log: Path, args: list[str], wanted: list[int]) -> None:
    answer = told("--log", log, *args)
    assert tasks(answer) == wanted and answer["figures"]["count"] == len(wanted)


def test_csv(log: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(requests("--log", log, "--csv").stdout)))
    assert [row["task"] for row in rows] == ["1", "2", "3", "4"]
    assert (rows[0]["prompt_tokens_per_second"], rows[0]["reason"]) == ("730.00", "")
    assert set(KEYS) < set(rows[0])


def test_children_of_a_router_have_their_port(tmp_path: Path) -> None:
    of_child = "".join(f"[46629] {line}" for line in (START + request(3)).splitlines(True))
    (tmp_path / "log").write_text(START + of_child + request(9))
    answer = told("--log", tmp_path / "log")
    assert {(one.get("port"), one["task"]) for one in answer["requests"]} == {(None, 9), (46629, 3)}
    assert "46629" in requests("--log", tmp_path / "log").stdout


def test_standard_input_to_its_end(log: Path) -> None:
    done = subprocess.run(
        [*HALOTUI, "requests", "--log", "-", "--json"],
        env=environment(),
        input=log.read_bytes(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert tasks(json.loads(done.stdout)) == [1, 2, 3, 4] and done.returncode == exits.OK


def test_a_last_line_that_was_cut_off_tells_nothing(tmp_path: Path) -> None:
    whole = log_of(2)
    for cut in (5, 60, 130, 250):
        (tmp_path / "log").write_text(whole[:-cut])
        for one in told("--log", tmp_path / "log")["requests"]:
            assert one["generation_tokens_per_second"] in (101.0, 102.0)


def test_hostile_bytes_reach_no_terminal(tmp_path: Path) -> None:
    evil = b"\x1b]0;title\x07 \xff\xfe\x00 \xe2\x80\xae slot print_timing: id  0 | task 5 | \x1b[31mred\n"
    (tmp_path / "log").write_bytes(
        START.encode() + evil * 40 + b"x" * 3_000_000 + b"\n" + request(8).encode()
    )
    for form in ([], ["--json"], ["--csv"]):
        done = requests("--log", tmp_path / "log", *form)
        assert done.returncode == exits.OK and "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert tasks(told("--log", tmp_path / "log")) == [8]


def test_memory_is_flat_however_long_the_log(tmp_path: Path) -> None:
    """40 MB, most of it not about requests: the last ten of them, in the memory of the program itself."""
    chatter = "srv  update_slots: all slots are idle, and so is the one who writes this line\n" * 10000
    block = log_of(12) + chatter
    with (tmp_path / "log").open("w") as file:
        for _ in range(50):
            file.write(block)

    sizes = []
    for name in ("few", "log"):
        if name == "few":
            (tmp_path / "few").write_text(block)
        command = [
            HALOTUI[0],
            "-c",
            PEAK,
            *HALOTUI,
            "requests",
            "--log",
            str(tmp_path / name),
            "--last",
            "10",
        ]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=90)
        assert "the last 10 of" in done.stderr
        sizes.append(int(done.stdout))
    assert sizes[1] < sizes[0] + 20_000  # KiB


def test_a_log_of_two_runs_has_the_times_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is when the running process started: the clock of the one before began elsewhere."""
    path = tmp_path / "log"
    path.write_text(log_of(8) + log_of(6))
    monkeypatch.setattr(request_log, "BLOCK", 2000)
    kept = Kept({})

    async def read() -> None:
        async for news in request_log.WholeLog(str(path), "http://here", 1000.0).news():
            kept.take(news)

    asyncio.run(read())
    times = [row.request.ended_time for row in kept.rows]
    assert times[:8] == [None] * 8
    assert times[-3:] == pytest.approx([1004.0, 1005.0, 1006.0])


def test_two_servers_are_told_apart(server: Any, start_server: Callable[..., Any]) -> None:
    other = start_server("-np", "1")
    for one in (server, other):
        one.complete("The old oak", 4)
    answer = told("--url", server.url, "--url", other.url)
    assert {one["server"] for one in answer["requests"]} == {server.url, other.url}
    text = requests("--url", server.url, "--url", other.url).stdout
    assert text.split()[0] == "server" and other.url.removeprefix("http://") in text


# --- what goes wrong


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--log", __file__ + "x"], exits.USAGE, "no such file"),
        (["--log", "/"], exits.USAGE, "is no file"),
        (["--log", "/dev/null"], exits.USAGE, "is no file"),
        (["--log", __file__, "--url", "127.0.0.1:1"], exits.USAGE, "one of them"),
        (["--log", __file__, "--json", "--csv"], exits.USAGE, "one of them"),
        (["--sort", "swim"], exits.USAGE, "swim"),
        (["--where", "swim>2"], exits.USAGE, "swim"),
        (["--where", "ttft>soon"], exits.USAGE, "soon"),
        (["--last", "0"], exits.USAGE, "--last"),
        (["--for", "ever"], exits.USAGE, "ever"),
        (["-f", "--sort", "ttft"], exits.USAGE, "--follow"),
        (["--url", "127.0.0.1:1"], exits.UNREACHABLE, "refused"),
    ],
)
def test_one_line_and_its_code(args: list[str], code: int, words: str) -> None:
    done = requests(*args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_a_file_that_is_no_log_of_a_server(tmp_path: Path) -> None:
    for text in ("", "Dear diary,\nnothing happened.\n", "\x00" * 10000):
        (tmp_path / "diary").write_text(text)
        done = requests("--log", tmp_path / "diary")
        assert done.returncode == exits.FAILURE and done.stdout == ""
        assert "no log of llama-server" in done.stderr and done.stderr.count("\n") == 1


def test_a_server_that_was_asked_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(START)
    done = requests("--log", tmp_path / "log")
    assert done.returncode == exits.OK and "no request" in done.stderr
    assert told("--log", tmp_path / "log")["requests"] == []


def test_a_server_without_a_log(tmp_path: Path) -> None:
    with FakeServer() as fake:
        done = requests("--url", fake.url, "--procfs", tmp_path)
    assert done.returncode == exits.FAILURE and done.stdout == ""
    assert "/slots" in done.stderr and "--for" in done.stderr and done.stderr.count("\n") == 1


def test_no_server_at_all(tmp_path: Path) -> None:
    done = requests("--procfs", tmp_path)
    assert done.returncode == exits.UNREACHABLE and "--log" in done.stderr


def test_the_help_names_every_key() -> None:
    said = requests("--help").stdout
    keys = said.split("KEY:")[1].split("WORDS:")[0].split()
    assert keys == list(SORTS)


# --- as they end


class Follower:
    """``halotui requests -f`` in the background."""

    def __init__(self, *args: object, stdin: Any = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            [*HALOTUI, "requests", *map(str, args)],
            env=environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        self.process.wait()

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout
        return [self.process.stdout.readline() for _ in range(count)]

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)  # with its standard input still open
        assert self.process.stdout and self.process.stderr
        assert "Traceback" not in self.process.stderr.read()
        return code, self.process.stdout.read()


def test_following_a_file(log: Path) -> None:
    """What is there, what comes, and what comes after the server has begun its log anew."""
    with Follower("--log", log, "-f", "--json", "--last", 2) as follower:
        assert [json.loads(line)["task"] for line in follower.lines(2)] == [3, 4]
        with log.open("a") as file:
            file.write(request(5)[:300])
            file.flush()
            time.sleep(0.05)
            file.write(request(5)[300:])
        assert json.loads(follower.lines(1)[0])["task"] == 5
        log.write_text(START + request(6))
        assert json.loads(follower.lines(1)[0])["task"] == 6
        assert follower.stop() == (exits.INTERRUPTED, "")


def test_following_a_pipe() -> None:
    with Follower("--log", "-", "-f", stdin=subprocess.PIPE) as follower:
        assert follower.process.stdin
        follower.process.stdin.write(START + request(1))
        follower.process.stdin.flush()
        head, row = follower.lines(2)
        assert "decode" in head and row.split()[-1] == "done"
        assert [len(row)] == [len(head)]
        follower.process.stdin.close()  # the server has gone
        assert follower.process.wait(10) == exits.OK


def test_a_silent_pipe_can_be_left() -> None:
    with Follower("--log", "-", "-f", "--json", stdin=subprocess.PIPE) as follower:
        assert follower.process.stdin
        follower.process.stdin.write(START + request(1))
        follower.process.stdin.flush()
        assert json.loads(follower.lines(1)[0])["task"] == 1
        assert follower.stop() == (exits.INTERRUPTED, "")


def test_for_a_while(log: Path) -> None:
    """Only what ends meanwhile, and then the table."""
    with Follower("--log", log, "--for", 0.8, "--json") as follower:
        number = 4
        while follower.process.poll() is None:
            number += 1
            with log.open("a") as file:
                file.write(request(number))
            time.sleep(0.1)
        assert follower.process.stdout
        seen = tasks(json.loads(follower.process.stdout.read()))
    assert follower.process.returncode == exits.OK
    assert seen and min(seen) > 4 and seen == list(range(seen[0], seen[-1] + 1))


@pytest.fixture
def watched(server: Any) -> Iterator[Any]:
    """Everybody's server: others may have asked it before."""
    yield server


def test_following_a_server(watched: Any) -> None:
    watched.complete("Before", 4)
    with Follower("-f", "--json", "--last", 1, "--url", watched.url, "-i", "0.25") as follower:
        assert follower.lines(1)  # what was there
        timings = [watched.complete(f"Song {at}", 21 + at)["timings"] for at in range(3)]
        seen: list[dict[str, Any]] = []
        while [one["generation_tokens"] for one in seen][-3:] != [21, 22, 23]:
            seen.append(json.loads(follower.lines(1)[0]))
            assert set(KEYS) <= set(seen[-1]) and seen[-1]["server"] == watched.url
        assert follower.stop() == (exits.INTERRUPTED, "")
    for one, timing in zip(seen[-3:], timings, strict=True):
        assert f"{one['generation_tokens_per_second']:.2f}" == f"{timing['predicted_per_second']:.2f}"
        assert one["draft_tokens"] == timing["draft_n"]
