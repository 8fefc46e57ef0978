"""Scripts on channels of their own: what they start ends with them, with us, and with the link."""

from __future__ import annotations

import asyncio
import os
import secrets
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from halotui.hosts import LinkDown
from halotui.hosts.child_lines import LONGEST, bury, lines
from halotui.hosts.ssh_login import Login

_MOST = 4 * 1024 * 1024  # of each output
_CHUNK = 64 * 1024
_GRACE_SECONDS = 1.0
_AT_ONCE = 3  # sshd allows ten channels in all
_FAILED = 255  # ssh's own exit code
_CROWDED = "Session open refused by peer"
_NO_SESSION = "the sshd there opens no more sessions (MaxSessions)"
_SIGNALS = range(129, 129 + 64)

# The session that sshd has made for us is one process group: it is killed whole when stdin ends, or says
# anything. Elsewhere only the script's own child is.
_WATCHED = """{{
exec 4<&0 </dev/null
read -r s <"/proc/$$/stat"; set -- ${{s##*)}}
[ "$3" = "$$" ] && k=0 || k=
( {inner} ) 4<&- &
c=$!
( read -r x <&4; kill -9 ${{k:-$c}} ) >/dev/null 2>&1 &
w=$!
exec 4<&-
wait "$c"; s=$?
kill "$w"
exit "$s"
}}
"""


class CrowdedError(LinkDown):
    """sshd there opens no more sessions."""


class Channels:
    """``login`` gives the one there is, or raises LinkDown."""

    def __init__(self, login: Callable[[], Login]) -> None:
        self._login = login
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def script(self, text: str, seconds: float) -> tuple[int, bytes, bytes]:
        """As ``SshHost.script``."""
        login = self._login()
        deadline = time.monotonic() + seconds
        with self._one_of(seconds):
            child = _channel(login)
            try:
                out, err = _talk(child, os.fsencode(_WATCHED.format(inner=text)), deadline)
                code = child.wait(max(0.05, deadline - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                login.check()
                if not login.alive:
                    raise LinkDown(login.lost().reason) from None
                raise TimeoutError(f"no answer within {seconds:g} s") from None
            finally:
                _end(child)
        if code == _FAILED and not login.alive:
            raise LinkDown(login.lost().reason)
        if code == _FAILED and _CROWDED.encode() in err:
            raise CrowdedError(_NO_SESSION)
        return (128 - code if code in _SIGNALS else code), out, err

    def run(self, argv: Sequence[str], seconds: float) -> bytes:
        """As ``Host.run``."""
        none = secrets.token_hex(8)
        try:
            code, out, err = self.script(_command(argv, f"printf {none} >&2", "2>/dev/null"), seconds)
        except TimeoutError:
            raise TimeoutError(f"{argv[0]}: no answer within {seconds:g} s") from None
        except CrowdedError as error:
            raise OSError(str(error)) from None
        if err.endswith(none.encode()):
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        if code:
            raise OSError(f"{argv[0]}: exit code {code}")
        return out

    async def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """As ``Host.stream``."""
        login = self._login()
        mark = secrets.token_hex(16)
        text = _WATCHED.format(inner=_command(argv, f"echo {mark}-", "2>/dev/null", f"echo {mark}+"))
        child = await asyncio.create_subprocess_exec(
            *login.client("--", login.target, "exec sh"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=LONGEST,
        )
        assert child.stdin and child.stdout
        try:
            child.stdin.write(os.fsencode(text))
            begun = False
            async for line in lines(child.stdout):
                if begun:
                    yield line
                elif line == f"{mark}-\n".encode():
                    raise FileNotFoundError(2, "No such file or directory", argv[0])
                else:  # before it: what a login shell has to say
                    begun = line == f"{mark}+\n".encode()
            if not login.alive:
                raise LinkDown(login.lost().reason)
            if not begun:
                raise CrowdedError(_NO_SESSION)
        finally:
            await _leave(child)

    @contextmanager
    def _one_of(self, seconds: float) -> Iterator[None]:
        if not self._free.acquire(timeout=seconds):
            raise TimeoutError("too many commands at once")
        try:
            yield
        finally:
            self._free.release()


def _command(argv: Sequence[str], missing: str, errors: str, found: str = ":") -> str:
    words = " ".join(map(shlex.quote, argv))
    name = shlex.quote(argv[0])
    there = f"command -v -- {name} >/dev/null 2>&1 || {{ {missing}; exit 127; }}"
    return f"{there}\n{found}\nexec {words} {errors}\n"


def _channel(login: Login) -> subprocess.Popen[bytes]:
    try:
        return login.channel(words=True)
    except OSError as error:
        raise LinkDown(str(error)) from None


def _talk(child: subprocess.Popen[bytes], text: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Its stdin stays open: its end is the sign to kill. Raises TimeoutError."""
    assert child.stdin and child.stdout and child.stderr
    kept: dict[int, bytearray] = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    into = child.stdin.fileno()
    os.set_blocking(into, False)
    left = memoryview(text)
    with selectors.DefaultSelector() as selector:
        for fd in kept:
            selector.register(fd, selectors.EVENT_READ)
        selector.register(into, selectors.EVENT_WRITE)
        reading = len(kept)
        while reading:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise TimeoutError
            for key, _ in selector.select(wait):
                if key.fd == into:
                    try:
                        left = left[os.write(into, left) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        left = left[:0]
                    if not left:
                        selector.unregister(into)
                elif data := os.read(key.fd, _CHUNK):
                    kept[key.fd] += data[: _MOST - len(kept[key.fd])]
                else:
                    selector.unregister(key.fd)
                    reading -= 1
    out, err = kept.values()
    return bytes(out), bytes(err)


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            with suppress(OSError):
                pipe.close()
    if child.poll() is None:
        child.kill()
    child.wait()


async def _leave(child: asyncio.subprocess.Process) -> None:
    assert child.stdin and child.stdout
    child.stdin.close()
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)  # child.kill() would take its exit from asyncio's watcher
    await bury(child, child.stdout, _GRACE_SECONDS)
