"""Server mode: a real llama-server launched, given its work, and stopped, whatever happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, end

from binaries import MARK, Brood, binary
from halotui.demo.model import write_model
from halotui.runs import Kind, Status

SUITE = """\
name = "served"
order = "as written"
hz = 10

[[run]]
label = "Vulkan"
profile = "vk"
env = { ROW_ENV = "1" }

[server]
workloads = ["chat"]
speculation = ["none", "draft-simple"]
repeats = 1
"""
PLAIN = SUITE.replace('["none", "draft-simple"]', '["none"]')


class Served(Lab):
    """A lab whose profile has a real server."""

    def __init__(self, directory: Path, brood: Brood, models: Path) -> None:
        super().__init__(directory)
        self.brood = brood
        self.server = binary(directory / "real")
        self.models = models
        self.env = {**self.env, MARK: brood.mark}
        self.profile()
        self.write(SUITE)

    def profile(self, **more: str) -> None:
        said = {
            "binary": f'"{self.server}"',
            "model": f'"{self.models}/tiny.gguf"',
            "draft": f'"{self.models}/draft-good.gguf"',
            "host": '"0.0.0.0"',
            "port": "8080",
            "env": f'{{ {MARK} = "{self.brood.mark}" }}',
            "flags": "{ c = 2048, t = 1, np = 1, td = 1 }",
            **more,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in said.items())
        (self.directory / "config/halotui/config.toml").write_text(f"[profiles.vk]\n{lines}")

    def servers(self) -> list[int]:
        return self.brood.pids("llama-server")

    def until_served(self, seconds: float = 60.0) -> int:
        deadline = time.monotonic() + seconds
        while not (pids := self.servers()):
            assert time.monotonic() < deadline, "no server was launched"
            time.sleep(0.02)
        return pids[0]


@pytest.fixture
def served(tmp_path: Path, brood: Brood, models: Path) -> Iterator[Served]:
    yield Served(tmp_path, brood, models)


def test_with_and_without_speculation(served: Served) -> None:
    done = served.bench(seconds=110)
    assert done.returncode == 0, done.stderr
    plain, drafted = served.runs()
    assert (plain.label, drafted.label) == ("Vulkan", "Vulkan + draft-simple")
    for run in (plain, drafted):
        assert run.kind is Kind.SERVER and run.status is Status.OK
        [result] = run.results
        assert result.test == "chat" and result.generation_tokens == 1000
        assert result.seconds and result.tokens_per_second
        assert run.summary is not None and run.summary.processes and run.environment is not None
        assert "--port" in run.command and "0.0.0.0" not in run.command
    assert not any("draft" in word for word in plain.command)
    assert plain.results[0].draft_acceptance_ratio is None
    assert drafted.results[0].draft_acceptance_ratio
    assert not served.servers()
    assert "chat" in done.stdout
    assert not (served.state / "launches").exists()  # the user's undo is another one


def test_what_preflight_finds_is_the_items_failure(served: Served) -> None:
    served.profile(model='"/nowhere/model.gguf"')
    done = served.bench(seconds=60)
    assert done.returncode == 1
    for run in served.runs():
        assert run.status is Status.FAILED and "/nowhere/model.gguf" in run.reason
    assert not served.servers()


def test_a_server_that_does_not_come_up_is_the_items_failure(served: Served) -> None:
    (served.directory / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    served.profile(draft=f'"{served.directory}/broken.gguf"')
    done = served.bench(seconds=90)
    assert done.returncode == 1
    plain, drafted = served.runs()
    assert plain.status is Status.OK  # the draft is not named then
    assert drafted.status is Status.FAILED and drafted.reason
    assert not served.servers()


def test_a_server_that_dies_at_work_has_crashed(served: Served) -> None:
    served.profile(env=f'{{ {MARK} = "{served.brood.mark}", HALOTUI_TEST_DIE_AFTER = "3" }}')
    served.write(
        SUITE.replace("repeats = 1", "repeats = 500").replace('["none", "draft-simple"]', '["none"]')
    )
    done = served.bench(seconds=90)
    assert done.returncode == 1
    [run] = served.runs()
    assert run.status is Status.CRASHED and run.reason.startswith("the server ended"), run


def test_the_users_server_is_left_alone(served: Served, start_server: Callable[..., Any]) -> None:
    served.write(PLAIN)
    with start_server("-np", "1", "-c", "512") as theirs:
        pid = theirs.process.pid
        done = served.bench(seconds=110)
        assert done.returncode == 0, done.stderr
        assert "runs beside it" in done.stderr and str(pid) in done.stderr
        assert theirs.process.poll() is None and theirs.get_json("/health")["status"] == "ok"
        [run] = served.runs()
        assert run.summary is not None
        assert pid not in [process.pid for process in run.summary.processes]


def test_a_result_is_kept_before_the_next_workload_begins(served: Served) -> None:
    """kill -9 in the second one costs that one."""
    model = write_model(served.directory / "long.gguf", layers=1, context=16384)
    served.profile(model=f'"{model}"', flags="{ c = 9216, t = 1, np = 1 }")
    served.write(PLAIN.replace('["chat"]', '["chat", "summarise"]'))
    process = served.start()
    served.until_stored(1, seconds=90)
    end(process)
    [run] = served.runs()
    assert run.status is Status.LOST and [result.test for result in run.results] == ["chat"]


def test_longer_than_it_may_take(served: Served) -> None:
    served.profile(env=f'{{ {MARK} = "{served.brood.mark}", HALOTUI_TEST_LOAD_SECONDS = "60" }}')
    served.write(PLAIN.replace("hz", 'timeout = "4s"\nhz'))
    done = served.bench(seconds=90)
    assert done.returncode == 1
    [run] = served.runs()
    assert run.status is Status.HUNG and run.reason == "longer than 4 s"
    assert not served.servers()


def test_an_interrupt_stops_the_server(served: Served) -> None:
    served.write(SUITE.replace("repeats = 1", "repeats = 500"))
    process = served.start()
    served.until_served()
    time.sleep(2)
    _, err, code = end(process, signal.SIGINT)
    assert code == 130, err
    assert not served.servers()
    [run] = served.runs()
    assert run.status is Status.INTERRUPTED and run.summary is not None
    served.write(SUITE)
    again = served.bench("--resume", seconds=110)
    assert again.returncode == 0, again.stderr
    assert [run.status for run in served.runs()[1:]] == [Status.OK, Status.OK]


@pytest.mark.parametrize("load", [0, 30])
def test_what_a_killed_halotui_left_is_stopped(served: Served, load: int) -> None:
    """Serving already, or still loading."""
    hold = f', HALOTUI_TEST_LOAD_SECONDS = "{load}"' if load else ""
    served.profile(env=f'{{ {MARK} = "{served.brood.mark}"{hold} }}')
    served.write(
        SUITE.replace("repeats = 1", "repeats = 500").replace('["none", "draft-simple"]', '["none"]')
    )
    process = served.start()
    served.until_served()  # that may be the one asked for its --help
    time.sleep(3)
    [pid] = served.servers()
    end(process)
    assert served.servers() == [pid]
    served.profile()
    served.write(PLAIN)
    again = served.bench("--resume", seconds=110)
    assert again.returncode == 0, again.stderr
    assert str(pid) not in again.stderr  # it is ours to stop: nothing to warn of
    assert [run.status for run in served.runs()] == [Status.LOST, Status.OK]
    assert not served.servers()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_dry_run_launches_nothing(served: Served) -> None:
    done = served.bench("--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "1. Vulkan · chat",
        "   launches profile vk: chat, 1 times each",
        "2. Vulkan + draft-simple · chat",
        "   launches profile vk: chat, 1 times each",
    ]
    assert not served.servers() and not served.state.exists()
