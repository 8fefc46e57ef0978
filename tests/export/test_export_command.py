"""The words, ends and manners of ``halotui export``."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest
from exported import Export, until

from box_tree import SYSTEM, write
from running import PATIENCE, run
from sshd import sshd


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """A box of files: no servers, no GPU."""
    root = write(tmp_path_factory.mktemp("box"), SYSTEM)
    return "--sysfs", root / "sys", "--procfs", root / "proc"


def test_it_ends_at_once(tree: tuple[object, ...], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        export = Export(*tree, "-i", 0.25, NOTIFY_SOCKET=str(tmp_path / "notify"))
        with export:
            assert systemd.recv(100) == b"READY=1"
            until(lambda: export.value("halotui_up"), "a frame")
            assert export.value("halotui_memory_total_bytes") == 131161644 * 1024
            with socket.create_connection(
                ("127.0.0.1", int(export.address.split(":")[1]))
            ):  # one that stalls
                began = time.monotonic()
                assert export.stop(signal.SIGINT) == 130
                assert time.monotonic() - began < 5
            assert systemd.recv(100) == b"STOPPING=1"
        assert export.process.stderr and not export.process.stderr.read()


def test_a_port_that_is_taken(tree: tuple[object, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("export", *tree, "--listen", where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"halotui: {where}: address already in use\n"


@pytest.mark.parametrize(
    "words",
    [("--listen", "nonsense"), ("--fault", "thermal"), ("-i", "0")],
    ids=str,
)
def test_bad_words(words: tuple[str, ...]) -> None:
    done = run("export", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("halotui: ")


def test_a_box_that_is_off_comes_by_itself(tmp_path: Path) -> None:
    """And holds up no other one."""
    with sshd(tmp_path) as far:
        far.stop()
        words = ("--ssh", ".", "--ssh", "box", "--ssh-config", far.config, "-i", 0.5)
        with Export(*words) as export:
            assert "it is tried again" in export.said
            until(lambda: export.value("halotui_frames_total") > 1, "frames of this box")
            assert 'halotui_up{host="box"} 0.0' in export.scrape()
            assert 'halotui_link_state{host="box",state="lost"} 1.0' in export.scrape()
            far.start()
            until(lambda: 'halotui_up{host="box"} 1.0' in export.scrape(), "the other one")
            assert 'halotui_memory_total_bytes{host="box"}' in export.scrape()
            assert export.stop() == 0
