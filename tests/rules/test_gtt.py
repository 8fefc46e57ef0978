"""gtt-size: GTT against the RAM and against what was asked for, with numbers of real boxes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import GIB, GPU, Watch, frame, gpu
from halotui.model import Finding, Memory, Platform, Severity
from halotui.rules.engine import State
from halotui.rules.gtt import RULES, gtt_plan

RAM_128, RAM_96, RAM_64 = 131161644, 98_100_224, 65_372_160  # MemTotal, KiB


def box(
    gtt: float | None = 120,
    *,
    ram: int | None = RAM_128,
    vram: float = 0.5,
    used: float = 0,
    boot: str = "",
    pages: int | None = None,
    gttsize: int | None = -1,
    time: float = 0,
    **more: Any,
) -> Any:
    """``gtt`` and ``vram`` in GiB, ``ram`` in KiB; ``pages`` and ``gttsize`` as the modules took them."""
    modules = {"ttm.pages_limit": pages, "amdgpu.gttsize": gttsize}
    facts = Platform(
        kernel_parameters=tuple(boot.split()),
        module_parameters={name: str(value) for name, value in modules.items() if value is not None},
        **more,
    )
    card = gpu(name="Radeon 8060S", gtt=used, gtt_total=gtt, vram_total_bytes=int(vram * GIB))
    memory = Memory(total_bytes=ram * 1024) if ram else None
    return replace(frame(time, gpus=[card], memory=memory), platform=facts)


def judge(now: Any, watch: Watch | None = None) -> Finding | None:
    watch = watch or Watch(*RULES, hold=False)
    watch.history.push(now)
    return next(iter(watch.engine.evaluate(now, watch.history).findings), None)


@pytest.mark.parametrize(
    "well",
    [
        {"boot": "amd_iommu=off ttm.pages_limit=31457280", "pages": 31457280},
        {"gtt": 124, "boot": "amdgpu.gttsize=126976 ttm.pages_limit=32505856", "gttsize": 126976}
        | {"pages": 32505856},  # kyuz0
        {"gtt": 59, "ram": RAM_64, "boot": "iommu=pt amdgpu.gttsize=60416 ttm.pages_limit=15466496"}
        | {"pages": 15466496, "gttsize": 60416},  # playbook, 64 GB
        {"gtt": 48, "ram": RAM_96, "vram": 4, "boot": "ttm.pages_limit=12582912", "pages": 12582912},
        {"gtt": 96, "vram": 4, "pages": 25165824},  # set in /etc/modprobe.d
        {"gtt": 15.47, "ram": 32_442_112, "vram": 96, "pages": 4055264},  # all of it in the carve-out
        {"gtt": 30.8, "ram": 64_600_000, "vram": 64, "pages": 8073000},  # half and half, half of that
        {"gtt": 15.5, "ram": 32_442_112, "vram": 0.5},  # a small box has its half
        {"gtt": 120},  # the modules do not tell
        {"gtt": 124.9, "boot": "ttm.pages_limit=33554432", "pages": 33554432},  # capped by the kernel
    ],
)
def test_boxes_that_are_well(well: dict[str, Any]) -> None:
    assert judge(box(**well)) is None


@pytest.mark.parametrize(
    ("wrong", "severity", "title"),
    [
        (
            {"gtt": 12, "boot": "ttm.pages_limit=3145728", "pages": 3145728},
            Severity.WARNING,
            "ttm.pages_limit is a digit short",
        ),
        ({"gtt": 15.5}, Severity.WARNING, "GTT is far below the RAM"),
        (
            {"gtt": 120, "gttsize": 122880, "pages": 16395205, "boot": "amdgpu.gttsize=122880"},
            Severity.WARNING,
            "GTT promises more than ttm.pages_limit gives",
        ),
        (
            {"gtt": 62.5, "boot": "ttm.pages_limit=31457280", "pages": 16395205},
            Severity.WARNING,
            "The kernel gives less GTT than was asked for",
        ),
        (
            {"gtt": 120, "gttsize": 122880, "pages": 335544321},  # 0xSero's
            Severity.INFO,
            "amdgpu.gttsize and ttm.pages_limit differ",
        ),
        ({"gtt": 124, "vram": 8, "ram": 122_700_000}, Severity.INFO, "GTT is larger than the RAM"),
        ({"gtt": 62.54, "pages": 16395205}, Severity.INFO, "The GPU may map half of the RAM"),
    ],
)
def test_boxes_that_are_not(wrong: dict[str, Any], severity: Severity, title: str) -> None:
    found = judge(box(**wrong))
    assert found is not None
    assert (found.id, found.subject, found.severity, found.title) == ("gtt-size", GPU, severity, title)


def test_the_evidence_and_both_schools_of_the_cure() -> None:
    watch = Watch(*RULES, hold=False)
    found = judge(box(12, boot="ttm.pages_limit=3145728", pages=3145728), watch)
    assert found is not None
    assert found.evidence == "GTT 12.0 GiB of 125 GiB RAM (10 %), ttm.pages_limit 3145728 = 12.0 GiB"
    assert "ttm.pages_limit=31457280 (120 GiB x 262144, of 128 GiB)" in found.fix
    assert "amdgpu.gttsize=122880" in found.fix
    assert judge(box(120, boot="ttm.pages_limit=31457280", pages=31457280, time=1), watch) is None
    assert watch.engine.state("gtt-size", GPU) == State.RESOLVED


@pytest.mark.parametrize(
    ("ram", "vram", "installed", "gib"),
    [
        (RAM_128, 0.5, None, 120),
        (RAM_128, 0.5, 128, 120),
        (RAM_96, 0.5, None, 88),
        (RAM_64, 0.5, None, 59),
        (122_700_000, 8, None, 112),
        (32_442_112, 96, 128, 27),
        (32_442_112, 0.5, None, 27),
    ],
)
def test_what_a_box_of_this_memory_can_give(ram: int, vram: float, installed: int | None, gib: int) -> None:
    now = box(ram=ram, vram=vram, installed_bytes=installed * GIB if installed else None)
    plan = gtt_plan(now, now.gpus[0])
    assert plan is not None and plan.gib == gib
    assert 2 * GIB <= ram * 1024 - plan.gib * GIB < 8 * GIB  # what is left of what the kernel sees


@pytest.mark.parametrize(
    "unknown",
    [box(None), box(ram=None), replace(box(), platform=None), replace(box(), memory=Memory(total_bytes=0))],
)
def test_undefined_without_data(unknown: Any) -> None:
    watch = Watch(*RULES, hold=False)
    assert judge(unknown, watch) is None
    assert watch.engine.state("gtt-size", GPU) == State.UNDEFINED


def test_a_container_s_share_of_the_ram_is_not_judged() -> None:
    for part in (
        box(ram=32 << 20, boot="ttm.pages_limit=31457280", pages=31457280, installed_bytes=128 * GIB),
        box(ram=32 << 20, used=60),
    ):
        watch = Watch(*RULES, hold=False)
        assert judge(part, watch) is None and watch.engine.state("gtt-size", GPU) == State.UNDEFINED
    assert judge(box(ram=32 << 20, used=20)) is not None  # as far as is known, all there is


@pytest.mark.parametrize("value", ["", "-1", "many", "9" * 40, "²"])
def test_parameters_that_are_no_number(value: str) -> None:
    now = box(120)
    odd = Platform(module_parameters={"ttm.pages_limit": value, "amdgpu.gttsize": value})
    assert judge(replace(now, platform=odd)) is None
