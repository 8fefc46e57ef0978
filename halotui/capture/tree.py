"""The processes under measurement and their descendants: who they are, and how much memory they hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from halotui.capture.notes import Notes
from halotui.capture.probe import Probe, Reads, once, probe
from halotui.capture.source import Column
from halotui.collectors.process_stat import FAR_PAGE
from halotui.hosts import Host
from halotui.hosts.local import LocalHost
from halotui.runs import ProcessPeak
from halotui.safe import clean

SCAN_SECONDS = 1.0
FIRST_SCAN_SECONDS = 0.05  # after a new root: what starts, starts others soon; then twice that, and so on
MOST = 256  # processes that are followed at a time, for each holds a descriptor
KEPT = 64  # of those that are gone
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(eq=False)
class Member:
    """One process. It is this one, and not a later one of the same pid, for its descriptor is held."""

    pid: int
    at: str  # /proc/PID
    statm: Reads
    name: str = ""
    rss: int | None = None  # bytes, at most
    gtt: int | None = None
    vram: int | None = None

    def peak(self) -> ProcessPeak:
        return ProcessPeak(
            pid=self.pid, name=self.name, rss_bytes=self.rss, gtt_bytes=self.gtt, vram_bytes=self.vram
        )


Raw = list[tuple[Member, bytes]]  # and its statm


def _held(member: Member) -> int:
    return member.rss or 0


def _ask(member: Member, read: Callable[[str], bytes]) -> None:
    """Its name, which changes with its program, and the kernel's own high-water mark."""
    with suppress(OSError, ValueError):
        data = read(f"{member.at}/status")
        member.name = clean(data[data.index(b"Name:") + 5 : data.index(b"\n")].strip(), 40)
        at = data.index(b"VmHWM:") + 6
        mark = int(data[at : data.index(b"kB", at)]) * 1024
        member.rss = max(mark, member.rss or 0)


class Tree:
    """RSS of all at every beat. Pages that two of them share count twice, as in ``top``."""

    columns: tuple[Column, ...] = (("process.rss_bytes", ""),)

    def __init__(
        self, procfs: str, pids: Callable[[], Sequence[int]], notes: Notes, host: Host | None = None
    ) -> None:
        self.host = host = host or LocalHost()
        self.once: Callable[[str], bytes] = once if host.here else host.read
        self._page = PAGE if host.here else FAR_PAGE
        self._procfs = procfs
        self._pids = pids
        self._notes = notes
        self._roots: tuple[int, ...] = ()
        self.members: dict[int, Member] = {}
        self._list: list[Member] = []  # the same, for the hot path
        self._gone: list[Member] = []
        self._seen = False  # any of them, ever
        self._scan = 0.0  # when, next
        self._pause = SCAN_SECONDS
        self._told: object = None
        self._last: Reads | None = None  # None: of another world of pids than ours, or a tree of files
        with suppress(OSError):
            if host.here and os.readlink(f"{procfs}/self") == str(os.getpid()):  # noqa: PTH115
                self._last = Probe(f"{procfs}/loadavg", 128, watch=False)

    def read(self, now: float) -> Raw | None:
        try:
            roots = tuple(self._pids())
        except Exception as error:  # not ours: those that are known are followed on
            self._notes.say(f"processes: {type(error).__name__}: {error}")
            roots = self._roots
        if roots != self._roots:
            self._roots, self._scan, self._pause = roots, now, FIRST_SCAN_SECONDS
        if now >= self._scan:
            if self._forked(now):
                self._look(now)
            places = [f"{self._procfs}/{member.pid}" for member in self._list]
            self.host.expect(*(f"{at}/status" for at in places))
            for member in self._list:
                _ask(member, self.once)
            self._scan = now + self._pause
            self._pause = min(SCAN_SECONDS, self._pause * 2)
        raw, gone = [], []
        for member in self._list:
            data = member.statm.read(now)
            if data is None:
                gone.append(member)
            else:
                raw.append((member, data))
        if gone:
            self._bury(gone)
        return raw if self._seen or not roots else None

    def understand(self, raw: Raw) -> Sequence[float]:
        total = 0
        for member, data in raw:
            try:
                rss = int(data.split(None, 2)[1]) * self._page
            except (IndexError, ValueError):
                continue
            total += rss
            if member.rss is None or rss > member.rss:
                member.rss = rss
        return (total,)

    def peaks(self) -> tuple[ProcessPeak, ...]:
        """The largest first. Any thread."""
        known = [*self._gone, *self.members.values()]
        known.sort(key=_held, reverse=True)
        return tuple(member.peak() for member in known[:KEPT])

    def close(self) -> None:
        if self._last is not None:
            self._last.close()
        for member in self.members.values():
            member.statm.close()

    def _forked(self, now: float) -> bool:
        """Whether there may be processes that were not there at the last look. The kernel tells the pid that
        it gave out last; to look through the children of every thread costs far more."""
        if self._last is None:
            return True
        data = self._last.read(now)
        told = (data.rpartition(b" ")[2] if data else None, self._roots)
        before, self._told = self._told, told
        return told != before or data is None

    def _bury(self, gone: Sequence[Member]) -> None:
        for member in gone:
            member.statm.close()
            del self.members[member.pid]
        self._gone += gone
        if len(self._gone) > 2 * KEPT:
            self._gone = sorted(self._gone, key=_held)[-KEPT:]
        self._list = list(self.members.values())

    def _look(self, now: float) -> None:
        """Who is there. A process whose parent has ended stays one of us."""
        seen: set[int] = set()
        wanted = [*self._roots, *self.members]
        for pid in wanted:
            if pid in seen:
                continue
            seen.add(pid)
            if self._enter(pid, now):
                wanted += self._children(pid)
        self._list = list(self.members.values())

    def _enter(self, pid: int, now: float) -> bool:
        member = self.members.get(pid)
        if member is None:
            if len(self.members) >= MOST:
                self._notes.say(f"more than {MOST} processes: the rest is not followed")
                return False
            at = f"{self._procfs}/{pid}"
            member = Member(pid, at, probe(self.host, f"{at}/statm", 128, watch=False))
            if member.statm.read(now) is None:
                return False
            self.members[pid] = member
            self._seen = True
        return True

    def _children(self, pid: int) -> Iterable[int]:
        tasks = f"{self._procfs}/{pid}/task"
        found: list[int] = []
        with suppress(OSError):
            for task in self.host.listdir(tasks):
                try:
                    found += map(int, self.once(f"{tasks}/{task}/children").split())
                except FileNotFoundError:
                    if self.host.access(f"{tasks}/{task}", os.F_OK):  # a kernel without that list
                        return self._by_parent(pid)
        return found

    def _by_parent(self, pid: int) -> list[int]:
        found = []
        for name in self.host.listdir(self._procfs):
            if name.isdecimal():
                with suppress(OSError, IndexError):
                    if int(self.once(f"{self._procfs}/{name}/stat").rpartition(b")")[2].split()[1]) == pid:
                        found.append(int(name))
        return found
