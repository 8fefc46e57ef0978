"""Numbers as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui import fields, format

GIB = 1024**3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0001, "<0.01"),
        (0.517, "0.52"),
        (5.274, "5.27"),
        (9.996, "10.0"),
        (52.66, "52.7"),
        (99.96, "100"),
        (5270, "5270"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert format.digits(value) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (GIB - 1, "1.00 GiB"), (57.3 * GIB, "57.3 GiB")],
)
def test_sizes(bytes_: float, text: str) -> None:
    assert format.size(bytes_) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0, "0 %"), (0.001, "<1 %"), (0.005, "<1 %"), (0.5, "50 %"), (1, "100 %"), (1.2, "120 %")],
)
def test_percent(ratio: float, text: str) -> None:
    assert format.percent(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 05"), (273600, "3 d 04 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format.duration(seconds) == text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("decode_joules_per_token", 0.297, "297 mJ"),
        ("prefill_joules_per_token", 0.0834, "83.4 mJ"),
        ("decode_joules_per_token", 2.5, "2.50 J"),
        ("watt_hours", 0.0189, "18.9 mWh"),
        ("watt_hours", 0, "0 Wh"),
        ("watt_hours", 1.234, "1.23 Wh"),
    ],
)
def test_energies(key: str, value: float, text: str) -> None:
    assert format.show(fields.BY_ID[f"energy.{key}"], value) == text


@given(st.floats(0, 1e15))
def test_numbers_keep_their_width(value: float) -> None:
    """What stands in a table never needs more room than three digits and a unit."""
    if value < 1e7:
        assert len(format.rate(value)) <= 5
    assert re.fullmatch(r"[\d.]+ ([KMGT]i)?B", format.size(value))
    assert len(format.size(min(value, 1e15 - 1))) <= 9


@pytest.mark.parametrize("field", fields.FIELDS, ids=lambda field: field.id)
def test_every_field_has_a_unit_or_a_dash(field: fields.Field) -> None:
    assert format.show(field, None) == format.DASH
    shown = format.show(field, 1)
    assert shown and (field.unit in ("count", "number", "text") or re.search(r"[^\d.,]", shown)), shown
    assert format.show(field, True) == "yes"


def test_fractions_where_they_count() -> None:
    for id_, value, text in (
        ("request.ttft_seconds", 0.5274, "527 ms"),
        ("request.draft_mean_tokens", 2.139, "2.14 tok"),
        ("server.draft_mean_tokens", 2.139, "2.14 tok"),
        ("request.draft_acceptance_ratio", 0.5, "50 %"),
        ("facts.prompt_cache_bytes", GIB, "1.00 GiB"),
        ("server.uptime_seconds", 3.7, "3 s"),
    ):
        assert format.show(fields.BY_ID[id_], value) == text
