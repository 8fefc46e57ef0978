"""Odd servers and odd lookers-on: whatever they do, a server serves in the end."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from msgspec.structs import replace
from stage import HASTY, Stage

from binaries import free_port
from halotui.actions import Step
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers import stopping
from halotui.servers.launch import Launch
from halotui.servers.stopping import Patience


def environ(pid: int) -> set[bytes]:
    return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def elsewhere(launch: Launch, port: int) -> Launch:
    """The same at another port."""
    return replace(launch, argv=(*launch.argv[:-1], str(port)), url=f"http://127.0.0.1:{port}")


def test_one_that_breaks_down_at_once_is_not_kept(stage: Stage) -> None:
    stage.serve("-np", "2")
    after = stage.launch("-np", "1", env={**stage.brood.env, "HALOTUI_TEST_DIE_AFTER": "1"})
    outcome = stage.worker(stage.plan(after, stage.before()).id, patience=Patience(watch=3)).end()
    assert outcome.step is Step.ROLLED_BACK and "it served, then it ended with code 1" in outcome.reason
    assert stage.serving()["total_slots"] == 2
    assert stage.only() == outcome.pid


def test_a_script_around_the_server(stage: Stage, tmp_path: Path) -> None:
    """The server is what is kept, since it is what can be found, stopped and undone."""
    script = tmp_path / "serve.sh"
    script.write_text(f'#!/bin/sh\n{stage.binary} "$@"\n')
    script.chmod(0o755)
    stage.serve("-np", "2")
    after = stage.launch("-np", "1")
    after = replace(after, argv=(str(script), *after.argv[1:]))
    outcome = stage.worker(stage.plan(after, stage.before()).id).end()
    assert outcome.step is Step.KEPT, outcome
    assert stage.only() == outcome.pid
    last = stage.book.last()
    assert last and last.new and last.new.pid == outcome.pid
    # A script that is taken down on the way back leaves no server behind.
    again = stage.launch("-np", "3", env={**stage.brood.env, "HALOTUI_TEST_SLOTS": "4"})
    again = replace(again, argv=(str(script), *again.argv[1:]), expect=replace(again.expect, slots=3))
    outcome = stage.worker(stage.plan(again, stage.standing(outcome.pid, after)).id).end()
    assert outcome.step is Step.ROLLED_BACK, outcome
    assert stage.serving()["total_slots"] == 1
    assert stage.only() == outcome.pid


def test_an_environment_of_any_bytes_comes_back(stage: Stage) -> None:
    odd = {"ODD": os.fsdecode(b"a\xff\xfe b"), "LINES_": "one\ntwo", "LONG": "x" * 100_000}
    stage.serve("-np", "2", **odd)
    assert stage.first
    was = environ(stage.first.pid)
    outcome = stage.worker(stage.plan(stage.launch("--no-such-flag"), stage.before(odd)).id).end()
    assert outcome.step is Step.ROLLED_BACK and outcome.pid, outcome
    now = environ(outcome.pid)
    assert was <= now and {word.split(b"=")[0] for word in now - was} == {b"HALOTUI_LAUNCH"}


def test_a_socket_in_the_file_system(stage: Stage, tmp_path: Path) -> None:
    """The server leaves it behind, and would not start on it."""
    place = tmp_path / "llama.sock"
    url = f"unix:{place}"
    first = stage.brood.start(stage.binary, "-np", "2", "--host", str(place))
    stage.first = first
    hands = LocalHands()

    def moved(launch: Launch) -> Launch:
        argv = tuple(str(place) if word == "127.0.0.1" else word for word in launch.argv)
        return replace(launch, argv=argv, url=url)

    while not place.exists():
        assert first.poll() is None
    before = stage.before()
    before = replace(before, launch=moved(before.launch))
    outcome = stage.worker(stage.plan(moved(stage.launch("-np", "1")), before).id).end()
    assert outcome.step is Step.KEPT, outcome
    before = replace(stage.standing(outcome.pid, moved(stage.launch("-np", "1"))))
    outcome = stage.worker(stage.plan(moved(stage.launch("--no-such-flag")), before).id).end()
    assert outcome.step is Step.ROLLED_BACK, outcome
    assert outcome.pid and hands.identify(outcome.pid)
    assert stage.servers() == [outcome.pid]


async def test_no_file_is_taken_for_a_dead_socket(tmp_path: Path) -> None:
    """To the kernel a file refuses a connection like a socket that nobody listens at."""
    hands, file, dead = LocalHands(), tmp_path / "notes.sock", tmp_path / "dead.sock"
    file.write_text("mine")
    assert not await stopping.port_free(LocalHost(), hands, f"unix:{file}", 0)
    assert file.read_text() == "mine"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
        listener.listen()
        assert not await stopping.port_free(LocalHost(), hands, f"unix:{dead}", 0)
    assert await stopping.port_free(LocalHost(), hands, f"unix:{dead}", 0)
    assert not dead.exists()
    assert await stopping.port_free(LocalHost(), hands, f"unix:{tmp_path}/never.sock", 0)


class Stranger(BaseHTTPRequestHandler):
    """Serves, at a port that we wanted."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_the_new_port_belongs_to_somebody_who_serves(stage: Stage) -> None:
    """What ran comes back to its own port: that another one is served is no comfort."""
    stage.serve("-np", "2")
    with HTTPServer(("127.0.0.1", 0), Stranger) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            after = elsewhere(stage.launch("-np", "1"), other.server_port)
            outcome = stage.worker(stage.plan(after, stage.before()).id, patience=HASTY).end()
        finally:
            other.shutdown()
            thread.join()
    assert outcome.step is Step.ROLLED_BACK and "another process has taken" in outcome.reason, outcome
    assert stage.serving()["total_slots"] == 2
    assert stage.only() == outcome.pid


def test_a_plan_that_was_overtaken_starts_no_second_server(stage: Stage) -> None:
    """Both were planned for the same server; the first one has moved it to another port."""
    stage.serve("-np", "2")
    port = free_port()
    first = stage.plan(elsewhere(stage.launch("-np", "1"), port), stage.before())
    second = stage.plan(stage.launch("-np", "4"), stage.before())
    assert stage.worker(first.id).end().step is Step.KEPT
    outcome = stage.worker(second.id).end()
    assert outcome.step is Step.REFUSED and outcome.pid is None, outcome
    assert len(stage.servers()) == 1


def test_an_unknown_key_is_no_reason_to_go_back(stage: Stage) -> None:
    stage.serve("-np", "2")
    after = stage.launch("-np", "1", env={**stage.brood.env, "LLAMA_API_KEY": "only-the-unit-knows"})
    outcome = stage.worker(stage.plan(after, stage.before()).id).end()
    assert outcome.step is Step.KEPT and "key is not known" in " ".join(outcome.notes), outcome


def test_a_looker_on_that_hangs_does_not_hold_it_up(stage: Stage) -> None:
    """As a screen whose terminal takes nothing more: the pipe is full, and open."""
    stage.serve("-np", "2")
    plan = stage.plan(stage.launch("-np", "1"), stage.before())
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"x" * fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096))
        argv = (sys.executable, "-m", "halotui.servers.worker", "--state", stage.state, plan.id)
        worker = subprocess.Popen(
            argv, env=stage.brood.env, stdin=subprocess.DEVNULL, stdout=write_end, start_new_session=True
        )
        try:
            assert worker.wait(30) == 0
        finally:
            worker.kill()
    finally:
        os.close(read_end)
        os.close(write_end)
    last = stage.book.last()
    assert last and last.outcome and last.outcome.step is Step.KEPT
    assert stage.serving()["total_slots"] == 1
    stage.only()
