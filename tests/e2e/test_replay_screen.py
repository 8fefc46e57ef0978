"""What was recorded, and what is captured, in a real terminal: real files, player, recorder and store."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sysfs_tree
from halotui.demo.scene import START, Scene
from halotui.recording.file import Writer
from halotui.runs import Mark, Run, Status
from halotui.sampler import gpu
from halotui.store import open_store
from terminal import Terminal

LENGTH = 163  # seconds


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes and 43 seconds of the scripted box, with a finding, a mark and half a minute missing."""
    path = tmp_path_factory.mktemp("recording") / "night.halo"

    async def write() -> None:
        scene, writer = Scene("spec-decay", seconds=LENGTH), Writer(path)
        for frame in await scene.take():
            second = round(frame.time - START)
            if second == 20:
                writer.mark(Mark(time=frame.time, label="long prompt"))
            if not 30 <= second < 60:
                writer.frame(frame)
        writer.flush()
        writer.close()
        await scene.close()

    patience, gpu.DEADLINE = gpu.DEADLINE, 2.0  # a busy machine is not a hung GPU
    try:
        asyncio.run(write())
    finally:
        gpu.DEADLINE = patience
    return path


def replay(file: Path, *words: str, width: int = 120, height: int = 40, **env: str) -> Terminal:
    return Terminal("replay", file, *words, width=width, height=height, TZ="UTC", **env)


@pytest.fixture
def screen(recording: Path) -> Iterator[Terminal]:
    """The recording from its beginning, paused."""
    with replay(recording) as screen:
        screen.wait_for("REPLAY", 20)
        screen.wait_for("▶ 1x")
        screen.press("space")
        screen.wait_for("‖ 1x")
        screen.press(",")
        at(screen, "10:42:00")
        yield screen
        assert b"Traceback" not in screen.raw


def at(screen: Terminal, when: str) -> None:
    """The head and the line agree: the frame of that time is on screen."""
    screen.wait_until(lambda: when in screen.rows[0] and screen.rows[-2].startswith(f" {when}"))


@pytest.mark.parametrize(("width", "height"), [(60, 16), (80, 24), (120, 40), (200, 60)])
def test_the_whole_dashboard_on_a_recording(recording: Path, width: int, height: int) -> None:
    with replay(recording, "--at", "10:43:40", width=width, height=height) as screen:
        screen.wait_for("REPLAY", 20)
        screen.wait_for("drafts far less")
        for word in ("decode", "GTT", "of 4 busy", " / 0:02:43", "quit"):
            screen.wait_for(word)
        assert re.search(r"✚─* +[─▲]", screen.rows[-2])  # what is missing is missing
        assert all(len(row) == width for row in screen.rows)
        screen.press("q")
        assert screen.wait_end() == 0
        assert screen.modes == screen.modes_before


def test_playing_pausing_and_the_end(screen: Terminal) -> None:
    for _ in range(6):
        screen.press("+")
    screen.wait_for("‖ 64x")
    screen.press("space")
    screen.wait_for("■ end", 20)
    at(screen, "10:44:43")
    screen.read(0.6)
    at(screen, "10:44:43")
    screen.press("<")
    at(screen, "10:43:43")


def test_the_end_at_the_usual_pace(recording: Path) -> None:
    with replay(recording, "--at", "10:44:42") as screen:
        screen.wait_for("■ end", 20)
        at(screen, "10:44:43")
        screen.press("space")
        screen.wait_for("ends here")
        screen.press(",")
        at(screen, "10:44:33")
        screen.press("space")
        screen.wait_for("▶ 1x")


def test_seeking_by_time_finding_and_mark(screen: Terminal) -> None:
    screen.press("n")
    at(screen, "10:42:20")
    screen.wait_for("long prompt")
    screen.press("n")
    screen.wait_until(lambda: "warning" in screen.text or "drafts far less" in screen.rows[1])
    found = screen.rows[-2][:10]
    screen.press("N")
    at(screen, "10:42:20")
    screen.press("n")
    screen.wait_until(lambda: screen.rows[-2].startswith(found))
    screen.press("g")
    screen.wait_for("go to")
    screen.press(*"10:43:31", "enter")
    at(screen, "10:43:31")
    screen.press(".", ",", ".")
    at(screen, "10:43:41")
    screen.press("g")
    screen.wait_for("go to")
    screen.press(*"noon", "enter")
    screen.wait_for("'noon' is no time")


def test_the_numbers_are_those_that_were_recorded(recording: Path, screen: Terminal, tmp_path: Path) -> None:
    """Back and forth, and the same frame is there, whole."""
    screen.press("g")
    screen.wait_for("go to")
    screen.press(*"10:43:40", "enter")
    at(screen, "10:43:40")
    screen.read(0.3)
    before = screen.rows[1:-2]
    for key in (">", "<", "<", ">"):  # beyond both ends or not: it is clamped, so go there by its time
        screen.press(key)
    screen.press("g")
    screen.wait_for("go to")
    screen.press(*"10:43:40", "enter")
    at(screen, "10:43:40")
    screen.wait_until(lambda: screen.rows[1:-2] == before)


