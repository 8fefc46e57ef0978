"""Exit codes, one line of trouble, and who beats whom: flag, environment, file, default."""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from halotui import __version__, exits
from running import HALOTUI, Stream, environment, look, run, server_of

DEAD = "http://127.0.0.1:1"


def test_version_and_help() -> None:
    assert run("--version").stdout == f"halotui {__version__}\n"
    said = run("--help").stdout
    assert all(word in said for word in ("stream", "demo", "--url", "exit codes"))


def test_the_list_of_exit_codes() -> None:
    codes = (exits.OK, exits.FAILURE, exits.USAGE, exits.UNREACHABLE, exits.INTERRUPTED)
    assert codes == (0, 1, 2, 3, 130)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--url", "http://[::1"], "is not a URL"),
        (["--url", "ftp://host"], "is not a URL"),
        (["--url", "http://user:pass@host:1"], "--url"),
        (["--url", "http://host:99999"], "is not a URL"),
        (["--interval", "0"], "interval"),
        (["--interval", "nan"], "interval"),
        (["--sysfs", "/no/such/place"], "/no/such/place"),
        (["--config", "/no/such/file"], "/no/such/file"),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["stream", "-n", "0"], "count"),
    ],
)
def test_bad_words_are_one_line(args: list[str], words: str) -> None:
    done = run("--once", *args) if args[0] != "stream" else run(*args)
    assert done.returncode == exits.USAGE, done.stdout
    assert words in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert "user:pass" not in done.stderr


@pytest.mark.parametrize("args", [["--no-such-flag"], ["--gpu-source", "x"], ["-i", "soon"], ["swim"]])
def test_what_argparse_refuses(args: list[str]) -> None:
    done = run(*args)
    assert done.returncode == exits.USAGE and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('theme = "halo-dark"\n\ncolour = 3\n', 3, "colour"),
        ("interval = 0.01\n", None, "interval"),
        ('interval = "soon"\n', 1, "interval"),
        ("theme = \n", None, "config.toml:1: "),
        ('[keys]\nfly = "f"\n', 2, "fly"),
        ('gpu_source = "magic"\n', None, "magic"),
    ],
)
def test_bad_config_names_file_and_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    file = tmp_path / "halotui/config.toml"
    file.parent.mkdir()
    file.write_text(text)
    done = run("--once", "--url", DEAD, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == exits.USAGE
    assert words in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert line is None or f"{file}:{line}:" in done.stderr


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    """Told apart by which URL each run asks: nothing listens there."""
    file = tmp_path / "my.toml"
    file.write_text('urls = ["http://127.0.0.1:2"]\ninterval = 0.25\n')
    wanted = (
        (["--url", "127.0.0.1:4"], {"HALOTUI_URLS": "127.0.0.1:3"}, "4"),
        ([], {"HALOTUI_URLS": "127.0.0.1:3"}, "3"),
        ([], {}, "2"),
    )
    for args, env, port in wanted:
        done = run("--json", "--config", file, *args, **env)
        (server,) = json.loads(done.stdout)["servers"]
        assert server["url"] == f"http://127.0.0.1:{port}"
        assert done.returncode == exits.UNREACHABLE


def test_the_environment_alone(server: Any) -> None:
    frame = look(HALOTUI_URLS=f"{server.url} {DEAD}", HALOTUI_INTERVAL="0.25")
    assert [seen["url"] for seen in frame["servers"]] == [server.url, DEAD]
    assert run("--once", HALOTUI_INTERVAL="soon").returncode == exits.USAGE


def test_without_a_terminal_it_is_once(server: Any) -> None:
    plain, once = (run("--url", server.url, *more) for more in ((), ("--once",)))
    assert plain.returncode == once.returncode == exits.OK
    assert "tiny.gguf" in plain.stdout and "slots 0 of 2 busy" in plain.stdout
    shape = [[line.split()[0] for line in done.stdout.splitlines() if line.strip()] for done in (plain, once)]
    assert shape[0] == shape[1]


def test_once_agrees_with_json(server: Any) -> None:
    seen = server_of(look("--url", server.url), server.url)
    text = run("--once", "--url", server.url).stdout
    for word in (server.url, seen["state"], seen["model"], seen["build"], str(seen["pid"])):
        assert word in text


def test_one_of_two_up_is_ok(server: Any) -> None:
    done = run("--json", "-i", 0.25, "--url", DEAD, "--url", server.url)
    assert done.returncode == exits.OK and done.stderr == ""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_stream(server: Any, by: signal.Signals) -> None:
    with Stream("--url", server.url) as stream:
        stream.wait_for(lambda f: True)
        assert stream.stop(by) in ((exits.INTERRUPTED,) if by == signal.SIGINT else (143, -15))
        assert stream.errors == ""


def test_interrupted_look(server: Any) -> None:
    process = subprocess.Popen(
        [*HALOTUI, "--json", "--url", server.url, "-i", "20"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        process.communicate(timeout=1.5)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (exits.INTERRUPTED, b"", b"")


def test_a_reader_that_leaves(server: Any) -> None:
    """No traceback, no complaint, no failure."""
    command = f"{shlex.join(HALOTUI)} stream -i 0.25 --url {server.url} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=environment(), capture_output=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (exits.OK, b"")
    assert json.loads(done.stdout)


def test_a_full_disk_is_one_line(server: Any) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*HALOTUI, "--json", "-i", "0.25", "--url", server.url],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert done.returncode == exits.FAILURE
    assert "No space left" in done.stderr and done.stderr.count("\n") == 1


def test_stream_counts_and_is_json_lines(server: Any) -> None:
    done = run("stream", "-n", 3, "-i", 0.25, "--url", server.url)
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == exits.OK and len(frames) == 3
    steps = [b["time"] - a["time"] for a, b in itertools.pairwise(frames)]
    assert all(0.1 < step < 2 for step in steps)


def test_nothing_is_written_unasked(server: Any, tmp_path: Path) -> None:
    run(
        "--once",
        "--url",
        server.url,
        XDG_CONFIG_HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path),
        HOME=str(tmp_path),
    )
    assert not [*tmp_path.iterdir()]


def test_log_from_a_pipe(server: Any) -> None:
    """``llama-server 2>&1 | halotui --json --log -``."""
    line = b"0.00.036.611 W srv  llama_server: a line of my own\n"
    done = subprocess.run(
        [*HALOTUI, "--json", "-i", "0.25", "--url", server.url, "--log", "-"],
        env=environment(),
        input=line,
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (exits.OK, b"")
    (source,) = (s for s in json.loads(done.stdout)["sources"] if s["id"].startswith("log"))
    assert (source["state"], source["name"]) == ("ok", "standard input")
