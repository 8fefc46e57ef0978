"""What a live feed keeps and is told: findings as they come and go, what is usual here, what is silenced."""

from __future__ import annotations

from collections.abc import Callable

from halotui.history import History
from halotui.ledger import Ledger
from halotui.model import Frame
from halotui.rules.engine import Engine


class Notebook:
    """Between the rules and the ledger. All of the ledger's work is done in a thread of its own, which begins
    with the third frame: nothing of it may delay the first picture, nor any later one."""

    def __init__(self, open_ledger: Callable[[], Ledger], *, learns: bool = True) -> None:
        """``open_ledger`` may raise StoreError: then there is none, and ``trouble`` says so."""
        self.trouble: str | None = None

    def before(self, engine: Engine) -> None:
        """Hand the engine what is usual and what is silenced, where that has changed."""

    def after(self, frame: Frame, history: History, engine: Engine) -> None:
        """Take what the frame taught: observations, and findings that began or ended."""

    async def close(self) -> None:
        """What was taken is on the disk."""
