"""What runs and how it is put back, on real llama-servers.

systemd and containers: the machine need not have them. Control groups are told by a /proc whose ``cgroup``
files are ours, and systemctl, podman, docker, toolbox and distrobox are STAND-INS (``stand_ins``) which
record their command lines and do the thing in a simple way; the servers behind them are real.
"""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stand_ins import CONTAINER_ID, DISTROBOX, TOOLBOX, StandIns, procfs

from binaries import Brood, Server, binary, free_port
from halotui.actions import ActionError
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers import lineage
from halotui.servers.launch import Launch, Runner
from halotui.servers.running import NotOurs, Running, find, inspect, session_free

KEY, TOKEN = "sk-very-secret", "hf_very_secret"
USER_UNIT = "0::/user.slice/user-0.slice/user@0.service/app.slice/llama.service\n"
TERMINAL_UNIT = "0::/user.slice/user-0.slice/user@0.service/app.slice/app-konsole@ab12.service\n"
SYSTEM_UNIT = "0::/system.slice/llama.service\n"
PODMAN = f"0::/user.slice/user-0.slice/user@0.service/user.slice/libpod-{CONTAINER_ID}.scope/container\n"
DOCKER = f"12:memory:/docker/{CONTAINER_ID}\n0::/system.slice/docker-{CONTAINER_ID}.scope\n"


class Named(Brood):
    """A program gets its name a moment after it was started."""

    def start(self, program: Path, *flags: object, **more: Any) -> Server:
        server = super().start(program, *flags, **more)
        while server.poll() is None and server.pid not in self.pids("llama-server"):
            time.sleep(0.01)
        return server


@pytest.fixture
def brood(tmp_path: Path, models: Path) -> Iterator[Brood]:
    with Named(tmp_path, models) as brood:
        yield brood


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return binary(tmp_path / "vulkan")


@pytest.fixture
def hands() -> LocalHands:
    return LocalHands()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    tools = StandIns(tmp_path / "bin")
    monkeypatch.setenv("PATH", tools.path)
    return tools


Look = Callable[..., Any]


@pytest.fixture
def look(hands: LocalHands, tmp_path: Path) -> Look:
    """``await look(server, cgroup)``; without a control group, on the real /proc."""

    async def look(server: Server | int, cgroup: str = "") -> Running:
        pid = server if isinstance(server, int) else server.pid
        host = LocalHost(procfs=procfs(tmp_path / f"proc-{pid}", {pid: cgroup})) if cgroup else LocalHost()
        return await inspect(host, hands, pid, log_dir=tmp_path / "logs")

    return look


async def put_back(hands: LocalHands, running: Running, server: Server, brood: Brood) -> int:
    """Stop it and start what is to put it back; the new pid."""
    back = running.back
    if back.stop:
        done = await hands.run(back.stop, seconds=30)
        assert done.code == 0, done.err
    else:
        assert hands.signal(running.who, signal.SIGTERM)
    await gone(hands, running)
    if back.hands_over:
        done = await hands.run(back.argv, env=back.env, cwd=back.cwd, seconds=30)
        assert done.code == 0, done.err
        told = await hands.run(back.find_pid, env=back.env)
        pid = int(told.out)
    else:
        who = await hands.launch(back.argv, {**back.env, **mark(brood)}, back.cwd, Path(back.log))
        pid = who.pid
    await asyncio.to_thread(serving, server, hands, pid)
    return pid


def mark(brood: Brood) -> dict[str, str]:
    """A client's environment is cut down, the brood's mark with it."""
    return {"HALOTUI_TEST_BROOD": brood.mark}


