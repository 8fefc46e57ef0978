"""Hostile bytes become harmless text, whatever they are."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.safe import LONGEST, clean


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain ascii ~", "plain ascii ~"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]52;c;QUFB\x1b\\b", "ab"),
        ("a\x1bPq#0\x1b\\b", "ab"),
        ("a\x1b_Gpicture\x1b\\b", "ab"),
        ("a\x1b(0b\x1bcd", "abd"),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell back nul del"),
        ("one\r\ntwo", "onetwo"),
        ("tab\there", "tab here"),
        ("\u202eevil\u202c \u200bzero\ufeff", "evil zero"),
        ("ünïcode – 漢字", "ünïcode – 漢字"),
        (b"broken \xff\xc3 bytes", "broken \ufffd\ufffd bytes"),
        (b"\xc2\x9b31mC1", "C1"),
        ("\ud800lone", "lone"),
    ],
)
def test_known(raw: str | bytes, text: str) -> None:
    assert clean(raw) == text


@given(st.one_of(st.binary(), st.text()))
def test_nothing_harmful_is_left(raw: str | bytes) -> None:
    once = clean(raw)
    assert len(once) <= LONGEST
    assert not [c for c in once if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert clean(once) == once
    once.encode()


@given(st.text(alphabet="\x1b[]P_^X()#0;m\x07\\\x9b\x9d\x90\x9ca漢\r\n"))
def test_torn_and_nested_escapes(raw: str) -> None:
    assert not set(clean(raw)) & set("\x1b\x07\x9b\x9d\x90\x9c\r\n")


def test_long_input_takes_no_time() -> None:
    for raw in ("\x1b]" * 200_000, "\x1b[" + "0;" * 200_000, "x" * 1_000_000, "\x1bP" * 100_000 + "q"):
        began = time.perf_counter()
        assert len(clean(raw)) <= LONGEST
        assert time.perf_counter() - began < 0.5
    assert clean("x" * 50, 10) == "x" * 10
