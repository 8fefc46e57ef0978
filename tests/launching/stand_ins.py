"""Stand-ins for systemctl, podman, docker, toolbox and distrobox, where a machine has none of them.

    tools = StandIns(tmp_path / "bin")
    tools.unit("llama.service", [server, "--port", "8080"], env, log)
    monkeypatch.setenv("PATH", tools.path)

They are NOT the real tools: each call is recorded (``tools.calls()``) and done in a simple way, with a real
process as the unit's or the container's main one. Answers have the real tools' form. A container is no wall:
what is "inside" runs here, with the environment that it would have had.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = ("systemctl", "podman", "docker", "toolbox", "distrobox")
CONTAINER_ID = "4f" * 32
TOOLBOX = {"com.github.containers.toolbox": "true"}
DISTROBOX = {"manager": "distrobox"}


class StandIns:
    """Executables in ``directory``; its state lies beside them."""

    def __init__(self, directory: Path, tools: Sequence[str] = TOOLS) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        for tool in tools:
            script = directory / tool
            here = str(Path(__file__).parent)
            script.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{here!r}]\n"
                f"from stand_ins import main\nsys.exit(main(__file__, sys.argv[1:]))\n"
            )
            script.chmod(0o755)

    @property
    def path(self) -> str:
        """For PATH."""
        return f"{self.directory}{os.pathsep}{os.environ['PATH']}"

    def calls(self, tool: str = "") -> list[list[str]]:
        """What has been called, name first; with ``tool``, of that one."""
        file = self.directory / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for call in map(json.loads, lines) if tool in ("", call[0])]

    def unit(
        self,
        name: str,
        argv: Sequence[object],
        env: Mapping[str, str],
        log: Path,
        pid: int = 0,
        **properties: str,
    ) -> None:
        """A service, running as ``pid``; ``properties`` as ``systemctl show`` has them."""
        shown = {"LoadState": "loaded", "FragmentPath": f"/etc/{name}", "Restart": "no", "Transient": "no"}
        self._keep(name, argv, env, log, pid, show={**shown, **properties})

    def container(
        self,
        name: str,
        argv: Sequence[object],
        env: Mapping[str, str],
        log: Path,
        pid: int = 0,
        *,
        id: str = CONTAINER_ID,
        labels: Mapping[str, str] | None = None,
        rm: bool = False,
        command: Sequence[object] = (),
        image: str = "localhost/llama:vulkan",
        ports: Mapping[str, Any] | None = None,
        set_env: Mapping[str, str] | None = None,
    ) -> None:
        """One that was made with ``argv`` as its main process, running as ``pid``."""
        config: dict[str, Any] = {
            "Labels": dict(labels or {}),
            "Env": [f"{key}={value}" for key, value in (set_env or {}).items()],
            "CreateCommand": [str(word) for word in command],
            "Image": image,
        }
        host = {"AutoRemove": rm, "PortBindings": dict(ports or {}), "NetworkMode": "host"}
        inspect = {"Id": id, "Name": name, "ImageName": image, "Config": config, "HostConfig": host}
        self._keep(name, argv, env, log, pid, inspect=inspect)

    def _keep(
        self,
        name: str,
        argv: Sequence[object],
        env: Mapping[str, str],
        log: Path,
        pid: int,
        **more: Any,
    ) -> None:
        thing = {"name": name, "argv": [str(word) for word in argv], "env": dict(env), "log": str(log)}
        _save(self.directory, {**thing, "pid": pid, **more})


def procfs(directory: Path, cgroups: Mapping[int, str]) -> Path:
    """A /proc whose processes are in those control groups; all else is the kernel's."""
    directory.mkdir()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in cgroups:
            (directory / entry.name).symlink_to(entry)
    for name in ("net", "stat", "self", "sys"):
        (directory / name).symlink_to(Path("/proc", name))
    for pid, cgroup in cgroups.items():
        real, mine = Path("/proc", str(pid)), directory / str(pid)
        mine.mkdir()
        for name in ("stat", "comm", "cmdline", "environ", "fd", "status", "limits", "ns"):
            (mine / name).symlink_to(real / name)
        for name in ("cwd", "exe"):
            (mine / name).symlink_to((real / name).readlink())
        (mine / "cgroup").write_text(cgroup)
    return directory


