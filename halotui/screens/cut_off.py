"""A relaunch that was cut off: where it stands, and the two ways on."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.binding import Binding

from halotui.actions import Kind, Standing
from halotui.screens.checklist import headline
from halotui.screens.popup import DIM, WARN, Popup


class CutOff(Popup[Kind]):
    """Gives FINISH, UNDO, or None for later."""

    TITLE: ClassVar = "unfinished"
    BINDINGS: ClassVar = [
        Binding("f", "go('finish')", "finish it"),
        Binding("u", "go('undo')", "put back what ran"),
        Binding("escape", "back", "later"),
    ]

    def __init__(self, standing: Standing) -> None:
        super().__init__()
        self._standing = standing

    def on_mount(self) -> None:
        standing = self._standing
        began = f", begun {time.strftime('%F %H:%M', time.localtime(standing.began_time))}"
        self.write(
            [
                (f"A {standing.kind} was cut off.\n", WARN),
                *headline(standing.before, standing.after),
                (f"{standing.url} · at: {standing.step}{began if standing.began_time else ''}\n\n", DIM),
                (f"{standing.text}\n", ""),
            ]
        )

    def action_go(self, kind: str) -> None:
        self.dismiss(Kind(kind))
