"""Which process holds what, over time."""

from __future__ import annotations

import math
import os
import pwd
from collections.abc import Iterable, Sequence
from functools import cache
from heapq import nlargest

import msgspec
from msgspec import Struct

from halotui.account import Owned
from halotui.collectors import cgroups, process_stat
from halotui.collectors.fdinfo import Client
from halotui.collectors.holders import LARGE, Look, Scan, Use
from halotui.collectors.holders_far import FarScan
from halotui.collectors.platform_facts import text
from halotui.hosts import Host
from halotui.model import HOLDER_SOURCE, Holder, Server, Source, SourceState, Unavailable
from halotui.safe import clean
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Crew, Worker

EVERY = 1.9  # seconds between two looks: each second tick
DEADLINE = 0.4  # seconds a look may take
KEPT = 10.0  # seconds a last look is still shown
MOST = 32  # rows
SETTLED = 10.0  # seconds that what nobody holds must stand still before it may be called leaked
DRIFT = 64 << 20  # bytes that it may move and still stand
ACCOUNTS = 5000  # of a box, at most
ID = 12  # digits of a container's

_NARROW = {
    "container": (
        "in a container of its own halotui sees the processes of that container alone",
        "run it on the box itself, or with --pid=host",
    ),
    "hidepid": ("/proc shows us our own processes alone (hidepid)", "`sudo halotui` sees all of them"),
}

_HINT = {
    False: "`sudo halotui` sees all of it",
    True: "this root may not look into all processes: in a container, --cap-add SYS_PTRACE",
}


class _Known(Struct, frozen=True):
    """What one look told."""

    at: float
    took: float
    rows: dict[int, Holder]
    owned: Owned
    look: Look


class _Life(Struct, frozen=True):
    """What stays as it is while a process stays in its cgroup."""

    unit: str | None
    container: str | None
    started_time: float | None


class HolderWatch:
    def __init__(self, host: Host, clock: Clock, crew: Crew | None = None) -> None:
        self._clock = clock
        self._worker = Worker("holders", clock.monotonic, crew, host)
        self._books = _Books(host, clock)
        self._due = -math.inf
        self._urls: dict[int, Server] = {}
        self._trouble: Unavailable | None = None

    @property
    def owned(self) -> Owned | None:
        known = self._known()
        return known.owned if known is not None else None

    def skip(self) -> None:
        self._books.skip()

    async def read(self, grace: float) -> None:
        """Look, if that is due. A look that comes back late is told all the same."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY
        wanted = frozenset(self._urls)
        try:
            await self._worker.call(lambda: self._books.look(wanted), self._clock.allow(min(grace, DEADLINE)))
            self._trouble = None
        except Unavailable as trouble:
            self._trouble = trouble
        except Exception as error:
            self._trouble = unforeseen(error)

    def told(self, servers: Sequence[Server]) -> tuple[Holder, ...]:
        """The largest first. A server that is new is looked at with the next frame."""
        urls = _processes(servers)
        if urls.keys() - self._urls.keys():
            self._due = self._clock.monotonic()
        self._urls = urls
        known = self._known()
        rows = known.rows if known is not None else {}
        ours = [_named(row, urls[pid]) for pid, row in rows.items() if pid in urls]
        others = (row for pid, row in rows.items() if pid not in urls and _matters(row))
        return tuple(sorted([*ours, *nlargest(MOST - len(ours), others, _size)], key=_size, reverse=True))[
            :MOST
        ]

    def source(self) -> Source:
        known, name = self._books.known, "fdinfo"
        now = self._clock.monotonic()
        age = now - known.at if known is not None else None
        trouble = self._trouble
        if known is None or trouble is not None:
            trouble = trouble or Unavailable(SourceState.NO_DATA, "not read yet")
            return standing(HOLDER_SOURCE, name, trouble, age=age, took=known.took if known else None)
        if not known.look.gpu:
            trouble = Unavailable(
                SourceState.NO_DATA, "no GPU device", "in a container, pass /dev/dri into it"
            )
        said = standing(HOLDER_SOURCE, name, trouble, age=age, took=known.took)
        reason, hint = _unseen(known.look, bool(self._books.root))
        return msgspec.structs.replace(said, reason=reason, hint=hint) if trouble is None and reason else said

    def _known(self) -> _Known | None:
        known = self._books.known
        young = known is not None and self._clock.monotonic() - known.at < KEPT
        return known if young else None


class _Books:
    """What must be remembered from look to look. ``look`` belongs to one thread, ``known`` is for all."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self.known: _Known | None = None
        self._host = host
        self._clock = clock
        self._scan = Scan(host) if host.here else FarScan(host)
        self._before: dict[tuple[int, int], Use] = {}
        self._at = 0.0
        self._users = cache(_user) if host.here else _FarUsers(host)
        self.root: bool | None = None  # whether we are, on that box
        self._torn = False  # the next look does not follow from the one before
        self._engines: dict[Client, dict[bytes, float]] = {}
        self._lives: dict[tuple[int, int, str], _Life] = {}
        self._rest = 0  # bytes of GTT that nobody holds
        self._rest_since = 0.0

    def skip(self) -> None:
        self._torn = True

    def look(self, wanted: frozenset[int]) -> None:
        began = self._clock.monotonic()
        look = self._scan.look(began, wanted)
        if self.root is None or self._host.here:
            self.root = (os.geteuid() if self._host.here else self._host.user.uid) == 0
        if self._torn:
            self._torn, self._before, self._engines = False, {}, {}
        passed = began - self._at
        rows = {use.pid: self._row(use, passed) for use in look.uses}
        owned = self._owned(look, began)
        who = {(use.pid, use.ticks): use for use in look.uses}
        self._lives = {key: self._lives[key] for key in map(_key, look.uses)}
        self._before, self._at = who, began
        self._engines = {share.client: share.engines for use in look.uses for share in use.shares}
        self.known = _Known(began, self._clock.monotonic() - began, rows, owned, look)

    def _row(self, use: Use, passed: float) -> Holder:
        life = self._lives.get(_key(use))
        if life is None:
            life = self._lives[_key(use)] = _life(self._host, use)
        before = self._before.get((use.pid, use.ticks))
        spent = use.cpu_seconds - before.cpu_seconds if before is not None else -1.0
        return Holder(
            pid=use.pid,
            name=use.name or "?",
            user=self._users(use.uid) if use.uid is not None else None,
            gtt_bytes=sum(share.held[0] for share in use.shares) if use.shares else None,
            vram_bytes=sum(share.held[1] for share in use.shares) if use.shares else None,
            rss_bytes=use.rss_bytes,
            cpu_percent=round(100 * spent / passed, 1) if spent >= 0 and passed > 0 else None,
            gpu_percent=self._gpu_percent(use, passed),
            hidden=use.hidden,
            unit=life.unit,
            container=life.container,
            started_time=life.started_time,
        )

    def _gpu_percent(self, use: Use, passed: float) -> float | None:
        """Of its busiest engine, by clients that were there before. An engine is told once it has worked."""
        spent: dict[tuple[bytes, bytes], float] = {}
        for share in use.shares:
            before = self._engines.get(share.client)
            if before is None:
                continue
            for engine, seconds in share.engines.items():
                worked = seconds - before.get(engine, 0.0)
                if worked < 0:  # the driver began anew
                    return None
                key = (share.client[0], engine)
                spent[key] = spent.get(key, 0.0) + worked
        if not spent or passed <= 0:
            return None
        return min(100.0, round(100 * max(spent.values()) / passed, 1))

    def _owned(self, look: Look, now: float) -> Owned:
        rest = sum(look.used_bytes.values()) - sum(look.gtt_bytes.values())
        if abs(rest - self._rest) > DRIFT or self.known is None:
            self._rest, self._rest_since = rest, now
        settled = now - self._rest_since >= SETTLED
        all_seen = not (look.hidden or look.narrow or look.silent) and bool(look.used_bytes)
        return Owned(look.gtt_bytes, all_seen and settled, look.used_bytes)


