"""Samples come back to the bit, and a block that is damaged is noticed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_parts import block

from halotui.runs import Samples
from halotui.store.packing import pack, unpack

NUMBERS = st.floats(width=64)  # NaN and the infinities as well


@given(st.integers(0, 30), st.integers(0, 5), st.data())
def test_round_trip(rows: int, width: int, data: st.DataObject) -> None:
    row = st.lists(NUMBERS, min_size=rows, max_size=rows).map(tuple)
    columns = tuple((f"field.{number}", "") for number in range(width))
    samples = Samples(
        columns=columns, seconds=data.draw(row), values=tuple(data.draw(row) for _ in range(width))
    )
    back = unpack(columns, pack(samples))
    assert bits(back) == bits(samples)


def bits(samples: Samples) -> list[bytes]:
    return [struct.pack(f"{len(row)}d", *row) for row in (samples.seconds, *samples.values)]


def test_columns_must_be_as_long_as_time() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        pack(Samples(columns=(("a", ""),), seconds=(0.0, 1.0), values=((1.0,),)))


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_cut_block_is_an_error(cut: int) -> None:
    whole = pack(block(0))
    with pytest.raises(ValueError, match="damaged"):
        unpack(block(0).columns, whole[:cut])


def test_every_flipped_byte_is_noticed() -> None:
    whole = pack(block(0))
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 0x55
        try:
            back = unpack(block(0).columns, bytes(broken))
        except ValueError:
            continue
        assert bits(back) == bits(block(0))  # a flag of the header that means nothing


def test_a_second_is_small() -> None:
    assert len(pack(block(7))) < 400
