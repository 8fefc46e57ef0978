"""``halotui doctor`` as its user runs it: on this machine, on the demo box, beside a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from box_trees import build
from halotui.demo.box import start_box
from running import HALOTUI, environment
from running import run as run_halotui


def run(*args: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Its two looks need not be a second apart."""
    return run_halotui(*args, HALOTUI_INTERVAL="0.25", **more)


def tree(root: Path, kind: str = "128-512m") -> list[object]:
    """A box's tree, and the flags that name it. No server is looked for in it."""
    build(root, kind)
    return ["--sysfs", root / "sysfs", "--procfs", root / "procfs"]


def by_id(out: str) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in json.loads(out)}


def test_a_box_as_json(tmp_path: Path) -> None:
    flags = tree(tmp_path)
    done = run("doctor", "--json", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    found = by_id(done.stdout)
    assert found["kernel-old"]["verdict"] == "ok" and found["kernel-old"]["read"]
    assert {line["section"] for line in found.values()} >= {"Box", "GPU", "Memory", "Software"}


def test_what_must_be_fixed_is_the_exit_code_and_nothing_is_changed(tmp_path: Path) -> None:
    flags = tree(tmp_path)
    (tmp_path / "procfs/sys/kernel/osrelease").write_text("6.14.0-1\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    done = run("doctor", "--quiet", *flags)
    assert (done.returncode, done.stderr) == (1, "")
    told = done.stdout.splitlines()
    assert any(row.startswith("  fail    Kernel  ") for row in told)
    assert "          $ sudo dnf upgrade --refresh kernel" in told
    assert "1 must be fixed" in told[-1]
    assert "  ok " not in done.stdout and "\x1b" not in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_usage() -> None:
    assert run("doctor", "--sysfs", "/nonexistent/here").returncode == 2
    assert run("doctor", "--no-such-flag").returncode == 2


def test_ctrl_c_once_it_says_on_the_terminal_that_it_is_at_work(tmp_path: Path) -> None:
    """Its two looks are a second apart, so there is time."""
    ours, theirs = os.openpty()
    argv = [*HALOTUI, "doctor", *map(str, tree(tmp_path))]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        told = b""
        while b"looking at the box" not in told:
            told += os.read(ours, 1024)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
    os.close(ours)
    assert (child.returncode, out) == (130, b"")


@pytest.mark.slow
async def test_the_demo_box_has_nothing_to_fix() -> None:
    box = await start_box()
    try:
        done = run("doctor", "--json", "--sysfs", box.sysfs, "--procfs", box.procfs)
    finally:
        await box.stop()
    found = by_id(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {line["id"] for line in found.values() if line["verdict"] == "warn"} <= {"logout"}  # of this box
    assert found["memory"]["verdict"] == "ok" and "58" in found["memory"]["detail"]
    assert found["memory"]["subject"] == box.url


@pytest.mark.slow
def test_a_real_server_and_its_flags(start_server: Callable[..., Any], models: Path) -> None:
    with start_server("-np", "2", "-ctk", "bf16", "-md", models / "draft-mid.gguf") as server:
        done = run("doctor", "--json", "--url", server.url, LLAMA_API_KEY="secret-of-the-user")
    lines = [line for line in json.loads(done.stdout) if line.get("subject") == server.url]
    found = {line["id"]: line for line in lines}
    assert found["server"]["verdict"] == "ok" and "tiny" in found["server"]["detail"]
    assert found["memory"]["verdict"] == "ok"  # of the RAM: there is no GPU
    assert found["np-slots"]["detail"] == "2 (-np 2)"
    assert "-ctk bf16 -ctv f16" in found["kv-asymmetric"]["detail"]
    assert "secret" not in done.stdout + done.stderr
    assert os.fspath(models) not in found["draft-vocab"]["detail"]
