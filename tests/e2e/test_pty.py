"""The whole program in a real terminal: what a person sees, presses and leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from terminal import Terminal

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|[34]8;[25];[\d;]+)(?:;\d+)*m")
TRUE_COLOUR = re.compile(rb"\x1b\[[\d;]*[34]8;[25];")


@pytest.fixture(scope="module")
def cockpit(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One cockpit that the tests of keys share."""
    state = tmp_path_factory.mktemp("state")
    server.complete("The old oak", 30)
    with Terminal("--url", server.url, XDG_STATE_HOME=str(state)) as screen:
        screen.wait_for("tiny.gguf")
        screen.wait_for("stop processing")
        yield screen


@pytest.fixture
def screen(cockpit: Terminal) -> Terminal:
    """It, with the main view, no cursor and nothing popped up."""
    if "FROZEN" in cockpit.text:
        cockpit.press("space")
    cockpit.press("esc", "esc", "1", "esc")
    cockpit.wait_for("─ speed")
    cockpit.wait_gone("FROZEN")
    return cockpit


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
def test_first_picture(server: Any, width: int, height: int) -> None:
    with Terminal("--url", server.url, width=width, height=height) as screen:
        screen.wait_for("tiny.gguf")
        screen.wait_for("of 2 busy")
        head, *body, foot = screen.rows
        assert "halotui" in head and "idle" in head
        assert "quit" in foot and "help" in foot
        for word in ("speed", "decode", "memory", "slots"):
            assert word in "\n".join(body)
        assert all(len(row) == width for row in screen.rows)
        screen.press("q")
        assert screen.wait_end() == 0


def test_too_small_says_so(server: Any) -> None:
    with Terminal("--url", server.url, width=40, height=10) as screen:
        screen.wait_for("needs")
        screen.resize(120, 40)
        screen.wait_for("tiny.gguf")


def test_help(screen: Terminal) -> None:
    screen.press("?")
    screen.wait_for("Leave halotui; the server goes on.")
    screen.press("esc")
    screen.wait_gone("Leave halotui")


def test_cursor_and_explain(screen: Terminal) -> None:
    """The cursor steps through the panels; ``e`` says what it is on."""
    still = screen.cells()
    screen.press("tab")
    screen.wait_until(lambda: screen.cells() != still)
    seen = set()
    for key in ("down", "right", "j", "tab"):
        screen.press(key, "e")
        screen.wait_for("Source   ")
        seen.add(re.search(r"(gpu|memory|server|slot)\.\w+", screen.text)[0])  # type: ignore[index]
        screen.press("esc")
        screen.wait_gone("Source   ")
    assert len(seen) >= 3


def test_explain_gives_reason_of_the_unknown(screen: Terminal) -> None:
    """– is on screen for the backend: ``e`` says why."""
    screen.press("tab", "right", "e")
    screen.wait_for("server.backend")
    screen.wait_for("No value")


def test_views(screen: Terminal) -> None:
    screen.press("2")
    screen.wait_gone("─ speed")
    assert any(word in screen.text for word in ("listening on", "slot "))  # others use this server too
    screen.press("3")
    screen.wait_for("─ sources")
    assert "no AMD GPU" in screen.text or "sysfs" in screen.text
    screen.press("1")
    screen.wait_for("─ speed")


def test_filter(screen: Terminal) -> None:
    screen.press("/")
    screen.wait_for("contain")
    screen.press(*"launch_slot", "enter")
    screen.wait_for("filter: launch_slot")
    log = screen.text.partition("filter: ")[2].splitlines()[1:-1]
    assert all("launch_slot" in row for row in log if row.strip())
    screen.press("esc")
    screen.wait_gone("filter: launch_slot")


def test_typed_filter_is_seen(screen: Terminal) -> None:
    screen.press("/")
    screen.wait_for("contain")
    screen.press(*"zebra")
    screen.wait_for("zebra", 3)
    screen.press("esc")
    screen.wait_gone("zebra")


def test_themes(screen: Terminal) -> None:
    """All four, and round again; the words stay."""
    first = screen.styles("decode").fg
    colours = [first]
    for _ in range(6):
        screen.press("t")
        screen.wait_until(lambda: screen.styles("decode").fg != colours[-1])
        colours.append(screen.styles("decode").fg)
        if colours[-1] == first:
            break
    assert len(colours) == 5 and len(set(colours)) == 4


def test_freeze(screen: Terminal) -> None:
    screen.press("space")
    screen.wait_for("FROZEN")
    screen.read(0.3)
    up = screen.rows[0].partition("FROZEN")[0]
    screen.read(2.2)
    assert screen.rows[0].partition("FROZEN")[0] == up
    screen.press("space")
    screen.wait_gone("FROZEN")


def test_interval(screen: Terminal) -> None:
    screen.press("-")
    screen.wait_for("every 2 s")
    screen.press("+")
    screen.wait_for("every 1 s")


def test_write(screen: Terminal) -> None:
    screen.press("w")
    screen.wait_for("frame-")
    environ = Path(f"/proc/{screen.pid}/environ").read_text().split("\0")
    (state,) = (Path(e.partition("=")[2]) for e in environ if e.startswith("XDG_STATE_HOME="))
    (file,) = (state / "halotui").glob("frame-*.json")
    assert json.loads(file.read_text())["servers"][0]["model"] == "tiny.gguf"
    assert (state / "halotui").stat().st_mode & 0o077 == 0


