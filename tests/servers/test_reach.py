"""Servers in network, PID and mount namespaces of their own: found, mapped to our ports, and asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from household import Household
from hypothesis import given
from hypothesis import strategies as st

from binaries import binary, free_port
from halotui.collectors import forwarders, netspace
from halotui.collectors.discovery import find
from halotui.hosts import Process
from halotui.hosts.local import LocalHost
from halotui.hosts.procfs import network
from halotui.model import ServerProcess

ID = "5f" * 32
PODMAN = f"0::/machine.slice/libpod-{ID}.scope/container\n"
PLAIN = "0::/\n"
SECONDS = 20.0
# Forwards as docker-proxy does, for one connection at a time.
PROXY = """\
#!{python} -IS
import socket, sys
said = dict(zip(sys.argv[1:], sys.argv[2:]))
door = socket.create_server((said["-host-ip"], int(said["-host-port"])))
print(flush=True)
while True:
    client, _ = door.accept()
    inner = socket.create_connection((said["-container-ip"], int(said["-container-port"])))
    inner.sendall(client.recv(65536))
    while data := inner.recv(65536):
        client.sendall(data)
    client.close(); inner.close()
"""


def permitted(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not permitted("unshare", "-n", "true"), reason="new network namespaces are not permitted here"
)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with Household(tmp_path) as house:
        yield house


class Bridge:
    """A network namespace that this box reaches over a pair of interfaces, as over a container bridge."""

    def __init__(self, number: int) -> None:
        self.name = f"halo{number}"
        self.ours, self.theirs = f"10.213.{number % 250}.1", f"10.213.{number % 250}.2"
        self.enter = ("ip", "netns", "exec", self.name)

    def make(self) -> bool:
        inside = ("-n", self.name)
        outer, inner = f"{self.name}o", f"{self.name}i"
        return all(
            permitted("ip", *words)
            for words in (
                ("netns", "add", self.name),
                ("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name),
                ("addr", "add", f"{self.ours}/24", "dev", outer),
                ("link", "set", outer, "up"),
                (*inside, "addr", "add", f"{self.theirs}/24", "dev", inner),
                (*inside, "link", "set", inner, "up"),
                (*inside, "link", "set", "lo", "up"),
            )
        )

    def remove(self) -> None:
        permitted("ip", "link", "del", f"{self.name}o")
        permitted("ip", "netns", "del", self.name)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(os.getpid() % 60000)
    try:
        if not bridge.make():
            pytest.skip("no pair of interfaces can be made here")
        yield bridge
    finally:
        bridge.remove()


def real(
    house: Household, tmp_path: Path, models: Path, *flags: str, within: Sequence[str] = (), **more: Any
) -> tuple[int, int]:
    """The real llama-server, run by ``within``: its pid as we see it, and its port inside."""
    log = tmp_path / "err.log"
    program = binary(tmp_path / "bin")
    argv = [*within, str(program), "-m", str(models / "tiny.gguf"), "-t", "1", *flags]
    with log.open("wb") as err:
        started = house.run(argv, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stderr=err, **more)
    deadline = time.monotonic() + SECONDS
    while b"listening on http://" not in (said := log.read_bytes()):
        if started.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(said.decode(errors="replace"))
        time.sleep(0.02)
    port = int(said.partition(b"listening on http://")[2].partition(b"\n")[0].rpartition(b":")[2])
    pid = started.pid
    while b"llama-server" not in Path(f"/proc/{pid}/comm").read_bytes():  # a command that forked
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return pid, port


def the(found: list[ServerProcess], pid: int) -> ServerProcess:
    return next(server for server in found if server.pid == pid)


def healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        return bool(json.loads(answer.read())["status"] == "ok")


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, 9)


def test_a_server_over_a_bridge_and_through_a_proxy(
    house: Household, bridge: Bridge, tmp_path: Path, models: Path
) -> None:
    pid, port = real(house, tmp_path, models, "--host", "0.0.0.0", "--port", "0", within=bridge.enter)
    proxy = None
    try:
        host = house.host({pid: PLAIN})
        [server] = find(host, ())
        assert server.address == f"http://{bridge.theirs}:{port}" and healthy(server.address)
        assert (server.url, server.unreachable) == (f"http://pid-{pid}:{port}", None)
        assert find(host, [server.address])[0].pid == pid
        assert find(host, [f"http://127.0.0.1:{port}"]) == []  # its port is not ours

        outside = free_port()
        script = tmp_path / "docker-proxy"
        script.write_text(PROXY.format(python=sys.executable))
        script.chmod(0o755)
        said = f"-proto tcp -host-ip 127.0.0.1 -host-port {outside} -container-ip {bridge.theirs}"
        proxy = house.run([str(script), *said.split(), "-container-port", str(port)])
        assert proxy.stdout and proxy.stdout.readline()
        host = house.host({pid: PLAIN, proxy.pid: PLAIN})
        [server] = find(host, ())
        assert (server.url, server.address) == (f"http://127.0.0.1:{outside}", None)
        assert healthy(server.url)
        [asked] = find(host, [f"http://localhost:{outside}"])
        assert asked.pid == pid
    finally:
        kill(pid)
        if proxy is not None:
            proxy.kill()


def test_a_published_port_is_the_url(
    house: Household, bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house.start("llama-server", "--port", "8080", listen=[("0.0.0.0", 8080)], within=bridge.enter)
    other = house.start("llama-server", "--port", "8081", listen=[("127.0.0.1", 8081)], within=bridge.enter)
    mute = house.start("llama-server", "--port", "8082", listen=[("::", 8082)], within=bridge.enter)
    ports = {
        "8080/tcp": [{"HostIp": "", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}],
        "8081/tcp": [{"HostIp": "192.168.1.5", "HostPort": "18081"}],
        "8082/tcp": None,
        "8080/udp": [{"HostIp": "", "HostPort": "1"}],
    }
    answer = [{"Name": "llama", "State": {"Pid": one.pid}, "NetworkSettings": {"Ports": ports}}]
    podman = tmp_path / "bin/podman"
    podman.parent.mkdir()
    podman.write_text(f"#!/bin/sh\ncat <<'EOF'\n{json.dumps(answer)}\nEOF\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{podman.parent}{os.pathsep}{os.environ['PATH']}")
    host = house.host(dict.fromkeys((one.pid, other.pid, mute.pid), PODMAN))
    found = find(host, ())
    assert the(found, one.pid).url == "http://127.0.0.1:18080"
    assert the(found, one.pid).address is None
    closed = the(found, other.pid)
    assert closed.url == "http://llama:8081"
    assert (
        closed.unreachable == "it listens on 127.0.0.1 inside container llama: start it with --host 0.0.0.0"
    )
    assert the(found, mute.pid).url == "http://llama:8082"
    assert the(found, mute.pid).address == f"http://{bridge.theirs}:8082"  # no port of ours, but a way there
    assert find(host, ["http://127.0.0.1:18080"])[0].pid == one.pid


def test_a_namespace_that_nothing_leads_into(
    house: Household, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the PID and mount namespaces of a container: its log is read through its own root."""
    inner = tmp_path / "inner"
    inner.mkdir()
    prepare = f'ip link set lo up; mount -t tmpfs none {inner}; exec "$@"'
    within = ("unshare", "-n", "-m", "-p", "-f", "--kill-child", "sh", "-c", prepare, "sh")
    pid, port = real(
        house, tmp_path, models, "--port", "0", "--log-file", str(inner / "server.log"), within=within
    )
    try:
        host = house.host({pid: PLAIN})
        [process] = host.processes(("llama-server",), ())
        assert (process.foreign_net, process.foreign_pid, process.foreign_files) == (True, True, True)
        assert process.ports == ()
        [server] = find(host, ())
        assert server.log_path == str(inner / "server.log") and not Path(server.log_path).exists()
        assert server.log and server.log.name == f"{host.procfs}/{pid}/root{inner}/server.log"
        assert b"listening on" in Path(server.log.name).read_bytes()
        assert server.unreachable and "127.0.0.1 inside the network namespace of pid" in server.unreachable
        assert server.own_network
        assert server.url == f"http://pid-{pid}:{port}"

        monkeypatch.setenv("PATH", str(tmp_path))  # no engine
        [server] = find(house.host({pid: PODMAN}), ())
        assert server.container == ID[:12] and server.url == f"http://{ID[:12]}:{port}"
    finally:
        kill(pid)


