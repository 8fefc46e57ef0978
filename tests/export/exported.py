"""``halotui export`` as its user runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from running import HALOTUI, PATIENCE, environment


class Export:
    """The command in the background, once it says where it listens."""

    def __init__(self, *args: object, **env: str) -> None:
        argv = [*HALOTUI, "export", "--listen", "127.0.0.1:0", *map(str, args)]
        self.process = subprocess.Popen(
            argv, env=environment(**env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr
        self.said = ""
        while not (found := re.search(r"http://(127\.0\.0\.1:\d+)/metrics", self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.address, self.url = found[1], found[0]

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, by: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def scrape(self) -> str:
        return read(self.url).decode()

    def value(self, series: str) -> float:
        return float(re.search(rf"^{series}(?:{{[^}}]*}})? (\S+)$", self.scrape(), re.M)[1])  # type: ignore[index]


def read(url: str) -> bytes:
    with urlopen(url, timeout=20) as answer:
        return bytes(answer.read())


def until(there: Callable[[], Any], what: str, seconds: float = 2 * PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := there():
                return found
        except URLError:
            pass
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.1)
