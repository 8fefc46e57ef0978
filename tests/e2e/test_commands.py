"""The command line twins of the keys that act, on real servers: what they do, say, and leave alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from binaries import Brood, Server, binary, free_port
from halotui import exits
from halotui.commands import opening
from halotui.config import Settings
from halotui.demo.box import start_box
from running import HALOTUI
from terminal import Terminal

pytestmark = pytest.mark.slow
SECONDS = 90.0
KEY = "sk-hush-4711"


@pytest.fixture
def vulkan(tmp_path: Path) -> Path:
    return binary(tmp_path / "vulkan")


def halotui(brood: Brood, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, without a terminal."""
    return subprocess.run(
        [*HALOTUI, *map(str, args)],
        env={**brood.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def done(brood: Brood, *args: object, code: int = exits.OK) -> Any:
    """The same with ``--json``: what it answers."""
    ended = halotui(brood, *args, "--json")
    assert ended.returncode == code, f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return json.loads(ended.stdout)


def slots(server: Server) -> int:
    return int(server.get_json("/props")["total_slots"])


def config(brood: Brood, text: str) -> Path:
    file = Path(brood.env["XDG_CONFIG_HOME"], "halotui/config.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def state(brood: Brood) -> Path:
    return Path(brood.env["XDG_STATE_HOME"], "halotui")


# --- what is looked at


def test_servers(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, "-np", "2").wait_ready()
    (row,) = (row for row in done(brood, "servers") if row["pid"] == server.pid)
    assert (row["url"], row["backend"], row["runner"]) == (server.url, "vulkan", "plain")
    assert "refusal" not in row and "-np" in row["command"]
    text = halotui(brood, "servers").stdout
    assert f"{server.url}  pid {server.pid}  " in text and "vulkan · plain" in text


def test_profiles(brood: Brood) -> None:
    config(brood, '[profiles.mine]\ninherits = "vulkan"\nmodel = "/m.gguf"\nenv = { MY_TOKEN = "hush" }\n')
    rows = {row["name"]: row for row in done(brood, "profiles")}
    assert rows["mine"]["complete"] and not rows["mine"]["preset"]
    assert rows["vulkan"]["preset"] and not rows["vulkan"]["complete"]
    shown = halotui(brood, "profiles", "show", "mine").stdout
    assert '[profiles.mine.env]\nRADV_PERFTEST = "nogttspill"\nMY_TOKEN = "***"' in shown
    assert 'fa = "on"' in shown and "inherits" not in shown
    assert done(brood, "profiles", "show", "mine")["flags"]["ngl"] == 99


def test_a_profile_with_a_typo_names_its_line(brood: Brood) -> None:
    file = config(brood, "[profiles.a]\nport = 1\n[profiles.b]\nmodle = 'x'\n")
    ended = halotui(brood, "profiles")
    assert ended.returncode == exits.USAGE and f"{file}:4: profiles.b.modle" in ended.stderr


async def test_the_demo_has_a_desk_of_its_own() -> None:
    """Its two backends, no presets, its own state; nothing of the user's."""
    box = await start_box()
    try:
        desk = opening.open_demo_desk(Settings(), {}, box)
        try:
            assert {row.name: row.preset for row in await desk.profiles()} == {"vulkan": False, "rocm": False}
            (server,) = await desk.servers()
            assert (server.pid, server.url, server.refusal) == (box.pid, box.url, "")
            assert await desk.swap_profile(str(box.pid)) == "rocm"
            saved = await desk.save(str(box.pid), "kept")
            assert Path(saved).parent == box.state
            assert "kept" in [row.name for row in await desk.profiles()]
        finally:
            await desk.close()
    finally:
        await box.stop()


# --- what is refused before anything is touched


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["relaunch", "--set", "np=1"], exits.USAGE, "needs --yes"),
        (["relaunch", "--readonly", "--yes"], exits.USAGE, "read-only"),
        (["stop", "--readonly", "--yes"], exits.USAGE, "read-only"),
        (["relaunch", "--yes", "--set", "np"], exits.USAGE, "NAME=VALUE"),
        (["relaunch", "--yes", "--set", "nonsense=1"], exits.USAGE, "nonsense"),
        (["relaunch", "--yes", "--set", "np=many"], exits.USAGE, "np"),
        (["relaunch", "--yes", "--extra", "'open"], exits.USAGE, "--extra"),
        (["relaunch", "--yes", "--profile", "none"], exits.USAGE, "'none'"),
        (["relaunch", "--yes", "--server", "http://127.0.0.1:1"], exits.UNREACHABLE, "no server"),
        (["relaunch", "--yes", "--set", "np=1", "--unset", "parallel"], exits.USAGE, "np: both"),
        (["relaunch", "--yes", "--set", "np=1", "--extra", "-np 2"], exits.USAGE, "np: in --extra"),
        (["relaunch", "--yes", "--undo", "--set", "np=1"], exits.USAGE, "--undo takes no --set"),
        (["relaunch", "--yes", "--undo", "--server", "1"], exits.USAGE, "--undo takes no --server"),
        (["launch", "vulcan", "--yes"], exits.USAGE, "did you mean vulkan?"),
        (["profiles", "add", "x", "--from", "1"], exits.UNREACHABLE, "no server '1'"),
        (["launch", "none", "--yes"], exits.USAGE, "vulkan"),
        (["launch", "vulkan", "--yes"], exits.FAILURE, "model"),
        (["start", "--yes"], exits.FAILURE, "no server was stopped"),
        (["relaunch", "--undo", "--yes"], exits.FAILURE, "nothing to undo"),
        (["relaunch", "--finish", "--yes"], exits.FAILURE, "nothing was cut off"),
        (["relaunch", "--give-up", "--yes"], exits.FAILURE, "nothing was cut off"),
    ],
)
def test_no_thank_you(brood: Brood, vulkan: Path, args: list[str], code: int, words: str) -> None:
    server = brood.start(vulkan).wait_ready()
    ended = halotui(brood, *args)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert words in ended.stderr and "Traceback" not in ended.stderr
    assert brood.pids("llama-server") == [server.pid]


