"""A command of the user on a far box: stdin, output and exit code as here, and it ends with us."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from signal import SIGKILL, SIGRTMAX

from halotui.hosts import LinkDown, shell
from halotui.hosts.hands import MARK
from halotui.hosts.ssh import SshHost
from halotui.model import LinkState

NO_PLACE = 126  # exit code where its directory is not there
_FAILED = 255  # ssh's own exit code
_SIGNALLED = 128
_CHUNK = 64 * 1024
_GRACE_SECONDS = 5

# The script comes by stdin: no login shell reads it then, and nobody sees it. What follows is the command's.
_FIRST = "exec sh -c 'IFS= read -r s; eval \"$s\"'"
_REST = (
    "n=$(echo; echo _); n=${{n%_}}; s=; "
    'while IFS= read -r l && [ "$l" != {end} ]; do s=$s$l$n; done; eval "$s"\n'
)
_SCRIPT = """\
exec 3>&2 2>/dev/null
trap : INT TERM HUP QUIT
{place}{exports}
( exec 2>&3 3>&-; exec {command} )
exit $?
"""
# Without a terminal nothing tells a command that its login is over: a shell beside it, whose stdin ends then.
_WARDEN = """\
{{
{prelude}
read -r x && exit
for k in TERM KILL; do
for m in $({marked}); do kill -$k $m; done
[ $k = KILL ] || sleep {grace}
done
}} >/dev/null 2>&1
"""


class FarChild:
    """Like a process of asyncio's: of the ssh that carries it. ``mark`` is in the environment of all that it
    starts there."""

    def __init__(self, host: SshHost, child: asyncio.subprocess.Process, mark: str, warden: int) -> None:
        self._host = host
        self._child = child
        self._warden = warden  # its stdin
        self.mark = mark

    @property
    def returncode(self) -> int | None:
        """Negative: a signal ended it there."""
        code = self._child.returncode
        if code is None or not _SIGNALLED < code <= _SIGNALLED + SIGRTMAX:
            return code
        return _SIGNALLED - code

    async def wait(self) -> None:
        """Raises LinkDown: it lost us, and is being ended there."""
        code = await self._child.wait()
        if code == _FAILED or code < 0:
            await asyncio.sleep(0.1)  # who watches the link may be about to see it
            if code < 0 or self._host.link.state is not LinkState.UP:
                raise LinkDown("the connection was lost while it ran")

    def close(self) -> None:
        """What is left of it there, once it has ended, may stay; else it is being ended there."""
        warden, self._warden = self._warden, -1
        if warden >= 0:
            with suppress(OSError):
                if self._child.returncode is not None:
                    os.write(warden, b"over\n")
            os.close(warden)
        if self._child.returncode is None:  # asyncio's own kill may reap it
            with suppress(ProcessLookupError):
                os.kill(self._child.pid, SIGKILL)


async def start(
    host: SshHost,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str | None,
    stdin: int | None,
    stdout: int,
    stderr: int,
) -> FarChild:
    """``env`` is set over that of the login there. ``stdin`` None: ours, where it is no terminal. Raises
    OSError, LinkDown."""
    mark = (env or {}).get(MARK) or secrets.token_hex(8)
    script = _script(host, argv, {**(env or {}), MARK: mark}, cwd)
    warden, _ = await _run(host, "exec sh", asyncio.subprocess.DEVNULL, asyncio.subprocess.DEVNULL)
    try:
        _write(warden, os.fsencode(_warden(host, mark)))
        write, child = await _run(host, _FIRST, stdout, stderr)
    except BaseException:
        os.close(warden)
        raise
    source = stdin if stdin is not None else None if os.isatty(0) else 0
    threading.Thread(
        target=_pump, args=(os.fsencode(script), source, write), name="stdin", daemon=True
    ).start()
    return FarChild(host, child, mark, warden)


async def _run(
    host: SshHost, command: str, stdout: int, stderr: int
) -> tuple[int, asyncio.subprocess.Process]:
    """And its stdin."""
    read, write = os.pipe()
    try:
        child = await asyncio.create_subprocess_exec(
            *host.client(command), stdin=read, stdout=stdout, stderr=stderr, start_new_session=True
        )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return write, child


def _script(host: SshHost, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> str:
    there = host.environ
    exports = "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in env.items()
        if shell.sayable(name) and there.get(name) != value
    )
    place = f"cd -- {shlex.quote(cwd)} 2>&3 || exit {NO_PLACE}\n" if cwd is not None else ""
    end = secrets.token_hex(16)
    body = _SCRIPT.format(place=place, exports=exports, command=" ".join(map(shlex.quote, argv)))
    return f"{_REST.format(end=end)}{body}{end}\n"


def _warden(host: SshHost, mark: str) -> str:
    prelude = shell.prelude(str(host.procfs))
    return _WARDEN.format(prelude=prelude, marked=shell.marked(mark), grace=_GRACE_SECONDS)


def _pump(script: bytes, source: int | None, target: int) -> None:
    """The script, then what comes to the command; to the end of either."""
    try:
        with suppress(OSError):
            _write(target, script)
            while source is not None and (data := os.read(source, _CHUNK)):
                _write(target, data)
    finally:
        os.close(target)


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
