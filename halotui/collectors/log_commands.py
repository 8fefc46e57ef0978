"""Following a log that a program tells, as journalctl and podman logs do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from halotui.collectors.leash import leash
from halotui.collectors.log_follow import KIB, MIB, Backlog, Lines, gap
from halotui.collectors.log_ration import Ration
from halotui.hosts import Host, LinkDown
from halotui.model import SourceState, Unavailable
from halotui.safe import clean

HEAD = 256 * KIB  # of a server's first lines, where it tells its facts
PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds before a program that ended is started again, doubled each time
FAR_PAUSE = 1.0  # ... and one that a cut link ended
FIRST_WAIT = 0.2  # seconds that the first read waits for an answer
SETTLED = 1.0  # seconds: a program that runs for so long is not about to say that it cannot
GRACE = 0.5  # seconds from SIGTERM to SIGKILL, and from there to being left behind
EARLY = 5 * 10**6  # nanoseconds: lines of two streams may change places, and some programs leave out the
# very moment that they are asked for, so so much before the last one is asked for as well
RECENT = 2000  # lines that are known again
LATE = 2 * 10**9  # nanoseconds: so far a process's start may lie from what the kernel's figures come to
MOST_SAID = 500  # characters of a program's own words
# On a box far away its words come with the lines, and a shell says that there is no such program.
_NONE = b"halotui: no such program\n"
_WHOLE = (
    'command -v "$1" >/dev/null || { echo "halotui: no such program"; exit; }\n'
    'LC_ALL=C SYSTEMD_COLORS=0 exec "$@" 2>&1'
)
_CUT = Unavailable(SourceState.NO_DATA, "the link is down")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What each line of the log begins with; the program's own words have none."""

    one: re.Pattern[bytes]
    lines: re.Pattern[bytes]  # any number of stamped lines
    moment: Callable[[bytes], int]  # Unix nanoseconds
    torn: re.Pattern[bytes] | None = None  # inside a line that was cut on its way and put together again

    def mended(self, block: bytes) -> bytes:
        """Without the stamps inside lines. ``block`` begins with a stamp."""
        first = self.one.match(block) if self.torn is not None else None
        if first is None or self.torn is None:
            return block
        zone = first[0].lstrip(b"0123456789-T:.")  # counted first, which is quick; "-05:00" leaves a space
        return self.torn.sub(b"", block) if block.count(zone) > block.count(b"\n") else block


@dataclass(frozen=True, slots=True)
class Program:
    """How a log is asked for, and what the program's own words mean."""

    name: str  # for people
    argv: tuple[str, ...]
    since: str  # an argument, of Unix seconds
    follow: tuple[str, ...]  # with since
    newest: tuple[str, ...]  # instead of both: from the last lines that are there
    last: tuple[str, ...]
    stamp: Stamp
    troubles: tuple[tuple[str, SourceState, str, str], ...]  # its words, in lower case; ours, and a hint
    hint: str  # when there is no line
    missing: str  # a hint, when the program is not there

    def head(self, since: int) -> tuple[str, ...]:
        """Everything from ``since`` (Unix nanoseconds) until now."""
        return *self.argv, self._since(since), *self.last

    def on(self, since: int | None) -> tuple[str, ...]:
        """From ``since`` on, or from the newest lines on, for ever."""
        start = (*self.follow, self._since(since)) if since is not None else self.newest
        return *self.argv, *start, *self.last

    def _since(self, moment: int) -> str:
        return self.since.format(f"{moment // 10**9}.{moment // 1000 % 10**6:06}")


