"""Samples on their way to the disk: in a thread of their own, for an fsync takes as long as it likes."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue

from halotui.capture.notes import Notes
from halotui.runs import Mark, Samples, Sink

KEPT = 600  # batches, of a second each, that wait while the disk is full or hangs
RETRY_SECONDS = 2.0


class Writing:
    """Hands to a sink what it is given, in order. What the sink refuses waits: a full disk may get room."""

    def __init__(self, sink: Sink, notes: Notes) -> None:
        self._sink = sink
        self._notes = notes
        self._queue: SimpleQueue[Samples | Mark | None] = SimpleQueue()
        self._waiting: deque[Samples | Mark] = deque()
        self._again = 0.0
        self._thread = threading.Thread(target=self._run, name="capture-writing", daemon=True)
        self._thread.start()

    def put(self, item: Samples | Mark) -> None:
        """Returns at once."""
        if self._queue.qsize() < KEPT:
            self._queue.put(item)
        else:
            self._notes.say("the store hangs: part of the samples is not kept")

    def end(self, seconds: float) -> None:
        """The rest goes to the sink; returns when it is there, or after ``seconds``."""
        self._queue.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._notes.say("the store hangs: the last samples may not be kept")
        elif self._waiting:
            self._notes.say(f"the last {len(self._waiting)} s of samples are not kept")

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            ending = item is None
            if item is not None:
                self._waiting.append(item)
            with suppress(Empty):
                while not ending:
                    following = self._queue.get_nowait()
                    ending = following is None
                    if following is not None:
                        self._waiting.append(following)
            if ending or time.monotonic() >= self._again:
                self._write()
            while len(self._waiting) > KEPT:
                self._waiting.popleft()
                self._notes.say("the store refuses for so long that part of the samples is not kept")
            if ending:
                return

    def _write(self) -> None:
        while self._waiting:
            item = self._waiting[0]
            try:
                if isinstance(item, Mark):
                    self._sink.mark(item)
                else:
                    self._sink.write(item)
            except Exception as error:  # OSError, StoreError, or a fault of the sink: the capture goes on
                why = getattr(error, "strerror", None) or error
                self._notes.begin("sink", f"the store refuses: {why}: samples wait", timed=True)
                self._again = time.monotonic() + RETRY_SECONDS
                return
            self._waiting.popleft()
        self._notes.end("sink")
