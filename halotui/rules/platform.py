"""What the box runs below its servers: the GPU's firmware and the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

from halotui.model import Severity
from halotui.rules import Proof, Rule, Symptom, Undefined, View
from halotui.rules.apu import apus, unseen
from halotui.rules.pairs import LLAMA

_FIRMWARE, _KERNEL = "fw-bad", "kernel-old"

BAD_FIRMWARE = "20251125"
BAD_MES = "0x83"  # what that release brought
GOOD_FIRMWARE = "20260110"  # and later
_DATE = re.compile(r"(?:\d+:)?(20\d{6})(?!\d)")  # 20251125-1.fc43, 1:20251125.git1a2b-0ubuntu1
_REBUILD = "build the initramfs anew, and reboot"


def _fw_bad(view: View) -> Iterator[Symptom | Undefined]:
    frame, chips = view.frame, apus(view)
    yield from unseen(view, _FIRMWARE, chips, shared=True)
    if not chips:
        return
    platform = frame.platform
    version, mes = (platform.firmware, platform.mes) if platform is not None else (None, None)
    told = _DATE.match(version or "")
    if told is None and mes is None:
        yield Undefined(frame.host)
        return
    date = told[1] if told is not None else ""
    in_use = mes == BAD_MES
    if not in_use and date != BAD_FIRMWARE:
        return
    facts = (f"linux-firmware {version}" if version else "", f"MES {mes} in use" if mes else "")
    avoided = mes is not None and not in_use
    yield Symptom(
        subject=frame.host,
        severity=Severity.INFO if avoided else None,
        title="The firmware that breaks ROCm is installed"
        if avoided
        else "This GPU firmware hangs and crashes ROCm",
        evidence="; ".join(filter(None, facts)),
        why="The GPU's scheduler still runs another version: its file is overlaid, or the box has not been "
        "booted since. The next boot may load the bad one."
        if avoided
        else None,
        fix=f"The package is newer than what is in use: {_REBUILD}."
        if in_use and date >= GOOD_FIRMWARE
        else None,
    )


NEEDED_KERNEL = (6, 16, 9)
ADVISED_KERNEL = (6, 18, 4)
_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?")
_BACKPORTS = re.compile(r"-\d+-oem\b|\.el\d")  # fixes come without the number moving
_UBUNTU = re.compile(r"\d+\.\d+\.0-\d+-")  # the third number of upstream is not told


def kernel_version(release: str) -> tuple[int, int, int] | None:
    """Of ``uname -r``."""
    found = _RELEASE.match(release)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def _kernel_old(view: View) -> Iterator[Symptom | Undefined]:
    frame, chips = view.frame, apus(view)
    yield from unseen(view, _KERNEL, chips, shared=True)
    if not chips:
        return
    release = (frame.platform.kernel if frame.platform is not None else None) or ""
    version = kernel_version(release)
    if version is None:
        yield Undefined(frame.host)
        return
    if version >= ADVISED_KERNEL:
        return
    old = version < NEEDED_KERNEL
    backends = {server.backend for server in view.running if server.engine == LLAMA and server.backend}
    spared = bool(backends) and "rocm" not in backends  # Vulkan sees all of the memory
    if _BACKPORTS.search(release) or (not old and _UBUNTU.match(release)):
        yield Undefined(frame.host)
        return
    short, wanted = _dotted(version), _dotted(NEEDED_KERNEL if old else ADVISED_KERNEL)
    yield Symptom(
        subject=frame.host,
        severity=None if old and not spared else Severity.INFO,
        title=f"Kernel {short} shows ROCm 15.5 GB of memory"
        if old
        else f"Kernel {short} is older than advised for this GPU",
        evidence=f"kernel {release}, {wanted} or later is {'needed' if old else 'advised'}",
        why=None
        if old
        else "Kernels before 6.18.4 are less stable under ROCm on this GPU: hangs and crashes.",
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


RULES = (
    Rule(
        id=_FIRMWARE,
        check=_fw_bad,
        title="GPU firmware that breaks ROCm",
        window="since boot",
        clears="another linux-firmware is installed and another MES in use",
        evidence="[linux-firmware {version}][; ][MES {version} in use]",
        needs=("platform.firmware", "platform.mes", "gpu.name"),
        marks=("platform.firmware", "platform.mes"),
        proof=Proof.RECORDED,
        why=f"linux-firmware {BAD_FIRMWARE} came with a scheduler firmware for this GPU (MES {BAD_MES}) that "
        "ends in GPU hangs and memory access faults under ROCm.",
        fix=f"Update linux-firmware (Fedora: amd-gpu-firmware) to {GOOD_FIRMWARE} or later, or go back to "
        f"20251111; {_REBUILD}.",
        reference="https://github.com/ROCm/ROCm/issues/5724",
    ),
    Rule(
        id=_KERNEL,
        check=_kernel_old,
        title="A kernel too old for this GPU",
        window="since boot",
        clears="a kernel from 6.16.9 (warning) or 6.18.4 (info) on runs",
        evidence="kernel {release}, {version} or later is {needed or advised}",
        needs=("platform.kernel", "gpu.name", "server.backend"),
        marks=("platform.kernel",),
        proof=Proof.DEMO,
        why="Before Linux 6.16.9 ROCm sees 15.5 GB of this GPU's memory, however much it may map.",
        fix="Update the kernel to 6.18.4 or later, and reboot.",
        reference="https://github.com/ROCm/ROCm/issues/5444",
    ),
)
