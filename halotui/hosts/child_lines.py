"""The output of a child, line by line, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

LONGEST = 1024 * 1024  # bytes of a line: the child's ``limit``
_CHUNK = 64 * 1024


async def lines(out: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Newline kept, those over the reader's limit left out."""
    torn = False  # inside a line that is too long
    while not out.at_eof():
        try:
            line = await out.readuntil()
        except asyncio.LimitOverrunError as over:
            await out.readexactly(over.consumed)
            torn = True
            continue
        except asyncio.IncompleteReadError as end:
            line = end.partial
        if line and not torn:
            yield line
        torn = False


async def bury(child: asyncio.subprocess.Process, out: asyncio.StreamReader, seconds: float) -> None:
    """Wait for the end of one that was killed, at most so long: one stuck in the kernel is left behind."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await out.read(_CHUNK):  # a full pipe would keep asyncio from seeing the end
                pass
            await child.wait()
