"""What the kernel's log says went wrong: who was at it, whether the GPU came back, and what to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import builders
from builders import GPU, URL, gpu, server
from halotui.collectors.kernel_follow import KmsgReader
from halotui.collectors.kernel_lines import ROWS, events
from halotui.history import History
from halotui.model import KERNEL_SOURCE, Finding, Gpu, KernelEvent, Platform, Severity
from halotui.rules.engine import Engine
from halotui.rules.kernel import FAULTS, HANGS, RULES
from rules import matches

PREFIX = f"amdgpu {GPU}: amdgpu: "
TIMEOUT = "ring comp_1.1.0 timeout, signaled seq=7, emitted seq=9"
CULPRIT = " Process llama-server pid 4321 thread llama-ser:cs0 pid 4322"
FAULT = "[gfxhub] page fault (src_id:0 ring:24 vmid:8 pasid:32770)"
BACK = "GPU reset(1) succeeded!"
KILLED = "Out of memory: Killed process %d (%s) total-vm:9kB, anon-rss:8kB"


def said(at: float, *lines: str, prefix: str = PREFIX) -> tuple[KernelEvent, ...]:
    return events((at + number * 0.001, prefix + line) for number, line in enumerate(lines))


class Watch:
    def __init__(self) -> None:
        self.history, self.engine = History(), Engine(RULES)

    def see(
        self,
        at: float,
        *kernel: KernelEvent,
        gpus: tuple[Gpu, ...] = (gpu(),),
        platform: Platform | None = None,
        **parts: Any,
    ) -> tuple[Finding, ...]:
        frame = replace(builders.frame(at, gpus=gpus, **parts), kernel=kernel, platform=platform)
        self.history.push(frame)
        findings = self.engine.evaluate(frame, self.history).findings
        assert all(matches(finding.id, finding.evidence) for finding in findings), findings
        return findings


def judge(*lines: str, **more: Any) -> Finding:
    (found,) = Watch().see(1000, *said(1000, *lines), **more)
    return found


def test_the_story_of_a_hang() -> None:
    watch = Watch()
    assert watch.see(999) == ()
    (hang,) = watch.see(1000, *said(1000, TIMEOUT, CULPRIT, "GPU reset begin!"), servers=[server(pid=4321)])
    assert (hang.id, hang.subject, hang.severity) == ("gpu-fault", GPU, Severity.CRITICAL)
    assert hang.title == "The GPU hangs, and has not come back"
    assert hang.evidence == (
        "ring comp_1.1.0 timed out: job 7 of 9 done; llama-server (pid 4321) was at work, which serves "
        f"{URL}; 2 faults; last 0 s ago; kernel: {PREFIX}{TIMEOUT}"
    )
    (back,) = watch.see(1010, *said(1009, BACK))
    assert back.severity is Severity.WARNING and back.since_time == 1000
    assert back.title == f"The GPU was reset at {time.strftime('%H:%M', time.localtime(1009))} and came back"
    (again,) = watch.see(1100, *said(1100, TIMEOUT))
    assert again.severity is Severity.CRITICAL and "3 faults; last 0 s ago" in again.evidence
    assert "llama" not in again.evidence  # that was another one
    assert watch.see(1699) and watch.see(1701) == ()
    assert watch.see(1800, *said(1800, FAULT))  # it re-arms


def test_a_pid_that_came_back_serves_nothing_to_blame() -> None:
    lines = said(1000, TIMEOUT, CULPRIT)
    for up, named in ((None, True), (500.0, True), (40.0, False)):
        (found,) = Watch().see(1060, *lines, servers=[server(pid=4321, uptime_seconds=up)])
        assert "llama-server (pid 4321) was at work" in found.evidence
        assert (URL in found.evidence) == named


def test_a_real_story_is_a_reset_that_came_back() -> None:
    lines = KmsgReader(Path(__file__).parent.parent / "fixtures/kernel/hang.kmsg").read()
    (found,) = Watch().see(910, *events(lines))
    assert found.severity is Severity.WARNING and found.subject == GPU
    assert found.evidence.startswith(
        "ring comp_1.1.0 timed out: job 166926 of 166928 done; llama-server (pid 12519)"
    )


def test_a_boot_is_no_fault() -> None:
    lines = KmsgReader(Path(__file__).parent.parent / "fixtures/kernel/boot.kmsg").read()
    assert Watch().see(10, *events(lines)) == ()


@pytest.mark.parametrize("kind", sorted(FAULTS & {row.kind for row in ROWS}))
def test_every_kind_of_fault_fires_and_clears(kind: str) -> None:
    watch, event = Watch(), KernelEvent(kind=kind, severity=Severity.CRITICAL, text="it happened")
    (found,) = watch.see(1000, event)
    assert len(found.title) < 60 and found.evidence == "it happened; last 0 s ago"
    assert (found.severity is Severity.WARNING) == (kind == "ring-recovered")
    assert watch.see(1601) == ()


def test_what_is_critical_of_a_gpu_is_a_fault() -> None:
    other = {"oom-kill", "oom-limit", "overheated"}
    assert {row.kind for row in ROWS if row.of.severity is Severity.CRITICAL} == (
        (FAULTS - {"gpu-hang", "memory-fault", "ring-recovered"}) | other
    )


def test_near_misses() -> None:
    lines = ("Dumping IP State", BACK, CULPRIT, "Fence fallback timer expired on ring sdma0")
    assert Watch().see(1000, *said(1000, *lines)) == ()
    assert Watch().see(1000, *said(399, TIMEOUT)) == ()  # long ago when halotui came
    assert Watch().see(1000, *said(2000, TIMEOUT))  # a clock ahead is now


def test_a_page_fault_is_a_programs() -> None:
    found = judge(*(FAULT, CULPRIT.replace("Process", "in process")) * 400)
    assert found.title == "A program made the GPU fault" and found.severity is Severity.CRITICAL
    assert "; llama-server (pid 4321) was at work; 400 faults;" in found.evidence
    assert "page-fault" not in HANGS


def test_echoes_of_a_reset_do_not_undo_it() -> None:
    assert judge(TIMEOUT, BACK, FAULT).severity is Severity.WARNING
    assert judge(TIMEOUT, BACK, "MES failed to respond to msg=14").severity is Severity.CRITICAL


def test_whose_gpu() -> None:
    other = "0000:03:00.0"
    both = (*said(1000, TIMEOUT), *said(1001, FAULT, prefix=f"amdgpu {other}: "))
    found = Watch().see(1002, *both, gpus=(gpu(), gpu(other)))
    assert {one.subject: one.title[:5] for one in found} == {GPU: "The G", other: "A pro"}
    no_slot = said(1000, TIMEOUT, prefix="[drm] ")
    assert Watch().see(1000, *no_slot)[0].subject == GPU
    assert Watch().see(1000, *no_slot, gpus=())[0].subject == KERNEL_SOURCE
    watch = Watch()  # its GPU is gone from sysfs while it is reset
    watch.see(1000, *said(1000, TIMEOUT))
    assert watch.see(1001, *said(1001, BACK, prefix="[drm] "), gpus=())[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        (Platform(kernel="7.0.13-200.fc44"), "With this kernel a job on the GPU has 2 s"),
        (Platform(), "Since kernel 7 a job on the GPU has 2 s"),
        (None, "Since kernel 7 a job on the GPU has 2 s"),
        (Platform(kernel="6.18.9"), "did not come back"),
        (
            Platform(kernel="7.1.0", kernel_parameters=("amdgpu.lockup_timeout=20000",)),
            "did not come back",
        ),
        (
            Platform(kernel="7.1.0", module_parameters={"amdgpu.lockup_timeout": "20000"}),
            "did not come back",
        ),
    ],
)
def test_jobs_of_two_seconds(platform: Platform | None, words: str) -> None:
    found = judge(TIMEOUT, platform=platform)
    assert words in found.why and "-b 256" in found.fix and "cwsr_enable=0" in found.fix
    assert "20251125" in found.fix and "lockup_timeout" in found.fix


def test_a_kill_is_said_for_half_an_hour() -> None:
    watch = Watch()
    (found,) = watch.see(1000, *said(1000, KILLED % (9, "llama-server"), prefix=""))
    assert (found.id, found.severity) == ("oom-kill", Severity.CRITICAL)
    assert found.title == "The kernel killed llama-server: out of memory"
    assert found.evidence.startswith("llama-server (pid 9); 0 s ago; kernel: Out of memory: Killed process 9")
    (found,) = watch.see(1060, *said(1060, KILLED % (10, "firefox"), prefix=""))
    assert found.title.startswith("The kernel killed llama-server") and "2 processes were" in found.evidence
    assert watch.see(2859) and watch.see(2861) == ()


def test_a_kill_at_a_limit_and_one_of_nobody_known() -> None:
    limit = said(1000, "Memory cgroup out of memory: Killed process 9 (python) total-vm:9kB", prefix="")
    (found,) = Watch().see(1000, *limit)
    assert "MemoryMax" in found.fix and "limit" in found.why
    bare = KernelEvent(kind="oom-kill", severity=Severity.CRITICAL, text="killed")
    (found,) = Watch().see(1000, bare)
    assert (
        found.title == "The kernel killed a process: out of memory" and found.evidence == "a process; 0 s ago"
    )
