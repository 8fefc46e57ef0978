"""How much of the RAM the GPU may map: GTT against the RAM, and against what it was asked to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec import Struct

from halotui.format import percent, size
from halotui.model import Frame, Gpu, Platform, Severity
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.apu import apus, unseen

_ID = "gtt-size"
GIB = 1 << 30
PAGE = 4096  # bytes
PAGES_PER_GIB = GIB // PAGE  # 262144
_MODULES = tuple(gib * GIB for gib in (16, 24, 32, 48, 64, 96, 128, 192, 256))  # bytes that boxes have
_MORE = 1.03  # of the RAM: many set it a little above what the kernel leaves of it
_LARGE = 48 * GIB  # RAM from which half of it is worth a word
_SAME = 0.01  # share by which two sizes may differ


class GttPlan(Struct, frozen=True):
    """How large GTT can be on a box, and the two ways to say so."""

    installed_bytes: int
    gib: int

    @property
    def pages(self) -> str:
        return f"ttm.pages_limit={self.gib * PAGES_PER_GIB}"

    @property
    def gttsize(self) -> str:
        return f"amdgpu.gttsize={self.gib * 1024}"

    def __str__(self) -> str:
        """What to do, with both schools."""
        return (
            f"Boot with {self.pages} ({self.gib} GiB x {PAGES_PER_GIB}, of {size(self.installed_bytes)}). "
            f"Others add {self.gttsize} (MiB): the kernel calls that one deprecated, and where it is set it "
            "wins; so set it to the same size, or not at all."
        )


def gtt_plan(frame: Frame, gpu: Gpu) -> GttPlan | None:
    """What this box's memory allows, 4 to 8 GB left to the system. None: too little is known."""
    memory, account, platform = frame.memory, frame.account, frame.platform
    if memory is None:
        return None
    carve_out = gpu.vram_total_bytes or 0
    seen = memory.total_bytes + carve_out
    installed = (platform.installed_bytes if platform is not None else None) or (
        account.installed_bytes if account is not None else None
    )
    if installed is None:  # firmware and kernel keep a few percent for themselves
        installed = next((total for total in _MODULES if total >= 0.97 * seen), seen)
    left = int((installed - carve_out) / GIB + 0.5)
    gib = min(left - (8 if left >= 90 else 5), memory.total_bytes // GIB - 2)
    return GttPlan(installed, gib) if gib >= 1 else None


@dataclass(frozen=True)
class _Sizes:
    """In bytes."""

    ram: int
    gtt: int
    limit: int | None  # ttm.pages_limit in force
    limit_asked: int | None  # on the kernel's command line
    gttsize: int | None


def _gtt_size(view: View) -> Iterator[Symptom | Undefined]:
    frame, chips = view.frame, apus(view)
    yield from unseen(view, _ID, chips)
    for gpu in chips:
        ram = frame.memory.total_bytes if frame.memory is not None else 0
        if frame.platform is None or not ram or not gpu.gtt_total_bytes or _is_part(frame, gpu):
            yield Undefined(gpu.id)
            continue
        sizes = _sizes(frame.platform, ram, gpu.gtt_total_bytes)
        found = _wrong(sizes, gpu.vram_total_bytes or 0, view.levels["low"])
        if found is not None:
            severity, title, why = found
            plan = gtt_plan(frame, gpu)
            yield Symptom(
                subject=gpu.id,
                severity=severity,
                title=title,
                evidence=_evidence(sizes),
                why=why,
                fix=str(plan) if plan is not None else None,
            )


def _is_part(frame: Frame, gpu: Gpu) -> bool:
    """Whether the RAM is a container's share: less than the GPU holds of it, or far less than is
    installed."""
    ram = frame.memory.total_bytes if frame.memory is not None else 0
    installed = (frame.platform.installed_bytes if frame.platform is not None else None) or 0
    return (gpu.gtt_used_bytes or 0) > ram or ram + (gpu.vram_total_bytes or 0) < 0.8 * installed


def _sizes(platform: Platform, ram: int, gtt: int) -> _Sizes:
    asked = dict(word.replace("-", "_").partition("=")[::2] for word in platform.kernel_parameters)
    taken = platform.module_parameters
    names = ("amdttm.pages_limit", "ttm.pages_limit")  # AMD's own modules count where they are
    gttsize = _number(taken, "amdgpu.gttsize") or _number(asked, "amdgpu.gttsize")
    limit = next((pages for name in names if (pages := _number(taken, name))), None)
    limit_asked = next((pages for name in names if (pages := _number(asked, name))), None)
    return _Sizes(
        ram=ram,
        gtt=gtt,
        limit=limit * PAGE if limit else None,
        limit_asked=limit_asked * PAGE if limit_asked else None,
        gttsize=gttsize << 20 if gttsize else None,
    )


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    """None for -1, which is the driver's own choice."""
    value = parameters.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 16 else None


def _wrong(sizes: _Sizes, carve_out: int, low: float) -> tuple[Severity, str, str] | None:
    """Severity, title, why: the worst that is wrong."""
    ram, gtt, limit, gttsize = sizes.ram, sizes.gtt, sizes.limit or sizes.limit_asked, sizes.gttsize
    if gttsize and limit and gttsize > limit * (1 + _SAME):
        return (
            Severity.WARNING,
            "GTT promises more than ttm.pages_limit gives",
            "amdgpu.gttsize sets what programs see, ttm.pages_limit what they get. A model that is larger "
            "than the latter makes the box thrash.",
        )
    small = carve_out < gtt  # else ROCm goes to the carve-out, and GTT is small on purpose
    if small and gtt < low * ram:
        short = sizes.limit_asked == gtt or limit == gtt
        return (
            Severity.WARNING,
            "ttm.pages_limit is a digit short"
            if short and low * ram <= 10 * gtt <= 1.1 * ram
            else "GTT is far below the RAM",
            "A model that does not fit in GTT cannot be loaded, however much RAM is free.",
        )
    asked = min(gttsize or sizes.limit_asked or 0, ram)
    if small and gtt < 0.95 * asked:
        return (
            Severity.WARNING,
            "The kernel gives less GTT than was asked for",
            "What the command line asks for is not in force: a module's option in /etc/modprobe.d overrides "
            "it, or the driver does not know the parameter.",
        )
    if gttsize and limit and limit > gttsize * (1 + _SAME):
        return (
            Severity.INFO,
            "amdgpu.gttsize and ttm.pages_limit differ",
            "gttsize wins, so that GTT is as large as it says; the limit behind it is another one. Some run "
            "their boxes so on purpose; the kernel warns of it.",
        )
    if gtt > _MORE * ram:
        return (
            Severity.INFO,
            "GTT is larger than the RAM",
            "Programs are promised memory that the box does not have: a model that relies on it ends in "
            "swap, or is killed.",
        )
    default = not gttsize and not sizes.limit_asked and abs(gtt / ram - 0.5) < _SAME
    if small and default and ram >= _LARGE:
        return (
            Severity.INFO,
            "The GPU may map half of the RAM",
            "That is the kernel's default. Models that are larger do not load, though the RAM is there.",
        )
    return None


def _evidence(sizes: _Sizes) -> str:
    facts = [f"GTT {size(sizes.gtt)} of {size(sizes.ram)} RAM ({percent(sizes.gtt / sizes.ram)})"]
    if sizes.limit is not None:
        facts.append(f"ttm.pages_limit {_pages(sizes.limit)}")
    if sizes.limit_asked is not None and sizes.limit_asked != sizes.limit:
        facts.append(f"asked at boot {_pages(sizes.limit_asked)}")
    if sizes.gttsize is not None:
        facts.append(f"amdgpu.gttsize {size(sizes.gttsize)}")
    return ", ".join(facts)


def _pages(limit: int) -> str:
    return f"{limit // PAGE} = {size(limit)}"


RULES = (
    Rule(
        id=_ID,
        check=_gtt_size,
        title="GTT does not fit the RAM",
        window="since boot",
        clears="GTT fits the RAM and its parameters agree",
        levels=(
            Level(name="low", value=0.25, help="share of the RAM below which GTT is far too small", most=1.0),
        ),
        evidence="GTT {size} of {RAM} RAM ({share})[, ttm.pages_limit {pages} = {size}]"
        "[, asked at boot {pages} = {size}][, amdgpu.gttsize {size}]",
        needs=(
            "gpu.gtt_total_bytes",
            "gpu.vram_total_bytes",
            "memory.total_bytes",
            "platform.kernel_parameters",
            "platform.module_parameters",
        ),
        marks=("gpu.gtt_total_bytes", "platform.kernel_parameters", "platform.module_parameters"),
        proof=Proof.RECORDED,
        why="GTT is the RAM that the GPU may map: what a model can be.",
        fix=f"Boot with ttm.pages_limit = GiB x {PAGES_PER_GIB}. Others add amdgpu.gttsize = GiB x 1024: "
        "then both have to be the same size.",
        reference="https://rocm.docs.amd.com/en/latest/how-to/system-optimization/strixhalo.html",
    ),
)
