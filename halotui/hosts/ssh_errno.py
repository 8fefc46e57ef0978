"""What a program says in words is an errno again."""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

from halotui.safe import clean


class Failed(NamedTuple):
    """To be raised anew by each who asked."""

    number: int
    text: str

    def error(self, path: str) -> OSError:
        """The subclass that belongs to the number."""
        return OSError(self.number, self.text, path)


# glibc's words in the C locale are ours; musl and busybox have some of their own.
_NUMBERS = {os.strerror(number): number for number in errno.errorcode} | {
    "Resource busy": errno.EBUSY,
    "I/O error": errno.EIO,
    "Symbolic link loop": errno.ELOOP,
    "not a symlink": errno.EINVAL,
    "Resource temporarily unavailable": errno.EAGAIN,
    "Operation timed out": errno.ETIMEDOUT,
}
# head: cannot open 'P' for reading: WORDS | stat: can't stat 'P': WORDS | head: P: WORDS
_LINE = re.compile(rb"(?m)^[\w./-]+: (?:[^'\n]*'([^'\n]*)'[^'\n]*|([^'\n]*)): ([^:\n]+)$")

_PAST_END = b"cannot skip to specified offset"  # dd, of an offset behind the end


def failures(said: bytes) -> dict[bytes, Failed]:
    """By path, of plain paths."""
    return {
        quoted or plain.removesuffix(b": cannot read link"): _failed(words)
        for quoted, plain, words in _LINE.findall(said)
    }


def failed(said: bytes) -> Failed | None:
    """Of the one thing that was asked, whatever its name. None: nothing went wrong."""
    for line in reversed(said.splitlines()):  # dd tells its figures as well
        if b": " in line and not line.endswith(_PAST_END):
            return _failed(line.rpartition(b": ")[2])
    return None


def _failed(words: bytes) -> Failed:
    text = clean(words.strip(), 200)
    return Failed(_NUMBERS.get(text, errno.EIO), text)
