"""The log of one server: every line and request is handed over once."""

from __future__ import annotations

from pathlib import Path

from halotui.model import SourceState
from halotui.sampler.clock import Clock
from halotui.sampler.log import LINES, LogTap

URL = "http://127.0.0.1:8080"
REQUEST = """\
0.00.1 I slot launch_slot_: id  0 | task {task} | processing task, is_child = 0
0.00.2 I slot print_timing: id  0 | task {task} | prompt eval time = 14.52 ms / 73 tokens ( 0.20 ms per token, 5027.20 tokens per second)
0.00.3 I slot print_timing: id  0 | task {task} |        eval time = 370.85 ms / 96 tokens ( 3.90 ms per token, 256.17 tokens per second)
0.00.4 I slot      release: id  0 | task {task} | stop processing: n_tokens = 168, truncated = 0
"""  # noqa: E501


async def test_a_request_once_and_the_past_is_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(REQUEST.format(task=1))
    tap = LogTap(str(log), Clock())
    assert not tap.alive
    assert await tap.read() and tap.alive and tap.catching_up
    (past,) = tap.requests()
    assert (past.task, past.prompt_tokens, past.generation_tokens) == (1, 73, 96)
    with log.open("a") as more:
        more.write(REQUEST.format(task=2))
    assert await tap.read() and not tap.catching_up
    assert [request.task for request in tap.requests()] == [2]
    assert tap.requests() == () and len(tap.lines()) == 8 and tap.lines() == ()
    assert not await tap.read()
    await tap.close()


async def test_no_log_has_a_reason_and_comes_later(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    tap = LogTap(str(log), Clock())
    assert not await tap.read() and not tap.alive
    told = tap.source(URL)
    assert told.state is SourceState.ABSENT and told.reason and told.hint
    log.write_text("hello\n")
    assert await tap.read() and tap.alive
    assert tap.source(URL).state is SourceState.OK
    await tap.close()


async def test_a_flood_leaves_the_newest_lines(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"line {i}\n" for i in range(3000)))
    tap = LogTap(str(log), Clock())
    await tap.read()
    lines = tap.lines()
    assert len(lines) == LINES and lines[-1].text == "line 2999"
    await tap.close()