def test_streams_that_take_little(brood: Brood, vulkan: Path) -> None:
    """ASCII alone, and none at all: what is shown is plainer, what is done is the same."""
    server = brood.start(vulkan, "-np", "1", "-c", "512").wait_ready()
    change = ("relaunch", "--server", server.pid, "--set", "np=2")
    plain = halotui(brood, *change, "--dry-run", PYTHONIOENCODING="ascii")
    assert plain.returncode == exits.OK, plain.stderr
    assert " ok Model: " in plain.stdout and "->" in plain.stdout and plain.stdout.isascii()
    assert halotui(brood, "--help", PYTHONIOENCODING="ascii").returncode == exits.OK
    shell = ["sh", "-c", '"$@" 2>&- <&-', "sh", *HALOTUI, *map(str, change)]
    for more, code in (((), exits.USAGE), (("--yes",), exits.OK)):
        ended = subprocess.run([*shell, *more], env=brood.env, stdout=subprocess.PIPE, timeout=SECONDS)
        assert ended.returncode == code, ended.stdout
    assert slots(server) == 2


@pytest.mark.parametrize("how", ["bad flag", "missing model", "port in use"])
def test_a_failed_check_leaves_the_server_alone(brood: Brood, vulkan: Path, how: str) -> None:
    server = brood.start(vulkan, "-np", "1").wait_ready()
    other = brood.start(vulkan).wait_ready()
    change = {
        "bad flag": ("--extra=--no-such-flag",),
        "missing model": ("--set", "model=/no/such/model.gguf"),
        "port in use": ("--set", f"port={other.port}"),
    }[how]
    ended = halotui(brood, "relaunch", "--server", server.pid, *change, "--yes")
    assert ended.returncode == exits.FAILURE, ended.stderr
    assert "✗" in ended.stderr and "nothing was touched" in ended.stderr
    assert brood.pids("llama-server") == sorted((server.pid, other.pid)) and slots(server) == 1


