"""What a scrape is told: the last frame of each box, rendered once however many ask. It makes no frame."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from halotui.exporters.prometheus import Box, families
from halotui.exporters.prometheus_tally import Tally
from halotui.model import Frame, Link

FRESH_FRAMES, FRESH_SECONDS = 3.0, 10.0  # a frame counts for so many intervals, and so long at least
REUSE = 1.0  # seconds that a rendering is given out again, unless a frame comes
FORMS = 8  # formats and compressions that are kept of one


@dataclass
class _Standing:
    interval: float  # seconds
    link: Callable[[], Link] | None
    tally: Tally = field(default_factory=Tally)
    frame: Frame | None = None
    came: float | None = None  # monotonic


class _Once(Collector):
    """As the encoders want it."""

    def __init__(self, made: list[Family]) -> None:
        self._made = made

    def collect(self) -> Iterator[Family]:
        return iter(self._made)


class Scrape:
    """Frames come in from the loop's thread, questions from the server's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._boxes: dict[str, _Standing] = {}
        self._kept: dict[tuple[str, bool], bytes] = {}
        self._made_at: float | None = None

    def watch(self, host: str, interval: float, link: Callable[[], Link] | None = None) -> None:
        """A box that frames will come of; ``interval`` in seconds."""
        with self._lock:
            self._boxes[host] = _Standing(interval, link)
            self._made_at = None

    def take(self, host: str, frame: Frame) -> None:
        """Its next frame: what happened in it is counted now."""
        with self._lock:
            standing = self._boxes[host]
            standing.tally.take(frame)
            standing.frame, standing.came = frame, self._clock()
            self._made_at = None

    def text(self, accept: str, zipped: bool) -> tuple[bytes, str]:
        """The body and its content type, in the format that the Accept header prefers."""
        try:
            encoder, kind = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is none
            encoder, kind = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        with self._lock:
            now = self._clock()
            if self._made_at is None or now - self._made_at >= REUSE or len(self._kept) >= FORMS:
                self._kept.clear()
                self._made_at = now
            key = kind, zipped
            if key not in self._kept:
                body = encoder(_Once(list(families(self._standing(now)))))
                self._kept[key] = gzip.compress(body, 1) if zipped else body
            return self._kept[key], kind

    def _standing(self, now: float) -> Iterator[Box]:
        for host, box in self._boxes.items():
            age = None if box.came is None else now - box.came
            fresh = age is not None and age <= max(FRESH_FRAMES * box.interval, FRESH_SECONDS)
            yield Box(
                host=host,
                tally=box.tally,
                frame=box.frame if fresh else None,
                age=age,
                interval=box.interval,
                link=box.link() if box.link is not None else None,
            )
