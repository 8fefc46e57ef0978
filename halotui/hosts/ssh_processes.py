"""The processes of a far box, as ``LocalHost.processes`` finds them, in one trip the next time."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from halotui.hosts import Process, Stat, procfs
from halotui.hosts.ssh_lane import END
from halotui.hosts.ssh_reader import Reader
from halotui.hosts.ssh_reads import Ask, sockets
from halotui.safe import clean

_COMM = 15  # the kernel cuts a process name here
_LISTENS = "^ *[0-9]*: [0-9A-F:]* [0-9A-F:]* 0A "  # of the rows of net/tcp, which may be thousands
_FILES = ("stat", "cmdline", "environ", "status", "cgroup")
_LINKS = ("cwd", "fd/1", "fd/2", "ns/mnt")
_STATS = ("", "/fd/1", "/fd/2", "/net/tcp")
_NAMED = re.compile(rb"(?m)/(\d{1,10})/comm$")
_SPECIAL = frozenset("\\.[]*^$+?(){}|/")


class Clock(NamedTuple):
    """Of that box."""

    ticks: int  # a second
    boot: tuple[float, float] | None  # Unix seconds of its clock, seconds up: at one moment
    ahead: float  # seconds before ours


class _Output(NamedTuple):
    target: str | None = None
    kind: str = ""
    opened: Stat | None = None  # of a regular file
    names: tuple[str, ...] = ()  # where it should be found: as we see the file system, or as the process does


class Processes:
    """Remembers which process holds which listening socket: finding that out is dear there."""

    def __init__(self, reader: Reader, proc: str) -> None:
        self._reader = reader
        self._proc = proc
        self._owners: dict[int, int | None] = {}  # inode -> pid; None: searched for, not to be seen
        self._booted: dict[int, float] = {}  # what the kernel says -> Unix seconds of our clock

    def find(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str], uid: int, clock: Clock
    ) -> list[Process]:
        """Raises LinkDown, TimeoutError."""
        proc = self._proc
        named, snakes, tcp, net, mount, boot = self._ask(
            self._named([name[:_COMM] for name in names]),
            self._named(["python"] if scripts else []),
            Ask("text", f"grep -he '{_LISTENS}' {proc}/net/tcp {proc}/net/tcp6\n{END}", (1,)),
            Ask("stat", f"{proc}/net/tcp"),
            Ask("readlink", f"{proc}/self/ns/mnt"),
            Ask("read", f"{proc}/stat"),
        )
        listening = _listening(tcp, uid)
        found = (
            _pids(named) | self._running(_pids(snakes), frozenset(scripts)) | self._holders(ports, listening)
        )
        places = {pid: f"{proc}/{pid}" for pid in sorted(found)}
        asks = [ask for place in places.values() for ask in _asks(place)]
        told = dict(zip(asks, self._ask(*asks), strict=True))
        self._settle(told)
        seen = {pid: _Seen(place, told) for pid, place in places.items()}
        outputs = [one.output(fd) for one in seen.values() for fd in (1, 2)]
        stats = [Ask("stat", name) for output in outputs for name in output.names]
        there = dict(zip(stats, self._ask(*stats), strict=True))
        since = self._since(boot, clock)
        described = (
            _describe(pid, one, there, listening, net, mount, since, clock) for pid, one in seen.items()
        )
        return [process for process in described if process]

    def _ask(self, *asks: Ask) -> list[Any]:
        return self._reader.answers(asks) if asks else []

    def _named(self, starts: Sequence[str]) -> Ask:
        if not starts:
            return Ask("text", END, (1,))
        shape = "|".join("".join(f"\\{c}" if c in _SPECIAL else c for c in start) for start in starts)
        quoted = "'" + f"^({shape})".replace("'", "'\\''") + "'"
        return Ask("text", f"grep -lsE -e {quoted} {self._proc}/[0-9]*/comm\n{END}", (1,))

    def _running(self, pids: Iterable[int], scripts: frozenset[str]) -> set[int]:
        asks = {pid: Ask("read", f"{self._proc}/{pid}/cmdline") for pid in sorted(pids)}
        lines = zip(asks, self._ask(*asks.values()), strict=True)
        return {
            pid for pid, line in lines if isinstance(line, bytes) and procfs.runs_script(_argv(line), scripts)
        }

    def _holders(self, ports: Sequence[int], listening: Mapping[int, int]) -> set[int]:
        """Every process is searched, but once a socket only."""
        wanted = {inode for inode, port in listening.items() if port in ports}
        self._owners = {inode: pid for inode, pid in self._owners.items() if inode in wanted}
        if missing := sorted(wanted - self._owners.keys()):
            shapes = " ".join(f"-e 'socket:\\[{inode}\\]'" for inode in missing)
            ((listing,),) = self._ask(
                Ask("search", f"ls -ln {self._proc}/[0-9]*/fd | grep -e '^/' {shapes}\n{END}", (1,))
            )
            held = {inode: _pid(place) for place, inodes in sockets(listing).items() for inode in inodes}
            self._owners |= {inode: held.get(inode) for inode in missing}
        return {pid for pid in self._owners.values() if pid is not None}

    def _settle(self, told: Mapping[Ask, Any]) -> None:
        """An owner that no longer holds its socket is searched for anew."""
        held = {pid: told.get(Ask("sockets", f"{self._proc}/{pid}/fd")) for pid in self._owners.values()}
        self._owners = {
            inode: pid for inode, pid in self._owners.items() if pid is None or inode in (held[pid] or ())
        }

    def _since(self, table: Any, clock: Clock) -> float | None:
        """When it was booted, in our clock's time. The kernel tells whole seconds, cut off; its clocks tell
        the rest. Once for what it says: a start that is told anew must not look like another process."""
        try:
            said = int(table.partition(b"btime ")[2].split(None, 1)[0])
        except (AttributeError, ValueError, IndexError):
            return None
        if said not in self._booted:
            boot = clock.boot[0] - clock.boot[1] if clock.boot else 0.0
            self._booted[said] = (boot if said <= boot < said + 1 else float(said)) - clock.ahead
        return self._booted[said]


class _Seen:
    """One process in what was told of many. What is not ours to see, or gone, is None."""

    def __init__(self, place: str, told: Mapping[Ask, Any]) -> None:
        self.place = place
        self._told = told
        self.environ = _environ(self.read("environ") or b"")

    def read(self, name: str) -> bytes | None:
        content = self._told.get(Ask("read", f"{self.place}/{name}"))
        return content if isinstance(content, bytes) else None

    def link(self, name: str) -> str | None:
        target = self._told.get(Ask("readlink", f"{self.place}/{name}"))
        return target if isinstance(target, str) else None

    def stat(self, name: str) -> Stat | None:
        at = self._told.get(Ask("stat", f"{self.place}{name}"))
        return at if isinstance(at, Stat) else None

    def sockets(self) -> frozenset[int]:
        return frozenset(self._told.get(Ask("sockets", f"{self.place}/fd")) or ())

    def output(self, fd: int) -> _Output:
        target, opened = self.link(f"fd/{fd}"), self.stat(f"/fd/{fd}")
        if target is None:
            return _Output()
        if target.startswith("pipe:"):
            return _Output(kind="pipe")
        if opened is None:
            return _Output()
        if target.startswith("socket:"):
            journal = self.environ.get("JOURNAL_STREAM") == f"{opened.dev}:{opened.ino}"
            return _Output(kind="journal" if journal else "other")
        if target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
            return _Output(kind="tty")
        if not stat.S_ISREG(opened.mode):
            return _Output(kind="other")
        return _Output(target, "file", opened, (target, f"{self.place}/root{target}"))


def _describe(
    pid: int,
    seen: _Seen,
    there: Mapping[Ask, Any],
    listening: Mapping[int, int],
    net: Any,
    mount: Any,
    since: float | None,
    clock: Clock,
) -> Process | None:
    head, _, tail = (seen.read("stat") or b"").rpartition(b")")
    fields = tail.split()
    line, own, table = seen.read("cmdline"), seen.stat(""), seen.stat("/net/tcp")
    if not fields or fields[0] in (b"Z", b"X") or line is None:
        return None
    foreign_net = table is not None and isinstance(net, Stat) and table.ino != net.ino
    namespace = seen.link("ns/mnt")
    out, err = (_named_still(seen.output(fd), there) for fd in (1, 2))
    return Process(
        pid=pid,
        name=clean(head.partition(b"(")[2]),
        argv=_argv(line),
        environ=seen.environ,
        cwd=seen.link("cwd"),
        started_time=None if since is None or len(fields) < 20 else since + int(fields[19]) / clock.ticks,
        ports=() if foreign_net else tuple(sorted({listening[i] for i in seen.sockets() if i in listening})),
        stdout=out,
        stderr=err,
        stderr_to=seen.output(2).kind,
        terminal=len(fields) > 4 and fields[4] != b"0",
        cgroup=os.fsdecode(seen.read("cgroup") or b""),
        foreign_net=foreign_net,
        foreign_pid=len((seen.read("status") or b"").partition(b"NSpid:")[2].partition(b"\n")[0].split()) > 1,
        foreign_files=namespace is not None and isinstance(mount, str) and namespace != mount,
        uid=own.uid if own else None,
        parent=int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None,
    )


def _named_still(output: _Output, there: Mapping[Ask, Any]) -> str | None:
    """A regular file that still has that name."""
    for name in output.names:
        at = there.get(Ask("stat", name))
        if (
            isinstance(at, Stat)
            and output.opened
            and (at.dev, at.ino) == (output.opened.dev, output.opened.ino)
        ):
            return output.target
    return None


def _asks(place: str) -> Iterator[Ask]:
    yield from (Ask("read", f"{place}/{name}") for name in _FILES)
    yield from (Ask("readlink", f"{place}/{name}") for name in _LINKS)
    yield from (Ask("stat", f"{place}{name}") for name in _STATS)
    yield Ask("sockets", f"{place}/fd")


def _listening(found: Any, uid: int) -> dict[int, int]:
    """Socket inode -> TCP port, of the sockets whose process we may look into."""
    ports: dict[int, int] = {}
    for row in found[0].splitlines() if isinstance(found, list) else ():
        field = row.split()
        if len(field) > 9 and uid in (0, int(field[7])):
            ports[int(field[9])] = int(field[1].rpartition(b":")[2], 16)
    return ports


def _pids(found: Any) -> set[int]:
    """Of a text's one section: paths within processes."""
    return {int(pid) for pid in _NAMED.findall(found[0])} if isinstance(found, list) else set()


def _pid(path: bytes) -> int:
    return int(path.split(b"/")[-2])


def _argv(line: bytes) -> tuple[str, ...]:
    argv = os.fsdecode(line)
    return tuple(argv.removesuffix("\0").split("\0")) if argv else ()


def _environ(block: bytes) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in os.fsdecode(block).split("\0"))
    return {key: value for key, sign, value in pairs if sign}
