"""A log file, or standard input, in blocks of whole lines."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

from halotui import format
from halotui.commands.log_file import BLOCK, STDIN, open_log
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.hosts import Host

PACKED = ((b"\x1f\x8b", "zcat"), (b"(\xb5/\xfd", "zstdcat"), (b"\xfd7zXZ", "xzcat"), (b"BZh", "bzcat"))


class Progress(Protocol):
    """A line on the terminal."""

    def show(self, words: str) -> None: ...

    def clear(self) -> None: ...


async def blocks(
    path: str, name: str, progress: Progress, host: Host | None = None
) -> AsyncGenerator[bytes, None]:
    """A log in blocks of whole lines, to its end: the last one may have no newline. Raises UsageError."""
    log = await open_log(path, host)
    size = log.size
    read, rest, cut = 0, b"", False
    try:
        while True:
            block = await log.read()
            if block is None:
                await asyncio.sleep(0)  # Ctrl-C
                continue
            if not block:
                break
            if not read and (reader := next((cat for magic, cat in PACKED if block.startswith(magic)), "")):
                raise UsageError(f"--log: {name} is packed: {reader} {_said(path)} | halotui check --log -")
            read += len(block)
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if cut and newline:  # what is left of a line that was too long
                _, newline, lines = (lines + newline).partition(b"\n")
                cut = False
            if len(rest) > BLOCK:  # no log has such a line
                rest, cut = b"", True
            if lines:
                yield lines + b"\n" if not lines.endswith(b"\n") else lines
            whole = f" of {format.size(size)}" if size > read else ""
            progress.show(f"{name}: {format.size(read)}{whole}")
            await asyncio.sleep(0)  # Ctrl-C
        if rest and not cut:  # what a server wrote last, as it died, counts
            yield rest + b"\n"
    finally:
        progress.clear()
        log.close()


def _said(path: str) -> str:
    return "FILE" if path == STDIN else shlex.quote(clean(path))
