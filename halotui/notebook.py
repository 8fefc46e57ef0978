"""What a live feed keeps and is told: findings as they come and go, what is usual here, what is silenced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from halotui.baselines.observing import Observer, Taught
from halotui.history import History
from halotui.ledger import NONE, Baselines, Incident, Ledger, Silence, Software
from halotui.model import Frame, Platform
from halotui.rules.engine import Change, Engine, State
from halotui.runs import StoreError

_T = TypeVar("_T")

BEGINS = 3  # with this frame: the first picture is on the screen
WAITING = 1000  # of each kind at most, that wait for a disk that hangs
LOOK = 5.0  # seconds between two looks at what other halotui wrote
LEARN = 10.0  # seconds between two writes of observations
RETRY = 30.0  # seconds between two tries while the ledger refuses
PATIENCE = 2.0  # seconds that a goodbye, or a silence, waits for the disk


class _Order(Struct, frozen=True, eq=False):
    """A silence that the user asked for, or takes back. ``told``: None once it is on the disk, or why not."""

    silence: Silence
    back: bool
    told: Future[str | None]


class _Known(Struct, frozen=True, eq=False):
    baselines: Baselines = NONE
    silences: tuple[Silence, ...] = ()


class Notebook:
    """Between the rules and the ledger. All of the ledger's work is done in a thread of its own, which begins
    with the third frame: nothing of it may delay the first picture, nor any later one.

    What cannot be written waits, bounded, and is tried again; ``trouble`` says why, and is None once it is
    written. A finding that still fires when halotui ends, or dies, keeps no end: nobody saw it.
    """

    def __init__(self, open_ledger: Callable[[], Ledger], *, learns: bool = True) -> None:
        """``open_ledger`` may raise StoreError: then there is none, and ``trouble`` says so. Without
        ``learns`` what is usual and what is silenced is read, and neither findings nor numbers are written.
        """
        self.trouble: str | None = None
        self._open = open_ledger
        self._learns = learns
        self._frames = 0
        self._observer = Observer()
        self._platform: Platform | None = None
        self._software = Software()
        self._known = self._handed = _Known()
        self._knowing = threading.Lock()  # who changes ``_known``
        self._incidents: deque[Incident] = deque(maxlen=WAITING)  # full: the oldest goes
        self._taught: deque[Taught] = deque(maxlen=WAITING)
        self._orders: deque[_Order] = deque(maxlen=WAITING)
        self._thread: threading.Thread | None = None
        self._news = threading.Event()
        self._closing = threading.Event()
        # of the thread alone
        self._ledger: Ledger | None = None
        self._learned_at = time.monotonic()
        self._tried_at = 0.0

    def before(self, engine: Engine) -> None:
        """Hand the engine what is usual and what is silenced, where that has changed."""
        known = self._known
        if known is not self._handed:
            self._handed = known
            engine.baselines, engine.silences = known.baselines, known.silences

    def after(self, frame: Frame, history: History, engine: Engine) -> None:
        """Take what the frame taught: observations, and findings that began or ended."""
        if self._learns:
            if frame.platform is not self._platform:
                self._platform = frame.platform
                self._software = _software(frame.platform)
            self._taught += self._observer.take(frame, history, engine.frozen)
            if engine.changes:
                self._incidents += (_incident(change, frame.host) for change in engine.changes)
                self._news.set()
        if self._frames < BEGINS:
            self._frames += 1
            if self._frames == BEGINS:
                self._begin()

    async def silence(self, id_: str, subject: str = "", seconds: float | None = None) -> str | None:
        """Hear no more of a rule, for so long or until it is taken back: from the next frame on. None once
        that is on the disk, else why not: then it is for this session, and will be tried again."""
        until = None if seconds is None else time.time() + seconds
        return await self._ordered(Silence(id=id_, subject=subject, until_time=until), back=False)

    async def hear(self, id_: str, subject: str = "") -> str | None:
        """Take a silence back, likewise."""
        return await self._ordered(Silence(id=id_, subject=subject), back=True)

    async def close(self) -> None:
        """What was taken is on the disk, unless that does not answer within two seconds."""
        self._closing.set()
        self._news.set()
        if self._thread is None and (self._incidents or self._taught or self._orders):
            self._begin()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, PATIENCE)

    async def _ordered(self, silence: Silence, *, back: bool) -> str | None:
        order = _Order(silence, back, Future())
        with self._knowing:
            self._orders.append(order)
            known = self._known
            self._known = _Known(known.baselines, _after((order,), known.silences))
        if self._thread is None:
            self._begin()
        self._news.set()
        done, _ = await asyncio.wait((asyncio.wrap_future(order.told),), timeout=PATIENCE)
        return next((told.result() for told in done), "the disk does not answer")

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._work()
            self._news.wait(LOOK)
            self._news.clear()
        self._work()
        if self._ledger is not None:
            self._ledger.close()

    def _work(self) -> None:
        """All that is due. What fails stays where it is, for another time."""
        now, last = time.monotonic(), self._closing.is_set()
        if self.trouble is not None and now - self._tried_at < RETRY and not last:
            return self._refuse()
        self._tried_at = now
        try:
            if anew := self._ledger is None:
                self._ledger = self._open()
            ledger = self._ledger
            assert ledger is not None
            _each(self._orders, lambda order: _obey(ledger, order))
            _each(self._incidents, lambda one: _write(ledger, one))
            if self._taught and (last or now - self._learned_at >= LEARN):
                self._learned_at = now
                self._learn(ledger)
            if not last and (ledger.changed() or anew):
                self._tell(Baselines(ledger.baselines()), ledger.silences())
        except StoreError as error:
            self._give_up(error.reason)
        except Exception as error:  # a mistake of ours: it costs what waits, so that it is not made for ever
            self._taught.clear()
            self._incidents.clear()
            self._give_up(f"{type(error).__name__}: {error}")
        else:
            self.trouble = None

    def _learn(self, ledger: Ledger) -> None:
        taught = [self._taught.popleft() for _ in range(len(self._taught))]
        try:
            learned = ledger.learn(taught, self._software)
        except StoreError:
            room = WAITING - len(self._taught)
            self._taught.extendleft(reversed(taught[-room:] if room > 0 else []))
            raise
        self._tell(self._known.baselines.learned(learned), None)

    def _tell(self, baselines: Baselines, silences: Iterable[Silence] | None) -> None:
        """The rules, with the next frame. An order that is not written yet holds all the same."""
        with self._knowing:
            kept = self._known.silences if silences is None else _after(self._orders, tuple(silences))
            self._known = _Known(baselines, kept)

    def _give_up(self, reason: str) -> None:
        self.trouble = f"what is usual here and what was found is not kept: {reason}"
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            with suppress(StoreError):
                ledger.close()
        self._refuse()

    def _refuse(self) -> None:
        """Who asked for a silence is not kept waiting."""
        with self._knowing:
            waiting = tuple(self._orders)
        for order in waiting:
            _answer(order, self.trouble)


def _each(waiting: deque[_T], write: Callable[[_T], None]) -> None:
    """Write what waits, one by one; it waits until it is written."""
    while waiting:
        item = waiting[0]
        write(item)
        with suppress(IndexError):
            if waiting[0] is item:  # not pushed out meanwhile
                waiting.popleft()


def _obey(ledger: Ledger, order: _Order) -> None:
    if order.back:
        ledger.hear(order.silence.id, order.silence.subject)
    else:
        ledger.silence(order.silence)
    _answer(order, None)


def _answer(order: _Order, trouble: str | None) -> None:
    with suppress(InvalidStateError):  # who asked has gone, or has been told
        order.told.set_result(trouble)


def _write(ledger: Ledger, incident: Incident) -> None:
    if incident.until_time is None:
        ledger.began(incident)
    else:
        ledger.ended(incident)


def _after(orders: Iterable[_Order], silences: tuple[Silence, ...]) -> tuple[Silence, ...]:
    kept = {(silence.id, silence.subject): silence for silence in silences}
    for order in orders:
        about = (order.silence.id, order.silence.subject)
        if order.back:
            kept.pop(about, None)
        else:
            kept[about] = order.silence
    return tuple(kept.values())


def _incident(change: Change, host: str) -> Incident:
    finding = change.finding
    return Incident(
        id=finding.id,
        subject=finding.subject,
        severity=finding.severity,
        title=finding.title,
        evidence=finding.evidence,
        since_time=change.time if finding.since_time is None else finding.since_time,
        until_time=change.time if change.state is State.RESOLVED else None,
        host=host,
    )


def _software(platform: Platform | None) -> Software:
    if platform is None:
        return Software()
    return Software(
        kernel=platform.kernel or "",
        firmware=platform.firmware or "",
        mesa=platform.mesa or "",
        rocm=platform.rocm or "",
        power_mode=platform.power_mode or "",
    )
