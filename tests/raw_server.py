"""A server on a raw socket, which says what a healthy one never would."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(
    handler: Handler, unix: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    connections: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    listener = await (
        asyncio.start_unix_server(handle, unix)
        if unix
        else asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    )
    port = 0 if unix else listener.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        listener.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def answer(status: int, body: str | bytes, *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *headers, "", "")
    return "\r\n".join(lines).encode() + content


@asynccontextmanager
async def answering(
    status: int, body: str | bytes, *headers: str, unix: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer(status, body, *headers))

    async with raw(handler, unix, tls) as url:
        yield url
