"""What comes from a server, its log and its process is played to a real terminal, and does it no harm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer
from running import run
from terminal import Terminal

MARK = "EVIL"
PAYLOADS = (
    f"\x1b]0;{MARK}-title\x07",  # the window's title
    f"\x1b]2;{MARK}-title\x1b\\",
    f"\x1b]52;c;{MARK}AAAA\x07",  # the clipboard
    f"\x1b]8;;http://{MARK}.example/\x1b\\link\x1b]8;;\x1b\\",
    f"\x1b]1337;File=name={MARK}\x07",
    f"\x1bP{MARK}q#0;2;0;0;0\x1b\\",  # DCS: sixel
    f"\x1b_G{MARK}\x1b\\",  # APC: kitty's pictures
    "\x1b[2J\x1b[H",
    "\x1b[?1049l",
    "\x1b[41;5m",
    "\x1b[6n\x1b[c",  # asks the terminal, which answers as if typed
    "\x1bc\x1b#8\x1b(0",
    f"\x9b31m\x9d0;{MARK}-8bit\x9c",
    "\x07\x08\x08\x0c\x0b\x0e",
    "\r\nsecond line\r",
    "\u202eright to left\u202c\u2066isolate\u2069",
    "\u200b\u200d\ufeff\u00ad\u2028\u2029",
    "[bold red]markup[/] [@click=app.quit]x[/]",
    "\x1b",  # an escape that the next letter would complete
)
EVERYTHING = "".join(PAYLOADS)
WIDE = "漢字テスト한국어👩‍👩‍👧‍👦🇩🇪e\u0301\u0301\u0301ａ"
# Of what we print, only these may begin with an escape: our own modes, colours and cursor moves.
FORBIDDEN = re.compile(
    rb"\x1b\]|\x1bP|\x1b_|\x1b\^|\x1bX|\x1bc|\x1b#8|\x1b\(0|\x1b\[41;5m|\x1b\[c|\xc2[\x80-\x9f]|\x07|\x0e"
)
CONTROL = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[tuple[FakeServer, Path]]:
    """A server that says all of it wherever it may speak, and its log."""
    log = tmp_path / "evil.log"
    lines = [
        f"0.00.0{i:02d}.000 I slot {payload} release: {MARK}-{i} |" for i, payload in enumerate(PAYLOADS)
    ]
    lines += [EVERYTHING, f"E {WIDE} " + "x" * 300, "\x1b[31m" * 400 + "end", "a\tb\tc"]
    log.write_bytes(
        "\n".join(lines).encode() + b"\n\xff\xfe\x80broken \xc3\x28 bytes\n" + b"\x9b2J\x9d0;t\x9c raw C1\n"
    )
    with FakeServer() as fake:
        fake.answers["/props"] = (
            200,
            {
                "total_slots": 1,
                "model_alias": f"model{EVERYTHING}name{WIDE}",
                "model_path": f"/m/{EVERYTHING}.gguf",
                "build_info": f"b1{EVERYTHING}",
            },
        )
        yield fake, log


def watched(evil: tuple[FakeServer, Path]) -> tuple[object, ...]:
    return "--url", evil[0].url, "--log", evil[1]


def check_text(text: str) -> None:
    """Nothing but what can be seen, and newlines."""
    bad = {repr(c) for c in text if c != "\n" and unicodedata.category(c) in CONTROL}
    assert not bad
    assert "model" in text and "ame漢字" in text  # what is harmless has come through (the n ended an escape)


@pytest.mark.parametrize("args", [["--once"], ["--json"], ["stream", "-n", "3", "-i", "0.25"]])
def test_pipes_carry_no_control(evil: tuple[FakeServer, Path], args: list[str]) -> None:
    done = run(*args, *watched(evil))
    assert done.returncode == 0
    check_text(done.stdout)
    assert "\x1b" not in done.stderr
    if args[0] != "--once":
        for line in [done.stdout] if args == ["--json"] else done.stdout.splitlines():
            for text in strings(json.loads(line)):
                assert not [c for c in text if unicodedata.category(c) in CONTROL], text


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from strings(below)
    elif isinstance(value, list):
        for below in value:
            yield from strings(below)


def test_trouble_is_harmless_too(evil: tuple[FakeServer, Path]) -> None:
    """Reasons and usage errors quote what was given."""
    fake, _ = evil
    fake.answers = dict.fromkeys(fake.answers, (500, {"error": {"message": EVERYTHING}}))
    for args in (
        ("--once", "--url", fake.url, "--log", f"/no/such/{EVERYTHING}"),
        ("--once", "--url", f"http://{EVERYTHING}/"),
        ("--once", "--config", f"/no/{EVERYTHING}"),
        ("--once", "--sysfs", f"/no/{EVERYTHING}"),
        ("--once", "--api-key-env", f"A{EVERYTHING}"),
    ):
        done = run(*(word.replace("\0", "") for word in args))
        assert not set("\x1b\x07\x9b\x9d\u202e") & set(done.stdout + done.stderr), args


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24)])
def test_a_terminal_is_left_alone(evil: tuple[FakeServer, Path], width: int, height: int) -> None:
    """Every view and pop-up: no payload among the raw bytes, and no column out of its place."""
    with Terminal(*watched(evil), width=width, height=height) as screen:
        screen.wait_for("idle")
        screen.wait_for("raw C1")
        screen.read(0.5)
        for keys in ("2", "3", "1", ("tab", "e"), "esc", "?", "esc", ("/", "x", "enter"), "esc"):
            screen.press(*([keys] if isinstance(keys, str) else keys))
            screen.read(0.3)
            harmless(screen)
        screen.press("q")
        assert screen.wait_end() == 0
    harmless(screen, ended=True)


def harmless(screen: Terminal, ended: bool = False) -> None:
    raw = re.sub(rb"\x1b\]22;\w+\x07", b"", bytes(screen.raw))  # Textual's own: the mouse pointer's shape
    found = FORBIDDEN.search(raw)
    assert not found, raw[max(0, found.start() - 40) : found.end() + 40]
    for marked in re.finditer(rb"[\x1b\x9b\x9d][^m]{0,12}" + MARK.encode(), raw):
        pytest.fail(repr(marked[0]))
    assert raw.count(b"\x1b[?1049l") == (1 if ended else 0)
    assert raw.count(b"\x1b[2J") <= 3
    if not ended:
        assert len(screen.rows) == screen.screen.lines
        assert "halotui" in screen.rows[0] and "quit" in screen.rows[-1]
        assert MARK + "-title" not in screen.screen.title


def test_wide_letters_shift_nothing(evil: tuple[FakeServer, Path]) -> None:
    """Beside and below wide letters every edge stands where it stands without them."""
    fake, log = evil
    log.write_text("plain\nEND\n")
    fake.answers["/props"] = (200, {"total_slots": 1, "model_alias": "plain", "build_info": "b1"})

    def edges() -> list[str]:
        with Terminal(*watched(evil)) as screen:
            screen.wait_for("idle")
            screen.wait_for("END")
            screen.read(0.5)
            return [row for row in screen.rows if row.startswith("─")]

    before = edges()
    log.write_text("\n".join(WIDE * n + " END" for n in range(1, 12)) + "\n" + WIDE * 20 + "\nEND\n")
    fake.answers["/props"] = (200, {"total_slots": 1, "model_alias": WIDE, "build_info": WIDE})
    assert edges() == before


def test_a_process_that_lies_about_its_name(evil: tuple[FakeServer, Path], tmp_path: Path) -> None:
    """Its command line is hostile: in the JSON it is plain text."""
    code = (
        "import ctypes,sys,time; ctypes.CDLL(None).prctl(15, b'llama-server\\x1b]0'); "
        "print('up', flush=True); time.sleep(30)"
    )
    argv = [sys.executable, "-c", code, "llama-server", "-m", f"/m/{EVERYTHING}.gguf", "-a", EVERYTHING]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as liar:
        assert liar.stdout and liar.stdout.readline()
        try:
            done = run("--json", "-i", 0.25)
        finally:
            liar.kill()
    assert str(liar.pid) in done.stdout
    assert not [c for c in done.stdout if c != "\n" and unicodedata.category(c) in CONTROL]
