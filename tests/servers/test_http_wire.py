"""StreamWire against raw sockets, and for a few hundred polls against the real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halotui.collectors import http_wire
from halotui.collectors.http_answer import BODY, HEAD, Broken
from halotui.collectors.http_wire import StreamWire, Unreached
from raw_server import answer, raw

Talk = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HELLO = answer(200, "hello")


class Raw:
    """A raw server, and how often it was connected to and asked."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.connections = 0
        self.heads: list[bytes] = []

    def wire(self, **known: Any) -> StreamWire:
        return StreamWire(("127.0.0.1", self.port), **known)


@asynccontextmanager
async def talking(
    *says: bytes | Talk, then_close: bool = False, unix: Path | None = None
) -> AsyncIterator[Raw]:
    """Says one thing to each request of a connection; the last one to all further ones, or hangs up."""
    server = Raw()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        turn = 0
        while turn < len(says) or not then_close:
            server.heads.append(await reader.readuntil(b"\r\n\r\n"))
            say = says[min(turn, len(says) - 1)]
            if callable(say):
                await say(turn, reader, writer)
            else:
                writer.write(say)
            turn += 1

    async with raw(handler, unix) as url:
        server.port = urlsplit(url).port or 0
        yield server


async def forever(*_: object) -> None:
    await asyncio.Event().wait()


async def broken(wire: StreamWire) -> str:
    async with aclosing(wire):
        with pytest.raises(Broken) as caught:
            await wire.get("/slots")
    return caught.value.reason


async def test_what_it_sends() -> None:
    async with talking(HELLO) as server:
        wire = server.wire(prefix="/a%20b", headers={b"X": b"y"})
        assert await wire.get("/slots") == (200, b"hello")
        await wire.aclose()
        assert wire._connection and not wire._connection.free
    assert server.heads == [b"GET /a%%20b/slots HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX: y\r\n\r\n" % server.port]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("strix", 80), b"strix"),
        (("strix", 8080), b"strix:8080"),
        (("::1", 80), b"[::1]"),
        (("fe80::1%eth0", 8080), b"[fe80::1]:8080"),
        (b"/run/llama.sock", b"localhost"),
    ],
)
def test_the_host_header(address: tuple[str, int] | bytes, host: bytes) -> None:
    assert http_wire._host_header(address) == host


async def test_a_few_hundred_polls_of_the_real_server(server: Any) -> None:
    wire = StreamWire(("127.0.0.1", server.port))
    connections = set()
    async with aclosing(wire):
        for path in ("/slots", "/metrics", "/props", "/health") * 100:
            status, body = await wire.get(path)
            assert status == 200 and body
            connections.add(wire._connection)
    assert len(connections) <= 5  # it closes each after a hundred
    truth = server.get("/props")
    assert body == server.get("/health")
    async with aclosing(StreamWire(("localhost", server.port))) as named:
        assert await named.get("/props") == (200, truth)


