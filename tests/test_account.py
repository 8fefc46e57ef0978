"""The account adds up to what there is, whatever kernel and driver say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from builders import GIB, GPU, gpu, memory
from halotui.account import Owned, account
from halotui.model import Account, Gpu, Memory

MIB = 1024**2
SIZE = st.none() | st.integers(-(2**40), 2**50)
POOLS = {f"{pool}_{part}_bytes": SIZE for pool in ("gtt", "vram") for part in ("used", "total")}
GPUS = st.lists(
    st.builds(
        Gpu,
        id=st.sampled_from([GPU, "0000:03:00.0", "card1"]),
        source=st.just("sysfs"),
        integrated=st.none() | st.booleans(),
        **POOLS,
    ),
    max_size=3,
)
MEMORY = st.builds(
    Memory,
    total_bytes=st.integers(-(2**40), 2**50),
    **{f"{part}_bytes": SIZE for part in ("used", "available", "free", "cache")},
)
BY_GPU = st.dictionaries(st.sampled_from([GPU, "", "card1"]), st.integers(-(2**40), 2**50))
OWNED = st.none() | st.builds(Owned, gtt_bytes=BY_GPU, complete=st.booleans(), used_bytes=BY_GPU)


@given(memory=MEMORY, gpus=GPUS, installed=SIZE, owned=OWNED)
def test_it_adds_up_and_nothing_is_negative(
    memory: Memory, gpus: list[Gpu], installed: int | None, owned: Owned | None
) -> None:
    told = account(memory, gpus, installed, owned)
    if told is None:
        assert memory.available_bytes is None and memory.free_bytes is None and memory.used_bytes is None
        return
    parts = (told.carve_out_bytes, told.gtt_bytes, told.other_bytes, told.free_bytes)
    assert sum(part or 0 for part in parts) == told.total_bytes
    assert all((value or 0) >= 0 for key, value in structs.asdict(told).items() if key != "installed_bytes")
    if told.reserved_bytes is not None:
        assert told.total_bytes + told.reserved_bytes == installed
    if told.unowned_gtt_bytes is not None:
        assert (told.leaked_gtt_bytes or 0) <= told.unowned_gtt_bytes


def of(*gpus: Gpu, free: float = 60, total: float = 127, **more: Any) -> Account:
    told = account(memory(free, total), gpus, more.get("installed"), more.get("owned"))
    assert told is not None
    return told


def apu(vram: float = 0.5, vram_used: float = 0.4, **more: Any) -> Gpu:
    sizes = {"vram_total_bytes": int(vram * GIB), "vram_used_bytes": int(vram_used * GIB)}
    return gpu(**{"integrated": True, **sizes, **more})


def test_a_box_of_128_gib() -> None:
    told = of(apu(), installed=128 * GIB)
    assert told.total_bytes == 127.5 * GIB and told.carve_out_bytes == 0.5 * GIB
    assert (told.gtt_bytes, told.other_bytes, told.free_bytes) == (60 * GIB, 7 * GIB, 60 * GIB)
    assert told.reserved_bytes == 0.5 * GIB and told.headroom_bytes == 60 * GIB
    assert (told.rocm_total_bytes, told.vulkan_total_bytes) == (120 * GIB, 120.5 * GIB)
    assert told.rocm_free_bytes == 60 * GIB
    assert told.vulkan_free_bytes == pytest.approx(60.1 * GIB, abs=10)


def test_headroom_is_the_smaller_room() -> None:
    assert of(apu(gtt=100), free=20).headroom_bytes == 20 * GIB
    short = of(apu(), free=10)  # GTT has room for 60, RAM has not
    assert short.headroom_bytes == short.rocm_free_bytes == 10 * GIB
    assert of().headroom_bytes is None
    assert of(apu(gtt=None)).headroom_bytes is None
    assert of(apu(gtt=None)).rocm_total_bytes == 120 * GIB


def test_a_large_carve_out_is_what_rocm_takes() -> None:
    told = of(apu(vram=96, vram_used=30, gtt=0.2, gtt_total=15), free=25, total=31)
    assert (told.total_bytes, told.carve_out_bytes) == (127 * GIB, 96 * GIB)
    assert (told.rocm_total_bytes, told.rocm_free_bytes) == (96 * GIB, 66 * GIB)
    assert told.vulkan_total_bytes == 111 * GIB


def test_a_cards_memory_is_no_part_of_the_box() -> None:
    card = gpu("0000:03:00.0", 1, 62, integrated=False, vram_total_bytes=24 * GIB)
    told = of(card, apu())
    assert (told.carve_out_bytes, told.gtt_bytes) == (0.5 * GIB, 60 * GIB)
    alone = of(card)
    assert (alone.carve_out_bytes, alone.gtt_bytes, alone.headroom_bytes) == (0, 0, None)
    assert alone.total_bytes == 127 * GIB


@pytest.mark.parametrize(
    ("vram", "gtt_total", "installed", "integrated"),
    [
        (0.5, 120, None, True),
        (24, 16, None, False),
        (24, 62, 128, False),  # more than the modules hold: a card
        (0.5, 62, 128, True),
        (96, 15, 223, True),  # fits: carved out
    ],
)
def test_where_the_source_cannot_say(
    vram: float, gtt_total: float, installed: int | None, integrated: bool
) -> None:
    size = None if installed is None else installed * GIB
    told = of(apu(vram, integrated=None, gtt=1, gtt_total=gtt_total), installed=size)
    assert bool(told.carve_out_bytes) is integrated


def test_no_account_without_memory() -> None:
    assert account(None, (apu(),), None, None) is None
    assert account(Memory(total_bytes=GIB), (), None, None) is None  # how full is not known
    old = account(Memory(total_bytes=8 * GIB, free_bytes=GIB, cache_bytes=2 * GIB), (), None, None)
    assert old is not None and old.free_bytes == 3 * GIB


def owned(held: float, complete: bool = True, id: str = GPU, then: float | None = None) -> Owned:
    used = {id: int(then * GIB)} if then is not None else {}
    return Owned({id: int(held * GIB)}, complete, used)


def leaked(what: Owned, gtt: float = 60) -> float | None:
    size = of(apu(gtt=gtt), owned=what).leaked_gtt_bytes
    return size / GIB if size is not None else None


def test_what_no_process_owns() -> None:
    told = of(apu(), owned=owned(59.9))
    assert told.owned_gtt_bytes == int(59.9 * GIB) and told.leaked_gtt_bytes is None
    assert (told.unowned_gtt_bytes or 0) / GIB == pytest.approx(0.1)
    assert leaked(owned(40)) == 20
    assert leaked(owned(40, complete=False)) is None  # it may be another user's
    assert leaked(owned(0)) == 60
    shared = of(apu(), owned=owned(70))  # a buffer of two processes counts with both
    assert (shared.owned_gtt_bytes, shared.unowned_gtt_bytes) == (60 * GIB, 0)
    assert of(apu()).unowned_gtt_bytes is None


def test_a_model_that_loads_after_the_look_is_no_leak() -> None:
    assert leaked(owned(40, then=40)) is None
    assert leaked(owned(40, then=55), gtt=60) == 15
    assert leaked(owned(40, then=90), gtt=41) == 1  # it ended since: what is left now counts


def test_another_name_for_the_only_gpu() -> None:
    assert leaked(owned(59.9, id="")) is None  # a kernel that leaves drm-pdev out
    assert leaked(Owned({"0000:03:00.0": 59 * GIB, GPU: GIB}, True)) == 59
