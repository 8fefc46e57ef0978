"""A TCP proxy on loopback that is as bad as a link can be: late, cut, or silent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any


class SlowLink:
    """``port`` leads to ``target``. ``delay_seconds`` counts for each direction, order is kept."""

    def __init__(self, target: int, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.bytes_through = 0  # both directions
        self.port = 0
        self._target = target
        self._open = True
        self._swallow = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Close all connections, and take no new ones."""
        self._open = False
        self._call(self._hang_up())

    def black_hole(self) -> None:
        """Swallow everything, keep all open."""
        self._swallow = True

    def restore(self) -> None:
        """For new connections; what was swallowed is lost, so old ones are of no more use."""
        if self._swallow:
            self._call(self._hang_up())
        self._open, self._swallow = True, False

    def close(self) -> None:
        self._server.close()
        self._call(self._hang_up())
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self._open:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError, asyncio.CancelledError):  # asyncio would print that we end
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(10_000)
        sending = asyncio.ensure_future(self._send(queue, writer))
        try:
            while True:
                with contextlib.suppress(ConnectionError):
                    data = await reader.read(64 * 1024)
                    await queue.put((self._loop.time() + self.delay_seconds, data))
                    if data:
                        continue
                await queue.put((self._loop.time() + self.delay_seconds, b""))
                break
            await sending
        finally:
            sending.cancel()

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if self._swallow:
                continue
            if not data:
                writer.close()
                return
            self.bytes_through += len(data)
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await writer.drain()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@contextlib.contextmanager
def slow_link(target: int, delay_seconds: float = 0.0) -> Iterator[SlowLink]:
    """A proxy to ``target``, a port of 127.0.0.1."""
    link = SlowLink(target, delay_seconds)
    try:
        yield link
    finally:
        link.close()