class CommandFollower:
    """Follows what a program prints, on its standard error as well: a container's is told there.

    One child at a time, in a session of its own. When it ends it is started again, later and later. The
    first answer is bounded: the first lines since ``since`` (Unix seconds: the server's start), and the
    newest. No line is given twice. Lines wait for ``read``, the newest 8 MiB of them.
    """

    def __init__(self, program: Program, since: float | None, now: float, host: Host) -> None:
        self.past = True
        self._program = program
        self._host = host
        self._ration = None if host.here else Ration()
        ahead = host.ahead  # the stamps are of its clock
        self._now = int((now + ahead) * 10**9)
        self._from = int((since + ahead) * 10**9) - LATE if since is not None else None
        self._backlog = Backlog()
        self._lines = Lines()
        self._task: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()  # lines came, or an end
        self._runs_since: float | None = None  # loop time
        self._trouble: Unavailable | None = None
        self._said = ""  # the program's own words in this run
        self._heard = False  # a line, in this run
        self._ever = False
        self._last = self._from - 1 if self._from is not None else None  # the newest stamp so far
        self._recent: deque[int] = deque(maxlen=RECENT)  # hashes of lines
        self._again: Counter[int] | None = None  # of those that may come again in this run; None: none will
        self._edge = 0  # the newest stamp before this run
        self._hole = False  # lines are missing, unless some come again

    async def read(self) -> bytes:
        """The complete lines since the last call. Raises Unavailable ABSENT, DENIED, NO_DATA or FAILED."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stir.wait(), FIRST_WAIT)
        if block := self._backlog.take():
            if stamp := self._stamp_of_last(block):
                self.past = self._program.stamp.moment(stamp) < self._now
            return block
        if self._task.done() and not self._task.cancelled():
            self._task.result()  # an error of our own
        if trouble := self._standing():
            raise trouble
        self.past = False
        return b""

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _standing(self) -> Unavailable | None:
        began = self._runs_since
        settled = began is not None and asyncio.get_running_loop().time() - began >= SETTLED
        if self._trouble is not None and not settled:
            return self._trouble
        return None if self._ever else self._meant() or self._silent()

    async def _run(self) -> None:
        pause, head, skips = PAUSE, self._from, False
        while True:
            try:
                whole = True
                if head is not None:
                    whole = await self._listen(self._program.head(head), HEAD)
                    head = None if self._heard else head
                whole, skips = whole and not skips, False
                since = self._last - EARLY if self._last is not None and whole else None
                skips = not await self._listen(self._program.on(since), hole=not whole)
                self._trouble = None if skips else self._meant() or self._ended()
                pause = PAUSE if self._heard else pause
            except LinkDown:
                self._trouble, pause = _CUT, FAR_PAUSE
            except OSError as error:
                self._trouble = self._not_started(error)
            self._stir.set()
            await asyncio.sleep(max(pause, self._ration.wait if self._ration is not None else 0.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen(self, argv: tuple[str, ...], most: int | None = None, *, hole: bool = False) -> bool:
        """Run it to its end, or until it has told ``most`` bytes: was that all?"""
        self._lines, self._said, self._heard, self._hole, told = Lines(), "", False, hole, 0
        self._edge, self._again = self._last or 0, Counter(self._recent) if self._last is not None else None
        try:
            said = _here if self._host.here else _far
            async with aclosing(said(self._host, argv)) as pieces:
                async for data in pieces:
                    if self._runs_since is None:
                        self._runs_since = asyncio.get_running_loop().time()
                    self._take_in(self._lines.feed(data))
                    told += len(data)
                    if most is not None and told >= most:
                        return False
                    if self._ration is not None and not self._ration.allows(len(data)):
                        return False
            self._take_in(self._lines.end())
            return True
        finally:
            self._runs_since = None

    def _take_in(self, block: bytes) -> None:
        block = self._unseen(self._stamped(block))
        if not block:
            return
        self._remember(block)
        self._heard = self._ever = True
        self._trouble = None
        if self._hole:
            self._backlog.put(gap() + b"\n")
            self._hole = False
        self._backlog.put(self._program.stamp.mended(block))
        self._stir.set()

    def _stamped(self, block: bytes) -> bytes:
        """The log's lines; the program's own are kept apart."""
        logged, at = [], 0
        while at < len(block):
            run = self._program.stamp.lines.match(block, at)
            end = run.end() if run else at
            logged.append(block[at:end])
            at = end
            if end < len(block):
                at = block.index(b"\n", end) + 1
                self._said = f"{self._said} {clean(block[end:at])}".strip()[-MOST_SAID:]
        return logged[0] if len(logged) == 1 else b"".join(logged)

    def _unseen(self, block: bytes) -> bytes:
        """Without the lines that were given before: they come first, if they come again."""
        kept, at = [], 0
        while self._again is not None and at < len(block):
            end = block.index(b"\n", at) + 1
            stamp = self._program.stamp.one.match(block, at)
            after = self._program.stamp.moment(stamp[0]) - self._edge if stamp else 0
            if after > EARLY:
                self._again = None
                break
            line = hash(block[at : end - 1])
            if after <= 0:
                self._hole = False
            if self._again[line] > 0:
                self._again[line] -= 1
            elif after >= -EARLY:
                kept.append(block[at:end])
            at = end
        return b"".join(kept) + block[at:] if at else block

    def _remember(self, block: bytes) -> None:
        if stamp := self._stamp_of_last(block):
            self._last = max(self._last or 0, self._program.stamp.moment(stamp))
        self._recent.extend(map(hash, block[:-1].rsplit(b"\n", RECENT)[-RECENT:]))

    def _stamp_of_last(self, block: bytes) -> bytes | None:
        found = self._program.stamp.one.match(block, block.rfind(b"\n", 0, -1) + 1)
        return found[0] if found else None

    def _meant(self) -> Unavailable | None:
        """What the program's own words come to, if they are known and all that it said."""
        said = self._said.lower()
        for words, state, reason, hint in self._program.troubles:
            if words in said and not self._heard:
                return Unavailable(state, reason, hint)
        return None

    def _silent(self) -> Unavailable:
        return Unavailable(
            SourceState.NO_DATA, f"{self._program.name} has no line of it yet", self._program.hint
        )

    def _ended(self) -> Unavailable:
        if not self._ever and not self._said:
            return self._silent()
        said = self._said[-200:] or "it ended"
        return Unavailable(
            SourceState.FAILED, f"{self._program.name}: {said}", "it is tried again each minute"
        )

    def _not_started(self, error: OSError) -> Unavailable:
        name = self._program.argv[0]
        if isinstance(error, FileNotFoundError):
            return Unavailable(SourceState.ABSENT, f"there is no {name} here", self._program.missing)
        reason = f"{name} could not be started: {error.strerror or error}"
        return Unavailable(SourceState.FAILED, reason, "it is tried again each minute")


