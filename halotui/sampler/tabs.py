"""Which servers are followed, by whom, and in which order: a tab each, kept over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from halotui.collectors.llama_http import LlamaHttp
from halotui.collectors.llama_models import child_url
from halotui.hosts import Host
from halotui.model import (
    LogPlace,
    ModelState,
    Server,
    ServerEvent,
    ServerProcess,
    ServerState,
    Severity,
    Source,
)
from halotui.sampler.clock import Clock
from halotui.sampler.log import LogTap
from halotui.sampler.polling import Poller
from halotui.sampler.router import RouterTracker
from halotui.sampler.server import ServerTracker
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.tab import LLAMA, ROUTER, Tab, by_url, kind_of, port_of, rests
from halotui.sampler.tracker import Tracker

if TYPE_CHECKING:
    from halotui.sampler.core import Options

MOST = 32  # servers followed at once
KEPT = 600.0  # seconds that one which has gone keeps its tab, unless it was asked for by --url
SLACK = 0.5  # seconds beyond the grace, for reading logs
STEPS = 3  # in one tick: a server proves to be a router, lists its models, their servers are asked

Client = Callable[[str, str | None], LlamaHttp]  # address, key
_GONE = (ServerState.DOWN, ServerState.FAILED)
UNLOADED = "unloaded: it is loaded for the next request"


class Tabs:
    """``update`` takes what is there, ``gather`` asks, ``fold`` says what is known of each, in order."""

    def __init__(self, host: Host, options: Options, clock: Clock, client: Client) -> None:
        self._host = host
        self._options = options
        self._clock = clock
        self._client = client
        self._tabs: dict[str, Tab] = {}
        self._order: list[Tab] | None = None
        self.unsure = False  # one refuses whose process was there: look for it again

    @property
    def turn_in(self) -> float:
        """Seconds until all may be asked for their slots again."""
        return max((tab.poller.turn_in for tab in self._tabs.values() if tab.poller), default=0.0)

    async def update(self, found: Sequence[ServerProcess] | None) -> None:
        """Follow what was ``found``; None: nobody could look."""
        urls, there = self._options.urls, by_url(found or ())
        for tab in self._tabs.values():
            if found is not None and tab.seen and tab.url not in there:
                tab.seen, tab.shared = False, ()
                tab.tracker.lose_process()
                if tab.stand_in is not None:
                    tab.tracker.process = tab.stand_in
                if tab.behind in there and self._ask_router_of(tab) is None and tab.poller is not None:
                    tab.poller.rest(ServerState.SLEEPING, UNLOADED)
        for url in urls:
            await self._follow(url, there.get(url, ()), given=True)
        for url, processes in there.items():
            if url not in urls and (not urls or processes[0].behind in self._tabs):
                await self._follow(url, processes)

    def skip(self) -> None:
        """What they say next does not follow from what they said: no rates between."""
        for tab in self._tabs.values():
            tab.tracker.skip()

    async def gather(self, grace: float) -> None:
        """Ask them all; what takes longer than ``grace`` seconds goes on by itself."""
        await self._leave_gone()
        asked: Iterable[Tab] = list(self._tabs.values())
        for _ in range(STEPS):
            tasks = [self._asking(tab, grace) for tab in asked]
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=grace + SLACK)
            asked = [new for tab in list(self._tabs.values()) for new in await self._learn(tab)]

    def fold(self) -> tuple[Server, ...]:
        folded: dict[str, Server] = {}
        for tab in reversed(self._ordered()):  # the models of a router before it
            if isinstance(tab.tracker, RouterTracker):
                children = [folded[url] for url in folded if folded[url].behind == tab.url]
                tab.tracker.tabs = {child.url for child in children}
                tab.tracker.working = any(child.state is ServerState.BUSY for child in children)
            server = folded[tab.url] = self._told(tab)
            tab.state = server.state
            if tab.seen or not (server.state in _GONE or rests(tab)):
                tab.gone_at = None
            elif tab.gone_at is None:
                tab.gone_at = self._clock.monotonic()
        return tuple(folded[tab.url] for tab in self._ordered())

    def sources(self) -> Iterator[Source]:
        for tab in self._ordered():
            try:
                yield from tab.tracker.sources()
            except Exception as error:
                yield standing(f"server {tab.url}", tab.kind, unforeseen(error))

    async def close(self) -> None:
        for tab in list(self._tabs.values()):
            await self._leave(tab)

    # --- who is followed

    async def _follow(
        self, url: str, processes: Sequence[ServerProcess], *, given: bool = False
    ) -> Tab | None:
        """Its tab, with what is new about its process; None where there is no room for one more."""
        process = processes[0] if processes else None
        tab = self._tabs.get(url)
        try:
            if tab is None and (given or await self._room()):
                tab = self._tabs.get(url) or self._open(url, process, given)
            elif tab is not None and process is not None:
                await self._renew(tab, process)
            if tab is not None and process is not None:
                self._note(tab, process, processes)
            if tab is not None:
                await self._listen(tab)
        except Exception as error:  # costs this server alone
            if tab is not None:
                tab.trouble = unforeseen(error).reason
        return tab

    def _open(self, url: str, process: ServerProcess | None, given: bool) -> Tab:
        kind, asked_as = kind_of(process), self._asked_as(url, process)
        tracker, poller = self._tracker(url, kind, process, asked_as)
        tab = self._tabs[url] = Tab(url, given, kind, asked_as, tracker, poller)
        self._order = None
        return tab

    async def _renew(self, tab: Tab, process: ServerProcess) -> None:
        """The process may be another one, with another key or address, or of another kind."""
        again = bool(process.pid) and process.pid != tab.pid
        asked_as = self._asked_as(tab.url, process)
        moved, tab.asked_as = asked_as != tab.asked_as, asked_as
        if again and kind_of(process) != tab.kind:
            await self._become(tab, kind_of(process), process)
        elif moved or (rests(tab) and not process.unreachable and (again or not process.pid)):
            await tab.tracker.reconnect(self._client(*asked_as))
        elif again and tab.pid is not None and tab.poller is not None and tab.poller.epoch == tab.epoch:
            tab.poller.renew()  # started again, so fast that no question failed

    def _note(self, tab: Tab, process: ServerProcess, processes: Sequence[ServerProcess]) -> None:
        if process.behind != tab.behind:
            tab.behind, self._order = process.behind, None
        if process.pid and process.pid != tab.pid:
            tab.pid, tab.epoch = process.pid, tab.poller.epoch if tab.poller is not None else 0
            self._ask_router_of(tab)
        tab.seen = bool(process.pid)
        tab.shared = tuple(sorted(one.pid for one in processes)) if len(processes) > 1 else ()
        tab.tracker.process = process
        if process.behind is not None:
            tab.stand_in = replace(process, pid=0, started_time=None, log=None, log_path=None)
        if process.unreachable and tab.poller is not None:  # a model's own port need not lead out
            state = ServerState.FAILED if process.behind is None else ServerState.WAITING
            tab.poller.rest(state, process.unreachable)

    def _tracker(
        self, url: str, kind: str, process: ServerProcess | None, asked_as: tuple[str, str | None]
    ) -> tuple[Tracker, Poller | None]:
        client = self._client(*asked_as)
        if kind == ROUTER:
            return RouterTracker(url, client, self._clock), None
        if kind == LLAMA or process is None:
            poller = Poller(client, self._clock, partial(self._client, asked_as[0], None))
            return ServerTracker(url, poller, self._clock), poller
        from halotui.sampler import engine  # few boxes have one

        return engine.tracker(process, self._host, self._clock, client), None

    def _asked_as(self, url: str, process: ServerProcess | None) -> tuple[str, str | None]:
        own = process.api_key if process is not None else None
        behind = self._tabs.get(process.behind) if process is not None and process.behind else None
        parent = behind.asked_as[1] if behind is not None else None
        key = self._options.api_key or own or parent or self._options.fallback_key
        return (process.address if process is not None else None) or url, key

    # --- routers and their models

    async def _learn(self, tab: Tab) -> list[Tab]:
        """What its answers tell about who it is; the tabs that are to be asked next."""
        tracker = tab.tracker
        down = tab.poller is not None and tab.poller.state is ServerState.DOWN
        down, tab.down = down and not tab.down, down
        self.unsure |= down and tab.seen
        if down and await self._is_elsewhere(tab):
            return []
        if down and (router := self._ask_router_of(tab)) is not None:  # no harm, if that has unloaded it
            return [router]
        if tab.poller is not None and tab.poller.router:
            await self._become(tab, ROUTER, tracker.process)
            return [tab]
        if not isinstance(tracker, RouterTracker):
            return []
        if tracker.plain:
            await self._become(tab, LLAMA, tracker.process)
            return [tab]
        if tracker.looks == tab.looks:
            return []
        tab.looks = tracker.looks
        return await self._children(tab, tracker)

    def _ask_router_of(self, tab: Tab) -> Tab | None:
        parent = self._tabs.get(tab.behind or "")
        if parent is None or not isinstance(parent.tracker, RouterTracker):
            return None
        parent.tracker.hurry()
        return parent

    async def _is_elsewhere(self, tab: Tab) -> bool:
        """A loaded model that nobody answers for at the first question: its router was asked through a tunnel
        or a proxy, and its port is one of another machine."""
        parent, poller = self._tabs.get(tab.behind or ""), tab.poller
        if tab.seen or poller is None or poller.answered_at is not None or parent is None:
            return False
        router = parent.tracker
        if not isinstance(router, RouterTracker) or not router.holds(tab.url):
            return False
        router.deaf.add(tab.asked_as[0])
        await self._leave(tab)
        return True

    async def _become(self, tab: Tab, kind: str, process: ServerProcess | None) -> None:
        """Another kind of server at the same place: all but its log begins anew."""
        old = tab.tracker
        tab.tracker, tab.poller = self._tracker(tab.url, kind, process, tab.asked_as)
        tab.kind, tab.task, tab.looks, tab.epoch = kind, None, 0, 0
        tab.tracker.process, tab.tracker.tap, old.tap = process, old.tap, None
        await old.close()

    async def _children(self, tab: Tab, router: RouterTracker) -> list[Tab]:
        """Follow the models that are loaded, leave the others alone; new tabs are returned."""
        new, offered = [], set()
        for model in router.offered:
            url = child_url(tab.url, model.id)
            offered.add(url)
            child, process = self._tabs.get(url), router.child(model)
            if model.child is None and child is not None and child.poller is not None:
                failed = model.state is ModelState.FAILED
                state = ServerState.FAILED if failed else ServerState.SLEEPING
                child.poller.rest(state, model.reason or UNLOADED)
            elif process is not None and (child is None or not child.seen or rests(child)):
                followed = await self._follow(url, (process,))
                new += [followed] if followed is not None and child is None else []
        for child in self._behind(tab.url):
            if child.url not in offered and not child.seen and child.poller is not None:
                child.poller.rest(ServerState.DOWN, "the router no longer offers it")
        return new

    # --- one tab

    def _asking(self, tab: Tab, grace: float) -> asyncio.Task[None]:
        if tab.task is None or tab.task.done():
            tab.task = asyncio.create_task(self._ask(tab, grace))
        return tab.task

    async def _ask(self, tab: Tab, grace: float) -> None:
        try:
            await tab.tracker.gather(grace)
        except Exception as error:
            tab.trouble = unforeseen(error).reason
        else:
            tab.trouble = None

    def _told(self, tab: Tab) -> Server:
        try:
            server = tab.tracker.fold()
        except Exception as error:
            tab.trouble = unforeseen(error).reason
            server = Server(url=tab.url, state=ServerState.FAILED)
        more: dict[str, Any] = {}
        if tab.trouble is not None:
            more["reason"] = tab.trouble
        if tab.behind is not None and server.behind is None:
            more["behind"] = tab.behind
        if tab.shared:
            pids = ", ".join(map(str, tab.shared))
            text = f"{len(tab.shared)} servers share this port, pids {pids}: a request reaches one of them"
            more.setdefault("reason", server.reason or text)
            if tab.told != tab.shared:
                tab.told = tab.shared
                event = ServerEvent(
                    kind="port-shared", severity=Severity.WARNING, text=text, time=self._clock.wall()
                )
                more["events"] = (*server.events, event)
        return replace(server, **more) if more else server

    async def _listen(self, tab: Tab) -> None:
        """Follow its log: the one asked for, its own, or its part of its router's."""
        tracker, process, old = tab.tracker, tab.tracker.process, tab.tracker.tap
        place, parent = self._place(tab), self._tabs.get(tab.behind or "")
        tap = old
        if place is not None:
            if not isinstance(old, LogTap) or not old.follows(place):
                tap = LogTap(place, self._clock, self._host, stdin=self._options.stdin)
        elif parent is not None and isinstance(parent.tracker.tap, LogTap) and (port := port_of(tab)):
            tap = parent.tracker.tap.child(port)
        if tap is not old:
            tracker.tap = tap
            if old is not None:
                await old.close()
        if tap is not None and process is not None and process.started_time is not None:
            tap.started = process.started_time

    def _place(self, tab: Tab) -> LogPlace | None:
        path = self._options.log
        if path is not None and next(iter(self._tabs.values())) is tab:
            return LogPlace(kind="stdin" if path == "-" else "file", name=path)
        return tab.tracker.process.log if tab.tracker.process is not None else None

    # --- their order, and their end

    def _ordered(self) -> list[Tab]:
        """As they were first seen, and what stands behind another right after it."""
        if self._order is None:
            self._order = []
            for tab in self._tabs.values():
                if tab.behind not in self._tabs:
                    self._order += self._with_children(tab)
            self._order += [tab for tab in self._tabs.values() if tab not in self._order]
        return self._order

    def _with_children(self, tab: Tab) -> Iterator[Tab]:
        yield tab
        for child in self._behind(tab.url):
            yield from self._with_children(child)

    def _behind(self, url: str) -> list[Tab]:
        return [tab for tab in self._tabs.values() if tab.behind == url and tab.url != url]

    async def _room(self) -> bool:
        """For one more: who has gone, or been unloaded, longest makes it."""
        if len(self._tabs) < MOST:
            return True
        gone = [tab for tab in self._tabs.values() if tab.gone_at is not None and not tab.given]
        if not gone:
            return False
        await self._leave(min(gone, key=lambda tab: tab.gone_at or 0.0))
        return True

    async def _leave_gone(self) -> None:
        now = self._clock.monotonic()
        for tab in list(self._tabs.values()):
            gone = tab.gone_at is not None and tab.state in _GONE  # an unloaded model has not gone
            if gone and not tab.given and now - (tab.gone_at or now) >= KEPT:
                await self._leave(tab)

    async def _leave(self, tab: Tab) -> None:
        self._tabs.pop(tab.url, None)
        self._order = None
        if tab.task is not None:
            tab.task.cancel()
        await tab.tracker.close()
