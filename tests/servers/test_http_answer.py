"""Answer: the same however the bytes are cut, and nothing but Broken whatever they are."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halotui.collectors.http_answer import BODY, CHUNK_LINE, HEAD, Answer, Broken

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, closed: bool = False) -> Answer:
    answer = Answer()
    for piece in pieces:
        answer.feed(piece)
    if closed and not answer.done:
        answer.end()
    return answer


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[begin:end] for begin, end in pairwise(ends)]


def chunked(body: bytes, places: list[int]) -> bytes:
    chunks = (b"%X;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in cut(body, places))
    return CHUNKED + b"".join(chunks) + b"000\r\nDigest: x\r\n\r\n"


PLACES = st.lists(st.integers(0, 10_000), max_size=20)


@given(body=st.binary(max_size=300), chunks=PLACES, pieces=PLACES)
def test_it_reads_the_same_however_it_is_cut(body: bytes, chunks: list[int], pieces: list[int]) -> None:
    interim = b"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\n"
    for framed, keeps in (
        (OK + b"content-LENGTH : %d\r\n\r\n%b" % (len(body), body), True),
        (OK + b"Connection: X, Close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), False),
        (OK.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), False),
        (OK.replace(b"\r", b"") + b"Content-Length: %d\n\n%b" % (len(body), body), True),
        (OK + b"\r\n" + body, False),
        (chunked(body, chunks), True),
    ):
        whole = interim * 2 + framed
        for parts in ([whole], cut(whole, pieces), [bytes([byte]) for byte in whole]):
            answer = read(*parts, closed=True)
            assert (answer.done, answer.status, answer.body) == (True, 200, body)
            assert answer.keeps is keeps


@given(body=st.binary(min_size=1, max_size=60), chunks=PLACES, end=st.integers(0, 10_000))
def test_it_is_never_taken_for_whole_when_it_is_cut_short(body: bytes, chunks: list[int], end: int) -> None:
    for whole in (OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), chunked(body, chunks)):
        with pytest.raises(Broken):
            read(whole[: end % len(whole)], closed=True)


WORDS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 204 \r\n", b"HTTP/1.1 100\r\n\r\n", b"HTTP/1.1 ", b"999"),
        *(b"Content-Length:", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\n", b"\r\n"),
        *(b" 5", b"5\r\n", b"0\r\n", b"-1", b"\r\n\r\n", b";", b",", b"\0", b"x" * 5, b"9" * 5000, b"_"),
    ]
)


@given(st.lists(st.one_of(WORDS, st.binary(max_size=8)), max_size=12))
@example([OK, b"Content-Length: ", b"9" * 5000, b"\r\n\r\n"])
def test_it_raises_nothing_else(pieces: list[bytes]) -> None:
    outcomes = set()
    for parts in (pieces, [b"".join(pieces)]):
        try:
            answer = read(*filter(None, parts), closed=True)
            outcomes.add((answer.status, answer.body))
        except Broken as broken:
            assert broken.reason.isprintable() and len(broken.reason) < 60
            outcomes.add((0, b""))
    assert len(outcomes) == 1


@pytest.mark.parametrize(
    "whole",
    [
        *(b"SSH-2.0-OpenSSH_9.2\r\n", b"\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 20\r\n\r\n"),
        *(b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 099 X\r\n\r\n"),
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Content-Length: 5, 6\r\n\r\n12345",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        OK + b"Content-Length: %d\r\n\r\n" % (BODY + 1),
        OK + b"\r\n" + b"x" * (BODY + 1),
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"X: " + b"x" * HEAD,
        (OK.replace(b"200", b"102") + b"\r\n") * (HEAD // 15),
        CHUNKED + b"0x5\r\n",
        CHUNKED + b"-5\r\n",
        CHUNKED + b"5\r\n12345xx0\r\n\r\n",
        CHUNKED + b"FFFFFFFF\r\n",
        CHUNKED + b"0" * (CHUNK_LINE + 1),
        CHUNKED + b"1\r\nx\r\n" * (BODY // 6 + 1),
        CHUNKED + b"0\r\n" + b"x" * (HEAD + 1),
    ],
    ids=lambda whole: whole[:60].decode(),
)
def test_it_does_not_wait_for_more_of_what_is_broken(whole: bytes) -> None:
    with pytest.raises(Broken):
        read(whole)


def test_what_comes_after_the_answer_spends_the_connection() -> None:
    for whole in (OK + b"Content-Length: 2\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"):
        assert read(whole).keeps
        answer = read(whole + whole)
        assert answer.body == b"{}" and not answer.keeps
    assert not read(OK + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").keeps
    assert read(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n").done


def test_hostile_bytes_cost_no_time() -> None:
    started = time.process_time()
    for whole in (
        OK + b"Connection:" + b" " * (HEAD - 100) + b"x\r\n\r\n",
        OK + b"Content-Length \n" * 4000 + b"\r\n\r\n",
        CHUNKED + b"1\r\nx\r\n" * (BODY // 6 - 9) + b"0\r\n\r\n",
    ):
        read(whole, closed=True)
    dice = random.Random(1)
    for whole in (OK + b"a\n" * (HEAD // 2 - 9), CHUNKED + b"0\r\n" + b"a\n" * (HEAD // 2 - 9)):
        read(*(whole[place : place + 2] for place in range(0, len(whole), 2)))
    read(OK + b"Content-Length: %d\r\n\r\n" % BODY, *(dice.randbytes(64) for _ in range(BODY // 64)))
    assert time.process_time() - started < 6