def serving(server: Server, hands: LocalHands, pid: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return void(server.get_json("/slots"))
        except OSError:
            assert time.monotonic() < deadline and hands.identify(pid), "it does not come back"
            time.sleep(0.05)


def void(_: object) -> None:
    """Only the asking mattered."""


async def gone(hands: LocalHands, running: Running) -> None:
    for _ in range(1500):
        if not hands.alive(running.who):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not stop")


# --- plain


async def test_a_plain_server_is_put_back_exactly(
    brood: Brood, program: Path, look: Look, hands: LocalHands, tmp_path: Path
) -> None:
    env = {"GGML_TEST": "kept", "SSH_CONNECTION": "1 2 3 4", "TERM": "xterm", "HALOTUI_PROFILE": "fast"}
    workdir = tmp_path / "work"
    workdir.mkdir()
    server = brood.start(program, "-np", "2", "-c", "1024", env=env, cwd=workdir).wait_ready()
    before = LocalHost().processes(("llama-server",), ())
    [process] = [found for found in before if found.pid == server.pid]
    running = await look(server)
    assert (running.runner, running.profile, running.facts.url) == (Runner.PLAIN, "fast", server.url)
    assert running.binary == (sys.executable, str(program))
    assert running.arguments[:4] == ("-np", "2", "-c", "1024")
    assert (running.cwd, running.back.log) == (str(workdir), str(server.log_path))
    assert running.env["GGML_TEST"] == "kept" and not {"TERM", "SSH_CONNECTION"} & set(running.env)
    assert running.back.weights_bytes and running.back.name == "fast"
    assert running.notes == ()

    pid = await put_back(hands, running, server, brood)
    after = LocalHost().processes(("llama-server",), ())
    [again] = [found for found in after if found.pid == pid]
    assert (again.argv, again.cwd, again.stderr) == (process.argv, process.cwd, process.stderr)
    assert again.environ == session_free(process.environ) | {"HALOTUI_PROFILE": "fast"}
    assert (await look(pid)).profile == "fast"


async def test_keys_leave_the_command_line(
    brood: Brood, program: Path, look: Look, hands: LocalHands
) -> None:
    server = brood.start(program, "--api-key", KEY, "-np", "1").wait_ready()
    running = await look(server)
    assert running.api_key == running.back.api_key == running.back.env["LLAMA_API_KEY"] == KEY
    shown = (*running.arguments, *running.back.argv, repr(running), repr(running.back), *running.notes)
    assert KEY not in " ".join(shown) and "--api-key" not in shown
    await put_back(hands, running, server, brood)  # asks with the key
    assert (await look(brood.pids("llama-server")[0])).api_key == KEY


async def test_a_key_file_is_read(brood: Brood, program: Path, look: Look, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\nother\n")
    server = brood.start(program, "--api-key-file", "keys")
    running = await look(server)
    assert (running.api_key, "LLAMA_API_KEY" in running.back.env) == (KEY, False)


async def test_a_port_given_by_the_kernel_stays(
    brood: Brood, program: Path, look: Look, hands: LocalHands
) -> None:
    server = brood.start(program, "--port", "0")
    for _ in range(1000):
        if "listening on" in server.log():
            break
        await asyncio.sleep(0.02)
    running = await look(server)
    port = running.facts.url.rpartition(":")[2]
    assert running.back.argv[-2:] == ("--port", port) and port in running.notes[0]
    server.url = running.facts.url
    await put_back(hands, running, server, brood)


@pytest.fixture
def on_a_terminal(brood: Brood, program: Path) -> Iterator[int]:
    """The pid of a server with a controlling terminal."""
    controller, terminal = pty.openpty()
    script = (
        "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    argv = [program, "-m", "absent.gguf", "--port", str(free_port())]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *argv],
        env={**brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    while process.pid not in brood.pids("llama-server"):
        time.sleep(0.02)
    yield process.pid
    process.kill()
    process.wait()
    os.close(controller)
    os.close(terminal)


async def test_a_terminal_is_not_put_back(on_a_terminal: int, look: Look, tmp_path: Path) -> None:
    running = await look(on_a_terminal)
    assert running.back.log.startswith(str(tmp_path / "logs"))
    assert any("terminal" in note and running.back.log in note for note in running.notes)
    # In a unit that is its terminal's, it is no service: systemd is not even asked.
    assert (await look(on_a_terminal, TERMINAL_UNIT)).runner is Runner.PLAIN


async def test_a_model_in_a_directory_of_any_bytes(
    brood: Brood, program: Path, look: Look, models: Path, tmp_path: Path
) -> None:
    """What is shown of its path is harmless, and not where it lies."""
    place = tmp_path / os.fsdecode(b"mod\xffels")
    place.mkdir()
    model = shutil.copy(models / "tiny.gguf", place)
    running = await look(brood.start(program, "-m", model).wait_ready().pid)
    assert running.back.model == str(model)
    assert running.back.weights_bytes


async def test_a_directory_that_is_gone(brood: Brood, program: Path, look: Look, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    workdir.mkdir()
    server = brood.start(program, cwd=workdir)
    shutil.rmtree(workdir)
    running = await look(server)
    assert running.back.cwd == "/" and str(workdir) in running.notes[0]


async def test_a_program_that_was_replaced(brood: Brood, look: Look, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    shutil.copy(shutil.which("sleep") or "", program)
    server = _sleeper(brood, program)
    running = await look(server)
    assert not [note for note in running.notes if "replaced" in note]
    program.unlink()
    with pytest.raises(NotOurs, match="program is gone"):
        await look(server)
    shutil.copy(shutil.which("sleep") or "", program)
    running = await look(server)
    assert [note for note in running.notes if "replaced" in note]


def _sleeper(brood: Brood, program: Path) -> int:
    """Called llama-server, and a program of its own: no interpreter that stays."""
    process = subprocess.Popen([program, "600"], env=brood.env, start_new_session=True)
    while process.pid not in brood.pids("llama-server"):
        time.sleep(0.01)
    return process.pid


# --- whose it is


async def test_a_process_that_is_not_there(look: Look) -> None:
    with pytest.raises(NotOurs, match="there is no process 4194305"):
        await look(4194305)


async def test_a_process_that_is_no_server(look: Look) -> None:
    with pytest.raises(NotOurs, match=r"not llama-server"):
        await look(os.getpid())


async def test_another_users(
    brood: Brood, program: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = brood.start(program)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(NotOurs, match="is of user"):
        await look(server)


PARENT = "import subprocess,sys; subprocess.run(sys.argv[1:], check=False)"


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        ("llama-server", "router with pid"),
        ("llama-swap", "belongs to llama-swap"),
        ("ollama", "belongs to Ollama"),
        ("lemonade-server", "belongs to Lemonade"),
        ("lms", "belongs to LM Studio"),
        ("koboldcpp", "belongs to KoboldCpp"),
        ("runsv", "belongs to a supervisor"),
        ("screen", ""),
        ("lmsensors", ""),
    ],
)
async def test_one_that_somebody_else_looks_after(
    brood: Brood, program: Path, look: Look, tmp_path: Path, manager: str, said: str
) -> None:
    with started_by(manager, brood, program, tmp_path) as child:
        if not said:
            assert (await look(child)).runner is Runner.PLAIN
        else:
            with pytest.raises(NotOurs, match=said):
                await look(child)


@contextmanager
def started_by(manager: str, brood: Brood, program: Path, directory: Path) -> Iterator[int]:
    """The pid of a server whose parent is called so."""
    parent = directory / "managers" / manager
    parent.parent.mkdir()
    parent.write_text(f"#!{sys.executable}\n{PARENT}\n")
    parent.chmod(0o755)
    process = subprocess.Popen(
        [parent, program, "-m", directory / "absent", "--port", str(free_port())],
        env={**brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (children := [pid for pid in brood.pids("llama-server") if pid != process.pid]):
            time.sleep(0.02)
        yield children[0]
    finally:
        brood.close()
        process.wait()


# --- systemd: a stand-in


def as_unit(tools: StandIns, server: Server, name: str = "llama.service", **properties: str) -> None:
    process = next(p for p in LocalHost().processes(("llama-server",), ()) if p.pid == server.pid)
    tools.unit(name, process.argv, process.environ, server.log_path, server.pid, **properties)


async def test_a_users_unit(
    brood: Brood, program: Path, look: Look, hands: LocalHands, tools: StandIns
) -> None:
    server = brood.start(program).wait_ready()
    as_unit(tools, server, Restart="always")
    running = await look(server, USER_UNIT)
    back = running.back
    assert (running.runner, running.unit) == (Runner.SYSTEMD, "llama.service")
    assert back.argv == ("systemctl", "--user", "start", "llama.service") and back.hands_over
    assert tools.calls() == [
        [
            *("systemctl", "--user", "show", "llama.service"),
            "--property=MainPID,LoadState,FragmentPath,Restart,Transient",
        ]
    ]
    await put_back(hands, running, server, brood)
    assert ["systemctl", "--user", "stop", "llama.service"] in tools.calls()


@pytest.mark.parametrize(
    ("main", "transient", "plain"), [(1, "no", True), (0, "yes", True), (0, "no", False)]
)
async def test_a_unit_that_is_not_the_server(
    brood: Brood, program: Path, look: Look, tools: StandIns, main: int, transient: str, plain: bool
) -> None:
    """A terminal's or a desktop's, whose stop would take all of it along; 0: nobody knows the main one."""
    server = brood.start(program)
    as_unit(tools, server, "app-konsole@ab12.service", MainPID=str(main), Transient=transient)
    running = await look(server, TERMINAL_UNIT)
    assert (running.runner is Runner.PLAIN) is plain
    assert [call for call in tools.calls() if "stop" in call] == []


async def test_what_we_launched_ourselves_is_no_unit(
    brood: Brood, program: Path, look: Look, tools: StandIns
) -> None:
    server = brood.start(program, env={"HALOTUI_LAUNCH": "a1"})
    assert (await look(server, TERMINAL_UNIT)).runner is Runner.PLAIN
    assert tools.calls() == []


async def test_units_that_are_refused(brood: Brood, program: Path, look: Look, tools: StandIns) -> None:
    server, other, third = (brood.start(program) for _ in range(3))
    as_unit(tools, server, Transient="yes", Restart="always")
    with pytest.raises(NotOurs, match="transient"):
        await look(server, USER_UNIT)
    as_unit(tools, other)
    with pytest.raises(NotOurs, match="needs root") as refused:
        await look(other, SYSTEM_UNIT)
    assert refused.value.hint == "sudo systemctl stop llama.service"
    with pytest.raises(NotOurs, match=r"does not know nothing\.service"):
        await look(third, USER_UNIT.replace("llama.service", "nothing.service"))


# --- containers: stand-ins


def as_container(tools: StandIns, server: Server, name: str = "llama", **more: Any) -> None:
    process = next(p for p in LocalHost().processes(("llama-server",), ()) if p.pid == server.pid)
    more.setdefault("pid", server.pid)
    tools.container(name, process.argv, process.environ, server.log_path, **more)


@pytest.mark.parametrize(("cgroup", "tool"), [(PODMAN, "podman"), (DOCKER, "docker")])
async def test_a_container_that_stays(
    brood: Brood, program: Path, look: Look, hands: LocalHands, tools: StandIns, cgroup: str, tool: str
) -> None:
    server = brood.start(program).wait_ready()
    as_container(tools, server)
    running = await look(server, cgroup)
    assert (running.runner, running.container, running.image) == (tool, "llama", "localhost/llama:vulkan")
    assert running.back.argv == (tool, "start", "llama") and running.back.hands_over
    assert tools.calls() == [[tool, "inspect", "--type", "container", CONTAINER_ID]]
    await put_back(hands, running, server, brood)
    assert [tool, "stop", "-t", "15", "llama"] in tools.calls()


async def test_a_container_that_is_removed_with_its_server_is_made_again(
    brood: Brood, program: Path, look: Look, hands: LocalHands, tools: StandIns
) -> None:
    env = {"HF_TOKEN": TOKEN}
    server = brood.start(program, env=env).wait_ready()
    process = next(p for p in LocalHost().processes(("llama-server",), ()) if p.pid == server.pid)
    command = [
        *(
            "podman",
            "run",
            "--rm",
            "--name=llama",
            "--env=HF_TOKEN",
            f"--env=HALOTUI_TEST_BROOD={brood.mark}",
        ),
        *(f"--entrypoint={program}", "server", *process.argv[2:]),
    ]
    as_container(tools, server, rm=True, command=command)
    running = await look(server, PODMAN)
    back = running.back
    assert back.argv == tuple(command) and not back.hands_over
    assert back.env["HF_TOKEN"] == TOKEN and TOKEN not in repr(back)
    pid = await put_back(hands, running, server, brood)
    [again] = [p for p in LocalHost().processes(("llama-server",), ()) if p.pid == pid]
    assert again.environ["HF_TOKEN"] == TOKEN


async def test_containers_that_are_refused(brood: Brood, program: Path, look: Look, tools: StandIns) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        (DOCKER, {"rm": True}, "removed when it stops"),
        (PODMAN, {"rm": True, "command": ["podman", "run", "--rm", f"--env=HF_TOKEN={TOKEN}", "x"]}, "a key"),
        (PODMAN, {"rm": True, "command": ["podman", "run", "--rm", "-v", "./m:/m", "x"]}, "relative"),
        (PODMAN, {"pid": os.getpid() + 10_000_000}, "podman exec in llama"),
        ("0::/kubepods.slice/crio-1.scope\n", {}, "container of kubepods"),
    ]
    for cgroup, more, said in cases:
        server = brood.start(program)
        as_container(tools, server, **more)
        with pytest.raises(NotOurs, match=said) as refused:
            await look(server, cgroup)
        assert TOKEN not in str(refused.value.args) + refused.value.hint


async def test_an_engine_that_does_not_answer(
    brood: Brood, program: Path, look: Look, tools: StandIns
) -> None:
    with pytest.raises(NotOurs, match="no such container"):
        await look(brood.start(program), PODMAN)
    (tools.directory / "podman").write_text(f"#!{shutil.which('sh')}\necho '[{{}}]'\n")
    with pytest.raises(NotOurs, match="not understood"):
        await look(brood.start(program), PODMAN)
    (tools.directory / "podman").unlink()
    with pytest.raises(NotOurs, match="cannot be asked"):
        await look(brood.start(program), PODMAN)


@pytest.mark.parametrize(
    ("labels", "enter"),
    [
        (TOOLBOX, ("toolbox", "run", "--container", "rocm-7")),
        (DISTROBOX, ("distrobox", "enter", "--name", "rocm-7", "--")),
    ],
)
async def test_a_server_in_a_box(
    brood: Brood,
    program: Path,
    look: Look,
    hands: LocalHands,
    tools: StandIns,
    labels: dict[str, str],
    enter: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HSA_TEST", "1")  # that our login has it too does not bring it into the box
    env = {"HSA_TEST": "1", "OF_THE_IMAGE": "x", "TERM": "xterm"}
    server = brood.start(program, env=env).wait_ready()
    as_container(tools, server, "rocm-7", labels=labels, pid=1, set_env={"OF_THE_IMAGE": "x"})
    running = await look(server, PODMAN)
    assert (running.container, running.runner) == ("rocm-7", enter[0])
    assert running.env["HSA_TEST"] == "1" and not {"OF_THE_IMAGE", "TERM", "HOME"} & set(running.env)
    at = len(enter)
    words = running.back.argv
    assert words[: at + 1] == (*enter, "env") and "HSA_TEST=1" in words
    assert words[-len(running.arguments) :] == running.arguments
    assert (running.back.hands_over, running.back.stop) == (False, ())
    await put_back(hands, running, server, brood)


async def test_a_box_with_a_key_is_entered_through_its_engine(
    brood: Brood, program: Path, look: Look, hands: LocalHands, tools: StandIns
) -> None:
    """toolbox and distrobox can only hand it over where everybody reads it."""
    server = brood.start(program, "--api-key", KEY).wait_ready()
    as_container(tools, server, "rocm-7", labels=TOOLBOX, pid=1)
    running = await look(server, PODMAN)
    assert running.back.argv[:2] == ("podman", "exec") and "--env=LLAMA_API_KEY" in running.back.argv
    assert KEY not in " ".join(running.back.argv) and running.back.env["LLAMA_API_KEY"] == KEY
    await put_back(hands, running, server, brood)


async def test_a_published_port(brood: Brood, program: Path, look: Look, tools: StandIns) -> None:
    server = brood.start(program)
    ports = {f"{server.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]}
    as_container(tools, server, ports=ports)
    assert (await look(server, PODMAN)).back.url == "http://127.0.0.1:18080"


# --- which one


async def test_a_server_is_found_by_pid_and_by_url(brood: Brood, program: Path, hands: LocalHands) -> None:
    one, two = (brood.start(program).wait_ready() for _ in range(2))
    host = LocalHost()
    for server in (one, two):
        for named in (str(server.pid), server.url, server.url.replace("127.0.0.1", "localhost")):
            assert await find(host, hands, named) == server.pid
    with pytest.raises(ActionError, match="no server of this box answers at"):
        await find(host, hands, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ActionError, match="no process 4194305"):
        await find(host, hands, "4194305")


async def test_the_only_server_need_not_be_named(
    brood: Brood, program: Path, hands: LocalHands, tmp_path: Path
) -> None:
    def only(name: str, *servers: Server) -> LocalHost:
        root = procfs(tmp_path / name, {server.pid: "0::/\n" for server in servers})
        for entry in root.iterdir():
            if entry.name.isdecimal() and int(entry.name) not in {server.pid for server in servers}:
                entry.unlink()
        return LocalHost(procfs=root)

    one, two = (brood.start(program).wait_ready() for _ in range(2))
    assert await find(only("one", one), hands) == one.pid
    with pytest.raises(ActionError, match="2 servers run") as refused:
        await find(only("two", one, two), hands)
    assert one.url in refused.value.hint and two.url in refused.value.hint
    with pytest.raises(ActionError, match="no server runs here"):
        await find(only("none"), hands)


def test_what_a_session_leaves_behind() -> None:
    session = "TERM SSH_TTY TMUX TMUX_PANE STY SHLVL _ OLDPWD PWD LS_COLORS XDG_SESSION_ID HALOTUI_LAUNCH"
    needed = "PATH HOME LD_LIBRARY_PATH XDG_RUNTIME_DIR HSA_X LLAMA_X HIP_X RADV_X VIRTUAL_ENV TERMS"
    environ = dict.fromkeys((*session.split(), *needed.split()), "x")
    assert set(session_free(environ)) == set(needed.split())


def test_shells() -> None:
    assert all(lineage.Kin(1, name, ()).is_shell for name in ("sh", "bash", "zsh", "fish", "-bash"))
    assert not any(lineage.Kin(1, name, ()).is_shell for name in ("ssh", "emacs", "konsole", "bashtop"))


def test_a_launch_says_no_key() -> None:
    assert KEY not in repr(Launch(name="x", argv=("x",), env={"LLAMA_API_KEY": KEY}, url="u", api_key=KEY))
