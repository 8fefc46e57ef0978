"""How a source stands, and since when, told the same way whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from halotui.hosts import LinkDown
from halotui.model import Source, SourceState, Unavailable


def standing(
    id_: str,
    name: str,
    trouble: Unavailable | None,
    *,
    age: float | None = None,
    took: float | None = None,
    since: float | None = None,
) -> Source:
    """A ``Source``: ok without trouble. ``age`` and ``took`` in seconds, of its last success; ``since`` in
    Unix seconds, where it is known here: else ``Standings`` tells it."""
    return Source(
        id=id_,
        name=name,
        state=trouble.state if trouble is not None else SourceState.OK,
        since_time=since if trouble is not None else None,
        age_seconds=round(age, 2) if age is not None else None,  # more digits were a fifth of a recording
        duration_seconds=round(took, 4) if took is not None else None,
        reason=trouble.reason if trouble is not None else None,
        hint=(trouble.hint or None) if trouble is not None else None,
    )


class Standings:
    """Remembers since when each source has been in its state. Once a frame, with all of that frame's."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._known: dict[str, tuple[SourceState, float]] = {}  # id -> its state, Unix seconds

    def dated(self, sources: Iterable[Source]) -> tuple[Source, ...]:
        """The same, each that is not ok with ``since_time``; one that is no longer told is forgotten."""
        before, self._known = self._known, {}
        return tuple(self._dated(source, before.get(source.id)) for source in sources)

    def _dated(self, source: Source, before: tuple[SourceState, float] | None) -> Source:
        if source.state is SourceState.OK:
            return source
        since = source.since_time
        if since is None:
            since = before[1] if before is not None and before[0] is source.state else self._wall()
        self._known[source.id] = source.state, since
        return replace(source, since_time=since)


def unforeseen(error: Exception) -> Unavailable:
    """An error that no collector meant to raise: it costs this source, and nothing else."""
    if isinstance(error, LinkDown):
        return Unavailable(SourceState.NO_DATA, "the link is down")
    return Unavailable(
        SourceState.FAILED, f"an error of halotui's own: {type(error).__name__}", "please report it"
    )