def test_a_dry_run_touches_nothing(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, "-np", "1").wait_ready()
    args = ("relaunch", "--server", server.url, "--set", "np=2", "--dry-run", "--readonly")
    said = halotui(brood, *args)
    assert said.returncode == exits.OK, said.stderr
    assert "  - np 1\n  + np 2\n" in said.stdout and "✓" in said.stdout
    proposal = done(brood, *args)
    assert [(c["name"], c["before"], c["after"]) for c in proposal["changes"]] == [("np", "1", "2")]
    assert brood.pids("llama-server") == [server.pid] and slots(server) == 1
    assert not [*(state(brood) / "launches").glob("plan-*")]


def test_which_of_two(brood: Brood, vulkan: Path) -> None:
    two = [brood.start(vulkan).wait_ready() for _ in range(2)]
    ended = halotui(brood, "stop", "--yes")
    assert ended.returncode == exits.USAGE
    assert all(f"{server.url}  pid {server.pid}" in ended.stderr for server in two)
    assert len(brood.pids("llama-server")) == 2


# --- what is done


def test_there_and_back(brood: Brood, vulkan: Path) -> None:
    """np 1 → 4, by the same URL, and back by --undo; one server all along."""
    server = brood.start(vulkan, "-np", "1").wait_ready()
    outcome = done(brood, "relaunch", "--server", server.pid, "--set", "np=4", "--yes")
    assert (outcome["step"], outcome["url"]) == ("kept", server.url)
    assert slots(server) == 4 and brood.pids("llama-server") == [outcome["pid"]]
    assert outcome["pid"] != server.pid
    back = done(brood, "relaunch", "--undo", "--yes")
    assert back["step"] == "kept" and slots(server) == 1
    assert brood.pids("llama-server") == [back["pid"]]


def test_what_does_not_keep_its_word_is_rolled_back(brood: Brood, vulkan: Path) -> None:
    """llama.cpp #17989: one slot was asked for, four came."""
    server = brood.start(vulkan, "-np", "2").wait_ready()
    config(brood, '[profiles.four]\nflags = { np = 1 }\nenv = { HALOTUI_TEST_SLOTS = "4" }\n')
    ended = halotui(brood, "relaunch", "--server", server.pid, "--profile", "four", "--yes")
    assert ended.returncode == exits.ROLLED_BACK, ended.stderr
    assert "rolled back: what ran before serves again" in ended.stdout and "reason: " in ended.stdout
    assert slots(server) == 2 and len(brood.pids("llama-server")) == 1


def test_stop_and_start(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, "-np", "2").wait_ready()
    assert done(brood, "stop", "--server", server.pid, "--yes")["step"] == "stopped for good"
    assert not brood.pids("llama-server")
    assert done(brood, "start", "--yes")["step"] == "kept"
    assert slots(server) == 2 and len(brood.pids("llama-server")) == 1


def test_kill_needs_a_word(brood: Brood, vulkan: Path, tmp_path: Path) -> None:
    """A server that ignores TERM stays, unless --kill. Two at once: each is asked for fifteen seconds."""
    (tmp_path / "other").mkdir()
    deaf = {"HALOTUI_TEST_IGNORE_TERM": "1"}
    with Brood(tmp_path / "other", brood.models) as other, ThreadPoolExecutor() as pool:
        server = brood.start(vulkan, env=deaf).wait_ready()
        doomed = other.start(vulkan, env=deaf).wait_ready()
        killed = pool.submit(done, other, "stop", "--server", doomed.pid, "--yes", "--kill")
        ended = halotui(brood, "stop", "--server", server.pid, "--yes")
        assert ended.returncode in (exits.FAILURE, exits.ROLLED_BACK), ended.stderr
        assert brood.pids("llama-server") == [server.pid] and slots(server)
        assert killed.result()["step"] == "stopped for good"
        assert not other.pids("llama-server")


