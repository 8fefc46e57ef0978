"""What every test may ask for: tiny models and the real llama.cpp server."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from binaries import Brood
from halotui.demo.model import TINY, write_preset

# A shared machine may be slow: that is no fault. CI plays the same examples each time; here they vary.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

OLD_WHEEL = "2026.4.8672.1"  # llama.cpp b8672: unprefixed log, -md alone drafts, no draft counters
LISTENING = re.compile(r"listening on http://[^:\s]+:(\d+)")
STOP_SECONDS = 5.0  # more than the server's own alarm
# They begin, the longest first, so that none of them is what all wait for in the end (see the Makefile).
LONG = (
    "launching/test_fifty.py",
    "e2e/test_bench_demo.py",
    "launching/test_transaction.py",
    "e2e/test_manners.py",
    "e2e/test_commands.py",
    "demo/test_faults.py",
    "suites/test_suite_server.py",
    "launching/test_carrying_out.py",
    "screen/test_snapshots.py",
    "e2e/test_relaunch_screen.py",
    "screen/test_history_view.py",
    "capture/test_capture.py",
    "benching/test_bench_command.py",
    "launching/test_handed_over.py",
    "suites/test_suite_resume.py",
    "e2e/test_pty.py",
    "e2e/test_replay_screen.py",
    "screen/test_relaunch_keys.py",
    "demo/test_demo_bench.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


class LlamaServer:
    """A running server. ``with`` or :meth:`stop` ends it early; the session ends it in any case."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path, api_key: str | None) -> None:
        self.process = process
        self.pid = process.pid
        self.log_path = log_path
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.port = 0
        self.url = ""

    def __enter__(self) -> LlamaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, seconds: float = 15.0) -> None:
        """Until it answers from its task queue: only then is a stop never lost."""
        deadline = time.monotonic() + seconds
        while not (found := LISTENING.search(self.log())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no llama-server (exit {self.process.poll()}):\n{self.log()}")
            time.sleep(0.02)
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"
        while True:
            try:
                return void(self.get("/slots"))
            except urllib.error.HTTPError as error:
                if error.code != 503:  # 501: told not to show its slots
                    return None
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def log(self) -> str:
        """Its log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post_json(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", **self._headers}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def complete(self, prompt: str, n: int, **body: Any) -> Any:
        """``POST /completion`` of ``n`` tokens, greedy unless told otherwise; the parsed reply."""
        return self.post_json("/completion", {"prompt": prompt, "n_predict": n, "temperature": 0, **body})

    def stop(self) -> int:
        """TERM, then KILL; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        if self.process.stdin:
            self.process.stdin.close()
        return self.process.wait()


def void(_: object) -> None:
    """Only the asking mattered."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with tiny.gguf, draft-good.gguf (the same weights) and draft-mid.gguf (often right)."""
    directory = tmp_path_factory.mktemp("models")
    for name, noise in (("tiny", 0.0), ("draft-good", 0.0), ("draft-mid", 0.02)):
        write_preset(directory / f"{name}.gguf", TINY, noise=noise)
    return directory


@pytest.fixture(scope="session")
def start_server(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LlamaServer]]:
    """``start_server(*flags, env=None, wheel=None)``: a ready server on a free loopback port.

    Flags that are not given: tiny.gguf, one thread, a log file of its own. ``env`` is added to ours,
    ``wheel`` is the directory of another xllamacpp.
    """
    started: list[LlamaServer] = []

    def start(
        *flags: str | Path, env: dict[str, str] | None = None, wheel: Path | None = None
    ) -> LlamaServer:
        given = [str(flag) for flag in flags]
        defaults = {
            "-m": str(models / "tiny.gguf"),
            "--host": "127.0.0.1",
            "--port": "0",
            "-t": "1",
            "-td": "1",
            "--log-file": str(tmp_path_factory.mktemp("server") / "server.log"),
            "--die-with-parent": "pipe",
        }
        unsaid = [word for flag, value in defaults.items() if flag not in given for word in (flag, value)]
        argv = [*given, *unsaid]
        log_path = Path(argv[argv.index("--log-file") + 1])
        with log_path.open("ab") as early:  # what is said before the server opens its log
            process = subprocess.Popen(
                [sys.executable, "-m", "halotui.demo.server", *argv],
                env={**os.environ, **({"PYTHONPATH": str(wheel)} if wheel else {}), **(env or {})},
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=early,
            )
        key = given[given.index("--api-key") + 1] if "--api-key" in given else None
        server = LlamaServer(process, log_path, key)
        started.append(server)
        server.wait_ready()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., LlamaServer], models: Path) -> LlamaServer:
    """Everybody's server: two slots of 2048 tokens, metrics, and a draft that is always right."""
    draft = ("-md", models / "draft-good.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "4")
    return start_server("-np", "2", "-c", "4096", "--metrics", *draft)


def fetched(version: str) -> Path:
    """A directory for PYTHONPATH with another xllamacpp, fetched once, whoever else runs tests here."""
    directory = Path(sys.prefix) / "old-wheels" / version
    directory.parent.mkdir(exist_ok=True)
    with directory.with_name(f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "xllamacpp").is_dir():
            with TemporaryDirectory(dir=directory.parent) as half:  # one that broke off is no wheel
                place = Path(half) / version
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                pip += ["--disable-pip-version-check", "--target", str(place), f"xllamacpp=={version}"]
                subprocess.run(pip, check=True, timeout=100)
                place.rename(directory)
    return directory


@pytest.fixture(scope="session")
def wheels() -> Callable[[str], Path]:
    """``wheels("0.2.14")``: another xllamacpp, as a directory for PYTHONPATH."""
    return fetched


@pytest.fixture(scope="session")
def old_wheel() -> Path:
    """One of an older log era."""
    return fetched(OLD_WHEEL)


@pytest.fixture
def brood(tmp_path: Path, models: Path) -> Iterator[Brood]:
    """Servers that may be relaunched: none of them outlives the test."""
    with Brood(tmp_path, models) as brood:
        yield brood
