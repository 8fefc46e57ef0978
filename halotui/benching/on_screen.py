"""``P`` and ``m`` on the dashboard: a capture around what runs already, begun and ended by a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from halotui.capture.capture import Capture
from halotui.collectors import platform
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.runs import Capturing, Kind, Mark, Run, Sink, Status, Store, StoreError, Summary
from halotui.safe import clean


class Flight(Protocol):
    """The flight recorder, as far as it is needed here."""

    def mark(self, mark: Mark) -> None:
        """Returns at once."""
        ...


class ScreenRecorder:
    """A :class:`halotui.runs.Recorder`. The store is opened with the first capture; where it cannot be, the
    capture runs all the same, and says so.

    For one event loop, which nothing here blocks.
    """

    def __init__(
        self,
        host: Host,
        hands: Hands,
        open_store: Callable[[], Store],
        flight: Flight | None = None,
        pids: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        self._host = host
        self._hands = hands
        self._open_store = open_store
        self._flight = flight
        self._pids = pids
        self._store: Store | None = None
        self._capture: Capture | None = None
        self._run = Run(kind=Kind.PEAK)
        self._notes: tuple[str, ...] = ()  # why it is not kept
        self._busy = asyncio.Lock()  # starting or stopping

    async def start(self, label: str) -> None:
        """Returns when the baseline is taken. Raises StoreError while a capture is under way."""
        async with self._busy:
            if self._capture is not None:
                raise StoreError("a capture is under way", "stop it first")
            label = clean(label, 200)
            environment = await platform.read(self._host, self._hands)
            run = Run(kind=Kind.PEAK, label=label, started_time=time.time(), environment=environment)
            self._run, sink = await asyncio.to_thread(self._begin, run)
            capture = Capture(self._host, sink=sink, pids=self._pids)
            await asyncio.to_thread(capture.start)
            self._capture = capture

    def now(self) -> Capturing | None:
        capture = self._capture
        if capture is None:
            return None
        return Capturing(
            label=self._run.label,
            summary=self._noted(capture.now()),
            marks=capture.marks,
            stored=bool(self._run.id),
        )

    def mark(self, label: str, at: float | None = None) -> Mark:
        if self._capture is not None:
            mark = self._capture.mark(label, at)
        else:
            mark = Mark(time=time.time() if at is None else at, label=clean(label, 200))
        if self._flight is not None:
            self._flight.mark(mark)
        return mark

    async def stop(self) -> Run:
        """The run, whole; with id 0 where it could not be kept. Raises StoreError if nothing is captured."""
        async with self._busy:
            capture = self._capture
            if capture is None:
                raise StoreError("nothing is captured", "start a capture first")
            summary = await asyncio.to_thread(capture.stop)
            self._capture = None
            run = replace(
                self._run,
                status=Status.OK,
                seconds=summary.seconds,
                summary=self._noted(summary),
                marks=capture.marks,
            )
            return await asyncio.to_thread(self._finish, run)

    async def close(self) -> None:
        if self._capture is not None:
            await self.stop()
        store, self._store = self._store, None
        if store is not None:
            await asyncio.to_thread(store.close)

    def _noted(self, summary: Summary) -> Summary:
        return replace(summary, notes=(*self._notes, *summary.notes)) if self._notes else summary

    def _begin(self, run: Run) -> tuple[Run, Sink | None]:
        self._notes = ()
        try:
            self._store = self._store or self._open_store()
            run = replace(run, id=self._store.begin(run))
            return run, self._store.sink(run.id)
        except (StoreError, OSError) as error:
            self._notes = (f"not kept: {_why(error)}",)
            return replace(run, id=0), None

    def _finish(self, run: Run) -> Run:
        if not run.id or self._store is None or run.summary is None:
            return run
        try:
            self._store.finish(run.id, run)
        except (StoreError, OSError) as error:
            notes = (f"its end is not kept: {_why(error)}", *run.summary.notes)
            return replace(run, id=0, summary=replace(run.summary, notes=notes))
        return run


def _why(error: StoreError | OSError) -> str:
    if isinstance(error, StoreError):
        return f"{error.reason} ({error.hint})" if error.hint else error.reason
    return clean(error.strerror or str(error), 200)
