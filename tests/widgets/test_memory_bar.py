"""The memory bar: as wide as it is told to be, whatever the parts; and quiet unless something is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halotui.model import Account
from halotui.widgets.memory_bar import bar
from halotui.widgets.rows import Run, joined, width_of

SIZE = st.integers(0, 200 * 2**30)


@given(carve=SIZE, gtt=SIZE, other=SIZE, free=SIZE, leaked=SIZE, width=st.integers(10, 250))
def test_the_bar_is_as_wide_as_the_panel(
    carve: int, gtt: int, other: int, free: int, leaked: int, width: int
) -> None:
    account = Account(
        total_bytes=carve + gtt + other + free + 1,
        carve_out_bytes=carve,
        gtt_bytes=gtt,
        other_bytes=other,
        free_bytes=free,
        leaked_gtt_bytes=min(leaked, gtt) or None,
    )
    drawn = bar(account, width)
    assert sum(width_of(run.text) for run in drawn) == width
    lost = [run.text for run in drawn if run.style == "warning"]
    assert bool(lost) == bool(account.leaked_gtt_bytes and "█" in "".join(run.text for run in drawn))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.text("abc", max_size=9).map(lambda text: [Run(text)] if text else []))
    ),
    st.integers(0, 40),
)
def test_a_note_never_outgrows_its_room(pieces: list[tuple[int, list[Run]]], room: int) -> None:
    shown = joined(pieces, room)
    assert sum(width_of(run.text) for run in shown) <= room
    whole = sum(width_of(run.text) for _, runs in pieces for run in runs)
    if whole + 3 * len(pieces) <= room:
        assert [run for run in shown if run.text != " · "] == [run for _, runs in pieces for run in runs]