def test_measured(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, "-np", "1").wait_ready()
    ended = halotui(brood, "relaunch", "--server", server.pid, "--set", "np=2", "--measure", "--yes")
    assert ended.returncode == exits.OK, ended.stderr
    table = [line.split() for line in ended.stdout.splitlines()]
    (decode,) = (line for line in table if line[:2] == ["tg", "t/s"])
    assert "%" in decode and len([word for word in decode if word[0].isdigit()]) >= 2


def test_a_captured_server_is_a_profile(brood: Brood, vulkan: Path) -> None:
    """Its comments stay, and it launches."""
    mine = '# mine\ntheme = "halo-light"  # at night\n'
    file = config(brood, mine)
    server = brood.start(vulkan, "-np", "3", "--alias", "captured").wait_ready()
    added = halotui(brood, "profiles", "add", "three", "--from", server.pid)
    assert (added.returncode, added.stdout) == (exits.OK, f"three: {file}\n"), added.stderr
    assert file.read_text().startswith(mine) and "[profiles.three" in file.read_text()
    again = halotui(brood, "profiles", "add", "three", "--from", server.url)
    assert again.returncode == exits.FAILURE and "three" in again.stderr
    port = free_port()
    outcome = done(brood, "launch", "three", "--set", f"port={port}", "--yes")
    assert outcome["url"] == f"http://127.0.0.1:{port}" and len(brood.pids("llama-server")) == 2
    (row,) = (row for row in done(brood, "servers") if row["pid"] == outcome["pid"])
    assert row["profile"] == "three" and slots(server) == 3


def test_a_server_that_is_set_by_environment_is_a_profile(brood: Brood, vulkan: Path) -> None:
    """What its command line does not say is said in the profile, and it launches."""
    model = brood.models / "tiny.gguf" if brood.models else Path()
    env = {"LLAMA_ARG_MODEL": str(model), "LLAMA_ARG_CTX_SIZE": "1024"}
    brood.models = None  # then it is not named on the command line
    there = brood.start(vulkan, env=env).wait_ready()
    assert halotui(brood, "profiles", "add", "by-env", "--from", there.pid).returncode == exits.OK
    profile = done(brood, "profiles", "show", "by-env")
    assert profile["model"] == str(model) and profile["env"] == {"LLAMA_ARG_CTX_SIZE": "1024"}
    there.stop()
    outcome = done(brood, "launch", "by-env", "--yes")
    assert (outcome["step"], outcome["url"]) == ("kept", there.url)
    assert there.get_json("/slots")[0]["n_ctx"] <= 1024


# --- what is kept to ourselves


def test_a_key_is_told_to_nobody(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, "-np", "1", "--api-key", KEY).wait_ready()
    told = ""
    for args in (
        ("servers",),
        ("servers", "--json"),
        ("relaunch", "--server", server.pid, "--set", "np=2", "--dry-run"),
        ("relaunch", "--server", server.pid, "--set", "np=2", "--dry-run", "--json"),
        ("relaunch", "--server", server.pid, "--set", "np=2", "--yes"),
        ("relaunch", "--status", "--json"),
        ("profiles", "add", "keyed", "--from", server.url),
        ("profiles", "show", "keyed"),
    ):
        ended = halotui(brood, *args)
        assert ended.returncode == exits.OK, ended.stderr
        told += ended.stdout + ended.stderr
    (pid,) = brood.pids("llama-server")
    assert slots(server) == 2  # the same key opens it
    assert KEY not in told
    assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert KEY not in Path(brood.env["XDG_CONFIG_HOME"], "halotui/config.toml").read_text()
    found = [*state(brood).rglob("*")]
    assert found and not any(KEY in str(path) for path in found)
    for path in (state(brood), *found):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert not [path for path in found if path.suffix == ".log" and KEY in path.read_text()]


# --- at a terminal


