"""``halotui record`` as its user runs it, on a real server."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tapes import everything_in, frames_of

from halotui.model import Frame
from halotui.recording.file import Reader
from running import HALOTUI, environment, run

pytestmark = pytest.mark.slow
KEY = "sk-halotui-record-4711"


def frames_in(path: Path) -> list[Frame]:
    return [msgspec.json.decode(raw, type=Frame) for raw in frames_of(path)]


@contextmanager
def recording(path: Path, *args: object, **env: str) -> Iterator[subprocess.Popen[str]]:
    """It records in the background, and has begun."""
    command = [*HALOTUI, "record", str(path), "-i", "0.25", *map(str, args)]
    with subprocess.Popen(
        command, env=environment(**env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + 20
            while not path.exists() or not frames_of(path):
                assert process.poll() is None and time.monotonic() < end, process.stderr
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def test_for_a_while(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "night.halo"
    server.complete("The old oak", 40)
    done = run("record", path, "--for", "3", "-i", "0.5", "--url", server.url, "--log", server.log_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    frames = frames_in(path)
    assert 3 <= len(frames) <= 7
    assert line.startswith(f"halotui: recorded {len(frames)} frames, ") and str(path) in line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {server_.url for frame in frames for server_ in frame.servers} == {server.url}
    assert any(line.text for frame in frames for s in frame.servers for line in s.log)
    with Reader(path) as reader:
        assert not reader.scan().cut_off


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well(server: Any, tmp_path: Path, by: int) -> None:
    path = tmp_path / "night.halo"
    with recording(path, "--url", server.url) as process:
        process.send_signal(by)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    (line,) = errors.splitlines()
    assert "recorded" in line
    with Reader(path) as reader:
        assert not reader.scan().cut_off and reader.blocks


def test_a_kill_leaves_what_was_there_and_append_goes_on(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "night.halo"
    with recording(path, "--url", server.url) as process:
        time.sleep(1.0)
        process.kill()
        process.communicate(timeout=20)
    before = frames_of(path)
    assert before
    refused = run("record", path, "--for", "1", "--url", server.url)
    assert refused.returncode == 2
    assert "is there already" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert frames_of(path) == before
    done = run("record", path, "--for", "1", "--append", "--quiet", "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert frames_of(path)[: len(before)] == before and len(frames_of(path)) > len(before)


def test_two_do_not_write_into_one(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "night.halo"
    with recording(path, "--url", server.url):
        other = run("record", path, "--append", "--for", "1", "--url", server.url)
    assert other.returncode == 2
    assert "another process records into it" in other.stderr


@pytest.mark.parametrize(
    ("file", "args", "words"),
    [
        ("no/such/place.halo", (), "no such file or directory"),
        (".", ("--append",), "directory"),
        ("ok.halo", ("--for", "soon"), "no length of time"),
        ("text", ("--append",), "no recording"),
    ],
)
def test_a_bad_word_is_one_line(tmp_path: Path, file: str, args: tuple[str, ...], words: str) -> None:
    (tmp_path / "text").write_text("a poem, not a recording")
    done = run("record", tmp_path / file, *args, "--url", "127.0.0.1:1")
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ok.halo").exists()
    assert (tmp_path / "text").read_text() == "a poem, not a recording"


def test_no_key_is_in_it(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server("--api-key", KEY, "-np", "1", "-c", "1024")
    path = tmp_path / "night.halo"
    done = run(
        "record", path, "--for", "3", "-i", "0.5", "--url", server.url, "--log", server.log_path,
        "--api-key-env", "MY_KEY", MY_KEY=KEY,
    )  # fmt: skip
    server.stop()
    assert done.returncode == 0, done.stderr
    assert any(s.state == "idle" for frame in frames_in(path) for s in frame.servers)  # it had the key
    assert KEY.encode() not in everything_in(path) and KEY.encode() not in path.read_bytes()


def test_on_a_full_disk_it_says_so_and_keeps_what_is_there(server: Any, tmp_path: Path) -> None:
    """A limit on the size of its files stands in for the disk: it ends just behind what is there."""
    path = tmp_path / "night.halo"
    assert run("record", path, "--for", "2", "-i", "0.5", "--url", server.url).returncode == 0
    with Reader(path) as reader:
        before = len(reader.scan().blocks)
    full = path.stat().st_size + 16
    command = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
    command = command.format(full) + "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            command,
            *map(str, HALOTUI),
            "record",
            path,
            "--append",
            "--for",
            "4",
            "-i",
            "0.25",
            "--url",
            server.url,
        ],
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert path.stat().st_size == full
    assert done.returncode == 1, done.stderr
    assert "not on the disk: file too large; keeps trying" in done.stderr
    assert "the last frames are not on the disk" in done.stderr
    with Reader(path) as reader:
        assert len(reader.scan().blocks) == before > 0 and reader.cut_off
