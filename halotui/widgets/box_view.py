"""The whole box, in sections; two beside each other where there is room."""

from __future__ import annotations

from halotui.widgets.box_kernel import kernel
from halotui.widgets.box_memory import memory
from halotui.widgets.box_platform import platform
from halotui.widgets.box_power import power
from halotui.widgets.box_work import energy, system
from halotui.widgets.rows import Row
from halotui.widgets.sheet import WIDE, column, columns
from halotui.widgets.view import View


def page(view: View, width: int) -> list[Row]:
    """All of it, however long."""
    size = column(width)
    chips, pools = power(view, size), memory(view, size)
    work = [energy(view), system(view, size)]
    told, known = kernel(view, size), platform(view, size)
    if width < WIDE:
        return columns([*chips, pools, *work, told], [known], width)
    return columns([*chips, *work, told], [pools, known], width)
