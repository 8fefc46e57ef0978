"""A log file, or standard input, in blocks of whole lines."""

from __future__ import annotations

import asyncio
import os
import select
import shlex
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from halotui import format
from halotui.exits import UsageError
from halotui.safe import clean

BLOCK = 1 << 20
LOOK_SECONDS = 0.25  # between looks at what may have come
PACKED = ((b"\x1f\x8b", "zcat"), (b"(\xb5/\xfd", "zstdcat"), (b"\xfd7zXZ", "xzcat"), (b"BZh", "bzcat"))


class Progress(Protocol):
    """A line on the terminal."""

    def show(self, words: str) -> None: ...

    def clear(self) -> None: ...


async def blocks(path: str, name: str, progress: Progress) -> AsyncGenerator[bytes, None]:
    """A log in blocks of whole lines, to its end: the last one may have no newline. Raises UsageError."""
    number = _open(path)
    size = os.fstat(number).st_size
    read, rest, cut = 0, b"", False
    try:
        while True:
            if path == "-" and not select.select([number], [], [], LOOK_SECONDS)[0]:
                await asyncio.sleep(0)  # a read that blocks would hold up Ctrl-C
                continue
            try:
                block = os.read(number, BLOCK)
            except OSError as error:
                raise UsageError(f"--log: {name}: {(error.strerror or str(error)).lower()}") from None
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
        os.close(number)


def _said(path: str) -> str:
    return "FILE" if path == "-" else shlex.quote(clean(path))


def _open(path: str) -> int:
    """A regular file: a pipe would hold us up, a device may act on being opened. Raises UsageError."""
    try:
        if path == "-":
            return os.dup(0)
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise UsageError(f"--log: {path} is no file; a pipe can be read with --log -")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--log: {path}: {reason.lower()}") from None
