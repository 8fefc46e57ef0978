"""The same of a box far away: one command there, now and then, says who has GPU descriptors; in between only
what is known is read, in the one trip that brings all else."""

from __future__ import annotations

import math
import os
from collections.abc import Collection

from halotui.collectors import process_stat
from halotui.collectors.gpu_clients import Clients
from halotui.collectors.holders import LARGE, Scan, _Seen
from halotui.hosts import Host, LinkDown
from halotui.model import SourceState, Unavailable
from halotui.safe import clean

SEARCH_SECONDS = 30.0  # between two searches; memory that nobody known holds calls for one at once
SOON_SECONDS = 2.5  # ... while a server is young
YOUNG_SECONDS = 15.0
ALLOWED = 5.0  # seconds
_NEEDS = "it needs sh, cat, ls and awk, or busybox"
DESCRIPTORS = 512  # of one process, and processes

# $1: /proc, $2: pages that make a process worth a row, $3: whether there is a GPU. It prints
# "hidden PID" (whose descriptors are not ours to see), "large PID", "fd PID/fd: ... NAME -> DEVICE".
_SEARCH = r"""
LC_ALL=C; export LC_ALL; cd "$1" || exit 1
{
    for p in [0-9]*; do [ -r "$p/fd" ] || echo "?$p"; done
    cat [0-9]*/stat 2>/dev/null
} | awk -v pages="$2" '
    /^[?]/ { shut[substr($1, 2)] = 1; next }
    { pid = $1; if (!sub(/.*[)] /, "")) next }
    int($7 / 2097152) % 2 { next }
    pid in shut { print "hidden", pid }
    $22 + 0 >= pages + 0 { print "large", pid }'
[ -z "$3" ] || ls -ln /dev/null [0-9]*/fd 2>/dev/null | awk '
    /^[0-9]+\/fd:$/ { place = $1; next }
    / -> \/dev\/(dri\/(renderD|card)[0-9]|kfd$)/ { print "fd", place, $0 }'
exit 0
"""


class FarScan(Scan):
    """``Scan`` over a link."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._search_at = -math.inf
        self._worked = False  # ever
        self._young_until = -math.inf

    def _list(self, now: float, wanted: set[str], at_leisure: bool) -> None:
        if wanted - self._asked:
            self._young_until = now + YOUNG_SECONDS
            self._search_at = now
        self._asked = wanted
        if at_leisure and now < self._search_at:
            return
        self._search_at = now + (SOON_SECONDS if now < self._young_until else SEARCH_SECONDS)
        found = self._search()
        if found is None:
            return
        hidden, large, held = found
        self._hidden = hidden if self._gpu else set()
        for gone in self._seen.keys() - held.keys() - large - wanted:
            self._seen.pop(gone)
            self._told.pop(gone, None)
        self._expect(self._seen.keys() | held.keys() | large | wanted)
        for pid in sorted(held.keys() | large | wanted, key=int)[:DESCRIPTORS]:
            self._meet_again(pid, now, held.get(pid, ()), pid in hidden)

    def _search(self) -> tuple[set[str], set[str], dict[str, list[str]]] | None:
        """Whose descriptors are not ours to see, who is large, and who has which at a GPU. None: it did not
        work this time; raises Unavailable where it never did."""
        pages = LARGE // self._way.page
        argv = ("sh", "-c", _SEARCH, "sh", self._proc, str(pages), "gpu" if self._gpu else "")
        hidden: set[str] = set()
        large: set[str] = set()
        held: dict[str, list[str]] = {}
        try:
            out = self._host.run(argv, ALLOWED)
        except LinkDown:
            raise
        except (OSError, TimeoutError) as error:
            if self._worked:
                return None
            why = clean(str(error), 200)
            raise Unavailable(SourceState.FAILED, f"the search there does not work: {why}", _NEEDS) from None
        self._worked = True
        for line in os.fsdecode(out).splitlines():
            kind, _, rest = line.partition(" ")
            pid = rest.split("/")[0]
            if not pid.isdecimal() or len(pid) > 10:
                continue
            if kind == "hidden":
                hidden.add(pid)
            elif kind == "large":
                large.add(pid)
            elif kind == "fd":
                before, _, device = rest.rpartition(" -> ")
                name = "kfd" if device == "/dev/kfd" else before.rpartition(" ")[2]
                if name == "kfd" or name.isdecimal():
                    held.setdefault(pid, []).append(name)
        return hidden, large, held

    def _meet_again(self, pid: str, now: float, names: Collection[str], hidden: bool) -> None:
        stat = process_stat.read(self._way, self._proc, pid)
        if stat is None or stat.dead or stat.kernel:
            self._forget(pid)
            return
        seen = self._seen.get(pid)
        if seen is None or seen.stat.ticks != stat.ticks:
            clients = Clients(f"{self._proc}/{pid}", self._way.read)
            seen = self._seen[pid] = _Seen(pid, stat, clients, now + YOUNG_SECONDS, math.inf)
        seen.stat = stat
        seen.clients.take([name for name in names if name != "kfd"][:DESCRIPTORS], "kfd" in names)
        seen.clients.hidden = hidden
        self._sort(seen)

    def _expect(self, pids: Collection[str]) -> None:
        self._host.expect(*(f"{self._proc}/{pid}/cgroup" for pid in sorted(pids - self._seen.keys())[:64]))

    def _examine(self, seen: _Seen, now: float, wanted: set[str]) -> None:
        """It ended, or there is another one of its pid; or memory has turned up, and the search is done."""
        stat = process_stat.read(self._way, self._proc, seen.pid)
        if stat is None or stat.ticks != seen.stat.ticks:
            self._forget(seen.pid)
            self._search_at = now
        else:
            seen.due = math.inf