@pytest.fixture
def slow(brood: Brood, vulkan: Path) -> Server:
    """A server, and a profile of that name which takes long to load."""
    config(brood, '[profiles.slow]\nflags = { np = 2 }\nenv = { HALOTUI_TEST_LOAD_SECONDS = "20" }\n')
    return brood.start(vulkan, "-np", "1").wait_ready()


def at_terminal(brood: Brood, *args: object) -> Terminal:
    ours = {key: value for key, value in brood.env.items() if key.startswith(("XDG_", "HALOTUI_"))}
    return Terminal(*args, width=120, height=50, **ours)


def test_asks_and_takes_no_for_an_answer(brood: Brood, slow: Server) -> None:
    with at_terminal(brood, "relaunch", "--server", slow.pid, "--set", "np=2") as terminal:
        terminal.wait_for("Relaunch? [y/N]", SECONDS)
        terminal.press("n", "enter")
        assert terminal.wait_end(10) == exits.FAILURE
    assert brood.pids("llama-server") == [slow.pid]


def test_ctrl_c_puts_back_what_ran(brood: Brood, slow: Server) -> None:
    with at_terminal(brood, "relaunch", "--server", slow.pid, "--profile", "slow") as terminal:
        terminal.wait_for("Relaunch? [y/N]", SECONDS)
        terminal.press("y", "enter")
        terminal.wait_for("loading", SECONDS)
        terminal.press("ctrl+c")
        terminal.wait_for("putting back what ran", SECONDS)
        assert terminal.wait_end(SECONDS) == exits.ROLLED_BACK
    assert slots(slow) == 1 and len(brood.pids("llama-server")) == 1


def test_ctrl_c_twice_looks_away(brood: Brood, slow: Server) -> None:
    with at_terminal(brood, "relaunch", "--server", slow.pid, "--profile", "slow", "--yes") as terminal:
        terminal.wait_for("loading", SECONDS)
        terminal.press("ctrl+c")
        terminal.wait_for("putting back what ran", SECONDS)
        terminal.press("ctrl+c")
        assert terminal.wait_end(SECONDS) == exits.INTERRUPTED
    settled(brood)
    assert slots(slow) == 1 and len(brood.pids("llama-server")) == 1


def test_kill_is_asked_for(brood: Brood, vulkan: Path) -> None:
    server = brood.start(vulkan, env={"HALOTUI_TEST_IGNORE_TERM": "1"}).wait_ready()
    with at_terminal(brood, "stop", "--server", server.pid, "--yes") as terminal:
        terminal.wait_for("Kill it? Requests under way are lost. [y/N]", SECONDS)
        assert brood.pids("llama-server") == [server.pid]
        terminal.press("y", "enter")
        assert terminal.wait_end(SECONDS) == exits.OK
    assert not brood.pids("llama-server")


def settled(brood: Brood) -> Any:
    """Until nothing is under way any more: how it ended."""
    deadline = time.monotonic() + SECONDS
    while "standing" in (status := _status(brood)):
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return status["last"]


def _status(brood: Brood) -> dict[str, Any]:
    return {key: value for key, value in done(brood, "relaunch", "--status").items() if value is not None}


def test_it_goes_on_without_its_command(brood: Brood, vulkan: Path) -> None:
    """Killed while it loads: the others say so meanwhile, and the new server comes."""
    config(brood, '[profiles.slow]\nflags = { np = 2 }\nenv = { HALOTUI_TEST_LOAD_SECONDS = "4" }\n')
    server = brood.start(vulkan, "-np", "1").wait_ready()
    args = ["relaunch", "--server", str(server.pid), "--profile", "slow", "--yes"]
    with subprocess.Popen([*HALOTUI, *args], env=brood.env, stderr=subprocess.PIPE, text=True) as command:
        assert command.stderr
        while "loading" not in command.stderr.readline():
            assert command.poll() is None
        os.kill(command.pid, signal.SIGKILL)
    ended = halotui(brood, "servers")
    assert ended.returncode == exits.OK and "unfinished relaunch" in ended.stderr
    assert settled(brood)["step"] == "kept"
    assert slots(server) == 2 and len(brood.pids("llama-server")) == 1
