"""The kernel log: which lines tell of trouble, and who may read them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from stand_in_bench import TIMEOUT_LINE, journalctl

from halotui.collectors import kernel_log
from halotui.hosts.local_hands import LocalHands
from halotui.model import Severity

CRITICAL = (
    TIMEOUT_LINE,
    "amdgpu 0000:c5:00.0: amdgpu: MES failed to respond to msg=REMOVE_QUEUE",
    "amdgpu 0000:c5:00.0: MES failed to response msg=14",
    "amdgpu: failed to remove hardware queue from MES, doorbell=0x1002",
    "amdgpu: MES might be in unrecoverable state, issue a GPU reset",
    "amdgpu: Failed to evict queue 3",
    "amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!",
    "amdgpu 0000:c5:00.0: amdgpu: VRAM is lost due to GPU reset!",
    "amdgpu 0000:c5:00.0: [gfxhub] page fault (src_id:0 ring:40 vmid:8 pasid:32771)",
    "amdgpu 0000:c5:00.0: amdgpu: GCVM_L2_PROTECTION_FAULT_STATUS:0x00841051",
    "amdgpu 0000:c5:00.0: amdgpu: SMU: I'm not done with your previous command: SMN_C2PMSG_66:0x0000001A",
    "HW Exception by GPU node-1 (Agent handle: 0x5581) reason :GPU Hang",
    "Memory access fault by GPU node-1 (Agent handle: 0x55) on address 0x7f. Reason: Unknown.",
    "radv/amdgpu: The CS has been cancelled because the context is lost.",
    "vk::Queue::submit: ErrorDeviceLost",
)


@pytest.mark.parametrize("line", CRITICAL)
def test_trouble_is_known(line: str) -> None:
    found = kernel_log.trouble(f"[ 1234.5] {line}")
    assert found is not None and found.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("amdgpu 0000:01:00.0: amdgpu: amdgpu: 65536M of VRAM memory ready", "memory-pool"),
        (
            "[drm] Configuring gttsize via module parameter is deprecated, please use ttm.pages_limit",
            "gttsize",
        ),
        ("amdgpu 0000:c5:00.0: amdgpu: GPU reset(2) succeeded!", "recovered"),
        ("amdgpu: Ring comp_1.0.0 reset succeeded", "recovered"),
        ("amdgpu:  Process llama-bench pid 812 thread llama-bench pid 812", "culprit"),
        ("amdgpu: Dumping IP State", "gpu-dump"),
    ],
)
def test_other_lines_are_none(line: str, kind: str) -> None:
    found = kernel_log.match(line)
    assert found is not None and found.kind == kind
    assert kernel_log.trouble(line) is None


def test_a_page_fault_is_no_hang() -> None:
    assert kernel_log.hang(["[gfxhub] page fault (src_id:0 ring:40 vmid:8 pasid:1)"]) is None
    found = kernel_log.hang(["nothing", TIMEOUT_LINE])
    assert found is not None and found.what == "ring time-out"


class Journal:
    """What the stand-in journalctl prints."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def say(self, text: str) -> None:
        self._file.write_text(text)

    def say_of_the_boot_before(self, text: str) -> None:
        self._file.with_name("journal.before").write_text(text)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    journalctl(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_JOURNAL", str(tmp_path / "journal"))
    return Journal(tmp_path / "journal")


async def test_the_story_of_a_fault(journal: Journal) -> None:
    journal.say(
        "2026-11-21T12:00:01+0000 box kernel: usb 1-1: new device\n"
        f"2026-11-21T12:00:02+0000 box kernel: {TIMEOUT_LINE}\n"
        "2026-11-21T12:00:02+0000 box kernel: amdgpu:  Process llama-bench pid 7 thread x pid 7\n"
        "2026-11-21T12:00:03+0000 box kernel: amdgpu: \x1b[2JGPU reset begin!\n"
        "2026-11-21T12:00:04+0000 box kernel: amdgpu: GPU reset(1) succeeded!\n"
    )
    lines = await kernel_log.since(LocalHands(), 0.0)
    assert len(lines) == 4 and not lines.denied
    assert "ring comp" in lines[0] and "Process" in lines[1] and "succeeded" in lines[3]
    assert "\x1b" not in "".join(lines)


async def test_no_fault_no_lines(journal: Journal) -> None:
    journal.say("kernel: amdgpu: 512M of VRAM memory ready\nkernel: amdgpu: Dumping IP State\n")
    assert await kernel_log.since(LocalHands(), 0.0) == ()
    assert await kernel_log.of_its_boot(LocalHands(), 0.0, 1.0) == ()


async def test_the_boot_before(journal: Journal) -> None:
    journal.say_of_the_boot_before(f"kernel: {TIMEOUT_LINE}\n")
    lines = await kernel_log.of_its_boot(LocalHands(), time.time() - 60, 5.0)
    assert len(lines) == 1 and TIMEOUT_LINE in lines[0]


async def test_its_boot_may_be_several_boots_ago(journal: Journal, tmp_path: Path) -> None:
    """Whoever meets a hang restarts more than once: the time tells which boot it was."""
    _program(tmp_path / "bin/journalctl", f'echo "$@" > {tmp_path}/asked')
    await kernel_log.of_its_boot(LocalHands(), 1000.0, 60.0)
    asked = (tmp_path / "asked").read_text().split()
    assert "--since=@1000.000" in asked and "--until=@1660.000" in asked
    assert not {"-b", "-k"} & set(asked) and "_TRANSPORT=kernel" in asked


async def test_many_lines_are_cut_in_the_middle(journal: Journal) -> None:
    journal.say("".join(f"kernel: {TIMEOUT_LINE} #{n}\n" for n in range(500)))
    lines = await kernel_log.since(LocalHands(), 0.0)
    assert len(lines) == kernel_log.MOST_LINES + 1
    assert lines[0].endswith("#0") and lines[-1].endswith("#499")
    assert "460 more" in lines[kernel_log.MOST_LINES // 2]


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_dmesg_where_there_is_no_journal(journal: Journal, tmp_path: Path) -> None:
    _program(tmp_path / "bin/journalctl", 'echo "No journal files were found." >&2; exit 1')
    now = time.time()
    old, new = (time.strftime("%Y-%m-%dT%H:%M:%S,000000%z", time.localtime(now + s)) for s in (-600, 5))
    _program(
        tmp_path / "bin/dmesg",
        f"echo '{old[:-2]}:{old[-2:]} {TIMEOUT_LINE} old'; echo '{new[:-2]}:{new[-2:]} {TIMEOUT_LINE} new'",
    )
    lines = await kernel_log.since(LocalHands(), now)
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["new"] and not lines.denied


async def test_denied_is_said(journal: Journal, tmp_path: Path) -> None:
    _program(
        tmp_path / "bin/journalctl",
        'echo "Hint: You are currently not seeing messages from other users and the system." >&2; exit 0',
    )
    _program(
        tmp_path / "bin/dmesg", 'echo "dmesg: read kernel buffer failed: Operation not permitted" >&2; exit 1'
    )
    lines = await kernel_log.since(LocalHands(), time.time())
    assert lines == () and lines.denied


async def test_neither_program_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert await kernel_log.since(LocalHands(), 0.0) == ()
