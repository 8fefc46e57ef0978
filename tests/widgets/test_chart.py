"""A chart that grows by what is new shows the same as one drawn from the whole history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from halotui.history import Ring
from halotui.widgets.chart import Chart, Look, ceiling

VALUES = st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=120)


@given(VALUES, st.integers(1, 40), st.integers(1, 8), st.booleans())
def test_growing_equals_drawing_anew(values: list[float | None], width: int, height: int, edge: bool) -> None:
    ring, growing = Ring(50), Chart(Look(top=100.0, edge=edge))
    for value in values:
        ring.push(value)
        rows = growing.rows(ring, width, height)
        assert rows == Chart(Look(top=100.0, edge=edge)).rows(ring, width, height)
        assert all(len(row) == width for row in rows)


def test_zero_is_seen_and_unknown_is_not() -> None:
    ring = Ring()
    for value in (0.0, 0.0, None, None):
        ring.push(value)
    assert Chart(Look(top=1.0)).rows(ring, 2, 1) == ["⣀ "]


def test_scale_grows_at_once() -> None:
    ring, chart = Ring(), Chart()
    ring.push(3.0)
    chart.rows(ring, 10, 2)
    assert chart.top == 5.0
    ring.push(70.0)
    chart.rows(ring, 10, 2)
    assert chart.top == 100.0


@given(st.floats(1e-3, 1e12))
def test_ceiling_is_above_and_near(value: float) -> None:
    assert value <= ceiling(value) <= value * 10.01
