"""A capture: everything that is sampled, from the baseline on, until it is stopped.

One thread samples memory, processes and GPUs; slower ones ask what each process holds on the GPU, and look
for GPUs that come. A source that hangs is left alone with its thread and costs its own columns. Samples are
woven together, summed and handed to the sink about once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from halotui.capture.card import Card, cards
from halotui.capture.clients import Clients
from halotui.capture.meminfo import Meminfo
from halotui.capture.notes import Notes
from halotui.capture.source import HANG_SECONDS, Pacer, Source
from halotui.capture.tree import Tree
from halotui.capture.weave import Weaver, joined
from halotui.capture.writing import Writing
from halotui.hosts import Host
from halotui.runs import Mark, Samples, Sink, Summary
from halotui.safe import clean
from halotui.summing import Sums

LEAST_HERTZ, MOST_HERTZ = 1.0, 100.0
WATCH_SECONDS = 0.5  # how often it is looked whether a source is stuck
BATCH_SECONDS = 1.0
BASELINE_SECONDS = 1.0  # to wait for it, at most
PROCESSES_HERTZ = 10.0  # the kernel itself keeps the high-water mark of each
CLIENTS_HERTZ = 2.0
CARDS_HERTZ = 0.2
FAR_HERTZ = 10.0  # over a link, at most
FRESH = 0.5  # of the time between two samples: older ones are none
WORK_SECONDS = 0.05  # of a box far away, for one sample
JOIN_SECONDS = 1.0
FLUSH_SECONDS = 5.0


def _over(host: Host) -> float:
    """Samples a second that the link allows: a sample is a round trip, and some work there."""
    if host.here:
        return MOST_HERTZ
    link = getattr(host, "link", None)
    trip = (link.round_trip_seconds if link is not None else None) or 0.0
    return max(LEAST_HERTZ, min(FAR_HERTZ, float(round(1 / (1.5 * trip + WORK_SECONDS)))))


def _freshen(host: Host, seconds: float | None) -> float | None:
    """How old a box far away may let an answer be; returns what it was."""
    before = getattr(host, "fresh_seconds", None)
    if before is not None and seconds is not None:
        host.fresh_seconds = seconds  # type: ignore[attr-defined]
    return before


class Capture:
    """``hertz`` is held between 1 and 100. ``pids`` are the roots of the processes to be followed; it is
    called at every beat, from another thread. Nothing here raises for what cannot be read."""

    def __init__(
        self,
        host: Host,
        *,
        hertz: float = 20.0,
        sink: Sink | None = None,
        pids: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        self._host = host
        self.hertz = min(MOST_HERTZ, _over(host), max(LEAST_HERTZ, hertz))
        self._sink = sink
        self._pids = pids
        self._notes = Notes()
        if self.hertz < min(MOST_HERTZ, hertz):
            self._notes.say(f"over the link {self.hertz:g} samples a second, not {hertz:g}")
        self._lock = threading.Lock()  # of all below
        self._sources: list[Source] = []
        self._pacers: list[Pacer] = []
        self._cards: dict[str, Card] = {}
        self._names: list[str] = []  # in /sys/class/drm, when it was last looked through
        self._weaver = Weaver()
        self._sums: Sums | None = None
        self._tree: Tree | None = None
        self._writing: Writing | None = None
        self._unsent: list[Samples] = []
        self._marks: list[Mark] = []
        self._stopping = threading.Event()
        self._final: Summary | None = None
        self._fresh: float | None = None

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(self._marks)

    def start(self) -> None:
        """Returns when the baseline is taken, or after a second where a sensor does not answer."""
        self._fresh = _freshen(self._host, FRESH / self.hertz)
        found = threading.Event()
        self._origin = 0.0
        finder = Source("searches for GPUs", (), lambda now: self._find(found))
        self._finder = Pacer([finder], time.monotonic(), CARDS_HERTZ, self._notes)
        if not found.wait(BASELINE_SECONDS):
            self._notes.say("the search for GPUs hangs")
        sources, later = self._box()
        with self._lock:
            if self._sink is not None:
                self._writing = Writing(self._sink, self._notes)
            self._origin = time.monotonic()
            self._sums = Sums(self.hertz, time.time())
            self._sources = sources = [*sources, *self._sources]
            self._pace(sources)
        threading.Thread(target=self._collect, name="capture", daemon=True).start()
        self._wait(sources)
        with self._lock:  # who there is has to be known by now
            self._sources += later
            self._pace(later)
        self._wait(later)

    def _box(self) -> tuple[list[Source], list[Source]]:
        """The sources beside the GPUs; and those that come after the others."""
        memory = Meminfo(self._host, self._notes)
        sources = [Source("readings of memory", memory.columns, memory.read, memory.understand, memory.close)]
        if self._pids is None:
            return sources, []
        tree = self._tree = Tree(str(self._host.procfs), self._pids, self._notes, self._host)
        every = max(1, round(self.hertz / PROCESSES_HERTZ))
        sources.append(
            Source("readings of processes", tree.columns, tree.read, tree.understand, tree.close, every)
        )
        clients = Clients(tree, self._notes)
        every = max(2, round(self.hertz / CLIENTS_HERTZ))
        return sources, [
            Source("readings of GPU memory by process", clients.columns, clients.read, every=every)
        ]

    def _wait(self, sources: Sequence[Source]) -> None:
        """Until each has its first sample, or does not answer."""
        deadline = time.monotonic() + BASELINE_SECONDS
        while time.monotonic() < deadline and not all(source.begun for source in sources):
            time.sleep(0.002)

    def now(self) -> Summary:
        """So far. Cheap, from any thread; bounded in time, whatever hangs."""
        with self._lock:
            if self._final is None:
                self._gather()
            return self._final or self._summary()

    def mark(self, label: str, at: float | None = None) -> Mark:
        """Give this moment a name, or ``at`` (Unix seconds)."""
        mark = Mark(time=time.time() if at is None else at, label=clean(label, 200))
        with self._lock:
            self._marks.append(mark)
            if self._writing is not None:
                self._writing.put(mark)
        return mark

    def stop(self) -> Summary:
        """The whole of it. The last samples are with the sink by then. A second call gives the same."""
        self._stopping.set()
        self._finder.end()
        _freshen(self._host, self._fresh)
        with self._lock:
            if self._final is not None:
                return self._final
            pacers = self._pacers
        self._end(pacers)
        with self._lock:  # what stands behind one that is stuck has not had its last sample
            pacers = [late for pacer in tuple(pacers) for late in self._pace(pacer.split(time.monotonic()))]
        self._end(pacers)
        with self._lock:
            self._gather(last=True)
            self._send()
        if self._writing is not None:
            self._writing.end(FLUSH_SECONDS)
        with self._lock:
            self._final = self._final or self._summary()
            return self._final

    def _pace(self, sources: Sequence[Source]) -> list[Pacer]:
        new = [Pacer(sources, self._origin, self.hertz, self._notes)] if sources else []
        self._pacers += new
        return new

    @staticmethod
    def _end(pacers: Sequence[Pacer]) -> None:
        for pacer in pacers:
            pacer.end()
        deadline = time.monotonic() + JOIN_SECONDS
        for pacer in pacers:
            pacer.join(deadline)

    def _find(self, found: threading.Event) -> Sequence[float]:
        """In a thread of its own: look for GPUs; one that came back may have another number."""
        try:
            names = sorted(self._host.listdir(self._host.sysfs / "class/drm"))
        except OSError:
            names = []
        if names == self._names and self._cards and not any(card.silent for card in self._cards.values()):
            return ()
        self._names = names
        there = cards(self._host)
        if not there and not self._cards:
            self._notes.begin("GPUs", "no AMD GPU with the amdgpu driver under /sys/class/drm")
        with self._lock:
            for slot, device in there.items():
                known = self._cards.get(slot)
                if known is not None:
                    if known.device != device:
                        known.device = device
                    continue
                name = f"GPU sensors ({slot})" if self._cards else "GPU sensors"
                card = self._cards[slot] = Card(self._host, slot, device, hertz=self.hertz, notes=self._notes)
                source = Source(name, card.columns, card.read, card.understand, card.close)
                self._sources.append(source)
                if self._origin and not self._stopping.is_set():
                    self._pace([source])
        found.set()
        return ()

    def _collect(self) -> None:
        sent = time.monotonic()
        while not self._stopping.wait(WATCH_SECONDS):
            with self._lock:
                if self._stopping.is_set():
                    return
                now = time.monotonic()
                for pacer in tuple(self._pacers):
                    self._pace(pacer.split(now))
                if now - sent > BATCH_SECONDS - WATCH_SECONDS / 2:
                    sent = now
                    self._gather()
                    self._send()

    def _gather(self, *, last: bool = False) -> None:
        """Sum what came since. With the lock held."""
        assert self._sums is not None
        now = time.monotonic()
        for source in self._sources:
            since = source.reading
            if since is not None and now - since > HANG_SECONDS:
                self._notes.begin(source.name, f"{source.name} hang", time.time() - (now - since))
            else:
                self._notes.end(source.name)
        samples = self._weaver.weave(self._sources, now, all_=last)
        if samples is not None:
            self._sums.add(samples)
            if self._writing is not None:
                self._unsent.append(samples)

    def _send(self) -> None:
        if self._writing is not None:
            for samples in joined(self._unsent):
                self._writing.put(samples)
        self._unsent.clear()

    def _summary(self) -> Summary:
        assert self._sums is not None
        summary = self._sums.summary()
        return replace(
            summary,
            processes=self._tree.peaks() if self._tree is not None else (),
            notes=(*self._notes.lines(), *summary.notes),
        )
