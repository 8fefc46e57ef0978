"""The log parser as a whole: lines to show, times, a router's children, any bytes in any split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_reading import LOGS, block, bytes_of, feed, read

from halotui.collectors import log_scan
from halotui.collectors.llama_log import MOST_CHILDREN, MOST_SLOTS, Batch, LogParser
from halotui.collectors.log_follow import gap
from halotui.model import LogFacts, LogLine

NAMES = sorted(path.stem for path in LOGS.glob("*.log"))


def shown(raw: bytes, started: float | None = None) -> LogLine:
    (line,) = LogParser(started).feed(raw + b"\n").lines
    return line


# Lines


@pytest.mark.parametrize(
    ("raw", "level"),
    [
        (b"0.00.001.000 I srv  x: failed to be dull", "info"),
        (b"0.00.001.000 W srv  x: y", "warning"),
        (b"0.00.001.000 E srv  x: y", "error"),
        (b"0.00.001.000 D srv  x: an error", "debug"),
        (b"W srv  x: y", "warning"),
        (b"error: invalid argument: --no-such-flag", "error"),
        (b"main: exiting due to model loading error", "error"),
        (b"the target and draft vocabs are not compatible - tokens will be translated", "warning"),
        (b"srv  update_slots: all slots are idle", "info"),
        (b'{"type":"log","time":1,"level":"error","msg":"x\\n"}', "error"),
        (b'{"type":"fit_memory_breakdown","data":{}}', "info"),
        (gap(5), "warning"),
    ],
)
def test_level(raw: bytes, level: str) -> None:
    assert shown(raw).level == level


def test_colours_are_taken_off_and_escapes_never_pass() -> None:
    lines = LogParser().feed(bytes_of("new-color")).lines
    assert {"warning", "info"} == {line.level for line in lines}
    assert all("\x1b" not in line.text and "[0m" not in line.text for line in lines)
    assert shown(b"\x1b]0;gotcha\x07\x1b[2J0.00.001.000 E srv x").text == "0.00.001.000 E srv x"


def test_a_json_line_shows_its_message() -> None:
    message = {"type": "log", "time": 1_500_000, "level": "warn", "msg": "srv  x: two\nlines \x1b[31mred\n"}
    line = shown(json.dumps(message).encode(), started=1000.0)
    assert (line.text, line.level, line.time) == ("srv  x: two lines red", "warning", 1001.5)


def test_only_the_newest_lines_are_shown_and_empty_ones_are_not() -> None:
    lines = LogParser().feed(b"".join(b"line %d\n\n" % n for n in range(1000)), keep=3).lines
    assert [line.text for line in lines] == ["line 997", "line 998", "line 999"]
    assert LogParser().feed(b"line\n", keep=0).lines == ()


# Times


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        (b"1763740000.123456 box llama-server[123]: ", 1763740000.123456),  # journalctl -o short-unix
        (b"2025-11-21T15:46:40.123456789Z ", 1763740000.123456789),  # docker logs --timestamps
        (b"2025-11-21T16:46:40.500000+01:00 ", 1763740000.5),  # podman logs --timestamps
        (b"2025-11-21T15:46:40+0000 box llama-server[123]: ", 1763740000.0),  # journalctl -o short-iso
        (b"Nov 01 10:00:00 box llama-server[12]: ", None),  # of which year?
        (b"", None),
    ],
)
def test_a_stamp_is_the_time_and_no_part_of_the_line(stamp: bytes, time: float | None) -> None:
    for text in (b"main: model loaded", b"0.00.036.611 I srv  llama_server: model loaded"):
        line = shown(stamp + text)
        assert line.text == text.decode()
        assert line.time == (pytest.approx(time, abs=1e-5) if time else None)


@pytest.mark.parametrize(
    "stamp", [b"1763740000.5 box llama[1]: ", b"2025-11-21T15:46:40.5Z ", b"Nov  1 10:00:00 b l[1]: "]
)
@pytest.mark.parametrize("name", ["old-draft", "new-draft", "new-jsonl"])
def test_a_stamp_does_a_request_no_harm(name: str, stamp: bytes) -> None:
    parser = LogParser()
    requests = feed(parser, *(stamp + line for line in bytes_of(name).splitlines()))
    plain = read(name)[1]
    assert [(r.task, r.prompt_tokens_per_second, r.cached_tokens) for r in requests] == [
        (r.task, r.prompt_tokens_per_second, r.cached_tokens) for r in plain
    ]
    assert {r.ended_time for r in requests} == {None if stamp.startswith(b"Nov") else 1763740000.5}
    assert parser.server.facts.build == read(name)[0].server.facts.build


def test_the_clock_of_the_log_and_the_start_of_the_process_are_the_time() -> None:
    line = b"39.06.284.001 I srv  x: y"
    assert shown(line, started=1000.0).time == 1000 + 39 * 60 + 6.284001
    assert shown(line).time is None
    assert shown(b"main: model loaded", started=1000.0).time is None
    # a stamp knows of the time that the machine slept, the server's clock does not
    assert shown(b"1763740000.5 box llama[1]: " + line, started=1000.0).time == 1763740000.5


INIT = "0.00.000.487 I srv  llama_server: initializing ..."


def run_of(seconds: int) -> list[str]:
    """A start, and a request that ends so late."""
    slot = f"0.{seconds:02}.000.000 I slot x: id  0 | task 0 | "
    evaluated = slot + "eval time = 1.0 ms / 2 tokens (x, 2.0 tokens per second)"
    launch = "0.00.001.000 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0"
    return [INIT, launch, evaluated, slot + "stop processing: n_tokens = 2, truncated = 0"]


def test_of_several_runs_in_one_block_the_start_is_that_of_the_newest() -> None:
    batch = LogParser(1000.0).feed(block([*run_of(30), *run_of(20), *run_of(40)]))
    assert [r.ended_time for r in batch.requests] == [None, None, 1040.0]
    assert [line.time for line in batch.lines if "stop" in line.text] == [None, None, 1040.0]


def test_a_new_run_is_not_timed_by_the_start_of_the_old_one() -> None:
    parser = LogParser(1000.0)
    assert [r.ended_time for r in feed(parser, *run_of(30))] == [1030.0]
    assert [r.ended_time for r in feed(parser, *run_of(20))] == [None]
    parser.started = 1000.0  # who sets it does not know yet
    assert [r.ended_time for r in feed(parser, *run_of(25)[1:])] == [None]
    parser.started = 2000.0
    assert [r.ended_time for r in feed(parser, *run_of(26)[1:])] == [2026.0]


def test_a_start_that_is_set_before_the_new_run_is_read_holds() -> None:
    parser = LogParser(1000.0)
    feed(parser, *run_of(30))
    parser.started = 2000.0
    assert [r.ended_time for r in feed(parser, *run_of(20))] == [2020.0]


# A router's children


def test_a_router_and_its_children_are_told_apart() -> None:
    parser = LogParser()
    child = [b"[46629] " + line for line in bytes_of("new-draft").splitlines()]
    other = [b"[60235] " + line for line in bytes_of("new-two-slots").splitlines()]
    router = b"0.00.092.381 I srv  proxy_reques: proxying request to model tiny on port 46629"
    batch = parser.feed(block(line for pair in zip(child, other, strict=False) for line in (*pair, router)))
    assert [r.task for r in batch.children[46629].requests] == [r.task for r in read("new-draft")[1]]
    assert parser.children[60235].facts.slots_total == 2
    assert (batch.requests, parser.server.facts) == ((), LogFacts())
    assert {line.text for line in batch.lines} == {router.decode()}
    assert {line.text for line in batch.children[46629].lines} <= {line[8:].decode() for line in child}


def test_a_childs_clock_starts_when_the_router_spawns_it() -> None:
    spawn = "1.00.000.000 I srv          load: spawning server instance with name=tiny on port 46629"
    lines = [spawn, *(f"[46629] {line}" for line in run_of(5)), "[46629] "]
    child = LogParser(1000.0).feed(block(lines)).children[46629]
    assert [r.ended_time for r in child.requests] == [1065.0]
    assert child.lines[-1].time == 1065.0
    assert LogParser().feed(block(lines)).children[46629].requests[0].ended_time is None


# Any split, any bytes


def told(parser: LogParser, batches: list[Batch]) -> dict[str, Any]:
    """All that does not depend on where a block ends."""
    logs = {None: parser.server, **parser.children}
    return {
        "requests": [request for batch in batches for request in batch.requests],
        "events": [event for batch in batches for event in batch.events],
        "children": {
            port: (
                [r for b in batches if port in b.children for r in b.children[port].requests],
                [e for b in batches if port in b.children for e in b.children[port].events],
            )
            for port in parser.children
        },
        "facts": {port: log.facts for port, log in logs.items()},
        "speculative": {port: (log.speculative, log.draft) for port, log in logs.items()},
        "running": {port: (log.running, log.prompts) for port, log in logs.items()},
    }


def all_lines(block: bytes) -> Iterator[bytes]:
    yield from block.split(b"\n")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_scan_leaves_out_tells_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = LogParser(), LogParser()
    batch = quick.feed(bytes_of(name))
    monkeypatch.setattr(log_scan, "telling", all_lines)
    assert told(quick, [batch]) == told(slow, [slow.feed(bytes_of(name))])
    assert batch.requests or name == "mid-draft-refused"


WHOLE = b"".join(map(bytes_of, NAMES))


def test_pieces_of_a_block_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = LogParser(), LogParser()
    batch = whole.feed(WHOLE)
    monkeypatch.setattr(log_scan, "PIECE", 700)
    assert told(whole, [batch]) == told(cut, [cut.feed(WHOLE)])


FRAGMENTS = [
    b"\x1b[31m",
    b"[46629] ",
    b"0.00.001.000 I ",
    b"0.09.001.000 D ",
    b"10.00.001.000 D ",
    b" D ",
    b"1763740000.5 box llama[1]: ",
    b"2025-11-21T15:46:40.5Z ",
    b"2025-99-99T99:99:99Z ",
    b'{"type":"log","msg":"',
    b'{"type":"log","time":-1,"level":"x","msg":"slot launch_slot_: id 0 | task 1 | processing task"}',
    b'{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[{"name":"x","model":99999999999999999999}]}}',
    b'{"type":"fit_memory_breakdown","data":{"unit":"MiB","rows":[{"name":"x","model":5}]}}',
    b"slot launch_slot_: id  0 | task 1 | processing task",
    b"slot print_timing: id  0 | task 1 | ",
    b"slot      release: id  9 | task -1 | ",
    b"prompt eval time = 1.0 ms / 3 tokens (x, 5.0 tokens per second)",
    b"eval time = 1.0 ms / 99999999999999999999 tokens (, inf tokens per second)",
    b"cached n_tokens = 5, memory_seq_rm [5, end)",
    b"1e999",
    b"draft acceptance = x (1 accepted / 2 generated",
    b"stop processing: n_tokens = 5, truncated = 0",
    b"progress = 9999999.9",
    b"n_slots = 99999999999999",
    b"load_model: loading model",
    b"initializing ...",
    b"model loaded",
    b"KV buffer size = 99999999999999.9 MiB",
    b"VULKAN0 model buffer size = 1 MiB",
    b"using device ",
    b"statistics x: #gen drafts = 1, #gen tokens = 2, #acc tokens = 3, dur(b,g,a) = 1, 2, 3 ms",
    b"cancel task, id_task = 1",
    b"send_error: task id = 1, error: x",
    b"Context size has been exceeded",
    b"/a/b.cpp:1: x",
    b"unauthorized: ",
    b"exiting due to model loading error",
    b"spawning server instance with name=x on port 46629",
    b"halotui: log skipped: 5 bytes",
    b"\xff\x00\r",
    "٣".encode(),
]
bytes_of_a_line = st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b""))
line = st.lists(st.one_of(st.sampled_from(FRAGMENTS), bytes_of_a_line), max_size=8).map(b"".join)


@given(st.lists(line, max_size=30), st.sets(st.integers(1, 29)), st.integers(1, 400))
def test_any_split_at_line_ends_tells_the_same(lines: list[bytes], cuts: set[int], piece: int) -> None:
    single, split = LogParser(), LogParser()
    ones = [single.feed(one + b"\n") for one in lines]
    ends = [0, *sorted(cut for cut in cuts if cut < len(lines)), len(lines)]
    was, log_scan.PIECE = log_scan.PIECE, piece
    try:
        some = [split.feed(block(lines[a:b])) for a, b in pairwise(ends)]
    finally:
        log_scan.PIECE = was
    assert told(single, ones) == told(split, some)


@given(st.lists(line, max_size=20), st.one_of(st.none(), st.floats(0, 2e9)))
def test_no_bytes_make_it_raise(lines: list[bytes], started: float | None) -> None:
    parser = LogParser(started)
    batch = parser.feed(block(lines))
    for shown in (batch.lines, *(child.lines for child in batch.children.values())):
        for each in shown:
            assert each.text.isprintable() and len(each.text) <= 2000
    for event in batch.events:
        assert f"{event.text}{event.detail or ''}".isprintable()
    parser.feed(b"".join(lines))  # without a newline at all


def test_deep_json_does_not_make_it_raise() -> None:
    assert LogParser().feed(b'{"msg":"error' + b"[" * 60_000 + b"\n").requests == ()


def test_the_state_is_bounded() -> None:
    parser = LogParser()
    for n in range(4000):
        parser.feed(b"slot launch_slot_: id %d | task %d | processing task\n" % (n, n))
        parser.feed(b"[%d] slot launch_slot_: id 1 | task 1 | processing task\n" % n)
    assert len(parser.server.running) == MOST_SLOTS
    assert len(parser.children) == MOST_CHILDREN
