"""Programs named ``llama-server`` that really are one, and a :class:`Brood` that leaves none behind.

    from binaries import Brood, binary

    def test_relaunch(tmp_path, models):
        with Brood(tmp_path, models) as brood:
            server = brood.start(binary(tmp_path / "vulkan"), "-np", "2").wait_ready()
            halotui("relaunch", "--server", server.url, env=brood.env)
            assert brood.pids("llama-server") == [...]

All that is started with ``brood.env``, or by what was, carries the mark; what still lives at the end of the
``with`` is killed, whoever started it. Faults are in ``native_server``: ``env={"HALOTUI_TEST_SLOTS": "4"}``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

from running import environment

MARK = "HALOTUI_TEST_BROOD"
SCRIPT = """\
#!{python}
import sys

sys.path[:0] = {path!r}
from native_server import main

sys.exit(main(sys.argv[1:]))
"""


def binary(directory: Path, wheel: Path | None = None) -> Path:
    """An executable ``directory/llama-server``; ``wheel``: the directory of another xllamacpp.

    A directory called ``vulkan`` or ``rocm`` tells the backend, as it does on a user's box.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "llama-server"
    places = [str(place) for place in (Path(__file__).parent, wheel) if place]
    path.write_text(SCRIPT.format(python=sys.executable, path=places))
    path.chmod(0o755)
    return path


def free_port() -> int:
    """A loopback port that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def living(mark: str) -> dict[int, str]:
    """Pid and name of our processes with that mark; a corpse has no environment left."""
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal() or int(place.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = (place / "comm").read_text().strip()
        except OSError:  # gone, or not ours
            continue
    return found


class Server:
    """One that a brood has started; it is reaped as soon as it ends, whoever ends it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path, api_key: str) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = log_path
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        threading.Thread(target=process.wait, daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.process.poll()

    def wait(self, seconds: float = 10.0) -> int:
        return self.process.wait(seconds)

    def wait_ready(self, seconds: float = 30.0) -> Server:
        """Until it answers from its task queue: only then is a stop never lost."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.get_json("/slots")
                return self
            except urllib.error.HTTPError as error:
                if error.code != 503:  # 501: told not to show its slots
                    return self
            except OSError:
                pass
            if self.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no llama-server (exit {self.poll()}):\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get_json(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def stop(self) -> int:
        """TERM, then KILL; its exit code."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.process.send_signal(number)
            try:
                return self.wait(5)
            except subprocess.TimeoutExpired:
                continue
        return self.wait()


class Brood:
    """Servers that do not outlive the ``with``; see the top of this file.

    ``env`` is for all that is started: ours without HALOTUI_*, LLAMA_* and XDG_*, with the mark, and with
    a config and a state directory below ``directory``. ``models`` is conftest's.
    """

    def __init__(self, directory: Path, models: Path | None = None) -> None:
        self.directory = directory
        self.models = models
        self.mark = uuid4().hex
        homes = {f"XDG_{name.upper()}_HOME": str(directory / name) for name in ("config", "state")}
        self.env = {**environment(), **homes, MARK: self.mark}
        self._started = 0

    def __enter__(self) -> Brood:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pids(self, name: str = "") -> list[int]:
        """The living, without corpses; with ``name``, those called so."""
        return sorted(pid for pid, called in living(self.mark).items() if name in ("", called))

    def start(
        self,
        program: Path,
        *flags: object,
        env: dict[str, str] | None = None,
        log: Path | None = None,
        cwd: Path | None = None,
    ) -> Server:
        """A server in a session of its own. Unless told: tiny.gguf, one thread, a free port, a log file.

        ``port`` is right only where it stands on the command line (``--port N``) or is left to us.
        """
        given = [str(flag) for flag in flags]
        defaults = {"--host": "127.0.0.1", "--port": str(free_port()), "-t": "1", "-td": "1"}
        if self.models:
            defaults["-m"] = str(self.models / "tiny.gguf")
        unsaid = [word for flag, value in defaults.items() if flag not in given for word in (flag, value)]
        argv = [str(program), *given, *unsaid]
        self._started += 1
        log_path = log or self.directory / f"server-{self._started}.log"
        whole = {**self.env, **(env or {})}
        with log_path.open("ab") as output:
            process = subprocess.Popen(
                argv,
                env=whole,
                cwd=cwd or self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        key = argv[argv.index("--api-key") + 1] if "--api-key" in argv else whole.get("LLAMA_API_KEY", "")
        return Server(process, int(argv[argv.index("--port") + 1]), log_path, key)

    def close(self) -> None:
        """KILL all that lives, until nothing is born any more."""
        deadline = time.monotonic() + 10
        while pids := self.pids():
            if time.monotonic() > deadline:
                raise RuntimeError(f"still alive: {pids}")
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)
