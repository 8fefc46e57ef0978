"""One HTTP/1.1 answer, read from bytes that come in any pieces and may say anything."""

from __future__ import annotations

import re

HEAD = 64 * 1024  # bytes of header lines
BODY = 4 * 1024 * 1024  # bytes of a body as it is sent; 16 slots are 20 kB
CHUNK_LINE = 1024

_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?![^ \r\n])")
_FRAMING = re.compile(rb"\n(connection|content-length|transfer-encoding)[ \t]*:([^\r\n]*)", re.I)
_CHUNK = re.compile(rb"([0-9a-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n", re.I)


class Broken(Exception):
    """No whole answer: not HTTP, cut short, too large or too late. ``reason`` is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Answer:
    """Fed until it is ``done``; then ``status`` and ``body`` are there.

    ``keeps``: the connection can be asked again. ``begun``: a byte has come.
    """

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.begun = self.done = self.keeps = False
        self._raw = bytearray()  # first the head, then the body as it is sent
        self._seen = 0  # where the search for a blank line goes on
        self._skipped = 0  # bytes of interim answers
        self._length: int | None = None
        self._chunks: bytearray | None = None  # what the chunks held so far
        self._next = 0  # where the next chunk begins

    def feed(self, data: bytes) -> None:
        """More bytes. Raises Broken."""
        self.begun = True
        self._raw += data
        while not self.status:
            if not self._read_head():
                return
        if self._chunks is not None:
            self._read_chunks(self._chunks)
        elif self._length is not None and len(self._raw) >= self._length:
            self._finish(self._raw[: self._length], self._length)
        if not self.done and len(self._raw) > BODY:
            raise _too_large()

    def end(self) -> None:
        """The connection has closed. Raises Broken, unless that is how this answer ends."""
        if not self.status or self._chunks is not None or self._length is not None:
            raise Broken("the answer is cut short")
        self._finish(self._raw, len(self._raw))

    def _read_head(self) -> bool:
        """False: it is not complete. ``status`` stays 0 after an interim answer (1xx)."""
        raw = self._raw
        if not raw.startswith(b"HTTP/1."[: len(raw)]):
            raise Broken("not HTTP")
        blank = _BLANK_LINE.search(raw, self._seen)
        end = blank.end() if blank else len(raw)
        if end + self._skipped > HEAD:
            raise Broken(f"more than {HEAD >> 10} KiB of headers")
        if not blank:
            self._seen = max(0, end - 2)
            return False
        self._seen = 0
        head = bytes(raw[:end])
        del raw[:end]
        status = _STATUS.match(head)
        if not status:
            raise Broken("not HTTP")
        if status[2] < b"200":
            self._skipped += end
            return True
        self.status = int(status[2])
        self._read_framing(head, status[1] == b"1")
        return True

    def _read_framing(self, head: bytes, modern: bool) -> None:
        """What tells the end of the body."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in _FRAMING.findall(head):
            found.setdefault(name.lower(), []).extend(part.strip() for part in value.lower().split(b","))
        codings, lengths = found.get(b"transfer-encoding"), found.get(b"content-length")
        self.keeps = modern and b"close" not in found.get(b"connection", ()) and not (codings and lengths)
        if self.status in (204, 304):
            self._length = 0
        elif codings:
            if codings != [b"chunked"]:
                raise Broken("an unknown transfer coding")
            self._chunks = bytearray()
        elif lengths:
            if len(set(lengths)) > 1 or not lengths[0].isdigit():
                raise Broken("not HTTP")
            if len(lengths[0]) > 18 or int(lengths[0]) > BODY:
                raise _too_large()
            self._length = int(lengths[0])
        else:
            self.keeps = False

    def _read_chunks(self, held: bytearray) -> None:
        raw = self._raw
        while True:
            line = _CHUNK.match(raw, self._next, self._next + CHUNK_LINE)
            if not line:
                if raw.find(b"\n", self._next) >= 0 or len(raw) - self._next > CHUNK_LINE:
                    raise Broken("a broken chunk")
                return
            begin, size = line.end(), int(line[1], 16)
            if not size:
                break
            end = begin + size
            if end > BODY:
                raise _too_large()
            if len(raw) < end + 2:
                return
            if raw[end : end + 2] != b"\r\n":
                raise Broken("a broken chunk")
            held += raw[begin:end]
            self._next = end + 2
        blank = _BLANK_LINE.search(raw, max(begin - 1, self._seen))  # trailers end as headers do
        self._seen = len(raw) - 2
        if blank:
            self._finish(held, blank.end())
        elif len(raw) - begin > HEAD:
            raise Broken(f"more than {HEAD >> 10} KiB of headers")

    def _finish(self, body: bytearray, end: int) -> None:
        """Bytes after the ``end`` of the answer are none that we asked for."""
        self.body = bytes(body)
        self.done = True
        self.keeps = self.keeps and len(self._raw) == end


def _too_large() -> Broken:
    return Broken(f"an answer of more than {BODY >> 20} MiB")