def main(program: str, words: list[str]) -> int:
    """One call of a tool."""
    import fcntl

    directory, tool = Path(program).parent, Path(program).name
    with (directory / "calls").open("a") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.write(json.dumps([tool, *words]) + "\n")
    match [tool, *(word for word in words if word != "--user")]:
        case ["systemctl", "start" | "stop" as verb, name]:
            thing = _load(directory, name)
            return _start(directory, thing) if verb == "start" else _stop(directory, thing)
        case ["systemctl", "show", name, *options]:
            return _show(_load(directory, name), options)
        case ["podman" | "docker", "inspect", *_, name]:
            return _inspect(_load(directory, name), "--format" in words)
        case ["podman", "container", "exists", name]:
            return 0 if any(name == file.stem for file in directory.glob("*.json")) else 1
        case ["podman" | "docker", "start", name]:
            return _start(directory, _load(directory, name)) or print(name) or 0
        case ["podman" | "docker", "stop", "-t", _, name]:
            return _stop(directory, _load(directory, name))
        case ["podman" | "docker", "run", *rest]:
            return _run(directory, rest)
        case ["podman" | "docker", "exec", *rest]:
            at = next(at for at, word in enumerate(rest) if not word.startswith("-"))
            return _exec(rest[at + 1 :], _told(rest[:at]))
        case ["toolbox", "run", "--container", _, *rest] | ["distrobox", "enter", "--name", _, "--", *rest]:
            return _exec(rest, {})
    print(f"stand-in: not understood: {words}", file=sys.stderr)
    return 125


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _save(directory: Path, thing: Mapping[str, Any]) -> None:
    _file(directory, thing["name"]).write_text(json.dumps(thing))


def _load(directory: Path, name: str) -> dict[str, Any]:
    """By name or id; an unknown unit is none, an unknown container ends the call."""
    for file in directory.glob("*.json"):
        thing: dict[str, Any] = json.loads(file.read_text())
        if name in (thing["name"], thing.get("inspect", {}).get("Id")):
            return thing
    if name.endswith(".service"):
        return {"name": name, "pid": 0, "show": {"LoadState": "not-found"}}
    print(f"Error: no such container {name}", file=sys.stderr)
    sys.exit(125)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _start(directory: Path, thing: dict[str, Any]) -> int:
    import subprocess

    if _alive(thing["pid"]):
        return 0
    with Path(thing["log"]).open("ab") as log:
        child = subprocess.Popen(
            thing["argv"],
            env=thing["env"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _save(directory, {**thing, "pid": child.pid})
    return 0


def _stop(directory: Path, thing: dict[str, Any]) -> int:
    import signal
    import time

    deadline = time.monotonic() + 15
    if _alive(thing["pid"]):
        os.kill(thing["pid"], signal.SIGTERM)
    while _alive(thing["pid"]):
        if time.monotonic() > deadline:
            os.kill(thing["pid"], signal.SIGKILL)
        time.sleep(0.02)
    if thing.get("inspect", {}).get("HostConfig", {}).get("AutoRemove"):
        _file(directory, thing["name"]).unlink()
    else:
        _save(directory, {**thing, "pid": 0})
    return 0


def _show(thing: Mapping[str, Any], options: Sequence[str]) -> int:
    told = {"MainPID": str(thing["pid"] if _alive(thing["pid"]) else 0), **thing["show"]}
    asked = next(word for word in options if word.startswith("--property=")).partition("=")[2].split(",")
    for name in asked:
        print(told.get(name, "") if "--value" in options else f"{name}={told.get(name, '')}")
    return 0


def _inspect(thing: Mapping[str, Any], short: bool) -> int:
    pid = thing["pid"] if _alive(thing["pid"]) else 0
    print(pid if short else json.dumps([{**thing["inspect"], "State": {"Pid": pid}}]))
    return 0


def _run(directory: Path, words: list[str]) -> int:
    """In the foreground: this very process becomes the container's main one."""
    at = next(at for at, word in enumerate(words) if not word.startswith("-"))
    options, image, rest = words[:at], words[at], words[at + 1 :]
    told = dict(word.removeprefix("--").partition("=")[::2] for word in options)
    entry = [told["entrypoint"]] if "entrypoint" in told else []
    inspect = {
        "Id": os.urandom(32).hex(),
        "Name": told["name"],
        "ImageName": image,
        "Config": {"Labels": {}, "Env": [], "CreateCommand": ["podman", "run", *words]},
        "HostConfig": {"AutoRemove": "rm" in told, "PortBindings": {}},
    }
    thing = {"name": told["name"], "argv": [*entry, *rest], "env": {}, "log": os.devnull, "pid": os.getpid()}
    _save(directory, {**thing, "inspect": inspect})
    return _exec([*entry, *rest], _told(options))


def _told(options: Sequence[str]) -> dict[str, str]:
    """``--env=K=V``, and ``--env=K`` from the client's environment."""
    pairs = (word.removeprefix("--env=").partition("=") for word in options if word.startswith("--env="))
    return {name: value if sign else os.environ[name] for name, sign, value in pairs}


def _exec(words: Sequence[str], env: Mapping[str, str]) -> int:
    os.execvpe(words[0], list(words), {**os.environ, **env})
