"""Processes of many names that are as real as they need be, and a proc file system that holds them alone.

    with Household(tmp_path) as house:
        swap = house.start("llama-swap", "-listen", ":0")
        host = house.host({swap.pid: CGROUP})

A stand-in is an executable of that name: it listens, starts the children it is told to, and ends with us.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halotui.hosts.local import LocalHost

SCRIPT = """\
#!{python} -IS
import json, os, socket, subprocess, sys
held = []
for address, port in json.loads(os.environ["STAND_IN_LISTEN"]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held.append(socket.socket(family, socket.SOCK_STREAM))
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held[-1].bind((address, port))
    held[-1].listen()
here = dict(os.environ)
children = []
for child in json.loads(here.pop("STAND_IN_CHILDREN")):
    env = {{**here, "STAND_IN_CHILDREN": json.dumps(child["children"]),
           "STAND_IN_LISTEN": json.dumps(child["listen"])}}
    children.append(subprocess.Popen(child["argv"], env=env, stdout=subprocess.PIPE))
pids = [(one.pid, json.loads(one.stdout.readline())) for one in children]
print(json.dumps([[one.getsockname()[1] for one in held], pids]), flush=True)
sys.stdin.read()
"""
LOOPBACK = ("127.0.0.1", 0)
SECONDS = 20.0
# What a process has below /proc that a look may need; its cgroup is ours to make up.
_FILES = ("cmdline", "comm", "cwd", "environ", "fd", "net", "ns", "root", "stat", "status")


class StandIn:
    def __init__(self, process: subprocess.Popen[bytes], ports: list[int], children: list[Any]) -> None:
        self.process = process
        self.pid = process.pid
        self.ports = ports
        self.children = [(pid, told[0]) for pid, told in children]  # pid, ports


class Household:
    """Of processes that do not outlive the ``with``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Household:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.stdin:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def program(self, name: str) -> str:
        path = self._directory / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT.format(python=sys.executable))
        path.chmod(0o755)
        return str(path)

    def child(
        self, name: str, *arguments: str, listen: Sequence[Any] = (LOOPBACK,), children: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """For ``children``."""
        argv = [self.program(name), *arguments]
        return {"argv": argv, "listen": list(listen), "children": list(children)}

    def start(
        self,
        name: str,
        *arguments: str,
        listen: Sequence[Any] = (LOOPBACK,),
        children: Sequence[Any] = (),
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        stderr: Any = None,
    ) -> StandIn:
        """Returns when it listens. ``within`` is a command to run it by, which must become it."""
        told = {"STAND_IN_LISTEN": json.dumps(list(listen)), "STAND_IN_CHILDREN": json.dumps(list(children))}
        process = self.run(
            [*within, self.program(name), *arguments], env={**(env or {}), **told}, stderr=stderr
        )
        assert process.stdout
        line = process.stdout.readline() if select.select([process.stdout], [], [], SECONDS)[0] else b""
        if not line:
            raise RuntimeError(f"{name} did not start: exit {process.poll()}")
        return StandIn(process, *json.loads(line))

    def run(self, argv: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        """Something real."""
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        self._processes.append(process)
        return process

    def host(self, cgroups: Mapping[int, str], ours: str = "0::/\n") -> LocalHost:
        """That box, as if it had these processes alone, each in that control group."""
        proc = self._directory / f"proc{time.monotonic_ns()}"
        for pid, cgroup in cgroups.items():
            (proc / str(pid)).mkdir(parents=True)
            for name in _FILES:
                (proc / str(pid) / name).symlink_to(f"/proc/{pid}/{name}")
            (proc / str(pid) / "cgroup").write_text(cgroup)
        (proc / "self/ns").mkdir(parents=True)
        (proc / "self/ns/mnt").symlink_to(Path("/proc/self/ns/mnt").readlink())
        (proc / "self/cgroup").write_text(ours)
        (proc / "net").symlink_to("/proc/self/net")
        (proc / "stat").symlink_to("/proc/stat")
        return LocalHost(procfs=proc)
