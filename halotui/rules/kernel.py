"""What the kernel's log says went wrong: a GPU that failed, and processes killed for want of memory.

Its kinds are those of ``collectors.kernel_lines``. What a server's own log says of the same is ``errors``'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from halotui.collectors.kernel_lines import CULPRIT, KINDS, RECOVERED, Part, slot_of
from halotui.format import clock, count, duration
from halotui.history import KernelNoted
from halotui.model import KERNEL_SOURCE, MEMORY_SOURCE, Frame, KernelEvent, Platform, Server, Severity
from halotui.rules import Level, Proof, Rule, Symptom, View

WINDOW = "window_seconds"
SETTLES = 5.0  # seconds after a reset in which its echoes may come
QUOTED = 140  # characters of the kernel's own words

FAULTS = frozenset(name for name, kind in KINDS.items() if kind.part >= Part.FAULT)
HANGS = frozenset(name for name, kind in KINDS.items() if kind.part is Part.HANG)  # until it is reset
BACK = frozenset((RECOVERED, "ring-recovered"))
KILLS = frozenset(("oom-kill", "oom-limit"))

_TIMES = re.compile(r" \((\d{1,12}) times\)\Z")
_SERVERS = ("llama", "ollama", "rpc-server", "lemonade", "vllm")
_SHORT_JOBS = 7  # since this kernel a job has 2 s
_TIMEOUT = "amdgpu.lockup_timeout"
_BATCH = "On Vulkan, relaunch with -b 256 (it slows ROCm)."
_BOOT = (
    "Boot with amdgpu.cwsr_enable=0, which prevents most hangs of the scheduler; and keep away from "
    "linux-firmware 20251125."
)


@dataclass(slots=True)
class _Incident:
    """Faults in a row, and the reset that ended them."""

    cause: KernelNoted
    last: KernelNoted
    faults: int = 0
    hang: bool = False
    timed_out: bool = False
    who: KernelEvent | None = None
    back: KernelNoted | None = None

    def take(self, one: KernelNoted) -> None:
        event = one.event
        self.last = one
        self.faults += _times(event)
        self.hang = self.hang or event.kind in HANGS
        self.timed_out = self.timed_out or event.kind == "ring-timeout"
        self.name(event)

    def name(self, event: KernelEvent) -> None:
        if event.pid is not None and (self.who is None or self.who.process is None):
            self.who = event


def _gpu_fault(view: View) -> Iterator[Symptom]:
    for subject, noted in _by_gpu(view).items():
        incidents = _incidents(noted)
        if incidents:
            yield _gpu_symptom(view, subject, incidents)


def _by_gpu(view: View) -> dict[str, list[KernelNoted]]:
    """By PCI slot. A line without one is of the GPU that was named before, or the only one."""
    gpus = view.frame.gpus
    slot = gpus[0].id if len(gpus) == 1 else KERNEL_SOURCE
    found: dict[str, list[KernelNoted]] = {}
    for one in _recent(view):
        if one.event.kind in FAULTS or one.event.kind in BACK or one.event.kind == CULPRIT:
            slot = slot_of(one.event.detail or "") or slot
            found.setdefault(slot, []).append(one)
    return found


def _incidents(noted: Sequence[KernelNoted]) -> list[_Incident]:
    found: list[_Incident] = []
    for one in noted:
        kind, now = one.event.kind, found[-1] if found else None
        if kind in FAULTS:
            if now is None or (now.back is not None and not _echoes(one, now.back)):
                now = _Incident(one, one)
                found.append(now)
            now.take(one)
        if kind in BACK and now is not None:
            now.back = one
        elif kind == CULPRIT and now is not None:
            now.name(one.event)
    return found


def _echoes(one: KernelNoted, back: KernelNoted) -> bool:
    return one.event.kind not in HANGS and one.time - back.time <= SETTLES


def _gpu_symptom(view: View, subject: str, incidents: Sequence[_Incident]) -> Symptom:
    last, now = incidents[-1], view.frame.time
    back = last.back
    title = (
        f"The GPU was reset at {clock(min(back.time, now))[:5]} and came back"
        if back is not None
        else "The GPU hangs, and has not come back"
        if last.hang
        else "A program made the GPU fault"
    )
    faults = sum(one.faults for one in incidents)
    facts = (
        _TIMES.sub("", last.cause.event.text),
        _who(view.frame, last.who, last.cause.time),
        f"{count(faults)} faults" if faults > 1 else "",
        f"last {duration(now - last.last.time)} ago",
        _quoted(last.cause.event),
    )
    why, fix = _cure(view.frame.platform, last)
    return Symptom(
        subject=subject,
        severity=Severity.WARNING if back is not None else None,
        title=title,
        evidence="; ".join(fact for fact in facts if fact),
        why=why,
        fix=fix,
    )


def _who(frame: Frame, event: KernelEvent | None, when: float) -> str:
    if event is None:
        return ""
    url = next((server.url for server in frame.servers if _is_it(server, event, frame.time - when)), None)
    serves = f", which serves {url}" if url is not None else ""
    return f"{event.process or 'a process'} (pid {event.pid}) was at work{serves}"


def _is_it(server: Server, event: KernelEvent, ago: float) -> bool:
    """A pid comes back: whoever started later was not at work then."""
    up = server.uptime_seconds
    return server.pid == event.pid and (up is None or up >= ago - SETTLES)


def _cure(platform: Platform | None, incident: _Incident) -> tuple[str | None, str | None]:
    if not incident.hang:
        return (
            "A program reached for memory that the GPU does not have mapped: a bug of it, of Mesa or ROCm, "
            "or of the firmware. The program is lost, the GPU goes on.",
            f"Start the program again; take another Mesa, ROCm or build if it comes back. {_BOOT}",
        )
    if not incident.timed_out or _timeout_set(platform):
        return None, None
    major = _major(platform)
    if major is not None and major < _SHORT_JOBS:
        return None, None
    since = "With this kernel" if major is not None else f"Since kernel {_SHORT_JOBS}"
    return (
        f"{since} a job on the GPU has 2 s by default, and a batch of a long prompt can take longer: the "
        "driver then resets the ring, and whoever was at work loses the device.",
        f"Boot with {_TIMEOUT}=20000, which gives it 20 s. {_BATCH} {_BOOT}",
    )


def _timeout_set(platform: Platform | None) -> bool:
    if platform is None:
        return False
    given = any(word.startswith(f"{_TIMEOUT}=") for word in platform.kernel_parameters)
    return given or bool(platform.module_parameters.get(_TIMEOUT))


def _major(platform: Platform | None) -> int | None:
    found = re.match(r"(\d{1,4})\.", (platform.kernel if platform is not None else None) or "")
    return int(found[1]) if found else None


def _oom_kill(view: View) -> Iterator[Symptom]:
    kills = [one for one in _recent(view) if one.event.kind in KILLS]
    if not kills:
        return
    kills.sort(key=lambda one: (_serves(one.event), one.time))  # a server's counts more; else the newest
    worst = kills[-1]
    name = (worst.event.process or "a process")[:20]
    limit = worst.event.kind == "oom-limit"
    facts = (
        f"{name} (pid {worst.event.pid})" if worst.event.pid is not None else name,
        f"{duration(view.frame.time - worst.time)} ago",
        f"{count(len(kills))} processes were killed" if len(kills) > 1 else "",
        _quoted(worst.event),
    )
    yield Symptom(
        subject=MEMORY_SOURCE,
        title=f"The kernel killed {name}: out of memory",
        evidence="; ".join(fact for fact in facts if fact),
        why="Its unit or container has a limit of memory, and was at it; the box may have more."
        if limit
        else None,
        fix="Raise MemoryMax= of the unit or --memory of the container, or relaunch with a smaller -c."
        if limit
        else None,
    )


def _serves(event: KernelEvent) -> bool:
    return (event.process or "").startswith(_SERVERS)


def _recent(view: View) -> list[KernelNoted]:
    now, window = view.frame.time, view.levels[WINDOW]
    return [one for one in view.history.kernel() if now - window <= min(one.time, now)]


def _times(event: KernelEvent) -> int:
    folded = _TIMES.search(event.text)
    return int(folded[1]) if folded else 1


def _quoted(event: KernelEvent) -> str:
    return f"kernel: {event.detail[:QUOTED]}" if event.detail else ""


RULES = (
    Rule(
        id="gpu-fault",
        check=_gpu_fault,
        title="The kernel says that the GPU hung or faulted",
        severity=Severity.CRITICAL,
        window="10 minutes",
        clears="10 minutes after the last fault; from the reset on it is a warning",
        levels=(Level(name=WINDOW, value=600, help="seconds after the last fault", least=1),),
        evidence="{what}[; {process} (pid {pid}) was at work[, which serves {url}]][; {faults} faults]"
        "; last {age} ago[; kernel: {line}]",
        freezes=True,
        proof=Proof.RECORDED,
        needs=("frame.kernel", "server.pid", "platform.kernel", "platform.module_parameters"),
        marks=("gpu.busy_percent",),
        why="A job on the GPU, or its scheduler, did not come back. The driver resets the GPU; what was on "
        "it is lost, and servers that used it end in DeviceLost or a GPU hang.",
        fix=f"Start the server again; if the GPU does not come back, reboot. {_BATCH} {_BOOT} A larger "
        f"{_TIMEOUT} helps where jobs take long.",
        reference="https://docs.kernel.org/gpu/amdgpu/module-parameters.html",
    ),
    Rule(
        id="oom-kill",
        check=_oom_kill,
        title="The kernel killed a process for want of memory",
        severity=Severity.CRITICAL,
        window="30 minutes",
        clears="30 minutes after the last kill",
        levels=(Level(name=WINDOW, value=1800, help="seconds after the last kill", least=1),),
        evidence="{process}[ (pid {pid})]; {age} ago[; {number} processes were killed][; kernel: {line}]",
        proof=Proof.RECORDED,
        needs=("frame.kernel",),
        marks=("memory.available_bytes",),
        why="RAM and swap were used up, and the kernel ended a process to go on. GTT is RAM but counts as no "
        "process's own: the one that was killed need not be the one that filled it.",
        fix="Relaunch with a smaller -c, with -ctk q8_0 -ctv q8_0, or with fewer slots; or stop a server.",
    ),
)
