"""A lab for suites: stand-in llama-benches, a config, a store, and halotui in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from stand_in_bench import binary, journalctl

from halotui.runs import Run, Status, Store
from halotui.store import open_store
from running import HALOTUI, environment

SUITE = """\
name = "backends"
model = "m.gguf"
repeats = 2
order = "as written"

[[run]]
label = "Vulkan"
profile = "vk"
flags = { fa = "off" }

[[run]]
label = "HIP"
bench = "rocm/llama-bench"
env = { ROW_ENV = "of the row" }

[[test]]
pp = 512
tg = 128

[[test]]
pp = 8192
tg = 8192
"""


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "suite.toml"
        self.state = directory / "state/halotui"
        self.store_file = self.state / "store.sqlite"
        self.journal = directory / "journal"
        self.vulkan = binary(directory / "vulkan").parent
        self.rocm = binary(directory / "rocm").parent
        self.journal.touch()
        config = directory / "config/halotui/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'[profiles.vk]\nbinary = "{self.vulkan}/llama-server"\nbackend = "vulkan"\n'
            'model = "/nowhere/other.gguf"\nenv = { ROW_ENV = "of the profile", MY_API_KEY = "s3cr3t" }\n'
            'flags = { fa = "on", np = 2, ub = 256 }\n'
        )
        tools = journalctl(directory / "bin").parent
        self.env = environment(
            XDG_CONFIG_HOME=str(directory / "config"),
            XDG_STATE_HOME=str(directory / "state"),
            STAND_IN_JOURNAL=str(self.journal),
            PATH=f"{tools}:{os.environ['PATH']}",
        )
        (directory / "sys").mkdir()
        self.write()

    def write(self, text: str = SUITE) -> None:
        self.file.write_text(text)

    def behave(self, where: Path, *rules: str) -> None:
        (where / "behaviour").write_text("".join(f"{rule}\n" for rule in rules))

    def argv(self, *args: object) -> list[str]:
        words = args if any(str(a).endswith(".toml") for a in args) else (self.file, *args)
        return [*HALOTUI, "bench", *map(str, words), "--sysfs", str(self.directory / "sys")]

    def bench(self, *args: object, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self.argv(*args),
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def start(self, *args: object) -> subprocess.Popen[str]:
        """In the background, a session of its own."""
        return subprocess.Popen(
            self.argv(*args),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def calls(self, where: Path) -> list[dict[str, Any]]:
        """How often the llama-bench there was run, and with what."""
        try:
            return [json.loads(line) for line in (where / "calls").read_text().splitlines()]
        except OSError:
            return []

    def until_called(self, where: Path, times: int = 1, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.calls(where)) < times:
            assert time.monotonic() < deadline, "it was never called"
            time.sleep(0.02)

    def until_stored(self, results: int, seconds: float = 30.0) -> None:
        """Until the run under way has so many results in the store."""
        deadline = time.monotonic() + seconds
        while not any(len(run.results) >= results for run in self.runs() if run.status == "running"):
            assert time.monotonic() < deadline, "no result came into the store"
            time.sleep(0.05)

    def until_sampled(self, seconds: float = 30.0) -> None:
        """Until samples of the run under way are in the store."""
        deadline = time.monotonic() + seconds
        while True:
            store = self.open()
            try:
                [run] = store.runs(statuses=(Status.RUNNING,))
                if store.samples(run.id):
                    return
            finally:
                store.close()
            assert time.monotonic() < deadline, "no sample came into the store"
            time.sleep(0.05)

    def open(self) -> Store:
        return open_store(self.store_file, readonly=True)

    def runs(self) -> list[Run]:
        """The oldest first."""
        if not self.store_file.exists():
            return []
        store = self.open()
        try:
            return store.runs()[::-1]
        finally:
            store.close()

    def told(self) -> list[tuple[str, str, str]]:
        """Label, tests and status of each."""
        return [(run.label, " ".join(r.test for r in run.results), run.status.value) for run in self.runs()]


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> tuple[str, str, int]:
    """Stdout, stderr and exit code of one that is told to end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return out, err, process.returncode


def orphans(directory: Path) -> list[int]:
    """The llama-benches that were started from there and still run."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(
                word.startswith(os.fsencode(directory)) and word.endswith(b"/llama-bench") for word in words
            ):
                found.append(int(place.name))
    return found


def end_orphans(directory: Path) -> None:
    """KILL what a killed halotui left behind."""
    for pid in orphans(directory):
        os.kill(pid, signal.SIGKILL)
