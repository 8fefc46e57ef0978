"""The output of a benched command: its bytes, its terminal, and the line under it."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benched import Place, Raw, script

from halotui.benching.under import Under
from running import HALOTUI

pytestmark = pytest.mark.slow
STATUS = re.compile(rb"\r\x1b\[K\d\d:\d\d:\d\d  [^\r]*\r")
ERASE = b"\r\x1b[K"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def noise(path: Path, size: int) -> list[str]:
    return script(
        path, f"import os, random, sys\nsys.stdout.buffer.write(random.Random(7).randbytes({size}))\n"
    )


def test_five_megabytes_through_a_pipe(place: Place, tmp_path: Path) -> None:
    size = 5_000_000
    done = place.run("bench", "--no-store", "--", *noise(tmp_path / "noise.py", size))
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(random.Random(7).randbytes(size)).digest()
    assert b"baseline" in done.stderr  # the table is not among the data


def test_five_megabytes_through_a_terminal(place: Place, tmp_path: Path) -> None:
    size = 5_000_000
    screen = Raw(place, "bench", "--quiet", "--no-store", "--", *noise(tmp_path / "noise.py", size))
    assert screen.end() == 0
    assert bytes(screen.out[:size]) == random.Random(7).randbytes(size)  # no \r more, nothing less


def test_stdout_and_stderr_stay_apart(place: Place) -> None:
    done = place.run("bench", "--no-store", "--", "sh", "-c", "echo data; echo talk >&2; exit 5")
    assert (done.returncode, done.stdout) == (5, b"data\n")
    assert done.stderr.startswith(b"talk\n")


def test_what_is_a_terminal_stays_one(place: Place) -> None:
    """Output to a terminal, errors to a pipe, and the other way round."""
    ask = ("sh", "-c", "test -t 0; echo in $?; test -t 1; echo out $?; test -t 2; echo err $?")
    screen = Raw(place, "bench", "--no-store", "--", *ask, apart=True)
    screen.end()
    assert screen.out.startswith(b"in 0\nout 0\nerr 1\n")
    done = place.run("bench", "--no-store", "--", *ask)
    assert done.stdout == b"in 1\nout 1\nerr 1\n"


def test_stdin_is_the_command_s(place: Place) -> None:
    assert place.run("bench", "--no-store", "--", "cat", stdin=b"a\0b\n").stdout == b"a\0b\n"
    screen = Raw(place, "bench", "--no-store", "--", "sh", "-c", "read word; echo got $word; tty")
    time.sleep(1)
    screen.type("typed\n")
    assert screen.end() == 0
    assert b"got typed\n/dev/pts/" in screen.out


def test_a_reader_that_goes_is_felt(place: Place) -> None:
    """``halotui bench -- yes | head -1``: SIGPIPE, as without us."""
    bench = subprocess.Popen(
        [*HALOTUI, "bench", "--no-store", "--", "yes"],
        env=place.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert bench.stdout and bench.stderr
    assert bench.stdout.readline() == b"y\n"
    bench.stdout.close()
    assert bench.wait(30) == 128 + signal.SIGPIPE
    bench.stderr.close()


def test_a_slow_reader_gets_all(place: Place) -> None:
    """What is in the pipe when the command ends is not lost, however long its reader takes."""
    bench = place.start("bench", "--no-store", "--", "seq", "20000", stderr=subprocess.DEVNULL)
    assert bench.stdout
    time.sleep(2.5)
    assert bench.stdout.read().split()[-1] == b"20000"
    assert bench.wait(30) == 0


def test_a_daemon_that_keeps_the_output_open_holds_nobody_up(place: Place) -> None:
    began = time.monotonic()
    done = place.run("bench", "--no-store", "--", "sh", "-c", "sleep 20 & echo $!")
    assert time.monotonic() - began < 15
    os.kill(int(done.stdout), signal.SIGKILL)


def test_window_size(place: Place, tmp_path: Path) -> None:
    command = script(
        tmp_path / "size.py",
        "import os, signal, time\n"
        "def show(*_): print('size', *os.get_terminal_size(1), flush=True)\n"
        "signal.signal(signal.SIGWINCH, show)\n"
        "show()\n"
        "deadline = time.time() + 20\n"
        "while time.time() < deadline and os.get_terminal_size(1).columns != 77: time.sleep(0.05)\n"
        "time.sleep(0.5)\n",
    )
    screen = Raw(place, "bench", "--quiet", "--no-store", "--", *command, width=91)
    screen.wait_for(b"size 91 30\n")
    screen.resize(77, 20)
    assert screen.end() == 0
    assert b"size 77 20\n" in screen.out


def test_the_line_comes_under_whole_lines_alone(place: Place) -> None:
    words = "echo one; sleep 2.5; printf par; sleep 2; printf 'tial\\n'; sleep 2.5; printf '50%%\\r'; sleep 2"
    screen = Raw(place, "bench", "--no-store", "--", "sh", "-c", words)
    assert screen.end() == 0
    shown = STATUS.split(bytes(screen.out))
    assert len(shown) >= 5  # some while "one" was the last line, some under "partial"
    rest = STATUS.sub(b"", bytes(screen.out)).replace(ERASE, b"")
    assert rest.startswith(b"one\npartial\n50%\r\n\n")
    assert b"partial" in bytes(screen.out), "the line was torn"
    assert bytes(screen.out).rpartition(b"50%\r")[2].count(b":") < 20  # and not over the progress bar
    assert not STATUS.search(bytes(screen.out).partition(b"50%\r")[2])


def test_not_a_word_on_the_alternate_screen(place: Place) -> None:
    words = (
        "echo one; sleep 1.5; printf '\\033[?1049h\\n'; sleep 2.5; "
        "printf '\\033[?1049l'; sleep 1.5; echo; sleep 1.5"
    )
    screen = Raw(place, "bench", "--no-store", "--", "sh", "-c", words)
    assert screen.end() == 0
    before, _, rest = bytes(screen.out).partition(b"\x1b[?1049h")
    inside, _, after = rest.partition(b"\x1b[?1049l")
    assert STATUS.search(before) and STATUS.search(after)
    assert inside == b"\n"


def test_quiet(place: Place) -> None:
    screen = Raw(place, "bench", "--quiet", "--no-store", "--", "sleep", "2.5")
    assert screen.end() == 0
    assert not STATUS.search(bytes(screen.out))


def test_modes_set_on_the_output_reach_the_terminal(place: Place, tmp_path: Path) -> None:
    """As ncurses does, which would else get its keys a line at a time; and they are put back."""
    command = script(
        tmp_path / "keys.py",
        "import os, sys, termios, tty\n"
        "tty.setcbreak(1)\n"
        "print('ready', flush=True)\n"
        "print('key', os.read(0, 1).decode(), flush=True)\n",
    )
    screen = Raw(place, "bench", "--quiet", "--no-store", "--", *command)
    before = screen.modes
    screen.wait_for(b"ready\n")
    time.sleep(0.3)
    screen.type("k")  # no newline
    screen.wait_for(b"key k\n")
    screen.read(1)
    deadline = time.monotonic() + 20
    while screen.process.poll() is None and time.monotonic() < deadline:
        screen.read(0.05)
    assert screen.modes == before
    screen.end()


def test_keys_for_one_that_reads_them_from_its_output(place: Place, tmp_path: Path) -> None:
    """As less does: it opens the terminal of its stderr by name."""
    command = script(
        tmp_path / "pager.py",
        "import os, termios, tty\n"
        "fd = os.open(os.ttyname(2), os.O_RDONLY)\n"
        "before = termios.tcgetattr(fd); tty.setcbreak(fd)\n"
        "print('ready', flush=True)\n"
        "print('key', os.read(fd, 1).decode(), flush=True)\n"
        "termios.tcsetattr(fd, termios.TCSADRAIN, before); os.close(fd)\n"
        "print('again', flush=True); print('line', input(), flush=True)\n",
    )
    screen = Raw(place, "bench", "--quiet", "--no-store", "--", *command)
    screen.wait_for(b"ready\n")
    screen.type("k")
    screen.wait_for(b"key k\n")
    screen.wait_for(b"again\n")
    time.sleep(0.3)
    screen.type("typed\n")
    screen.wait_for(b"line typed\n")
    assert screen.end() == 0


def test_killed_halotui_leaves_the_terminal_as_it_was(place: Place) -> None:
    screen = Raw(place, "bench", "--no-store", "--", "sh", "-c", "echo $$; sleep 3; exit 0")
    before = screen.modes
    screen.wait_for(b"\n")
    time.sleep(0.3)
    screen.process.kill()
    screen.process.wait()
    assert screen.modes == before
    os.kill(int(screen.out.split()[0]), 0)  # the command goes on, as under a terminal that was closed


class TestUnder:
    """The cursor's place, byte by byte."""

    @pytest.mark.parametrize(
        ("output", "fresh"),
        [
            ((), True),
            ((b"a",), False),
            ((b"a\n",), True),
            ((b"a", b"\n"), True),
            ((b"a\n\x1b[0m",), True),
            ((b"a\n", b"\x1b[", b"0m"), True),
            ((b"a\n\x1b[",), False),
            ((b"50%\r",), False),
            ((b"\x1b[?1049h\n",), False),
            ((b"\x1b[?10", b"49h\n"), False),
            ((b"\x1b[?1049h\n\x1b[?1049l",), False),
            ((b"\x1b[?1049h", b"x" * 5000, b"\x1b[?1049l\n"), True),
        ],
    )
    def test_fresh(self, output: tuple[bytes, ...], fresh: bool) -> None:
        under = Under(lambda width: b"s" * width)
        for data in output:
            assert under.before(data) == data
        under.draw(0.0, 10)
        assert bool(under.draw(5.0, 10) or under.clear()) is fresh

    def test_cleared_before_output_and_drawn_after(self) -> None:
        under = Under(lambda width: b"s" * width)
        assert under.draw(0.0, 5) == ERASE + b"ssss\r"
        assert under.draw(0.5, 5) == b""
        assert under.before(b"x\n") == ERASE + b"x\n"
        assert under.draw(0.6, 5) == b""  # more may follow
        assert under.draw(0.75, 5) == ERASE + b"ssss\r"
        assert under.draw(1.2, 5) == b""
        assert under.draw(1.8, 5) == ERASE + b"ssss\r"
        assert under.clear() == ERASE


def test_it_costs_next_to_nothing(place: Place) -> None:
    """Nothing is busy while the command is quiet."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "halotui", "bench", "--no-store", "--hz", "1", "--", "sleep", "6"],
        env=place.env,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    assert whole < 3.0, "a start costs about 0.6 s of CPU time; six seconds of relaying hardly add to it"
