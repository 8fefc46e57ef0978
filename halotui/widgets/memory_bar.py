"""How full: one bar for the whole unified memory, carve-out, GTT, other RAM and free, adding up."""

from __future__ import annotations

from msgspec import Struct

from halotui import fields, format
from halotui.model import Gpu, Memory
from halotui.widgets.rows import Ref, Row, Run, fill, right, rule
from halotui.widgets.view import View


class Account(Struct, frozen=True):
    """Installed memory, split so that the parts add up. All in bytes; unknown parts are None.

    installed = carve-out + RAM the kernel sees; GTT is RAM, and counted in its ``used``. What the kernel
    cannot say (a GPU without GTT figures) stays inside ``other``.
    """

    installed: int
    vram: int
    gtt: int
    other: int
    free: int
    headroom: int | None  # what a model could still take: min(GTT free, available)


def account(memory: Memory, gpu: Gpu | None) -> Account:
    """The account of one box with an APU."""
    vram = (gpu.vram_total_bytes if gpu is not None else None) or 0
    gtt = (gpu.gtt_used_bytes if gpu is not None else None) or 0
    available = memory.available_bytes if memory.available_bytes is not None else memory.free_bytes or 0
    used = memory.total_bytes - available
    headroom = None
    if gpu is not None and gpu.gtt_total_bytes is not None and gpu.gtt_used_bytes is not None:
        headroom = max(0, min(gpu.gtt_total_bytes - gpu.gtt_used_bytes, available))
    return Account(
        installed=memory.total_bytes + vram,
        vram=vram,
        gtt=min(gtt, used),
        other=max(0, used - gtt),
        free=available,
        headroom=headroom,
    )


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the numbers, the bar."""
    memory, gpu = view.memory, view.gpu
    if memory is None:
        source = view.sources.get("memory")
        why = source.reason if source is not None and source.reason else "not read yet"
        return [rule("memory", width), fill((Run(f" {format.DASH} {why}", "dim"),), width), fill((), width)][
            :height
        ]
    parts = account(memory, gpu)
    note = [Run(f"{format.size(parts.installed)} in all", "dim", Ref("memory.total_bytes", "memory"))]
    if parts.headroom is not None:
        note += [
            Run(" · headroom ", "dim"),
            Run(format.size(parts.headroom), "text", Ref("memory.available_bytes", "memory")),
        ]
    numbers: list[Run] = []
    if gpu is not None:
        for glyph, style, pool in (("▓", "vram", "vram"), ("█", "gtt", "gtt")):
            numbers += [
                Run(f" {glyph} ", style),
                Run(f"{fields.BY_ID[f'gpu.{pool}_used_bytes'].label} ", "dim"),
                view.value(gpu, f"{pool}_used_bytes", 8),
            ]
            if width >= 100 or pool == "gtt":
                numbers += [Run(" of ", "dim"), view.value(gpu, f"{pool}_total_bytes", 8, "text")]
            numbers.append(Run(" ", "text"))
    late = view.late("memory")
    numbers += [
        Run(" ▒ ", "ram"),
        Run("other " if gpu is not None else "used ", "dim"),
        Run(
            right(format.size(parts.other), 8),
            "late" if late else "value",
            Ref("memory.used_bytes", "memory"),
        ),
        Run(" ░ " if width < 100 else "  ░ ", "free"),
        Run("free ", "dim"),
        Run(
            right(format.size(parts.free), 8),
            "late" if late else "value",
            Ref("memory.available_bytes", "memory"),
        ),
    ]
    if memory.swap_used_bytes:
        numbers += [Run("   swap ", "dim"), view.value(memory, "swap_used_bytes", 8)]
    return [rule("memory", width, note), fill(numbers, width), bar(parts, width)][:height]


def bar(parts: Account, width: int) -> Row:
    """The account as cells. Each part that exists has at least one; the ends are kept free."""
    room = max(4, width - 2)
    sizes = ((parts.vram, "▓", "vram"), (parts.gtt, "█", "gtt"), (parts.other, "▒", "ram"))
    runs = [Run(" ", "text")]
    left = room
    for size, glyph, style in sizes:
        cells = min(left, max(1, round(size / parts.installed * room))) if size else 0
        left -= cells
        if cells:
            runs.append(Run(glyph * cells, style))
    runs.append(Run("░" * left, "free"))
    return fill(runs, width)
