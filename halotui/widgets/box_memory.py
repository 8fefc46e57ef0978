"""The memory as a list that adds up; what a model could still take; who holds the GTT."""

from __future__ import annotations

from halotui import fields
from halotui.model import Account, Gpu
from halotui.widgets.memory_bar import bar, shares
from halotui.widgets.rows import Ref, Run, fit
from halotui.widgets.sheet import LABEL, Line, Section, lead, note, weight
from halotui.widgets.view import View

_VALUE = 9  # cells


def memory(view: View, width: int) -> Section:
    account = view.account
    standing = view.standing("memory")
    said = (standing,) if standing is not None else ()
    if account is None:
        source = view.sources.get("memory")
        why = source.reason if source is not None and source.reason else "not read yet"
        return Section("memory", (note(why),), said)
    gpus = view.frame.gpus if view.frame is not None else ()
    gpu = next((gpu for gpu in gpus if gpu.integrated is not False), None)
    parts = shares(account)[0 if gpu is not None else 2 :]
    lines = [_part(view, account, gpu, *part) for part in parts]
    lines.append(Line((*_amount(view, account, "total_bytes"), Run("100 %".rjust(6), "dim"))))
    lines.append(Line(bar(account, width)))
    if account.installed_bytes is not None:
        kept = (Run("  reserved ", "dim"), view.value(account, "reserved_bytes", 0, "text"))
        lines.append(Line((*_amount(view, account, "installed_bytes"), *kept)))
    for key, left in (
        ("headroom_bytes", None),
        ("rocm_total_bytes", "rocm_free_bytes"),
        ("vulkan_total_bytes", "vulkan_free_bytes"),
    ):
        if getattr(account, key) is not None:
            free = (
                (Run("  free ", "dim"), view.value(account, left, _VALUE, "text")) if left is not None else ()
            )
            lines.append(Line((*_amount(view, account, key), *free)))
    owned = (key for key in ("owned_gtt_bytes", "unowned_gtt_bytes") if getattr(account, key) is not None)
    lines += [Line(_amount(view, account, key)) for key in owned]
    if account.leaked_gtt_bytes:
        label, value = _amount(view, account, "leaked_gtt_bytes")
        lost = Run("  no living process owns it", "dim")
        lines.append(Line((label, value._replace(style="warning"), lost)))
    system = view.memory
    if system is not None and system.swap_total_bytes:
        of = (Run("  of ", "dim"), view.value(system, "swap_total_bytes", _VALUE, "text"))
        lines.append(Line((lead("swap"), view.value(system, "swap_used_bytes", _VALUE), *of)))
    return Section("memory", lines, said)


def _amount(view: View, account: Account, key: str) -> tuple[Run, Run]:
    field = fields.BY_ID[f"account.{key}"]
    return lead(field.label), view.value(account, key, _VALUE, weight(field))


def _part(
    view: View, account: Account, gpu: Gpu | None, key: str, glyph: str, style: str, share: str
) -> Line:
    """A part of the whole: how large, which share; of the GPU's pools, how full."""
    runs = [
        Run(f" {glyph} ", style),
        Run(fit(fields.BY_ID[f"account.{key}"].label, LABEL - 3), "dim"),
        view.value(account, key, _VALUE),
        Run(f" {share}", "dim", Ref(f"account.{key}", "account")),
    ]
    if gpu is not None and key == "carve_out_bytes" and account.carve_out_bytes:
        runs += [Run("  in use ", "dim"), view.value(gpu, "vram_used_bytes", _VALUE - 1, "text")]
    elif gpu is not None and key == "gtt_bytes":
        runs += [Run("  of     ", "dim"), view.value(gpu, "gtt_total_bytes", _VALUE - 1, "text")]
    return Line(runs)
