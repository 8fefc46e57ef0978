"""halotui as its user runs it: a process of its own, with an empty home and no terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

HALOTUI = (sys.executable, "-m", "halotui")
PATIENCE = 30.0  # seconds for anything that should come at once
_HOMES = TemporaryDirectory(prefix="halotui-homes-", ignore_cleanup_errors=True)
_number = count()
NOWHERE = f"{_HOMES.name}/nowhere"  # nothing is ever made there


def environment(**more: str) -> dict[str, str]:
    """Ours, without the settings of whoever runs the tests; a cwd on the path is not relied on."""
    ours = ("HALOTUI_", "LLAMA_", "XDG_", "PYTEST_", "COLUMNS", "LINES")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    home = f"{_HOMES.name}/{next(_number)}"  # another one each time, not there yet
    return {**kept, "XDG_CONFIG_HOME": f"{home}/config", "XDG_STATE_HOME": f"{home}/state", **more}


def run(*args: object, seconds: float = PATIENCE, **env: str) -> subprocess.CompletedProcess[str]:
    """One run to its end, text in and out."""
    return subprocess.run(
        [*HALOTUI, *map(str, args)],
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def look(*args: object, **env: str) -> dict[str, Any]:
    """``halotui --json``: the frame, after two polls a quarter of a second apart."""
    done = run("--json", "-i", 0.25, *args, **env)
    assert done.returncode == 0, done.stderr
    frame: dict[str, Any] = json.loads(done.stdout)
    return frame


def server_of(frame: dict[str, Any], url: str) -> dict[str, Any]:
    """The one of that URL."""
    return next(server for server in frame["servers"] if server["url"] == url)


class Stream:
    """``halotui stream`` in the background; ``frames`` grows while it runs."""

    def __init__(self, *args: object, **env: str) -> None:
        self.args = args
        self.frames: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [*HALOTUI, "stream", *map(str, args)],
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._news:
                self.frames.append(json.loads(line))
                self._news.notify_all()

    def wait_for(
        self, wanted: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE, since: int = 0
    ) -> dict[str, Any]:
        """The first frame from number ``since`` on for which ``wanted`` holds."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for frame in self.frames[since:]:
                    if wanted(frame):
                        return frame
                since = len(self.frames)
                left = deadline - time.monotonic()
                last = self.frames[-1:]
                assert left > 0 and self.process.poll() is None, f"never came; the last frame: {last}"
                self._news.wait(min(left, 0.5))

    def stop(self, by: int = signal.SIGINT) -> int:
        """Interrupt it; its exit code. All its frames are in ``frames`` then."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(5)
        return code

    @property
    def errors(self) -> str:
        """All of stderr, once it has ended."""
        assert self.process.stderr
        return self.process.stderr.read().decode()


class Crowd:
    """Requests in the background, ended with the ``with``."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._pool = ThreadPoolExecutor(8)
        self._held: list[HTTPConnection] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._held:
            connection.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def hold(self, tokens: int = 30000, prompt: str = "The old oak") -> None:
        """A stream that is never read to its end: the server drops it when we hang up."""
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        body = {"prompt": prompt, "n_predict": tokens, "stream": True, "temperature": 0}
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        self._held.append(connection)

    def ask(self, tokens: int, prompt: str = "The old oak", **body: Any) -> Future[Any]:
        return self._pool.submit(self._server.complete, prompt, tokens, **body)


def busy(server: Any, slots: int = 1, seconds: float = PATIENCE) -> None:
    """Until so many slots are decoding."""
    deadline = time.monotonic() + seconds
    while sum(slot["is_processing"] for slot in server.get_json("/slots")) < slots:
        assert time.monotonic() < deadline, "the slots stayed idle"
        time.sleep(0.02)


def counters(server: Any) -> dict[str, float]:
    """``GET /metrics``, without the labelled series and the prefix."""
    lines = server.get("/metrics").decode().splitlines()
    pairs = (line.split() for line in lines if line and line[0] != "#" and "{" not in line)
    return {name.removeprefix("llamacpp:"): float(value) for name, value in pairs}
