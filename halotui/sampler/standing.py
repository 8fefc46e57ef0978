"""How a source stands, told the same way whichever it is."""

from __future__ import annotations

from halotui.model import Source, SourceState, Unavailable


def standing(
    id_: str,
    name: str,
    trouble: Unavailable | None,
    *,
    age: float | None = None,
    took: float | None = None,
) -> Source:
    """A ``Source``: ok without trouble. ``age`` and ``took`` in seconds, of its last success."""
    return Source(
        id=id_,
        name=name,
        state=trouble.state if trouble is not None else SourceState.OK,
        age_seconds=age,
        duration_seconds=took,
        reason=trouble.reason if trouble is not None else None,
        hint=(trouble.hint or None) if trouble is not None else None,
    )


def unforeseen(error: Exception) -> Unavailable:
    """An error that no collector meant to raise: it costs this source, and nothing else."""
    return Unavailable(
        SourceState.FAILED, f"an error of halotui's own: {type(error).__name__}", "please report it"
    )
