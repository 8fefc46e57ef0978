"""What every command may load: headless ones no Textual, the quick ones no network either."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import environment

ROOT = Path(__file__).parents[2]
SCREEN = {"textual", "rich", "plotext"}
HEAVY = SCREEN | {"httpx", "psutil", "msgspec"}
# Runs a command line and says on stderr, last, what it has imported.
SPY = """
import sys
try:
    from halotui.cli import main
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
sys.stdout.flush()
print("\\n" + " ".join(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
sys.exit(code)
"""


def imported(*args: str, code: int = 0, state: Path | str = "", silent: bool = False) -> set[str]:
    """The top-level modules that are loaded when this command line ends."""
    done = subprocess.run(
        [sys.executable, "-c", SPY, *args],
        env=environment(**({"XDG_STATE_HOME": str(state)} if state else {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout or silent
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "args",
    [
        ["--version"],
        ["--help"],
        ["stream", "--help"],
        ["relaunch", "--help"],
        ["profiles", "add", "--help"],
        ["requests", "--help"],
    ],
)
def test_words_cost_nothing(args: list[str]) -> None:
    assert not imported(*args) & HEAVY


@pytest.mark.parametrize("args", [["--once"], ["--json"], ["stream", "-n", "2", "-i", "0.25"], []])
def test_headless_is_free_of_the_screen(args: list[str], server: Any) -> None:
    modules = imported(*args, "--url", server.url)
    assert not modules & (SCREEN | {"httpx", "httpcore"})
    assert "msgspec" in modules  # the spy sees what there is


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["servers"], 0),
        (["profiles"], 0),
        (["profiles", "show", "vulkan"], 0),
        (["relaunch", "--dry-run", "--set", "no-such-setting=1"], 2),
        (["relaunch", "--status"], 0),
        (["launch", "vulkan", "--dry-run"], 1),
        (["stop", "--server", "http://127.0.0.1:1", "--yes"], 3),
    ],
)
def test_who_acts_is_free_of_the_screen(args: list[str], code: int, server: Any, tmp_path: Path) -> None:
    modules = imported(*args, code=code, state=tmp_path, silent=code > 0)
    assert not modules & (SCREEN | {"httpx", "httpcore"})


def test_a_log_is_read_without_a_server(server: Any) -> None:
    server.complete("The old oak", 8)
    for args in (["--log", str(server.log_path)], ["--url", server.url]):
        modules = imported("requests", *args)
        assert not modules & (SCREEN | {"httpx", "httpcore", "sqlite3"}) and "msgspec" in modules


def test_httpx_is_for_https() -> None:
    assert "httpx" in imported("--json", "--url", "https://127.0.0.1:1", code=3)


def test_a_look_at_nothing_is_free_of_the_screen() -> None:
    assert not imported("--json", "--url", "127.0.0.1:1", code=3) & SCREEN


def test_the_import_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_contracts_can_break(tmp_path: Path) -> None:
    """They are no paper walls: a widget that reads a source, and a rule that draws, are found."""
    shutil.copytree(ROOT / "halotui", tmp_path / "halotui", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for file, line in (
        ("widgets/speed.py", "import httpx"),
        ("rules/slots.py", "import rich.text"),
        ("collectors/memory.py", "import halotui.sampler.core"),
    ):
        with (tmp_path / "halotui" / file).open("a") as code:
            code.write(f"\n{line}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout
    for broken in (
        "widgets is not allowed to import httpx",
        "rules is not allowed to import rich",
        "collectors is not allowed to import halotui.sampler",
    ):
        assert f"halotui.{broken}" in done.stdout
