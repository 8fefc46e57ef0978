"""The table of the kernel's lines: every row has a line, and a story is told as few events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors.kernel_lines import KINDS, MOST_EVENTS, ROWS, WORTH, events, match
from halotui.model import KernelEvent, Severity
from halotui.safe import clean

HERE = Path(__file__).parent.parent / "fixtures/kernel"
GPU = "amdgpu 0000:c5:00.0: amdgpu: "
FAULT = GPU + "[gfxhub] page fault (src_id:0 ring:24 vmid:8 pasid:32770)"
IN_PROCESS = GPU + " in process llama-server pid 1234 thread llama-server pid 1240)"
STATUS = GPU + "GCVM_L2_PROTECTION_FAULT_STATUS:0x00800932"
TIMEOUT = GPU + "ring comp_1.1.0 timeout, signaled seq=7, emitted seq=9"

LINES = {  # a line of each row, and the event's text
    GPU + "amdgpu: 65536M of VRAM memory ready": "VRAM: 65536 MiB ready",
    "[drm] amdgpu: 108000M of GTT memory ready.": "GTT: 108000 MiB ready",
    "amdgpu 0000:bd:00.0:  63968M of GTT memory ready.": "GTT: 63968 MiB ready",
    GPU + "GART: 512M 0x00007FFF00000000 - 0x00007FFF1FFFFFFF": "GART: 512 MiB",
    "amdgpu: Capping GTT to 128087M to not exceed available system memory": "GTT was asked larger than the "
    "RAM: capped to 128087 MiB",
    GPU + "[drm] Configuring gttsize via module parameter is deprecated, please use ttm.pages_limit": (
        "amdgpu.gttsize is deprecated: ttm.pages_limit takes its place"
    ),
    GPU + "[drm] GTT size has been set as 68719476736 but TTM size has been set as 12593328128, this is": (
        "amdgpu.gttsize (68719476736 bytes) and ttm.pages_limit (12593328128 bytes) differ"
    ),
    GPU + "MES FW version must be >= 0x7f to enable LR compute workaround.": "the firmware of the GPU's "
    "scheduler is old",
    "ttm: unknown parameter 'pages_limits' ignored": "a module does not know its parameter: ttm pages_limits",
    GPU + "MES failed to respond to msg=REMOVE_QUEUE": "the GPU's scheduler does not answer (REMOVE_QUEUE)",
    "amdgpu 0000:c5:00.0: MES failed to response msg=14": "the GPU's scheduler does not answer (14)",
    GPU + "MES might be in unrecoverable state, issue a GPU reset": "the GPU's scheduler may be lost",
    GPU + "failed to remove hardware queue from MES, doorbell=0x1002": "a queue of the GPU is stuck",
    GPU + "Failed to evict process queues": "a queue of the GPU is stuck",
    "amdgpu: Failed to quiesce KFD": "a queue of the GPU is stuck",
    "amdgpu: Suspending all queues failed": "a queue of the GPU is stuck",
    "amdgpu: qcm fence wait loop timeout expired": "a queue of the GPU is stuck",
    "[drm] ring gfx_0.0.0 timeout, but soft recovered": "ring gfx_0.0.0 timed out, and came back without a "
    "reset",
    TIMEOUT: "ring comp_1.1.0 timed out: job 7 of 9 done",
    "[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring sdma0 timeout, signaled seq=1, emitted seq=2": (
        "ring sdma0 timed out: job 1 of 2 done"
    ),
    "amdgpu: ring vcn_unified_0 timeout": "ring vcn_unified_0 timed out",
    GPU + "Ring comp_1.1.0 reset failed": "ring comp_1.1.0 could not be reset",
    GPU + "GPU reset begin!. Source:  1": "the GPU is reset",
    GPU + "GPU reset end with ret = -110": "the GPU's reset ended with error -110",
    GPU + "GPU reset succeeded, trying to resume": "the GPU starts again",
    "[drm] VRAM is lost due to GPU reset!": "what was in VRAM is lost",
    GPU + "device lost from bus!": "the GPU is gone from its bus",
    GPU + "GPU reset(2) succeeded!": "the GPU was reset and is back",
    GPU + "Ring gfx_0.0.0 reset succeeded": "ring gfx_0.0.0 was reset and is back",
    "amdgpu 0000:c5:00.0: [drm] device wedged, but recovered through reset": "the GPU is back",
    FAULT: "page fault on the GPU (gfxhub, vmid 8)",
    STATUS: "page fault on the GPU (status 0x00800932)",
    GPU + "SMU: I'm not done with your previous command: SMN_C2PMSG_66:0x0000001A": (
        "the GPU's power controller does not answer"
    ),
    GPU + "Failed to export SMU metrics table!": "the GPU's power controller does not answer",
    IN_PROCESS: "llama-server was at work on the GPU",
    GPU + "[drm] AMDGPU device coredump file has been created": "a dump of the GPU's state was made",
    GPU + "Dumping IP State": "the GPU's state is dumped",
    "amdgpu: Fence fallback timer expired on ring gfx_0.0.0": "an interrupt of ring "
    "gfx_0.0.0 was late or lost",
    "amdgpu: Freeing queue vital buffer 0x7f33, queue evicted": "a program freed a queue in use",
    "Memory cgroup out of memory: Killed process 42 (llama-server) total-vm:9kB, anon-rss:8kB": (
        "llama-server was killed: its unit or container is out of memory"
    ),
    "Out of memory: Killed process 123 (llama-server) total-vm:9kB, anon-rss:8kB": (
        "llama-server was killed: out of memory"
    ),
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),task_memcg=/x,task=python,pid=7,uid=1000": (
        "python was chosen: its unit or container is out of memory"
    ),
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task=llama-server,pid=9,uid=1000": (
        "llama-server was chosen: out of memory"
    ),
    "thermal thermal_zone0: acpitz: critical temperature reached, shutting down": (
        "the critical temperature was reached"
    ),
    "mce: [Hardware Error]: Machine check events logged": "the hardware reported an error (machine check)",
    "amdxdna 0000:c6:00.1: [drm] *ERROR* aie2_smu_exec: smu cmd 4 failed, 0xff": (
        "the NPU's driver reports an error: smu cmd 4 failed, 0xff"
    ),
    "amdxdna 0000:c6:00.1: probe with driver amdxdna failed with error -22": (
        "the NPU's driver reports an error: -22"
    ),
    "PM: suspend entry (s2idle)": "the box goes to sleep",
    "PM: hibernation: hibernation exit": "the box woke up",
}


def told(*lines: str, step: float = 0.001) -> tuple[KernelEvent, ...]:
    return events((1000 + number * step, line) for number, line in enumerate(lines))


@pytest.mark.parametrize(("line", "text"), LINES.items())
def test_a_line_of_the_table_is_an_event(line: str, text: str) -> None:
    (event,) = told(line)
    assert (event.text, event.detail, event.time) == (text, line, 1000)
    assert event.severity is KINDS[event.kind].severity and WORTH.search(line.encode())
    if "pid" in line.replace("pasid", ""):
        assert event.process in line and str(event.pid) in line  # type: ignore[operator]


def test_every_row_has_a_line() -> None:
    seen = {id(matched[0]) for line in LINES if (matched := match(line)) is not None}
    assert [row.regex.pattern for row in ROWS if id(row) not in seen] == []


def test_a_boot_tells_of_memory_and_of_what_is_set_wrong() -> None:
    lines = [line.partition(";")[2] for line in (HERE / "boot.kmsg").read_text().splitlines()]
    found = told(*lines, *(HERE / "boot_others.txt").read_text().splitlines(), step=2)
    assert {event.kind for event in found if event.severity is not Severity.INFO} == {"gttsize", "gtt-capped"}
    assert {event.kind for event in found if event.severity is Severity.INFO} == {"memory-pool"}


def test_the_culprit_goes_with_the_fault_before_it() -> None:
    (event,) = told(
        FAULT, IN_PROCESS, GPU + "  in page starting at address 0x00007f00 from client 10", STATUS
    )
    assert (event.kind, event.process, event.pid) == ("page-fault", "llama-server", 1234)
    old = (
        GPU
        + "[gfxhub0] no-retry page fault (src_id:0 ring:24 vmid:3 pasid:32770, for process a b pid 5 thread"
    )
    (event,) = told(old)
    assert (event.process, event.pid) == ("a b", 5)
    (event,) = told(TIMEOUT, "[drm] *ERROR* Process information: process firefox pid 8 thread cs0 pid 9")
    assert (event.process, event.pid) == ("firefox", 8)
    (event,) = told(TIMEOUT, GPU + " Process  pid 0 thread  pid 0")  # the kernel does not know
    assert (event.process, event.pid) == (None, None)


def test_a_culprit_without_its_fault_is_told_by_itself() -> None:
    (event,) = told(IN_PROCESS)
    assert (event.kind, event.severity, event.pid) == ("culprit", Severity.INFO, 1234)
    first, second = told(FAULT, IN_PROCESS, IN_PROCESS.replace("1234", "77"))
    assert (first.pid, second.pid, second.kind) == (1234, 77, "culprit")
    late = events(((1000, FAULT), (1003, IN_PROCESS)))
    assert [event.kind for event in late] == ["page-fault", "culprit"] and late[0].pid is None


def test_repeats_are_counted_by_the_second() -> None:
    (event,) = told(*((FAULT, IN_PROCESS, STATUS) * 300), step=0.001)
    assert event.text == "page fault on the GPU (gfxhub, vmid 8) (300 times)" and event.pid == 1234
    assert [e.time for e in events((second, FAULT) for second in (1.0, 1.5, 2.5, 2.6, 9.0))] == [
        1.0,
        2.5,
        9.0,
    ]
    other = FAULT.replace("c5:00", "01:00")
    assert len(told(FAULT, other, FAULT)) == 2  # two GPUs


def test_the_newest_are_kept() -> None:
    found = events((float(second), TIMEOUT) for second in range(0, 1000, 5))
    assert len(found) == MOST_EVENTS and found[-1].time == 995


def test_a_recovery_parts_two_stories() -> None:
    back = GPU + "GPU reset(1) succeeded!"
    assert [event.kind for event in told(TIMEOUT, back, TIMEOUT, TIMEOUT)] == [
        "ring-timeout",
        "recovered",
        "ring-timeout",
    ]


def test_one_kill_is_one_event() -> None:
    chosen = "oom-kill:constraint=CONSTRAINT_NONE,global_oom,task=llama-server,pid=9,uid=1000"
    killed = "Out of memory: Killed process 9 (llama-server) total-vm:9kB, anon-rss:8kB"
    (event,) = told("llama-server invoked oom-killer: gfp_mask=0x140cca", chosen, killed)
    assert (event.text, event.detail) == ("llama-server was killed: out of memory", killed)
    two = told(chosen, killed, chosen.replace("9", "8"), killed.replace("9 (", "8 ("))
    assert [event.pid for event in two] == [9, 8]


@pytest.mark.parametrize(
    "line",
    [
        GPU + "SMU is initialized successfully!",
        GPU + "ring comp_1.1.0 uses VM inv eng 9 on hub 0",
        GPU + "Starting comp_1.1.0 ring reset",
        "i915 0000:00:02.0: [drm] GPU HANG: ecode 12:1:8ed9fff2",
        "systemd[1]: oom-killer.service: Out of memory is what it waits for",
        "PM: suspend devices took 0.3 seconds",
        "usb 1-1: Product: [gfxhub] page fault",
        "amdxdna 0000:c6:00.1: enabling device (0000 -> 0002)",
    ],
)
def test_near_misses(line: str) -> None:
    assert told(line) == ()


@given(st.lists(st.tuples(st.floats(), st.one_of(st.text(), st.sampled_from([*LINES]))), max_size=20))
def test_any_text_is_harmless(lines: list[tuple[float, str]]) -> None:
    for event in events(lines):
        for text in (event.text, event.detail, event.process):
            assert text is None or (clean(text) == text and len(text) < 600)


@given(st.sampled_from([*LINES]), st.text(max_size=12), st.integers(0, 80))
def test_bytes_within_a_line_are_harmless(line: str, foreign: str, at: int) -> None:
    for event in told(line[:at] + "\x1b[2J" + foreign + line[at:]):
        assert not re.search(
            r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", f"{event.text}{event.detail}{event.process}"
        )


@pytest.mark.parametrize(
    "line",
    [
        "usb 1-1: Product: amdgpu: GPU reset begin!",
        "GPU reset begi[4242]: segfault at 0 ip 0 sp 0 error 4 in GPU reset begin![400000+1000]",
        "process '/tmp/amdgpu: GPU reset begin!' started with executable stack",
        'audit: type=1326 comm="x" exe="/home/joe/Critical temperature reached"',
        "EXT4-fs (loop0): mounted at GPU reset begin!",
    ],
)
def test_a_name_that_imitates_a_line_is_none(line: str) -> None:
    """Whoever names a program or a USB stick must not raise an alarm, nor write into a recording."""
    assert match(line) is not None and events([(1.0, line)]) == ()
