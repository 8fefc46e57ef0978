"""Which process holds GPU memory: the DRM descriptors of every process, and what the driver says of them.

To look through all descriptors of a box takes milliseconds, to read those that are known takes little. So who
began lately is looked at each time, who holds something every few seconds, the others each second minute, if
they have run since; and all of them at once when memory turns up that nobody known holds. The driver takes
locks to answer, and a GPU in reset keeps them: for a thread with a deadline.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from msgspec import Struct

from halotui.collectors import gpu_pools, process_stat
from halotui.collectors.fdinfo import Client, Share
from halotui.collectors.gpu_clients import Clients
from halotui.collectors.process_stat import Stat
from halotui.hosts import Host
from halotui.safe import clean

LARGE = 1 << 30  # bytes of RAM that make a process worth a row
YOUNG_SECONDS = 10.0  # a server opens its GPU within these
YOUNG_EVERY = 1.0  # between looks at it meanwhile
HOLDER_SECONDS = 10.0  # between looks at one that has descriptors, for new ones
OTHER_SECONDS = 120.0
SPREAD = 60  # looks that these are spread over
LIST_SECONDS = 5.0  # between looks at who is there
QUIET_SECONDS = 30.0  # when no process was started meanwhile
AGAIN_SECONDS = 5.0  # between two looks at everybody
FOUND = 256 << 20  # bytes that nobody known holds: worth such a look

_BOX = "pid:[4026531836]"  # the PID namespace that the kernel began with


class Use(Struct, frozen=True, kw_only=True):
    """One process that is worth a row."""

    pid: int
    ticks: int  # its start, clock ticks since boot: with the pid, which process it is
    name: str
    uid: int | None
    cgroup: str
    cpu_seconds: float
    rss_bytes: int
    shares: tuple[Share, ...]  # what it holds on GPUs; a client of several processes stands with one
    hidden: bool  # its descriptors are not ours to see


class Look(Struct, frozen=True, kw_only=True):
    uses: tuple[Use, ...]
    gtt_bytes: dict[str, int]  # held by these, by GPU id
    used_bytes: dict[str, int]  # in use at this instant, by GPU id
    gpu: bool  # there is one
    hidden: int  # processes whose descriptors are not ours to see
    narrow: str  # why we see some processes only: "container", "hidepid"; empty: we see all
    silent: bool  # some process seen may hold memory that nobody told us of


@dataclass(slots=True)
class _Seen:
    """A process, and when to look at it again."""

    pid: str
    stat: Stat
    clients: Clients
    young_until: float
    due: float
    ran: float = -1.0  # seconds of CPU when its descriptors were looked through: else nothing was opened
    place: tuple[int | None, str] | None = None  # its uid and cgroup, once they are asked for


class Scan:
    """Of the box that we run on. Call ``look`` from one thread. ``now``: seconds of a clock that never goes
    back."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._proc = os.fspath(host.procfs)
        self._way = process_stat.way(host)
        self._seen: dict[str, _Seen] = {}
        self._told: dict[str, _Seen] = {}  # those who are worth a row, or may be
        self._hidden: set[str] = set()  # those whose descriptors are not ours to see
        self._kernel: set[str] = set()  # kernel threads: they hold none
        self._fresh: set[str] = set()  # here for the first time: many live for a moment only
        self._last_pid = b""
        self._asked: set[str] = set()
        self._listed_at = -math.inf
        self._everybody_at = math.inf  # when everybody was looked at
        self._nobodys = 0  # bytes that nobody was found to hold then
        self._pools: dict[str, str] = {}  # GPU id -> its directory
        self._pools_at = -math.inf
        self._gpu = False
        self._narrow = self._narrowed()

    def look(self, now: float, wanted: Collection[int] = ()) -> Look:
        """Who holds what; the processes ``wanted`` (servers) are told in any case."""
        pids = {str(pid) for pid in wanted}
        self._find_pools(now)
        self._list(now, pids, pids <= self._asked)
        for seen in [seen for seen in self._seen.values() if now >= seen.due]:
            self._examine(seen, now, pids)
        shares, owners = self._read()
        used = gpu_pools.used(self._pools, self._way.read)
        if self._somebody_new(now, sum(used.values()) - _held(shares)):
            self._list(now, pids, at_leisure=False)
            for seen in list(self._seen.values()):
                seen.ran = -1.0
                self._examine(seen, now, pids)
            shares, owners = self._read()
            used = gpu_pools.used(self._pools, self._way.read)
            self._nobodys = sum(used.values()) - _held(shares)
        gtt: Counter[str] = Counter()
        for share in shares.values():
            gtt[clean(share.client[0], 40)] += share.held[0]
        held_by: dict[str, list[Share]] = {}
        for client, pid in owners.items():
            held_by.setdefault(pid, []).append(shares[client])
        return Look(
            uses=tuple(self._uses(now, held_by, pids)),
            gtt_bytes=dict(gtt),
            used_bytes={gpu: pool for (gpu, kind), pool in used.items() if kind == "gtt"},
            gpu=self._gpu,
            hidden=len(self._hidden),
            narrow=self._narrow,
            silent=any(seen.clients.silent for seen in self._told.values()),
        )

    def _narrowed(self) -> str:
        if self._host.native:
            with suppress(OSError):
                if self._host.readlink(f"{self._proc}/self/ns/pid") != _BOX:
                    return "container"
            if not self._host.access(f"{self._proc}/1", os.F_OK):
                return "hidepid"
        return ""

    # --- who is there

    def _list(self, now: float, wanted: set[str], at_leisure: bool) -> None:
        """Who came and who went. At leisure, who lives for a moment only is not looked at: a compiler's are
        many. To list is dear, too."""
        last_pid = self._told_last_pid()
        quiet = last_pid and last_pid == self._last_pid and not self._fresh
        if at_leisure and now < self._listed_at + (QUIET_SECONDS if quiet else LIST_SECONDS):
            return
        try:
            here = {name for name in self._host.listdir(self._proc) if name.isdecimal()}
        except OSError:
            here = set()
        first = self._listed_at == -math.inf
        for gone in self._seen.keys() - here:
            self._forget(gone)
        self._kernel &= here
        new = here - self._seen.keys() - self._kernel
        met = new & self._fresh if at_leisure and not first else new
        self._last_pid, self._listed_at, self._fresh = last_pid, now, new - met
        for pid in (wanted - self._asked) & self._seen.keys():
            self._seen[pid].due = now
        self._asked = wanted
        for pid in met:
            seen = self._meet(pid, now)
            if seen is None:
                continue
            if first:
                seen.young_until = now
            self._examine(seen, now, wanted)
            if first and not seen.clients.behind:  # not all of them due at one time
                seen.due = now + OTHER_SECONDS * (int(pid) % SPREAD + 1) / SPREAD

    def _told_last_pid(self) -> bytes:
        """The pid last given out; empty where that cannot be relied on."""
        with suppress(OSError, IndexError):
            return self._way.read(f"{self._proc}/loadavg").split()[4] if self._host.native else b""
        return b""

    def _meet(self, pid: str, now: float) -> _Seen | None:
        stat = process_stat.read(self._way, self._proc, pid)
        if stat is None:
            return None
        if stat.kernel:
            self._kernel.add(pid)
            return None
        seen = _Seen(pid, stat, Clients(f"{self._proc}/{pid}"), young_until=now + YOUNG_SECONDS, due=now)
        self._seen[pid] = seen
        return seen

    # --- which descriptors: dear

    def _examine(self, seen: _Seen, now: float, wanted: set[str]) -> None:
        stat = process_stat.read(self._way, self._proc, seen.pid)
        if stat is None:
            self._forget(seen.pid)
            return
        if stat.ticks != seen.stat.ticks:  # the pid has gone to another process
            seen.young_until, seen.place, seen.ran = now + YOUNG_SECONDS, None, -1.0
        seen.stat = stat
        young = now < seen.young_until
        if not self._gpu or stat.dead:
            seen.clients.forget()
            seen.ran = -1.0
        elif young or seen.pid in self._told or stat.cpu_seconds != seen.ran:
            seen.clients.find()
            seen.ran = stat.cpu_seconds
        self._sort(seen)
        matters = seen.clients.behind or seen.pid in wanted
        seen.due = now + (YOUNG_EVERY if young else HOLDER_SECONDS if matters else OTHER_SECONDS)

    def _sort(self, seen: _Seen) -> None:
        """By what is known of it by now."""
        clients = seen.clients
        if clients.behind or clients.silent or seen.stat.rss_bytes >= LARGE:
            self._told[seen.pid] = seen
        else:
            self._told.pop(seen.pid, None)
        if clients.hidden:
            self._hidden.add(seen.pid)
        else:
            self._hidden.discard(seen.pid)

    def _forget(self, pid: str) -> None:
        self._seen.pop(pid, None)
        self._told.pop(pid, None)
        self._hidden.discard(pid)

    # --- what the driver says of them: cheap

    def _read(self) -> tuple[dict[Client, Share], dict[Client, str]]:
        """Each client once, and whose it is: who has most of its descriptors (a session's daemon opens one
        and hands it on), of equals the older (a child inherits them)."""
        shares: dict[Client, Share] = {}
        most: dict[Client, int] = {}
        owners: dict[Client, str] = {}
        holders = sorted(
            (seen for seen in self._told.values() if seen.clients.behind),
            key=lambda s: (s.stat.ticks, int(s.pid)),
        )
        for seen in holders:
            for client, count in seen.clients.tally(shares).items():
                if count > most.get(client, 0):
                    most[client], owners[client] = count, seen.pid
            self._sort(seen)
        return shares, owners

    def _somebody_new(self, now: float, nobodys: int) -> bool:
        """Whether memory has turned up that nobody known holds."""
        if self._everybody_at == math.inf:  # just now, for the first time
            self._everybody_at, self._nobodys = now, nobodys
        self._nobodys = min(self._nobodys, nobodys)
        if nobodys - self._nobodys < FOUND or now - self._everybody_at < AGAIN_SECONDS:
            return False
        self._everybody_at = now
        return True

    def _find_pools(self, now: float) -> None:
        if now < self._pools_at:
            return
        self._pools_at, self._pools = now + OTHER_SECONDS, gpu_pools.find(self._host)
        there = bool(self._pools) or self._host.access(self._host.root / "dev/dri", os.F_OK)
        if there and not self._gpu:  # a driver loaded late: everybody is due
            for seen in self._seen.values():
                seen.due = now
        self._gpu = there

    # --- what is told

    def _uses(self, now: float, held_by: dict[str, list[Share]], wanted: set[str]) -> Iterator[Use]:
        servers = {pid: self._seen[pid] for pid in wanted if pid in self._seen}
        for pid, seen in (self._told | servers).items():
            if pid not in held_by and pid not in wanted and seen.stat.rss_bytes < LARGE:
                continue
            stat = process_stat.read(self._way, self._proc, pid)
            if stat is None or stat.dead or not stat.ticks or stat.ticks != seen.stat.ticks:
                seen.due = -math.inf
                continue
            seen.stat = stat
            if seen.place is None or now < seen.young_until:
                seen.place = self._place(f"{self._proc}/{pid}")
            yield Use(
                pid=int(pid),
                ticks=stat.ticks,
                name=stat.name,
                uid=seen.place[0],
                cgroup=seen.place[1],
                cpu_seconds=stat.cpu_seconds,
                rss_bytes=stat.rss_bytes,
                shares=tuple(held_by.get(pid, ())),
                hidden=seen.clients.hidden,
            )

    def _place(self, at: str) -> tuple[int | None, str]:
        """Owner and cgroup: of a young process, both may change yet."""
        uid, cgroup = None, ""
        with suppress(OSError):
            uid = self._host.stat(at).uid
            cgroup = os.fsdecode(self._way.read(f"{at}/cgroup"))
        return uid, cgroup


def _held(shares: dict[Client, Share]) -> int:
    return sum(sum(share.held) for share in shares.values())
