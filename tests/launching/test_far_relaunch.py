"""Servers launched and relaunched on a far box: real llama-servers, a real sshd, and links that die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from office import Office, done, failed, relaunch
from stage import Worker

from binaries import Brood, Server, living
from halotui.actions import ActionError, Ask, Kind, Step
from halotui.hosts.ssh import Far, SshHost
from halotui.hosts.ssh_hands import SshHands
from halotui.servers.desk import LocalDesk
from halotui.servers.sight import session_free
from halotui.servers.stopping import Patience
from sshd import Sshd, sshd

HEART = 2.0
PATIENT = Patience(watch=0.1, heart=HEART)
CALM = Patience(watch=0.1)
BOUND = 20.0  # seconds, on a machine that others use too, for what takes three
KEY = "sk-never-to-be-seen"


class FarOffice(Office):
    """An office whose desks are here and whose servers are there."""

    def __init__(self, brood: Brood, models: Path, box: Sshd) -> None:
        super().__init__(brood, models)
        self.box = box
        self.box_state = box.config.parents[1] / "state" / "halotui"
        self.far = Far(target="box", ssh_config=box.config, sysfs=brood.directory / "sys")
        self._hosts: list[SshHost] = []

    async def far_desk(self, patience: Patience = CALM) -> LocalDesk:
        host = SshHost(self.far)
        self._hosts.append(host)
        await host.open()
        desk = LocalDesk(
            host,
            SshHands(host),
            state=self.state,
            config_file=self.config_file,
            profiles=lambda: self.profiles,
            patience=patience,
        )
        self._open.append(desk)
        return desk

    def worker(self, *words: str, dies: str = "", patience: Patience = PATIENT) -> Worker:
        ssh = ("--ssh", "box", "--ssh-config", str(self.box.config))
        return Worker(self.state, self.brood.env, *ssh, *words, dies=dies, patience=patience)

    def off(self) -> None:
        """The link is cut, and stays so."""
        self.box.stop_listening()
        self.box.cut()

    async def close(self) -> None:
        await super().close()
        for host in self._hosts:
            await host.close()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    place = tmp_path_factory.mktemp("box")
    with sshd(place, options=(f"SetEnv SHLVL=5 XDG_STATE_HOME={place}/state",)) as box:
        yield box


@pytest_asyncio.fixture
async def office(brood: Brood, models: Path, box: Sshd) -> AsyncIterator[FarOffice]:
    office = FarOffice(brood, models, box)
    yield office
    await office.close()
    if box._daemon is None or box._daemon.poll() is not None:
        box.start()


def environ(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def detached(pid: int, cwd: Path, log: Path) -> bool:
    place = Path(f"/proc/{pid}")
    ends = [(place / name).readlink() for name in ("cwd", "fd/0", "fd/1", "fd/2")]
    assert ends == [cwd, Path(os.devnull), log, log]
    return os.getsid(pid) == pid and log.stat().st_mode & 0o777 == 0o600


def command_lines(pids: list[int]) -> bytes:
    return b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


def alone(office: FarOffice) -> int:
    """The pid of the one server; nothing else of ours is left there."""
    pid = office.only()
    left = {other: name for other, name in living(office.brood.mark).items() if other != pid}
    assert not {name for name in left.values() if name in ("sh", "sleep")}, left
    return pid


async def asleep(pid: int) -> None:
    deadline = time.monotonic() + BOUND
    while b") T" not in Path(f"/proc/{pid}/stat").read_bytes():  # noqa: ASYNC240
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def until_served(server: Server, office: FarOffice, was: int) -> int:
    """The pid of another one that serves in its place."""
    deadline = time.monotonic() + BOUND
    while True:
        pids = [pid for pid in office.brood.pids("llama-server") if pid != was]
        try:
            await asyncio.to_thread(server.get_json, "/slots")
            if pids:
                return pids[0]
        except OSError:
            pass
        assert time.monotonic() < deadline, "nobody serves"
        await asyncio.sleep(0.1)


async def test_a_far_desk_does_all_that_one_here_does(office: FarOffice, tmp_path: Path) -> None:
    server = office.serve("-np", "2", env={"LLAMA_API_KEY": KEY, "ODD": "a 'b'\n$c"}, cwd=tmp_path)
    was = session_free(environ(server.pid))
    desk = await office.far_desk()
    [row] = [row for row in await desk.servers() if row.pid == server.pid]
    assert (row.url, row.backend, row.runner, row.refusal) == (server.url, "vulkan", "plain", "")

    outcome = await done(desk, await desk.prepare(relaunch(server, {"np": 1}, measure=True)))
    assert outcome.step is Step.KEPT and outcome.pid == alone(office), outcome
    assert len(server.get_json("/slots")) == 1
    assert outcome.speed_after and outcome.speed_after.generation_tokens_per_second
    now = environ(outcome.pid)
    mark = now.pop("HALOTUI_LAUNCH")
    assert mark == outcome.id and now == was
    assert detached(outcome.pid, tmp_path, Path(outcome.log_path))
    assert outcome.log_path.startswith(str(office.box_state))
    saved = await desk.save(str(outcome.pid), "mine")
    assert str(office.config_file) in saved and KEY not in office.config_file.read_text()

    undone = await done(desk, await desk.prepare(Ask(kind=Kind.UNDO)))
    assert undone.step is Step.KEPT and len(server.get_json("/slots")) == 2
    stopped = await done(desk, await desk.prepare(Ask(kind=Kind.STOP, server=str(undone.pid))))
    assert stopped.step is Step.STOPPED_FOR_GOOD and office.brood.pids("llama-server") == []
    again = await done(desk, await desk.prepare(Ask(kind=Kind.START)))
    assert again.step is Step.KEPT and again.pid == alone(office)
    assert len(server.get_json("/slots")) == 2


async def test_one_that_is_not_as_asked_is_rolled_back(office: FarOffice) -> None:
    server = office.serve("-np", "2")
    desk = await office.far_desk()
    assert failed(await desk.prepare(relaunch(server, extra=("--no-such-flag",))))
    office.profile("odd", flags={"np": 3, "t": 1}, env={"HALOTUI_TEST_SLOTS": "4"})
    outcome = await done(desk, await desk.prepare(relaunch(server, profile="odd")))
    assert outcome.step is Step.ROLLED_BACK and "asked for 3 slots" in outcome.reason, outcome
    assert outcome.pid == alone(office) and len(server.get_json("/slots")) == 2
    assert outcome.log_tail


async def test_a_worker_and_its_link_that_die_after_the_stop(office: FarOffice) -> None:
    """The box starts the old one again by itself; who comes back finds it, and may go on from there."""
    server = office.serve("-np", "2", env={"LLAMA_API_KEY": KEY})
    was = session_free(environ(server.pid))
    desk = await office.far_desk(PATIENT)
    proposal = await desk.prepare(relaunch(server, {"np": 1}))
    office.worker(proposal.id, dies="stopped").process.wait(BOUND)
    office.off()
    assert not office.brood.pids("llama-server")
    seen = command_lines(guards(proposal.id))
    assert seen and KEY.encode() not in seen
    pid = await until_served(server, office, server.pid)
    assert len(server.get_json("/slots")) == 2
    now = environ(pid)
    assert now.pop("HALOTUI_LAUNCH") == f"{proposal.id}-back" and now == was

    office.box.start()
    office.profiles = {}
    desk = await office.far_desk(CALM)
    standing = await desk.standing()
    assert standing and standing.step is Step.STOPPED and not standing.running
    finished = await done(desk, await desk.prepare(Ask(kind=Kind.FINISH)))
    assert finished.step is Step.KEPT and finished.pid == alone(office) != pid
    assert len(server.get_json("/slots")) == 1
    assert await desk.standing() is None and not guards(proposal.id)


async def test_a_new_one_that_lives_is_left_alone(office: FarOffice) -> None:
    server = office.serve("-np", "2")
    desk = await office.far_desk(PATIENT)
    proposal = await desk.prepare(relaunch(server, {"np": 1}))
    office.worker(proposal.id, dies="launched").process.wait(BOUND)
    new = await until_served(server, office, server.pid)
    await asyncio.sleep(HEART + 2)
    assert office.only() == new and len(server.get_json("/slots")) == 1
    outcome = office.worker("--undo").end()
    assert outcome.step is Step.ROLLED_BACK and outcome.pid == alone(office) != new
    assert len(server.get_json("/slots")) == 2 and not guards(proposal.id)


async def test_a_laptop_that_sleeps_longer_than_the_box_waits(office: FarOffice) -> None:
    """It wakes up to a link that is cut, and to a server that was put back: two would be one too many."""
    server = office.serve("-np", "2")
    desk = await office.far_desk(PATIENT)
    proposal = await desk.prepare(relaunch(server, {"np": 1}))
    worker = office.worker(proposal.id, dies="stopped:sleeps")
    await asleep(worker.process.pid)
    office.off()
    pid = await until_served(server, office, server.pid)
    office.box.start()
    worker.process.send_signal(signal.SIGCONT)
    outcome = worker.end()
    assert outcome.step is Step.ROLLED_BACK and outcome.pid == pid == alone(office), outcome
    assert "the box has put back" in outcome.reason
    assert worker.process.returncode == 0 and not guards(proposal.id)


async def test_a_link_that_comes_back_in_time(office: FarOffice) -> None:
    server = office.serve("-np", "2")
    desk = await office.far_desk()
    proposal = await desk.prepare(relaunch(server, {"np": 1}))
    worker = office.worker(proposal.id, patience=CALM)
    worker.wait_for(lambda progress: progress.step is Step.STOPPING)
    office.off()
    await asyncio.sleep(0.5)
    office.box.start()
    worker.wait_for(lambda progress: progress.step in (Step.LOADING, Step.VERIFYING))
    office.box.cut()
    outcome = worker.end()
    assert outcome.step is Step.KEPT and outcome.pid == alone(office), outcome
    assert len(server.get_json("/slots")) == 1 and not guards(proposal.id)


async def test_where_nobody_is_let_in_nothing_is_touched(office: FarOffice) -> None:
    server = office.serve("-np", "2")
    desk = await office.far_desk()
    proposal = await desk.prepare(relaunch(server, {"np": 1}))
    office.box.refuse_key()
    try:
        with pytest.raises(ActionError, match="a login of its own to box"):
            await done(desk, proposal)
    finally:
        office.box.accept_key()
    assert office.only() == server.pid and await desk.standing() is None
    office.box.cut()
    with pytest.raises(ActionError, match="cannot be reached"):
        await desk.prepare(relaunch(server, {"np": 1}))


def guards(id_: str) -> list[int]:
    """What watches over that undertaking."""
    found = []
    wanted = f"HALOTUI_LAUNCH={id_}-guard".encode()
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
    return found
