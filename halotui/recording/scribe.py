"""The thread between frames and a disk: who gives never waits, and what cannot be written waits, bounded."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import Protocol

from halotui.model import Frame
from halotui.recording.reader import RecordingError
from halotui.runs import Mark

WAITING = 600  # frames and marks at most that wait for a disk that hangs: ten minutes at 1 Hz
PAUSE = 0.5  # seconds between two flushes, at least: faster frames go together
RETRY = 1.0  # seconds between two tries, while something waits for a disk that refuses
PATIENCE = 0.5  # seconds that a goodbye may take: a disk that hangs does not hold up who quits


class Sink(Protocol):
    """Where the frames go. Raises OSError or RecordingError while it cannot take them."""

    def put(self, item: Frame | Mark) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Scribe:
    """Hands frames and marks to a sink, and has them on the disk within a second.

    ``trouble`` says in a few words why they are not; it is None again once they are.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self.trouble: str | None = None
        self.taken = 0  # frames
        self._sink = sink
        self._items: deque[Frame | Mark] = deque(maxlen=WAITING)  # full: the oldest goes
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self, frame: Frame) -> None:
        """Returns at once."""
        self.taken += 1
        self._items.append(frame)
        self._news.set()

    def mark(self, mark: Mark) -> None:
        self._items.append(mark)
        self._news.set()

    def close(self, patience: float = PATIENCE) -> bool:
        """The rest to the disk, and goodbye; False when the disk did not answer in time."""
        self._closing.set()
        self._news.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait(RETRY if self.trouble else None)
            self._news.clear()
            began = time.monotonic()
            self._write()
            self._closing.wait(PAUSE - (time.monotonic() - began))
        self._write()
        try:
            self._sink.close()
        except (OSError, RecordingError) as error:
            self.trouble = _words(error)

    def _write(self) -> None:
        try:
            while self._items:
                item = self._items[0]
                self._sink.put(item)
                with suppress(IndexError):
                    if self._items[0] is item:  # not pushed out meanwhile
                        self._items.popleft()
            self._sink.flush()
        except (OSError, RecordingError) as error:
            self.trouble = _words(error)
        except Exception as error:  # a mistake of ours costs this one
            with suppress(IndexError):
                self._items.popleft()
            self.trouble = f"{type(error).__name__}: {error}"
        else:
            self.trouble = None


def _words(error: OSError | RecordingError) -> str:
    if isinstance(error, RecordingError):
        return error.reason
    return (error.strerror or str(error)).lower()
