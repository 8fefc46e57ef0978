"""All engines, families of processes, units, containers: real processes, and what is found of them."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from household import Household
from hypothesis import example, given
from hypothesis import strategies as st

from binaries import free_port
from halotui.collectors import containers
from halotui.collectors.discovery import ENGINES, find
from halotui.collectors.engine_process import engine_of, facts
from halotui.hosts import Process
from halotui.hosts.local import LocalHost
from halotui.model import LogPlace, ServerProcess
from halotui.safe import clean

ID, OTHER = "3d" * 32, "4e" * 32
PODMAN = f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container\n"
DOCKER = f"0::/system.slice/docker-{ID}.scope\n"
USER_UNIT = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/llama.service\n"
SYSTEM_UNIT = "0::/system.slice/ollama.service\n"
TERMINAL = "0::/user.slice/user-1000.slice/session-3.scope\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with Household(tmp_path) as house:
        yield house


def told(name: str, *, pid: int = 0, ports: dict[str, Any] | None = None) -> bytes:
    """As ``podman inspect`` answers."""
    answer = {
        "Id": ID,
        "Name": f"/{name}",
        "State": {"Pid": pid},
        "HostConfig": {"PortBindings": {}},
        "NetworkSettings": {"Ports": ports or {}},
    }
    return json.dumps([answer]).encode()


class Tools:
    """``podman`` and ``docker`` that record how often they are called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        for name in ("podman", "docker"):
            script = directory / name
            script.write_text(
                f'#!/bin/sh\necho "{name} $*" >> {directory}/calls\n'
                f"[ -f {directory}/slow ] && sleep 30\ncat {directory}/answer || exit 125\n"
            )
            script.chmod(0o755)

    def answer(self, answer: bytes) -> None:
        (self.directory / "answer").write_bytes(answer)

    @property
    def calls(self) -> list[str]:
        file = self.directory / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tools.directory}{os.pathsep}{os.environ['PATH']}")
    return tools


def by_pid(host: LocalHost, *urls: str) -> dict[int, ServerProcess]:
    return {server.pid: server for server in find(host, urls)}


@pytest.mark.parametrize(
    ("name", "arguments", "env", "engine", "scheme"),
    [
        ("llama-server", ("-m", "a.gguf"), {}, "llama.cpp", "http"),
        ("llama-server-vulkan", ("-m", "a.gguf"), {}, "llama.cpp", "http"),
        ("llama-swap", ("-config", "c.yaml"), {}, "llama-swap", "http"),
        ("rpc-server", (), {}, "rpc-server", "rpc"),
        ("ggml-rpc-server", ("-c",), {}, "rpc-server", "rpc"),
        ("ollama", ("serve",), {}, "ollama", "http"),
        ("vllm", ("serve", "org/model"), {}, "vllm", "http"),
        ("lemond", (), {}, "lemonade", "http"),
        ("lemonade-router", (), {}, "lemonade", "http"),
        ("lemonade-server", ("serve",), {}, "lemonade", "http"),
    ],
)
def test_every_engine_is_found_where_it_listens(
    house: Household, name: str, arguments: tuple[str, ...], env: dict[str, str], engine: str, scheme: str
) -> None:
    one = house.start(name, *arguments, env=env)
    [server] = find(house.host({one.pid: TERMINAL}), ())
    assert (server.engine, server.url) == (engine, f"{scheme}://127.0.0.1:{one.ports[0]}")
    assert server.pid == one.pid and server.started_time and server.behind is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ollama", ("run", "qwen3")),
        ("ollama", ("runner", "--model", "/blobs/sha256-1", "--port", "4000")),
        ("vllm", ("bench", "serve-not")),
        ("lemonade-server", ("list",)),
        ("lm-studio", ("--type=renderer",)),
        ("lemonade", ("status",)),
    ],
)
def test_a_client_or_a_part_of_an_engine_is_no_server(
    house: Household, name: str, arguments: tuple[str, ...]
) -> None:
    one = house.start(name, *arguments)
    assert find(house.host({one.pid: TERMINAL}), ()) == []