def test_the_bar_is_clicked(screen: Terminal) -> None:
    y = len(screen.rows) - 1  # counted from 1
    x = screen.rows[-2].index("✚") + 1
    screen.press(f"\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m")
    at(screen, "10:42:20")
    screen.press(f"\x1b[<0;119;{y}M\x1b[<0;119;{y}m")
    screen.wait_for("■ end")


def test_keys_that_change_anything_are_gone(screen: Terminal) -> None:
    foot = screen.rows[-1]
    assert "play" in foot and "freeze" not in foot and "relaunch" not in foot and "peak" not in foot
    screen.press("P", "m", "S")
    screen.wait_for("a recording: servers are not touched")
    screen.press("?")
    screen.wait_for("Play the recording, or hold it.")
    assert "Capture peak" not in screen.text and "Measure more or less" not in screen.text


def test_no_colour(recording: Path) -> None:
    with replay(recording, NO_COLOR="1") as screen:
        screen.wait_for("REPLAY", 20)
        screen.wait_for("▶ 1x")
        assert not re.search(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|[34]8;[\d;]+)(?:;\d+)*m", bytes(screen.raw))


# --- P, live


@pytest.fixture
def box(tmp_path: Path) -> tuple[Path, Path]:
    """A tree of sensors, and the place of the state."""
    sysfs_tree.build(tmp_path / "sys")
    return tmp_path / "sys", tmp_path / "state"


def capturing(box: tuple[Path, Path], **more: Any) -> Terminal:
    screen = Terminal("--sysfs", box[0], "-i", 0.25, **more, XDG_STATE_HOME=str(box[1]))
    screen.wait_for("GTT", 20)
    return screen


def kept(box: tuple[Path, Path]) -> Run:
    """The first run in the store."""
    run = open_store(box[1] / "halotui/store.sqlite", readonly=True).run(1)
    assert run is not None
    return run


def gtt(box: tuple[Path, Path], size: int) -> None:
    (file,) = box[0].rglob("mem_info_gtt_used")
    file.write_text(f"{size}\n")


def test_p_captures_and_keeps(box: tuple[Path, Path]) -> None:
    with capturing(box, width=100, height=30) as screen:
        screen.press("P")
        screen.wait_for("● peak 00:00:0", 20)
        gtt(box, 60880695296 + (4 << 30))
        screen.wait_for("Δ+4.00")
        screen.press("m")
        screen.wait_for("mark 1")
        screen.press(*"warm", "enter")
        screen.wait_for("✚1")
        gtt(box, 60880695296)
        screen.read(0.5)
        screen.press("P")
        for words in ("runs show 1", "+4.00 GiB", "warm", "y copy"):
            screen.wait_for(words, 20)
        screen.press("y")
        screen.wait_until(lambda: b"\x1b]52;c;" in screen.raw)
        screen.press("esc")
        screen.wait_gone("runs show")
        screen.press("q")
        assert screen.wait_end() == 0
    run = kept(box)
    assert run.status is Status.OK and [mark.label for mark in run.marks] == ["warm"]
    track = run.summary.track("gpu.gtt_used_bytes") if run.summary else None
    assert track is not None and track.delta_peak == 4 << 30


@pytest.mark.parametrize("by", ["q", "SIGTERM"])
def test_leaving_ends_a_capture_and_keeps_it(box: tuple[Path, Path], by: str) -> None:
    with capturing(box) as screen:
        screen.press("P")
        screen.wait_for("● peak 00:00:01", 20)
        if by == "q":
            screen.press("q")
        else:
            screen.signal(signal.SIGTERM)
        screen.wait_end()
    run = kept(box)
    assert run.summary is not None and run.summary.samples >= 10
    assert run.status is Status.OK


@pytest.mark.parametrize("colours", ["1", None])
def test_nothing_is_written_behind_the_history(box: tuple[Path, Path], colours: str | None) -> None:
    with capturing(box, **({"NO_COLOR": colours} if colours else {})) as screen:
        screen.press("4")
        screen.wait_for("esc back")
        for _ in range(20):  # nothing may be on disk yet
            screen.wait_until(lambda: "most" in screen.text or "Nothing is recorded" in screen.text)
            if "most" in screen.text:
                break
            screen.press("esc")
            screen.read(0.5)
            screen.press("4")
            screen.read(0.5)
        screen.wait_for("most")
        screen.read(1)
        before = len(screen.raw)
        gtt(box, 70 << 30)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            screen.read(0.2)
        assert len(screen.raw) - before < 500
        screen.press("4")
        screen.wait_for("70.0 GiB")


def test_a_capture_that_has_just_begun_is_not_left_running(box: tuple[Path, Path]) -> None:
    for pause in (0.0, 0.15, 0.4):
        with capturing(box) as screen:
            screen.press("P")
            time.sleep(pause)
            screen.press("q")
            began = time.monotonic()
            assert screen.wait_end(20) == 0
            assert time.monotonic() - began < 5
    path = box[1] / "halotui/store.sqlite"
    if path.exists():
        runs = open_store(path, readonly=True).runs()
        assert [run.status for run in runs] == [Status.OK] * len(runs)


def test_where_nothing_can_be_kept_it_is_said(box: tuple[Path, Path]) -> None:
    box[1].write_text("a file where the directory should be")
    with capturing(box) as screen:
        screen.press("P")
        screen.wait_for("not stored", 20)
        screen.press("P")
        screen.wait_for("gone when this is put away", 20)
        screen.wait_for("not kept")