def test_copy_goes_through_the_terminal(screen: Terminal) -> None:
    mark = len(screen.raw)
    screen.press("tab", "y")
    screen.wait_until(lambda: b"\x1b]52;c;" in screen.raw[mark:])
    screen.press("esc")


def test_palette(screen: Terminal) -> None:
    screen.press("ctrl+p")
    screen.wait_for("Search")
    screen.press(*"Freeze")
    screen.wait_for("Hold the picture")
    screen.press("enter")
    screen.wait_for("FROZEN")
    screen.press("space")
    screen.wait_gone("FROZEN")


def test_resize(screen: Terminal) -> None:
    screen.resize(80, 24)
    screen.wait_until(lambda: "quit" in screen.rows[23] and "tiny.gguf" in screen.rows[0])
    assert all(len(row) == 80 for row in screen.rows)
    screen.resize(120, 40)
    screen.wait_until(lambda: "quit" in screen.rows[39] and "tiny.gguf" in screen.rows[0])
    assert "quit" not in screen.rows[23]


def test_many_keys_at_once(screen: Terminal) -> None:
    """A cat on the keyboard: it goes on, and the cockpit comes back."""
    screen.press(*"ttt  ++--jjkkll", "tab", "tab", "e", "esc", "?", "esc", *"123", "esc", "1", "esc")
    screen.wait_for("─ speed")
    screen.wait_until(lambda: "tiny.gguf" in screen.rows[0])


def test_two_servers(server: Any, start_server: Callable[..., Any]) -> None:
    with (
        start_server("-np", "1", "-a", "second-model") as second,
        Terminal("--url", server.url, "--url", second.url) as screen,
    ):
        screen.wait_until(lambda: " 1 tiny " in screen.rows[1] and " 2 second-model " in screen.rows[1])
        assert "tiny.gguf" in screen.rows[0]
        for key, model in (("]", "second-model"), ("]", "tiny.gguf"), ("[", "second-model")):
            screen.press(key)
            screen.wait_until(lambda model=model: model in screen.rows[0])


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_quit_gives_the_terminal_back(server: Any, key: str) -> None:
    with Terminal("--url", server.url) as screen:
        screen.wait_for("tiny.gguf")
        below = descendants(screen.pid)
        assert b"\x1b[?1049h" in screen.raw
        screen.press(key)
        assert screen.wait_end() == 0
        assert screen.modes == screen.modes_before
        left = bytes(screen.raw).rpartition(b"\x1b[?1049l")[2]
        assert b"\x1b[?25h" in left  # the cursor is back
        for mode in (b"?1000", b"?1003", b"?1006", b"?2004"):
            assert bytes(screen.raw).rfind(b"\x1b[" + mode + b"l") > bytes(screen.raw).rfind(
                b"\x1b[" + mode + b"h"
            )
        assert b"Traceback" not in screen.raw
        assert not [process for process in below if process.is_running()]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end(server: Any, by: signal.Signals) -> None:
    with Terminal("--url", server.url) as screen:
        screen.wait_for("tiny.gguf")
        screen.signal(by)
        screen.wait_end()
        assert b"\x1b[?1049l" in screen.raw or by == signal.SIGHUP
        assert b"Traceback" not in screen.raw


def test_a_terminal_that_is_closed(server: Any) -> None:
    """Lost SSH: the program ends, and does not spin on a dead terminal."""
    screen = Terminal("--url", server.url)
    screen.wait_for("tiny.gguf")
    os.close(screen._fd)
    deadline = time.monotonic() + 8
    while os.waitpid(screen.pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(screen.pid, signal.SIGKILL)
            os.waitpid(screen.pid, 0)
            pytest.fail("it lives on without its terminal")
        time.sleep(0.05)


def test_a_server_that_dies_is_told_in_words(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1") as doomed, Terminal("--url", doomed.url) as screen:
        screen.wait_for("tiny.gguf")
        doomed.process.kill()
        doomed.process.wait()
        screen.wait_until(lambda: "down" in screen.rows[0])
        screen.wait_for("Connection refused")


def test_no_colour(server: Any) -> None:
    with Terminal("--url", server.url, NO_COLOR="1") as screen:
        screen.wait_for("of 2 busy")
        screen.press("space")
        screen.wait_for("FROZEN")
        assert not COLOUR.findall(bytes(screen.raw))
        assert screen.styles("FROZEN").reverse


def test_sixteen_colours(server: Any) -> None:
    """No 24-bit colour is sent to a terminal that has 16, and no letter has its background's colour."""
    with Terminal("--url", server.url, TERM="xterm", COLORTERM="") as screen:
        screen.wait_for("of 2 busy")
        screen.read(0.5)
        assert not TRUE_COLOUR.findall(bytes(screen.raw))
        hidden = [
            (y, x, cell.data)
            for y, row in enumerate(screen.cells())
            for x, cell in enumerate(row)
            if cell.data.strip() and cell.fg == cell.bg != "default"
        ]
        assert not hidden, screen.text


def test_the_demo_leaves_nothing_behind() -> None:
    with Terminal("demo") as screen:
        screen.wait_for("DEMO")
        screen.wait_for("GTT")
        screen.wait_for("t/s")
        below = descendants(screen.pid)
        assert below
        places = {
            Path(word).parent
            for p in below
            for word in p.cmdline()
            if word.startswith(("/tmp/", "/dev/shm/"))
        }
        screen.press("q")
        assert screen.wait_end(15) == 0
        _, alive = psutil.wait_procs(below, 3)
        assert not alive
        assert not [place for place in places if place.name.startswith("halotui") and place.exists()]
        assert b"Traceback" not in screen.raw
