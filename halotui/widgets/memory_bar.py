"""How full: one bar for the whole unified memory, carve-out, GTT, other RAM and free, adding up."""

from __future__ import annotations

from halotui import fields, format
from halotui.model import Account, Gpu
from halotui.widgets.rows import Ref, Row, Run, fill, joined, right, rule
from halotui.widgets.view import View

PARTS = (  # key, glyph, style: in the order of the bar
    ("carve_out_bytes", "▓", "vram"),
    ("gtt_bytes", "█", "gtt"),
    ("other_bytes", "▒", "ram"),
    ("free_bytes", "░", "free"),
)
_TITLE = 12  # cells of the rule that are no note


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the numbers, the bar."""
    account, gpu, memory = view.account, view.gpu, view.memory
    if account is None:
        source = view.sources.get("memory")
        why = source.reason if source is not None and source.reason else "not read yet"
        return [rule("memory", width), fill((Run(f" {format.DASH} {why}", "dim"),), width), fill((), width)][
            :height
        ]
    numbers: list[Run] = []
    if gpu is not None:
        numbers += _pools(view, gpu, width)
    gap = " " if width < 100 else "  "
    numbers += [
        Run(" ▒ ", "ram"),
        Run("other " if gpu is not None else "used ", "dim"),
        view.value(account, "other_bytes", 8),
        Run(f"{gap}░ ", "free"),
        Run("free ", "dim"),
        view.value(memory, "available_bytes", 8),  # that which findings mark, and history keeps
    ]
    if memory is not None and memory.swap_used_bytes:
        numbers += [Run("   swap ", "dim"), view.value(memory, "swap_used_bytes", 8)]
    note = joined(_note(view, account), width - _TITLE)
    return [rule("memory", width, note), fill(numbers, width), bar(account, width)][:height]


def _note(view: View, account: Account) -> list[tuple[int, list[Run]]]:
    standing = view.standing("memory")
    size = Run(format.size(account.total_bytes), "dim", Ref("account.total_bytes", "account"))
    note = [(0, [standing] if standing is not None else []), (3, [size, Run(" in all", "dim")])]
    if account.leaked_gtt_bytes:
        leaked = format.size(account.leaked_gtt_bytes)
        note.append(
            (1, [Run(f"{leaked} of GTT leaked", "warning", Ref("account.leaked_gtt_bytes", "account"))])
        )
    key, words = "headroom_bytes", "headroom "
    if account.carve_out_bytes and account.carve_out_bytes == account.rocm_total_bytes:
        key, words = "rocm_free_bytes", "free for ROCm "  # models live in the carve-out there
    if (room := getattr(account, key)) is not None:
        note.append(
            (2, [Run(words, "dim"), Run(format.size(room), "text", Ref(f"account.{key}", "account"))])
        )
    return note


def _pools(view: View, gpu: Gpu, width: int) -> list[Run]:
    """VRAM and GTT in use; a card's own are no part of the bar."""
    out: list[Run] = []
    for glyph, style, pool in (("▓", "vram", "vram"), ("█", "gtt", "gtt")):
        label = fields.BY_ID[f"gpu.{pool}_used_bytes"].label
        out += [
            Run(f" {glyph if gpu.integrated is not False else ' '} ", style),
            Run(f"{label} ", "dim"),
            view.value(gpu, f"{pool}_used_bytes", 8),
        ]
        if width >= 100 or pool == "gtt":
            out += [Run(" of ", "dim"), view.value(gpu, f"{pool}_total_bytes", 8, "text")]
        out.append(Run(" ", "text"))
    return out


def bar(account: Account, width: int) -> Row:
    """The account as cells. Each part that exists has at least one; the ends are kept free."""
    room = max(4, width - 2)
    runs = [Run(" ", "text")]
    left = room
    for key, glyph, style in PARTS[:-1]:
        size = getattr(account, key) or 0
        cells = min(left, max(1, round(size / account.total_bytes * room))) if size else 0
        left -= cells
        lost = 0
        if key == "gtt_bytes" and account.leaked_gtt_bytes:
            lost = min(cells, max(1, round(account.leaked_gtt_bytes / account.total_bytes * room)))
        runs += [Run(glyph * part, look) for part, look in ((cells - lost, style), (lost, "warning")) if part]
    runs.append(Run("░" * left, "free"))
    return fill(runs, width)


def shares(account: Account) -> list[tuple[str, str, str, str]]:
    """Of the whole: key, glyph, style, share in percent."""
    return [
        (key, glyph, style, right(format.percent((getattr(account, key) or 0) / account.total_bytes), 5))
        for key, glyph, style in PARTS
    ]
