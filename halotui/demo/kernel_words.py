"""What the box's kernel says, a record a line as /dev/kmsg has them."""

from __future__ import annotations

from collections.abc import Sequence

SLOT = "0000:c5:00.0"
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
Words = tuple[int, str]  # level, line
_GPU = f"amdgpu {SLOT}: amdgpu:"

BOOT = (  # seconds since then, level, line
    (0.0, NOTICE, "Linux version 6.18.9-200.fc43.x86_64 (mockbuild@builder) #1 SMP PREEMPT_DYNAMIC"),
    (2.612007, INFO, "[drm] amdgpu kernel modesetting enabled."),
    (
        2.619381,
        INFO,
        f"{_GPU} initializing kernel modesetting (IP DISCOVERY 0x1002:0x1586 0xF111:0x000A 0xC1).",
    ),
    (2.628684, INFO, "amdgpu: ATOM BIOS: 113-STRXLGEN-001"),
    (2.630859, INFO, f"{_GPU} VRAM: 512M 0x0000008000000000 - 0x000000801FFFFFFF (512M used)"),
    (2.630961, INFO, f"{_GPU} GART: 512M 0x00007FFF00000000 - 0x00007FFF1FFFFFFF"),
    (2.631457, INFO, f"{_GPU} amdgpu: 512M of VRAM memory ready"),
    (2.633788, INFO, f"{_GPU} amdgpu: 122880M of GTT memory ready."),
    (3.402731, INFO, f"{_GPU} SMU is initialized successfully!"),
    (3.407031, INFO, f"{_GPU} [drm] Display Core v3.2.351 initialized on DCN 3.5.1"),
    (3.611204, INFO, f"{_GPU} SE 2, SH per SE 2, CU per SH 10, active_cu_number 40"),
    (3.618842, INFO, f"[drm] Initialized amdgpu 3.64.0 for {SLOT} on minor 1"),
)
BACK: tuple[Words, ...] = (
    (INFO, f"{_GPU} GPU reset(1) succeeded!"),
    (INFO, f"{_GPU} [drm] device wedged, but recovered through reset"),
)
OUT_OF_MEMORY: tuple[Words, ...] = (
    (
        WARNING,
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=user.slice,mems_allowed=0,global_oom,"
        "task_memcg=/user.slice/user-1000.slice/user@1000.service/app.slice,task=cc1plus,pid=48211,uid=1000",
    ),
    (
        ERROR,
        "Out of memory: Killed process 48211 (cc1plus) total-vm:3912448kB, anon-rss:3521004kB, "
        "file-rss:1204kB, shmem-rss:0kB, UID:1000 pgtables:7432kB oom_score_adj:200",
    ),
)


def hang(pid: int) -> tuple[Words, ...]:
    """A job of that llama-server does not end, and nor does the reset."""
    return (
        (ERROR, f"{_GPU} ring comp_1.1.0 timeout, signaled seq=23114, emitted seq=23116"),
        (ERROR, f"{_GPU}  Process llama-server pid {pid} thread llama-server:cs0 pid {pid + 14}"),
        (ERROR, f"{_GPU} Ring comp_1.1.0 reset failed"),
        (INFO, f"{_GPU} GPU reset begin!"),
    )


def records(words: Sequence[tuple[float, int, str]], first: int) -> str:
    """As the device gives them. ``first``: the number of the first one."""
    return "".join(
        f"{level},{first + number},{round(seconds * 1e6)},-;{line}\n"
        for number, (seconds, level, line) in enumerate(words)
    )
