"""A stage for undertakings: a real server, a plan, and the worker process that carries it out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from binaries import Brood, Server, binary
from halotui.actions import ENDS, Kind, Outcome, Progress, Step
from halotui.hosts.local_hands import LocalHands
from halotui.servers.journal import Book
from halotui.servers.launch import Before, Expect, Launch, Plan
from halotui.servers.stopping import Patience

PATIENCE = 60.0
PATIENT = Patience(watch=0.1)
HASTY = Patience(first=1.0, second=2.0, port=1.0, watch=0.1)  # where it is certain that the time runs out
DYING = Path(__file__).with_name("dying_worker.py")


class Worker:
    """``python -m halotui.servers.worker``; ``progress`` grows while it runs."""

    def __init__(
        self, state: Path, env: dict[str, str], *words: str, dies: str = "", patience: Patience = PATIENT
    ) -> None:
        program = (
            [sys.executable, str(DYING), dies] if dies else [sys.executable, "-m", "halotui.servers.worker"]
        )
        self.progress: list[Progress] = []
        self.errors = ""
        self.process = subprocess.Popen(
            [
                *(*program, "--state", str(state), "--sysfs", str(state)),
                *("--patience", msgspec.json.encode(patience).decode(), *words),
            ],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._news:
                self.progress.append(msgspec.json.decode(line, type=Progress))
                self._news.notify_all()

    def wait_for(self, wanted: Callable[[Progress], Any], seconds: float = PATIENCE) -> Progress:
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for progress in self.progress:
                    if wanted(progress):
                        return progress
                assert time.monotonic() < deadline and self._reader.is_alive(), self.progress[-5:]
                self._news.wait(0.2)

    def say(self, **word: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(word).encode() + b"\n")
        self.process.stdin.flush()

    def look_away(self) -> None:
        """As a screen that is gone: neither end of the pipe has anybody."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        with open(os.devnull, "rb") as nothing:  # what is being read now is the last that is
            os.dup2(nothing.fileno(), self.process.stdout.fileno())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self, seconds: float = PATIENCE) -> Outcome:
        """Its outcome, once it has ended."""
        self.process.wait(seconds)
        self._reader.join(5)
        assert self.process.stderr
        self.errors = self.process.stderr.read().decode()
        assert self.progress and self.progress[-1].outcome, self.errors
        assert self.progress[-1].step in ENDS
        return self.progress[-1].outcome


class Stage:
    """One directory, one brood, one URL."""

    def __init__(self, directory: Path, models: Path) -> None:
        self.directory = directory
        self.models = models
        self.brood = Brood(directory, models)
        self.binary = binary(directory / "vulkan")
        self.state = directory / "state"
        self.book = Book(self.state / "launches")
        self.hands = LocalHands()
        self.first: Server | None = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.brood.close()

    def serve(self, *flags: object, **env: str) -> Server:
        """What runs before."""
        self.first = self.brood.start(self.binary, *flags, env=env).wait_ready()
        return self.first

    @property
    def url(self) -> str:
        assert self.first
        return self.first.url

    def launch(
        self,
        *flags: object,
        name: str = "new",
        expect: Expect | None = None,
        through: tuple[str, ...] = (),
        **more: Any,
    ) -> Launch:
        """What shall run, at the same URL; ``through``: a command that goes before it."""
        assert self.first
        said = [str(flag) for flag in flags]
        if "-m" not in said:
            said += ["-m", str(self.models / "tiny.gguf")]
        argv = (
            *through,
            str(self.binary),
            *said,
            "-t",
            "1",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.first.port),
        )
        more = {"env": self.brood.env, "load_seconds": 30.0, "model": str(self.models / "tiny.gguf"), **more}
        return Launch(
            name=name,
            argv=argv,
            cwd=str(self.directory),
            log=str(self.state / "logs" / f"{name}-{uuid4().hex[:6]}.log"),
            url=self.first.url,
            expect=expect or Expect(),
            **more,
        )

    def before(self, env: dict[str, str] | None = None, **more: Any) -> Before:
        """What runs, as it would be put back."""
        assert self.first
        who = self.hands.identify(self.first.pid)
        assert who
        argv = tuple(map(str, self.first.process.args))
        launch = Launch(
            name="as it was",
            argv=argv,
            env={**self.brood.env, **(env or {})},
            cwd=str(self.directory),
            log=str(self.state / "logs" / "before.log"),
            url=self.first.url,
            load_seconds=30.0,
        )
        return Before(who=who, launch=launch, **more)

    def standing(self, pid: int | None, launch: Launch | None) -> Before:
        """What an undertaking has left running."""
        assert pid and launch
        who = self.hands.identify(pid)
        assert who
        return Before(who=who, launch=launch)

    def plan(
        self, after: Launch | None, before: Before | None, kind: Kind = Kind.RELAUNCH, **more: Any
    ) -> Plan:
        plan = Plan(id=uuid4().hex[:12], kind=kind, before=before, after=after, **more)
        self.book.save_plan(plan)
        return plan

    def worker(self, *words: str, dies: str = "", patience: Patience = PATIENT) -> Worker:
        return Worker(self.state, self.brood.env, *words, dies=dies, patience=patience)

    def relaunch(self, *flags: object, **more: Any) -> Outcome:
        """To the end, from what ``serve`` has started."""
        plan = self.plan(self.launch(*flags, **more), self.before())
        return self.worker(plan.id).end()

    def serving(self) -> dict[str, Any]:
        """The /props of what serves; fails when nobody does."""
        with urllib.request.urlopen(f"{self.url}/props", timeout=20) as answer:
            props: dict[str, Any] = json.load(answer)
            return props

    def servers(self) -> list[int]:
        return self.brood.pids("llama-server")

    def only(self) -> int:
        """The pid of the one server that there is."""
        pids = self.servers()
        assert len(pids) == 1, pids
        assert self.serving()["total_slots"]
        return pids[0]


def steps(worker: Worker) -> list[Step]:
    """In the order they were taken, each once."""
    return list(dict.fromkeys(progress.step for progress in worker.progress))
