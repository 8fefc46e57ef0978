"""One remote ``sh`` at the end of two pipes: it is sent a script, and sends back sections.

A section ends with a token that only this lane knows: it goes through stdin and stays a variable of that
sh, so no file there can imitate it. Whoever uses a lane holds it alone.
"""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import time
from contextlib import suppress

_CHUNK = 256 * 1024
_MOST = 64 * 1024 * 1024  # of one answer
_LONGEST = 30.0  # seconds for one that comes little by little
_KNOWN = 32  # scripts that it keeps as functions
END = 'printf %s "$T"\n'  # ends a section

# Words of every lane. "h": the files it is given: their names, what they hold, what went wrong.
_PREAMBLE = r"""
exec 3>&1 2>/dev/null
LC_ALL=C; export LC_ALL; unset CDPATH ENV; set +e +u; set +f
u() { [ $# = 1 ] && ! [ -e "$1" ] && ! [ -L "$1" ] && shift; [ $# = 0 ] || printf '%s\0' "$@"; }
g() { u "$@"; printf %s "$T"; }
l() {
  if cd "$1"; then
    if [ -r . ]; then printf 0; u *; u .*; else printf 13; fi
    cd /
  elif [ -d "$1" ]; then printf 13
  elif [ -e "$1" ] || { [ -e "${1%/*}" ] && ! [ -d "${1%/*}" ]; }; then printf 20
  else printf 2; fi
  printf %s "$T"
}
e() { printf %s "$T"; e=$("$@" 2>&1 >&3); printf %s "$T$e$T"; }
h() { u "$@"; e head -c "$N" -v -- "$@"; }
w() {
  case $1 in */*) [ -f "$1" ] && [ -x "$1" ] && printf %s "$1" ;;
  *) o=$IFS; IFS=:; for d in $PATH; do
    [ -f "$d/$1" ] && [ -x "$d/$1" ] && { printf %s "$d/$1"; break; }; done; IFS=$o ;; esac
  printf %s "$T"
}
"""


class Lane:
    """``child`` runs ``exec sh`` there, its stdin and stdout are ours."""

    def __init__(self, child: subprocess.Popen[bytes], most: int) -> None:
        assert child.stdin and child.stdout
        self.child = child
        self._in, self._out = child.stdin.fileno(), child.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._token = secrets.token_hex(16).encode()
        self._greeting = b"T=%s; N=%d%s%s" % (self._token, most, _PREAMBLE.encode(), END.encode())
        self._known: dict[bytes, bytes | None] = {}  # script -> its function there; None: sent once
        self._names = 0
        self.heard_at = 0.0  # monotonic seconds of the last byte

    def trip(self, text: str, sections: int, seconds: float) -> list[bytes]:
        """Run a script that ends ``sections`` sections. Raises EOFError (it is gone), TimeoutError (so long
        not a byte): it is of no more use then, since the rest may come at any time."""
        greeted, script = bool(self._greeting), self._greeting + self._spelled(os.fsencode(text))
        self._greeting = b""
        parts = self._exchange(script, sections + greeted, seconds)
        return parts[greeted:]  # before our greeting: what a login shell has to say

    def close(self) -> None:
        """Its stdin ends, and with it the sh; what hangs there ends when it can."""
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe
            with suppress(OSError):
                pipe.close()

    def _spelled(self, text: bytes) -> bytes:
        """What is sent again and again is sent as a function's name: few bytes, and some shells read a script
        from a pipe byte by byte."""
        if name := self._known.get(text):
            return name + b"\n"
        body = b"{\n%s} </dev/null\n" % text
        if text not in self._known:
            self._known[text] = None
            dropped = self._drop() if len(self._known) > _KNOWN else b""
            return dropped + body
        self._names += 1
        name = self._known[text] = b"f%d" % self._names
        return b"%s() %s%s\n" % (name, body, name)

    def _drop(self) -> bytes:
        name = self._known.pop(next(iter(self._known)))
        return b"unset -f %s\n" % name if name else b""

    def _exchange(self, script: bytes, sections: int, seconds: float) -> list[bytes]:
        left, answer, found, start = memoryview(script), bytearray(), 0, 0
        deadline = time.monotonic() + seconds
        end = max(deadline, time.monotonic() + _LONGEST)
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        poll.register(self._in, select.POLLOUT)
        while found < sections:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise TimeoutError
            for fd, _ in poll.poll(wait * 1000):
                if fd == self._in:
                    left = left[self._write(left) :]
                    if not left:
                        poll.unregister(self._in)
                    continue
                data = self._read()
                self.heard_at = time.monotonic()
                deadline = min(end, self.heard_at + seconds)
                answer += data
                while (at := answer.find(self._token, start)) >= 0:
                    found, start = found + 1, at + len(self._token)
                start = max(start, len(answer) - len(self._token) + 1)
                if len(answer) > _MOST:
                    raise EOFError("too long an answer")
        return bytes(answer).split(self._token)[:sections]

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._in, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise EOFError(str(error)) from None

    def _read(self) -> bytes:
        try:
            data = os.read(self._out, _CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise EOFError("it ended")
        return data
