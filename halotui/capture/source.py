"""What is sampled, and the threads that do it at the beats of a common clock.

One thread reads all sources in turn, for each thread more costs as much as three of them. Whichever source
hangs keeps its thread to itself from then on, and the others get a new one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from halotui.capture.notes import Notes

STUCK_SECONDS = 0.3  # a read that takes longer holds up nobody else
HANG_SECONDS = 1.0  # and one that takes so long is worth a note
NAP_SECONDS = 0.1  # a longer sleep ends at once with the capture

Column = tuple[str, str]  # field id, subject
Row = tuple[int, float, Any]  # beat, seconds since the capture began, what was read


class Source:
    """Rows of one reader. ``read`` gets the monotonic time; what it returns, ``understand`` turns into a
    value per column, later and in another thread. None: nothing could be read."""

    def __init__(
        self,
        name: str,
        columns: Sequence[Column],
        read: Callable[[float], Any],
        understand: Callable[[Any], Sequence[float]] = lambda values: values,
        close: Callable[[], None] = lambda: None,
        every: int = 1,
    ) -> None:
        self.name = name  # as the notes call it: plural
        self.columns = tuple(columns)
        self.read = read
        self.understand = understand
        self.close = close
        self.every = every  # beats; the others it leaves out
        self.rows: deque[Row] = deque()
        self.begun = False  # has a sample
        self.beat = -1  # the last that was taken
        self.reading: float | None = None  # since when a read is under way, monotonic
        self.held = threading.Lock()  # by the thread that reads it

    def stuck(self, now: float, seconds: float = STUCK_SECONDS) -> bool:
        reading = self.reading
        return reading is not None and now - reading > seconds


class Pacer:
    """One daemon thread for some sources. ``read`` and ``close`` of each run in it.

    Beats are 1 / ``hertz`` apart, counted from ``origin`` (monotonic). Deadlines are absolute: a beat that
    is missed is gone.
    """

    def __init__(self, sources: Sequence[Source], origin: float, hertz: float, notes: Notes) -> None:
        self.sources = tuple(sources)
        self._stride = min(source.every for source in sources)
        self._origin = origin
        self._hertz = hertz
        self._notes = notes
        self._ending = threading.Event()
        beat = max(0, int((time.monotonic() - origin) * hertz))
        for source in self.sources:
            source.beat = beat - 1
        self._thread = threading.Thread(target=self._run, args=(beat,), name="capture-pace", daemon=True)
        self._thread.start()

    def split(self, now: float) -> tuple[Source, ...]:
        """The sources behind one that is stuck; they need another pacer. Empty: none is."""
        stuck = next((source for source in self.sources if source.stuck(now)), None)
        if stuck is None or len(self.sources) == 1:
            return ()
        others = tuple(source for source in self.sources if source is not stuck)
        self.sources = (stuck,)
        return others

    def end(self) -> None:
        """One more sample of each, unless all of them leave out beats, and no other."""
        self._ending.set()

    def join(self, deadline: float) -> None:
        """Until it has ended, or ``deadline`` (monotonic). One that is stuck is left behind."""
        while self._thread.is_alive() and (now := time.monotonic()) < deadline:
            if any(source.stuck(now) for source in self.sources):
                return
            self._thread.join(min(0.05, deadline - now))

    def _run(self, beat: int) -> None:
        origin, hertz, monotonic = self._origin, self._hertz, time.monotonic
        while True:
            ending = self._ending.is_set()
            sources = self.sources
            for source in sources:
                if beat % source.every and source.begun and not ending:
                    continue
                # Split off while another was stuck: not ours any more.
                if self.sources is not sources or not source.held.acquire(False):
                    continue
                source.reading = began = monotonic()
                try:
                    raw = source.read(began)
                except Exception as error:  # what nobody foresaw costs a sample of this source alone
                    self._notes.say(f"{source.name}: {type(error).__name__}: {error}")
                    raw = None
                seconds = monotonic() - origin
                beat = max(beat, int(seconds * hertz))
                if source.columns:
                    source.rows.append((beat, seconds, raw))
                source.beat, source.begun = beat, True
                source.reading = None
                source.held.release()
            if ending:
                break
            beat += self._stride - beat % self._stride
            left = origin + beat / hertz - monotonic()
            if left > NAP_SECONDS:
                self._ending.wait(left)
            elif left > 0:
                time.sleep(left)  # a third cheaper than to wait
            if self._stride > 1 and self._ending.is_set():
                break
        for source in self.sources:
            source.close()