@pytest.mark.parametrize(
    "arguments",
    [("-m", "vllm.entrypoints.openai.api_server"), ("-u", "-W", "ignore", "{vllm}", "serve", "m")],
)
def test_a_python_that_runs_vllm(house: Household, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    package = tmp_path / "package/vllm/entrypoints/openai"
    package.mkdir(parents=True)
    script = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(flush=True); sys.stdin.read()"
    for place in (package / "api_server.py", tmp_path / "vllm"):
        place.write_text(script)
    words = [word.format(vllm=tmp_path / "vllm") for word in arguments]
    python = house.run([sys.executable, *words], env={"PYTHONPATH": str(tmp_path / "package")})
    assert python.stdout and python.stdout.readline()
    other = house.run([sys.executable, "-c", "print(flush=True); input()", "vllm", "serve"])
    assert other.stdout and other.stdout.readline()
    [server] = find(house.host({python.pid: TERMINAL, other.pid: TERMINAL}), ())
    assert (server.pid, server.engine) == (python.pid, "vllm")


@pytest.mark.parametrize(
    ("line", "environ", "url"),
    [
        ("ollama serve", {}, "http://127.0.0.1:11434"),
        ("ollama serve", {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),
        ("ollama serve", {"OLLAMA_HOST": ":12000"}, "http://127.0.0.1:12000"),
        ("ollama serve", {"OLLAMA_HOST": "http://192.168.1.5:12000/x"}, "http://192.168.1.5:12000"),
        ("ollama serve", {"OLLAMA_HOST": "[::1]:12000"}, "http://[::1]:12000"),
        ("ollama serve", {"OLLAMA_HOST": "\x1b[2J:99999999"}, "http://127.0.0.1:11434"),
        ("llama-swap --listen :9292", {}, "http://127.0.0.1:9292"),
        ("llama-swap -listen=10.0.0.2:9292 -tls-cert-file c", {}, "https://10.0.0.2:9292"),
        ("rpc-server -H 0.0.0.0 -p 50099", {}, "rpc://127.0.0.1:50099"),
        ("rpc-server", {}, "rpc://127.0.0.1:50052"),
        ("vllm serve m --port 8001 --ssl-certfile c", {}, "https://127.0.0.1:8001"),
        ("vllm serve m --port nonsense", {}, "http://127.0.0.1:8000"),
        ("lemond /var/lib --port 13399 --host 0.0.0.0", {}, "http://127.0.0.1:13399"),
        ("lemonade-server serve", {"LEMONADE_PORT": "8001"}, "http://127.0.0.1:8001"),
        ("llmster daemon up", {}, "http://127.0.0.1:1234"),
    ],
)
def test_where_an_engine_says_that_it_listens(line: str, environ: dict[str, str], url: str) -> None:
    argv = tuple(line.split())
    process = Process(pid=7, name=argv[0][:15], argv=argv, environ=environ)
    engine = engine_of(process)
    assert engine is not None
    assert facts(LocalHost(), process, engine).url == url


def test_the_key_and_the_model_of_another_engine() -> None:
    argv = ("vllm", "serve", "org/model", "--api-key", "hunter2")
    process = Process(pid=7, name="vllm", argv=argv, environ={"VLLM_API_KEY": "other"})
    server = facts(LocalHost(), process, ENGINES["vllm"])
    assert (server.api_key, server.alias) == ("hunter2", "org/model")
    assert "hunter2" not in repr(server)


def test_lm_studio_says_its_port_and_whether_it_serves(tmp_path: Path) -> None:
    settings = tmp_path / ".lmstudio/.internal/http-server-config.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"port": 1299, "cors": false}')

    def look(*ports: int) -> ServerProcess:
        process = Process(
            pid=7, name="llmster", argv=("llmster",), environ={"HOME": str(tmp_path)}, ports=ports
        )
        return facts(LocalHost(), process, ENGINES["llmster"])

    assert (look(1299, 41343).url, look(1299, 41343).unreachable) == ("http://127.0.0.1:1299", None)
    assert look(41343).unreachable == "its server is switched off: lms server start"
    settings.write_text("[" * 9)
    assert look(1234).url == "http://127.0.0.1:1234"


def test_the_workers_of_an_engine_are_part_of_it(house: Household) -> None:
    worker = house.child("vllm", "serve", "m")
    one = house.start("vllm", "serve", "m", listen=(), children=[worker])
    [(pid, [port])] = one.children
    host = house.host({one.pid: TERMINAL, pid: TERMINAL})
    [server] = find(host, ())
    assert (server.pid, server.url) == (one.pid, f"http://127.0.0.1:{port}")
    [server] = find(host, [f"http://127.0.0.1:{port}/"])
    assert (server.pid, server.engine, server.url) == (one.pid, "vllm", f"http://127.0.0.1:{port}/")


def test_the_models_of_a_router_are_known_by_it(house: Household) -> None:
    model = house.child("llama-server", "--alias", "org/qwen 3:Q4", "-m", "/m/q.gguf", "--api-key", "child")
    nameless = house.child("llama-server", "-m", "/models/tiny-b.gguf")
    router = house.start("llama-server", "--models-dir", "/models", children=[model, nameless])
    host = house.host(dict.fromkeys((router.pid, *(pid for pid, _ in router.children)), TERMINAL))
    found = by_pid(host)
    head = found[router.pid]
    (first, [port]), (second, _) = router.children
    assert (head.router, head.behind, head.address) == (True, None, None)
    assert found[first].url == f"{head.url}?model=org/qwen%203%3AQ4"
    assert (found[first].address, found[first].behind) == (f"http://127.0.0.1:{port}", head.url)
    assert (found[first].api_key, found[first].router, found[first].log) == ("child", False, None)
    assert found[second].url == f"{head.url}?model=tiny-b"

    # Asked for by another name, its models go by that one.
    named = f"http://localhost:{router.ports[0]}"
    urls = {server.pid: (server.url, server.behind) for server in find(host, [named])}
    assert urls[router.pid] == (named, None)
    assert urls[second] == (f"{named}?model=tiny-b", named)
    assert by_pid(host, f"http://127.0.0.1:{port}")[first].address is None


def test_two_servers_of_one_model_are_told_apart(house: Household) -> None:
    swap = house.start("llama-swap", children=[house.child("llama-server", "-m", "/m/a.gguf")] * 2)
    pids = [pid for pid, _ in swap.children]
    found = by_pid(house.host(dict.fromkeys((swap.pid, *pids), TERMINAL)))
    url = f"{found[swap.pid].url}?model=a"
    assert {found[pid].url for pid in pids} == {url, f"{url}&pid={max(pids)}"}
    assert all(found[pid].behind == found[swap.pid].url for pid in pids)


def test_a_server_with_a_model_of_its_own_starts_no_other(house: Household) -> None:
    """A script around it may be called as it is."""
    script = house.start(
        "llama-server", "-m", "a", listen=(), children=[house.child("llama-server", "-m", "a")]
    )
    [(pid, [port])] = script.children
    found = by_pid(house.host({script.pid: TERMINAL, pid: TERMINAL}))
    assert (found[pid].url, found[pid].behind) == (f"http://127.0.0.1:{port}", None)


def test_a_server_behind_another_engine_through_a_shell(house: Household) -> None:
    server = house.child("llama-server", "-m", "/m/a.gguf", "--log-file", "/tmp/child.log")
    shell = house.child("bash", "-c", "llama-server", listen=(), children=[server])
    swap = house.start("llama-swap", children=[shell])
    [(shell_pid, _)] = swap.children
    pid = next(
        int(place.parent.name)
        for place in Path("/proc").glob("[0-9]*/stat")
        if place.read_text().rpartition(")")[2].split()[1] == str(shell_pid)
    )
    found = by_pid(house.host({swap.pid: TERMINAL, shell_pid: TERMINAL, pid: TERMINAL}))
    assert found.keys() == {swap.pid, pid}
    assert found[pid].behind == found[swap.pid].url and found[pid].engine == "llama.cpp"
    assert found[pid].log and found[pid].log.name == "/tmp/child.log"


def test_two_servers_on_one_port_are_both_found(house: Household) -> None:
    older = house.start("llama-server", "-m", "a")
    [port] = older.ports
    time.sleep(0.02)  # a clock tick
    newer = house.start("llama-server", "-m", "b", "--port", str(port), listen=[("127.0.0.1", port)])
    host = house.host({older.pid: TERMINAL, newer.pid: TERMINAL})
    found = by_pid(host)
    assert found[older.pid].url == f"http://127.0.0.1:{port}" and found[older.pid].unreachable is None
    assert found[newer.pid].url == f"http://127.0.0.1:{port}"
    assert found[newer.pid].unreachable == f"shares port {port} with pid {older.pid}: both answer in turn"
    asked = find(host, [f"http://localhost:{port}"])
    assert [server.pid for server in asked] == [older.pid, newer.pid]
    assert [server.unreachable is None for server in asked] == [True, False]


def test_one_that_could_not_bind_is_not_a_second_server(house: Household) -> None:
    late = house.start("llama-server", "-m", "b", "--port", "1", listen=[])
    time.sleep(0.02)
    holder = house.start("llama-server", "-m", "a")
    [port] = holder.ports
    waiting = house.start("llama-server", "-m", "c", "--port", str(port), listen=[])
    found = by_pid(house.host(dict.fromkeys((late.pid, holder.pid, waiting.pid), TERMINAL)))
    assert found.keys() == {late.pid, holder.pid}  # a port that nobody else holds: it may come


@pytest.mark.parametrize(
    ("arguments", "router"),
    [
        (("--models-dir", "/m"), True),
        (("--models-preset", "p.ini"), True),
        ((), True),
        (("-m", "a.gguf"), False),
        (("-hf", "org/model:Q4"), False),
        (("--model-url=https://x/a.gguf",), False),
        (("--gpt-oss-20b-default",), False),
        (("--models-dir", "/m", "--spec-default"), True),
    ],
)
def test_a_router_is_started_without_a_model(
    house: Household, arguments: tuple[str, ...], router: bool
) -> None:
    one = house.start("llama-server", *arguments)
    [server] = find(house.host({one.pid: TERMINAL}), ())
    assert server.router is router


@pytest.mark.parametrize(("cgroup", "user"), [(USER_UNIT, True), (SYSTEM_UNIT, False)])
def test_a_unit_and_its_journal(house: Household, cgroup: str, user: bool) -> None:
    ours, journal = socket.socketpair()
    with ours, journal:
        there = os.fstat(journal.fileno())
        env = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
        session = ("setsid",)  # of no terminal
        one = house.start("llama-server", "-m", "a", env=env, stderr=journal.fileno(), within=session)
        env["JOURNAL_STREAM"] = "1:1"  # a shell of that service: not what its own stderr is
        two = house.start("llama-server", "-m", "a", env=env, stderr=journal.fileno(), within=session)
    found = by_pid(house.host({one.pid: cgroup, two.pid: cgroup}))
    unit = "llama.service" if user else "ollama.service"
    place = LogPlace(kind="journal", name=unit, user=user, since_time=found[one.pid].started_time)
    assert (found[one.pid].unit, found[one.pid].log) == (unit, place)
    assert (found[two.pid].unit, found[two.pid].log) == (unit, None)


def test_the_log_is_the_first_place_that_can_be_followed(house: Household, tmp_path: Path) -> None:
    err, out = tmp_path / "err.log", tmp_path / "out.jsonl"

    def log(*arguments: str, stderr: Any = subprocess.DEVNULL) -> str | None:
        one = house.start("llama-server", "-m", "a", *arguments, stderr=stderr)
        [server] = find(house.host({one.pid: SYSTEM_UNIT}), ())
        return server.log and f"{server.log.kind} {server.log.name}"

    with err.open("wb") as to, out.open("wb"):
        assert log("--log-file", "/tmp/said.log", stderr=to) == "file /tmp/said.log"
        assert log(stderr=to) == f"file {err}"
        assert log(stderr=subprocess.PIPE) is None
        assert log() is None
        assert log("--log-file", "/tmp/\x1b[2J.log") is None


def test_jsonl_goes_to_stdout(house: Household, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    program = house.program("llama-server")
    env = {"STAND_IN_LISTEN": "[]", "STAND_IN_CHILDREN": "[]"}
    for flags, place in ((["--log-jsonl"], str(out)), ([], None)):
        with out.open("wb") as to:
            server = subprocess.Popen(
                [program, "-m", "a", *flags],
                env=env,
                stdin=subprocess.PIPE,
                stdout=to,
                stderr=subprocess.DEVNULL,
            )
        try:
            while not out.read_bytes():
                time.sleep(0.005)
            [found] = find(house.host({server.pid: TERMINAL}), ())
            assert (found.log.name if found.log else None) == place
        finally:
            server.kill()
            server.communicate()


def test_a_container_is_asked_about_once(house: Household, tools: Tools) -> None:
    one = house.start("llama-server", "-m", "a")
    tools.answer(told("llama", pid=one.pid))
    host = house.host({one.pid: PODMAN})
    for _ in range(3):
        [server] = find(host, ())
        assert server.container == "llama" and server.url == f"http://127.0.0.1:{one.ports[0]}"
        assert server.log == LogPlace(
            kind="container", name="llama", engine="podman", since_time=server.started_time
        )
    assert tools.calls == [f"podman inspect --type container {ID}"]

    # Started again it has another first process: asked again, and once.
    (host.procfs / str(one.pid) / "cgroup").write_text(PODMAN.replace(ID, OTHER))
    assert find(host, ())[0].container == "llama"
    assert len(tools.calls) == 2


def test_an_engine_that_does_not_tell_is_left_alone_for_a_minute(
    house: Household, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house.start("llama-server", "-m", "a")
    host = house.host({one.pid: DOCKER})
    for _ in range(3):
        [server] = find(host, ())
        assert (server.container, server.log and server.log.name) == (ID[:12], ID[:12])
    assert tools.calls == [f"docker inspect --type container {ID}"]
    monkeypatch.setattr(containers, "AGAIN_SECONDS", 0.0)
    for nonsense in (b"", b"[]", b"[{}]", b'[{"Name": 1, "State": []}]', b"\xff", b"[" * 9):
        tools.answer(nonsense)
        assert find(host, ())[0].container == ID[:12]
    tools.answer(told("\x1b[2Jbad name", pid=one.pid))
    assert find(host, ())[0].container == ID[:12]
    (tools.directory / "slow").touch()
    monkeypatch.setattr(containers, "ASK_SECONDS", 0.1)
    began = time.monotonic()
    find(house.host({one.pid: DOCKER}), ())
    assert time.monotonic() - began < 3


def test_what_was_started_by_hand_in_a_container_has_no_log_there(house: Household, tools: Tools) -> None:
    main = house.start("sh", listen=(), children=[house.child("llama-server", "-m", "a")])
    [(served, _)] = main.children
    entered = house.start("llama-server", "-m", "a")
    tools.answer(told("box", pid=main.pid))
    found = by_pid(house.host(dict.fromkeys((main.pid, served, entered.pid), PODMAN)))
    assert found[served].log and found[served].log.kind == "container"
    assert (found[entered.pid].log, found[entered.pid].container) == (None, "box")


def test_a_distrobox_needs_no_engine(house: Household, tools: Tools) -> None:
    one = house.start("llama-server", "-m", "a", env={"CONTAINER_ID": "llama-vulkan"})
    [server] = find(house.host({one.pid: PODMAN}), ())
    assert (server.container, server.backend, tools.calls) == ("llama-vulkan", "vulkan", [])


def test_our_own_container_is_none(house: Household, tools: Tools) -> None:
    one = house.start("llama-server", "-m", "a")
    [server] = find(house.host({one.pid: PODMAN}, ours=PODMAN), ())
    assert (server.container, tools.calls) == (None, [])


def test_another_users_server_is_listed_with_what_its_command_line_tells(tmp_path: Path) -> None:
    """Neither its descriptors nor its environment can be read: as for a plain user looking at root's."""
    place = tmp_path / "42"
    place.mkdir()
    (place / "comm").write_bytes(b"llama-server\n")
    (place / "stat").write_bytes(b"42 (llama-server) S 1 42 42 0" + b" 0" * 14 + b" 250")
    (place / "cmdline").write_bytes(b"llama-server\0-m\0/m/\xff.gguf\0--port\x008093\0")
    (place / "cgroup").write_text(SYSTEM_UNIT)
    [server] = find(LocalHost(procfs=tmp_path), ())
    assert (server.url, server.unit, server.pid) == ("http://127.0.0.1:8093", "ollama.service", 42)
    assert server.model_path == clean("/m/\udcff.gguf")
    assert server.log == LogPlace(kind="journal", name="ollama.service")  # most likely


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_another_user_sees(house: Household, tmp_path: Path) -> None:
    """For real: a server of root, seen by nobody."""
    one = house.start("llama-server", "-m", "/m/a.gguf", "--port", "8093", env={"LLAMA_API_KEY": "hunter2"})
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            found = {s.pid: s for s in find(LocalHost(), ())}[one.pid]
            os.write(write, f"{found.url} {found.api_key} {found.model_path} {found.router}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"http://127.0.0.1:8093 None /m/a.gguf False"
    os.waitpid(child, 0)


TABLE = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


@pytest.mark.parametrize(
    ("listen", "uid", "port"),
    [
        ({8085: 999}, 999, 8085),  # LLAMA_ARG_PORT of a service with a user of its own
        ({8085: 999, 9931: 999}, 999, 9931),  # the usual one, before
        ({8085: 999, 8086: 999}, 999, 8080),  # any of two: as if nothing were known
        ({8085: 7}, 999, 8080),
        ({8080: 7, 8085: 999}, 999, 8085),  # somebody else has the usual one
        ({8085: 0}, 0, 8080),  # root has many services
        ({22: 999}, 999, 8080),
    ],
)
def test_the_port_of_another_users_server_that_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: dict[int, int], uid: int, port: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    net = tmp_path / "42/net"
    net.mkdir(parents=True)
    rows = [b"0: 0100007F:%04X 00000000:0000 0A 0:0 00:0 0 %d 0 1" % pair for pair in listen.items()]
    (net / "tcp").write_bytes(TABLE + b"\n".join(rows))
    one = Process(pid=42, name="llama-server", argv=("llama-server", "-m", "a"), environ={}, uid=uid)
    host = Told(one)
    host.procfs = tmp_path
    [server] = find(host, ())
    assert server.url == f"http://127.0.0.1:{port}"


def test_a_url_that_is_given_twice_is_one(house: Household) -> None:
    one = house.start("llama-server", "-m", "a")
    url = f"http://127.0.0.1:{one.ports[0]}"
    assert [server.pid for server in find(house.host({one.pid: ""}), (url, url))] == [one.pid]


@given(
    st.lists(st.text(), max_size=8),
    st.dictionaries(
        st.sampled_from(["OLLAMA_HOST", "LEMONADE_PORT", "VLLM_API_KEY"]),
        st.one_of(st.text(), st.from_regex(r"[\d.:/a-z\[\]@%-]{0,20}")),
    ),
    st.sampled_from(list(ENGINES)),
    st.lists(st.integers(1, 65535), max_size=3),
)
def test_no_process_is_too_strange(
    argv: list[str], environ: dict[str, str], name: str, ports: list[int]
) -> None:
    argv = [name, "serve", "--host", *argv, "--port", *argv]
    process = Process(pid=7, name=name[:15], argv=tuple(argv), environ=environ, ports=tuple(ports))
    engine_of(process)
    server = facts(LocalHost(procfs=Path("/nonexistent")), process, ENGINES[name])
    assert server.url == clean(server.url)


class Told(LocalHost):
    """Processes as somebody may make them up."""

    def __init__(self, *processes: Process) -> None:
        super().__init__(procfs=Path("/nonexistent"))
        self.listed = list(processes)

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        return self.listed

    def run(self, argv: Sequence[str], seconds: float = 3.0) -> bytes:
        raise FileNotFoundError


HOSTILE = st.one_of(st.text(), st.from_regex(r"(\[|https?://|unix:)?[\d.:a-f%/@?#\[\]-]{0,20}(\.sock)?"))


@given(
    st.lists(
        st.builds(
            Process,
            pid=st.integers(2, 6),
            parent=st.integers(0, 6),
            name=st.sampled_from([*(name[:15] for name in ENGINES), "python3", "pasta", "bash"]),
            argv=st.lists(
                st.one_of(
                    HOSTILE,
                    st.sampled_from(
                        ["--host", "--port", "-m", "serve", "--alias", "--log-file", "vllm", "-listen"]
                    ),
                )
            ).map(tuple),
            environ=st.dictionaries(
                st.sampled_from(["OLLAMA_HOST", "LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "CONTAINER_ID"]), HOSTILE
            ),
            cwd=st.one_of(st.none(), st.just("/"), HOSTILE),
            ports=st.lists(st.integers(1, 65535), max_size=2).map(tuple),
            stderr=st.one_of(st.none(), HOSTILE.map(lambda text: f"/{text}")),
            stderr_to=st.sampled_from(["", "file", "pipe", "journal"]),
            cgroup=st.one_of(st.text(), st.sampled_from([PODMAN, DOCKER, USER_UNIT, SYSTEM_UNIT])),
            foreign_net=st.booleans(),
            foreign_files=st.booleans(),
            uid=st.sampled_from([None, os.geteuid(), 12345]),
        ),
        max_size=5,
        unique_by=lambda process: process.pid,
    ),
    st.lists(st.one_of(HOSTILE, st.just("http://127.0.0.1:8080")), max_size=2),
)
@example(
    [Process(pid=2, name="llama-server", argv=(), environ={}, stderr="//", foreign_files=True)],
    [],
)
def test_no_box_is_too_strange(processes: list[Process], urls: list[str]) -> None:
    host = Told(*processes)
    servers = find(host, ())
    alone = [server.url for server in servers if not server.unreachable]
    assert len(set(alone)) == len(alone)
    for server in servers:
        assert server.url == clean(server.url) and urlsplit(server.url).port is not ...
        assert not server.log or server.log.name == clean(server.log.name)
    find(host, urls)


def test_processes_that_vanish_while_we_look(house: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    one = house.start("llama-server", "-m", "a")
    host = house.host({one.pid: PODMAN})
    read = host.read

    def gone(path: Path) -> bytes:
        if str(one.pid) in path.parts:
            raise ProcessLookupError
        return read(path)

    monkeypatch.setattr(host, "read", gone)
    assert [server.pid for server in find(host, ())] == [one.pid]


def test_a_look_at_many_processes_is_cheap(house: Household) -> None:
    """About 1 ms and a half for each server on the machine this was written on, whatever else runs."""
    server = house.start("llama-server", "-m", "a")
    others = [house.run(["sleep", "60"]) for _ in range(150)]
    host = LocalHost()
    try:
        find(host, ())
        spent = []
        for _ in range(5):
            began = time.thread_time()
            found = find(host, ())
            spent.append(time.thread_time() - began)
        assert server.pid in {one.pid for one in found}
        assert min(spent) < 0.03 + 0.005 * len(found)
    finally:
        for other in others:
            other.kill()


def test_the_stand_in_is_what_it_is_called(house: Household) -> None:
    one = house.start("ggml-rpc-server")
    assert Path(f"/proc/{one.pid}/comm").read_text() == "ggml-rpc-server\n"
    assert stat.S_ISSOCK(Path(f"/proc/{one.pid}/fd/3").stat().st_mode)


def test_a_real_router_and_its_models(house: Household, models: Path, tmp_path: Path) -> None:
    program = os.environ.get("HALOTUI_LLAMA_SERVER")
    if not program:
        pytest.skip("HALOTUI_LLAMA_SERVER names no llama-server with router mode")
    port = free_port()
    words = f"--host 127.0.0.1 --port {port} --models-dir {models} -t 1 --api-key hunter2".split()
    log = tmp_path / "router.log"
    with log.open("wb") as err:
        router = house.run([program, *words], env={**os.environ, "LLAMA_ARG_CTX_SIZE": "512"}, stderr=err)
    url = f"http://127.0.0.1:{port}"

    def ask(path: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": "Bearer hunter2", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url + path, body, headers), timeout=10) as answer:
            return json.loads(answer.read())

    try:
        while b"listening on" not in log.read_bytes():
            assert router.poll() is None, log.read_text()
            time.sleep(0.02)
        ask("/models/load", b'{"model":"tiny"}')
        deadline = time.monotonic() + 20
        while (
            loaded := [one for one in ask("/models")["data"] if one["status"]["value"] == "loaded"]
        ) == [] and time.monotonic() < deadline:
            time.sleep(0.05)
        [model] = loaded
        found = {server.url: server for server in find(LocalHost(), ())}
        head, child = found[url], found[f"{url}?model={model['id']}"]
        assert (head.router, head.pid, child.router) == (True, router.pid, False)
        args = model["status"]["args"]
        assert child.address == f"http://127.0.0.1:{args[args.index('--port') + 1]}"
        assert (child.behind, child.log, child.context_tokens) == (url, None, 512)
        assert (head.api_key, head.log and head.log.name) == ("hunter2", str(log))
    finally:
        router.terminate()
        router.wait(10)
