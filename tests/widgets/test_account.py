"""The memory bar's parts add up to the installed memory, whatever the kernel says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builders import GIB, gpu, memory
from halotui.widgets.memory_bar import account, bar
from halotui.widgets.rows import width_of


@given(
    gtt=st.floats(0, 300),
    available=st.floats(0, 128),
    vram=st.sampled_from([None, 0, 512 * 1024**2, 96 * GIB]),
    width=st.integers(10, 250),
)
def test_parts_add_up(gtt: float, available: float, vram: int | None, width: int) -> None:
    parts = account(memory(available), gpu(gtt=gtt, vram_total_bytes=vram))
    assert parts.vram + parts.gtt + parts.other + parts.free == parts.installed
    assert min(parts.vram, parts.gtt, parts.other, parts.free) >= 0
    assert sum(width_of(run.text) for run in bar(parts, width)) == width


def test_headroom_is_the_smaller_room() -> None:
    assert account(memory(60), gpu(gtt=100, gtt_total=120)).headroom == 20 * GIB
    assert account(memory(10), gpu(gtt=60, gtt_total=120)).headroom == 10 * GIB
    assert account(memory(10), None).headroom is None