async def _far(host: Host, argv: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    """What it says on a box far away. Raises FileNotFoundError, LinkDown."""
    yield b""
    async with aclosing(host.stream(("sh", "-c", _WHOLE, "sh", *argv))) as lines:
        async for line in lines:
            if line == _NONE:
                raise FileNotFoundError(argv[0])
            yield line


async def _here(host: Host, argv: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    """What it says. Raises FileNotFoundError when there is no such program."""
    child = await _start(host, argv)
    assert child.stdout is not None
    try:
        yield b""
        while data := await child.stdout.read(MIB):
            yield data
    finally:
        await _end(child, child.stdout)


async def _start(host: Host, argv: tuple[str, ...]) -> asyncio.subprocess.Process:
    path = host.which(argv[0])
    if path is None:
        raise FileNotFoundError(argv[0])
    return await asyncio.create_subprocess_exec(
        *leash(host),
        path,
        *argv[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=256 * KIB,
        env=os.environ | {"LC_ALL": "C", "SYSTEMD_COLORS": "0"},  # its own words are looked at
    )


async def _end(child: asyncio.subprocess.Process, out: asyncio.StreamReader) -> None:
    """All of it, politely at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                while await out.read(MIB):  # a full pipe would keep asyncio from seeing the end
                    pass
                await child.wait()
                return