def _key(use: Use) -> tuple[int, int, str]:
    return use.pid, use.ticks, use.cgroup


def _life(host: Host, use: Use) -> _Life:
    inside = cgroups.container(use.cgroup)
    unit = cgroups.user_unit(use.cgroup) or cgroups.system_unit(use.cgroup)
    return _Life(
        unit=clean(unit, 200) or None,
        container=inside.id[:ID] if inside is not None else None,
        started_time=process_stat.started(host, use.ticks),
    )


def _processes(servers: Iterable[Server]) -> dict[int, Server]:
    """The process of each server, and those that it runs its models in."""
    found: dict[int, Server] = {}
    for server in servers:
        if server.pid is not None:
            found.setdefault(server.pid, server)
        for model in server.models:
            if model.pid is not None:
                found.setdefault(model.pid, server)
    return found


def _named(row: Holder, server: Server) -> Holder:
    """With what is known of the server that it is."""
    return msgspec.structs.replace(
        row,
        url=server.url,
        unit=server.unit or row.unit,
        container=server.container or row.container,
    )


def _matters(row: Holder) -> bool:
    return _gpu_bytes(row) > 0 or (row.rss_bytes or 0) >= LARGE


def _size(row: Holder) -> tuple[int, int]:
    return _gpu_bytes(row), row.rss_bytes or 0


def _gpu_bytes(row: Holder) -> int:
    return (row.gtt_bytes or 0) + (row.vram_bytes or 0)


def _unseen(look: Look, root: bool) -> tuple[str | None, str | None]:
    """Whose GPU memory is not told, and what to do: no trouble, it is the kernel's rule."""
    if look.narrow:
        return _NARROW[look.narrow]
    if look.hidden:
        whose = f"{look.hidden} processes of other users" if look.hidden > 1 else "a process of another user"
        return f"GPU memory of {whose} is theirs and root's to see", _HINT[root]
    return None, None


def _user(uid: int) -> str:
    try:
        return clean(pwd.getpwuid(uid).pw_name, 64)
    except (KeyError, OSError):
        return str(uid)


class _FarUsers:
    """By the box's own file: its directory service is not asked."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._names: dict[int, str] = {}
        self._known = False

    def __call__(self, uid: int) -> str:
        if not self._known:
            self._known = True
            lines = text(self._host, self._host.root / "etc/passwd").splitlines()
            rows = (line.split(":") for line in lines[:ACCOUNTS])
            self._names = {int(row[2]): row[0] for row in rows if len(row) > 2 and row[2].isdecimal()}
        return clean(self._names.get(uid) or str(uid), 64)