async def test_requests_wait_for_each_other() -> None:
    under_way = most = 0

    async def say(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        writer.write(HELLO)

    async with talking(say) as server, aclosing(server.wire()) as wire:
        await asyncio.gather(*(wire.get("/slots") for _ in range(10)))
    assert (server.connections, most) == (1, 1)


async def test_chunks_in_odd_pieces() -> None:
    whole = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n"

    async def say(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for begin in range(0, len(whole), turn + 1):
            writer.write(whole[begin : begin + turn + 1])
            await asyncio.sleep(0)

    async with talking(say) as server, aclosing(server.wire()) as wire:
        for _ in range(9):
            assert await wire.get("/slots") == (200, b"hello")
    assert server.connections == 1


# The end of a connection


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_closed_between_requests_it_connects_again(pause: float) -> None:
    async with talking(HELLO, then_close=True) as server, aclosing(server.wire()) as wire:
        for _ in range(5):
            assert await wire.get("/slots") == (200, b"hello")
            await asyncio.sleep(pause)
        assert (server.connections, len(server.heads)) == (5, 5)


async def test_closed_under_a_request_it_asks_once_more() -> None:
    async with talking(HELLO, b"", then_close=True) as server, aclosing(server.wire()) as wire:
        for _ in range(3):
            assert await wire.get("/slots") == (200, b"hello")
        assert (server.connections, len(server.heads)) == (3, 5)


async def test_closed_twice_it_gives_up() -> None:
    async with talking(b"", then_close=True) as server:
        assert await broken(server.wire()) == "closed without an answer"
        assert len(server.heads) == 1


async def test_closed_as_soon_as_it_is_made() -> None:
    """By the time it is asked, the connection knows."""

    class Gone(http_wire._Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.close()

    async with talking(HELLO) as server:
        _, connection = await asyncio.get_running_loop().create_connection(Gone, "127.0.0.1", server.port)
        with pytest.raises(Broken, match="closed without an answer"):
            await asyncio.wait_for(connection.ask(b"GET / HTTP/1.1\r\n\r\n"), 2)


@pytest.mark.parametrize("part", [b"H", HELLO[:30], HELLO[:-1]])
async def test_closed_in_the_middle_it_does_not_ask_again(part: bytes) -> None:
    async with talking(HELLO, part, then_close=True) as server:
        wire = server.wire()
        await wire.get("/slots")
        assert await broken(wire) == "the answer is cut short"
        assert len(server.heads) == 2


async def test_an_answer_that_ends_with_its_connection() -> None:
    for head in (b"HTTP/1.0 200 X\r\n\r\n", b"HTTP/1.1 200 X\r\n\r\n"):
        async with talking(head + b"hello", then_close=True) as server, aclosing(server.wire()) as wire:
            assert await wire.get("/slots") == await wire.get("/slots") == (200, b"hello")
            assert server.connections == 2


async def test_connection_close_is_obeyed() -> None:
    async with talking(answer(200, "hello", "Connection: close")) as server, aclosing(server.wire()) as wire:
        assert await wire.get("/slots") == await wire.get("/slots") == (200, b"hello")
        assert server.connections == 2


@pytest.mark.parametrize("late", [False, True])
async def test_nobody_asked_for_a_second_answer(late: bool) -> None:
    async def say(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO if late else HELLO + answer(200, "a lie"))
        await asyncio.sleep(0.02)
        if late:
            writer.write(answer(200, "a lie"))

    async with talking(say) as server, aclosing(server.wire()) as wire:
        for _ in range(3):
            assert await wire.get("/slots") == (200, b"hello")
            await asyncio.sleep(0.2)  # the lie has come
        assert server.connections == 3


# Deadlines


async def test_a_late_answer_is_not_asked_for_again() -> None:
    async with talking(HELLO, forever) as server:
        wire = server.wire(answer_seconds=0.1)
        await wire.get("/slots")
        assert await broken(wire) == "no answer in 0.1 s"
        assert len(server.heads) == 2


async def test_a_slow_head_is_late() -> None:
    async def drip(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n")
        while not reader.at_eof():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.01)

    async with talking(drip) as server:
        assert await broken(server.wire(answer_seconds=0.1)) == "no answer in 0.1 s"
        assert len(server.heads) == 1


async def test_a_cancelled_request_takes_its_connection_along() -> None:
    async def slow(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1 if turn == 1 else 0)
        writer.write(answer(200, f"{turn}"))

    async with talking(slow) as server, aclosing(server.wire()) as wire:
        assert await wire.get("/slots") == (200, b"0")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.get("/slots"), 0.02)
        assert wire._connection and wire._connection._transport.is_closing()
        assert await wire.get("/slots") == (200, b"0")
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_cancelled_while_the_answer_is_read() -> None:
    async with talking(HELLO, forever) as server, aclosing(server.wire()) as wire:
        await wire.get("/slots")
        get = asyncio.create_task(wire.get("/slots"))
        await asyncio.sleep(0.02)
        assert wire._connection
        get.cancel()
        wire._connection.data_received(HELLO)
        with pytest.raises(asyncio.CancelledError):
            await get
        assert wire._connection.free


async def test_closed_by_us_it_still_gets_the_answer_in_flight() -> None:
    asked = asyncio.Event()

    async def slow(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.sleep(0.02)
        writer.write(HELLO)
        assert await reader.read() == b""

    async with talking(slow) as server:
        wire = server.wire()
        get = asyncio.create_task(wire.get("/slots"))
        await asked.wait()
        await wire.aclose()
        assert await get == (200, b"hello")
        assert wire._connection is not None and not wire._connection.free


async def test_a_dead_address_does_not_hide_a_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(HELLO) as server:
        with socket.socket() as deaf:  # its queue is full: a further connection is never made
            deaf.bind(("127.0.0.2", server.port))
            deaf.listen(0)
            with socket.create_connection(deaf.getsockname()):
                wire = StreamWire(("strix", server.port), connect_seconds=0.4)
                known: list[tuple[str, int] | bytes] = [("127.0.0.2", server.port)]

                async def addresses() -> list[tuple[str, int] | bytes]:
                    return known

                monkeypatch.setattr(wire, "_addresses", addresses)
                with pytest.raises(Unreached, match="Connection timed out"):
                    await wire.get("/slots")
                known.append(("127.0.0.1", server.port))
                async with aclosing(wire):
                    assert await wire.get("/slots") == (200, b"hello")


async def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address, words in (
        (("127.0.0.1", port), "Connection refused"),
        (("localhost", port), "Connection refused"),
        (("::1", port), "Connection refused|Cannot assign|unsupported|unreachable"),
        (("nobody.invalid", port), "known|resolution|hostname"),
        (("a" * 64, port), "known|resolution|hostname"),
        (bytes(tmp_path / "absent"), "No such file"),
        (bytes(tmp_path / ("x" * 200)), "path too long"),
    ):
        with pytest.raises(Unreached, match=words):
            await StreamWire(address).get("/slots")


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "llama.sock"
    async with talking(HELLO, unix=path), aclosing(StreamWire(bytes(path))) as wire:
        assert await wire.get("/slots") == (200, b"hello")


# Hostile


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 200 X\r\nX: " + b"x" * HEAD, "more than 64 KiB of headers"),
        (b"HTTP/1.1 200 X\r\n\r\n" + b"x" * (BODY + 1), "an answer of more than 4 MiB"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99999999\r\n\r\n", "an answer of more than 4 MiB"),
    ],
    ids=["ssh", "head", "body", "length"],
)
async def test_it_hangs_up_on(says: bytes, reason: str) -> None:
    async def say(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        with suppress(ConnectionError):
            assert await reader.read() == b""

    async with talking(say) as server:
        assert await broken(server.wire()) == reason
        assert len(server.heads) == 1


PIECES = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [b"HTTP/1.1 200 X\r\n", b"\r\n", b"Content-Length: 3\r\n", b"HTTP/1.1 100\r\n\r\n", HELLO]
    ),
    max_size=5,
)


def test_any_bytes_at_all() -> None:
    """Broken, or an answer; and the wire works on afterwards."""

    async def play(wire: StreamWire, server: Raw, pieces: list[bytes]) -> None:
        said[:] = pieces
        for _ in range(2):
            with suppress(Broken):
                status, body = await wire.get("/slots")
                assert 200 <= status <= 999 and isinstance(body, bytes)
        said[:] = [HELLO]
        with suppress(Broken):  # a lie that was told before it was asked for may be believed
            await wire.get("/slots")
        assert (await wire.get("/slots"))[0] >= 200

    async def say(turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in said:
            writer.write(piece)
            await asyncio.sleep(0)
        if said != [HELLO]:
            writer.close()

    said: list[bytes] = []
    with asyncio.Runner() as runner:
        stage = talking(say)
        server = runner.run(stage.__aenter__())
        wire = server.wire(answer_seconds=5.0)

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(PIECES)
        def check(pieces: list[bytes]) -> None:
            runner.run(play(wire, server, pieces))

        check()
        runner.run(wire.aclose())
        runner.run(stage.__aexit__(None, None, None))