def test_why_a_container_cannot_be_asked(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house.start("llama-server", "--port", "8080", listen=[("0.0.0.0", 8080)], within=("unshare", "-n"))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    [server] = find(house.host({one.pid: PODMAN}), ())
    unknown = f"whether port 8080 of container {ID[:12]} is published is not known"
    ways = "give --url, or publish it (-p 8080:8080) or run it with --network=host"
    assert server.unreachable == f"{unknown} (there is no podman command here): {ways}"
    [server] = find(house.host({one.pid: PLAIN}), ())
    what = f"it listens in the network namespace of pid {one.pid}, which nothing here leads into"
    assert server.unreachable == what


def test_stderr_of_another_mount_namespace(house: Household, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    prepare = f'mount -t tmpfs none {inner}; exec "$@" 2>{inner}/err.log'
    within = ("unshare", "-m", "sh", "-c", prepare, "sh")
    one = house.start("llama-server", "-m", "a", within=within)
    host = house.host({one.pid: PLAIN})
    [server] = find(host, ())
    assert server.log and server.log.name == f"{host.procfs}/{one.pid}/root{inner}/err.log"
    assert Path(server.log.name).exists() and server.log_path == f"{inner}/err.log"
    assert server.url == f"http://127.0.0.1:{one.ports[0]}" and not server.own_network


def test_a_look_into_a_namespace_is_kept(house: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs the kernel milliseconds."""
    one = house.start("llama-server", "--port", "8080", listen=[("0.0.0.0", 8080)], within=("unshare", "-n"))
    late = house.start("llama-server", "--port", "8080", listen=[], within=("unshare", "-n"))
    host = house.host({one.pid: PLAIN, late.pid: PLAIN})
    looked: list[int | None] = []
    listening = netspace.listening
    monkeypatch.setattr(
        netspace, "listening", lambda host, pid=None, uid=None: looked.append(pid) or listening(host, pid)
    )
    for _ in range(3):
        find(host, ())
    assert (looked.count(one.pid), looked.count(late.pid)) == (1, 3)  # that one may listen yet


def test_a_namespace_is_told_without_rights_over_the_process(house: Household) -> None:
    one = house.start("llama-server", listen=[], within=("unshare", "-n"))
    assert network("/proc", one.pid) not in (None, network("/proc"))
    assert network("/proc", os.getpid()) == network("/proc")
    assert network("/proc", 2**22 + 1) is None


def test_the_kernels_tables_of_our_own_network() -> None:
    host = LocalHost()
    with socket.create_server(("127.0.0.1", 0)) as four:
        port = four.getsockname()[1]
        bound = netspace.listening(host)
        assert bound[port] == {ip_address("127.0.0.1")} and netspace.loopback_only(bound[port])
    assert "127.0.0.1" in map(str, netspace.addresses(host))
    assert netspace.reachable(host, os.getpid()) is None  # our own addresses are no way into another network
    assert not netspace.loopback_only({ip_address("127.0.0.1"), ip_address("0.0.0.0")})
    assert netspace.loopback_only({ip_address("::ffff:127.0.0.1"), ip_address("::1")})


JUNK = [b"", b"x\ny\n", b"h\n0: ZZ:1 0:0 0A\n", b"|-- 999.1.1.1\n/32 host LOCAL\n", b"\xff" * 99]


@pytest.mark.parametrize("junk", JUNK)
def test_broken_tables_tell_nothing(tmp_path: Path, junk: bytes) -> None:
    for name in ("net/tcp", "net/tcp6", "net/fib_trie", "net/route", "7/net/tcp", "7/net/fib_trie"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(junk)
    host = LocalHost(procfs=tmp_path)
    assert netspace.listening(host, 7) == {} and netspace.reachable(host, 7) is None


DOCKER = "-host-ip {} -host-port 18080 -container-ip {} -container-port 8080 -use-listen-fd"


@pytest.mark.parametrize(
    ("name", "line", "port", "expected"),
    [
        ("docker-proxy", DOCKER.format("0.0.0.0", "127.0.0.1"), 8080, "127.0.0.1:18080"),
        ("docker-proxy", DOCKER.format("::", "127.0.0.1"), 8080, "127.0.0.1:18080"),
        ("docker-proxy", DOCKER.format("fd00::1", "127.0.0.1"), 8080, "[fd00::1]:18080"),
        ("docker-proxy", DOCKER.format("0.0.0.0", "172.17.0.9"), 8080, None),
        ("docker-proxy", DOCKER.format("0.0.0.0", "127.0.0.1"), 8081, None),
        ("docker-proxy", "-proto udp " + DOCKER.format("0.0.0.0", "127.0.0.1"), 8080, None),
        ("docker-proxy", "-host-ip 0.0.0.0 -host-port x", 8080, None),
        ("pasta.avx2", "--config-net -t 18080:8080 -u none", 8080, "127.0.0.1:18080"),
        ("passt.avx2", "-t 18080:8080", 8080, "127.0.0.1:18080"),
        ("pasta", "-t 192.168.1.5/18080-18082:8080-8082 --netns /x", 8081, "192.168.1.5:18081"),
        ("pasta", "--tcp-ports 8080,9090:80", 8080, "127.0.0.1:8080"),
        ("pasta", "-t 1:8080,2:8080", 8080, "127.0.0.1:1"),
        ("pasta", "-t auto -T none", 8080, None),
        ("pasta", "-t 0-99999:0-99999", 8080, None),
        ("socat", "TCP-LISTEN:1 TCP:127.0.0.1:8080", 8080, None),
    ],
)
def test_what_the_helpers_of_an_engine_forward(name: str, line: str, port: int, expected: str | None) -> None:
    server = Process(pid=os.getpid(), name="llama-server", argv=(), environ={})
    helper = Process(pid=1, name=name, argv=(name, *line.split()), environ={})
    assert forwarders.forwarded(LocalHost(), server, port, [1], [helper]) == expected
    if not name.startswith("docker"):  # it may lead into any other namespace
        assert forwarders.forwarded(LocalHost(), server, port, [2], [helper]) is None


@given(st.sampled_from(list(forwarders.READERS)), st.lists(st.text()), st.integers(1, 65535))
def test_no_helper_is_too_strange(name: str, argv: list[str], port: int) -> None:
    server = Process(pid=2**22 + 1, name="llama-server", argv=(), environ={})
    helper = Process(pid=1, name=name, argv=(name, "-t", *argv), environ={})
    forwarders.forwarded(LocalHost(), server, port, [1], [helper])


def test_a_socket_file_of_another_mount_namespace(house: Household, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    within = ("unshare", "-n", "-m", "sh", "-c", f'mount -t tmpfs none {inner}; exec "$@"', "sh")
    one = house.start("llama-server", "--host", f"{inner}/l.sock", listen=[], within=within)
    host = house.host({one.pid: PLAIN})
    [server] = find(host, ())
    assert server.url == f"unix:{inner}/l.sock" and server.unreachable is None
    assert server.address == f"unix:{host.procfs}/{one.pid}/root{inner}/l.sock"


def test_a_toolbox_tells_its_name(house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    podman = tmp_path / "podman"
    podman.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 125\n")
    podman.chmod(0o755)
    name = 'echo \'engine="podman-5"\nname="llama-rocm"\nid="5f"\' > /run/.containerenv; : > /run/.toolboxenv'
    within = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none /run; {name}; exec "$@"', "sh")
    one = house.start("llama-server", "-m", "a", within=within)
    [server] = find(house.host({one.pid: PODMAN}), ())
    assert (server.container, server.log) == ("llama-rocm", None)
    assert server.url == f"http://127.0.0.1:{one.ports[0]}"
    assert not (tmp_path / "asked").exists()
