"""Which finished requests are shown, in what order, and from where on: what the keys of the view change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from halotui import figures
from halotui.history import History, Sample

WINDOWS: tuple[tuple[str, float | None], ...] = (("5 min", 300.0), ("1 h", 3600.0), ("all", None))
FRESH_SECONDS = 5.0  # percentiles of a window are counted again so often while nothing ends


@dataclass
class RequestList:
    """The words and orders are those of ``halotui.figures``. What was counted is kept until it changes."""

    sort: str = "time"
    descending: bool = True
    words: str = ""  # of the filter
    window: int = 0  # in WINDOWS
    top: Sample | None = None  # the first one shown; None: the first there is
    _all: Sequence[Sample] = ()
    _shown: Sequence[Sample] = ()
    _figures: figures.Figures | None = None
    _recent: Sequence[Sample] = ()
    _bins: dict[tuple[str, int], Sequence[figures.Bin]] = field(default_factory=dict)
    _chosen: object = None  # what the above are of
    _counted: object = None
    _place: dict[int, int] = field(default_factory=dict)  # id of a sample -> where it stands

    def order(self, sorts: Sequence[str]) -> None:
        """By the next of these."""
        at = sorts.index(self.sort) if self.sort in sorts else -1
        self.by(sorts[(at + 1) % len(sorts)])

    def by(self, sort: str) -> None:
        """The largest first, but for what only names a request; the same again turns it round."""
        self.descending = not self.descending if sort == self.sort else sort not in ("slot", "end")
        self.sort, self.top = sort, None

    def filter(self, words: str) -> None:
        self.words, self.top = words.strip(), None

    def all(self, history: History, url: str) -> Sequence[Sample]:
        """All that are kept, one by one, oldest first."""
        self._look(history, url)
        return self._all

    def shown(self, history: History, url: str) -> Sequence[Sample]:
        """Those that the words hold for, in order."""
        self._look(history, url)
        return self._shown

    def together(self, history: History, url: str, now: float) -> figures.Figures:
        """Of the window, to ``FRESH_SECONDS``."""
        self._look(history, url)
        counted = (self._chosen, self.window, now // FRESH_SECONDS)
        if self._figures is None or counted != self._counted:
            window = WINDOWS[self.window][1]
            self._counted, self._bins = counted, {}
            self._figures = figures.figures(self._all, now, window)
            self._recent = [s for s in self._all if window is None or s.time >= now - window]
        return self._figures

    def bins(self, key: str, count: int) -> Sequence[figures.Bin]:
        """A histogram of what ``together`` counted last."""
        if (key, count) not in self._bins:
            values = (getattr(sample.request, key) for sample in self._recent)
            self._bins[key, count] = figures.histogram(values, count)
        return self._bins[key, count]

    def first(self, room: int) -> int:
        """Where the table begins: at ``top``, so that what is read stands still while others end."""
        if self.top is None:
            return 0
        at = self._place.get(id(self.top), 0)
        return max(0, min(at, len(self._shown) - room))

    def scroll(self, lines: int, room: int) -> None:
        """Down by so many lines; back at the beginning it follows again."""
        at = max(0, min(self.first(room) + lines, len(self._shown) - room))
        self.top = self._shown[at] if at else None

    def place(self, sample: Sample) -> int | None:
        return self._place.get(id(sample))

    def _look(self, history: History, url: str) -> None:
        samples = [s for s in history.requests(url) if s.request.source != "metrics"]  # several in one
        ends = (id(samples[0]), id(samples[-1])) if samples else None
        chosen = (url, len(samples), ends, self.sort, self.descending, self.words)
        if chosen == self._chosen:
            return
        self._chosen, self._all = chosen, samples
        self._shown = figures.chosen(samples, sort=self.sort, descending=self.descending, words=self.words)
        self._place = {id(sample): at for at, sample in enumerate(self._shown)}
