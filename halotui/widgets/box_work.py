"""What the work costs, and who else is at it: energy; CPU, disk and network, a line each."""

from __future__ import annotations

from halotui import fields
from halotui.model import System
from halotui.widgets.rows import Run, fit, joined
from halotui.widgets.sheet import Line, Section, lead, note, weight
from halotui.widgets.view import View

_NAME = 9  # cells
_GAP = "  "


def energy(view: View) -> Section:
    """Nothing where no power is told."""
    told = view.frame.energy if view.frame is not None else None
    if told is None:
        return Section("energy", ())
    value = view.value
    return Section(
        "energy",
        (
            Line(
                (
                    lead("taken"),
                    value(told, "watt_hours", 9),
                    Run("  in ", "dim"),
                    value(told, "seconds", 8, "text"),
                    Run(_GAP),
                    value(told, "tokens", 12, "text"),
                )
            ),
            Line(
                (
                    lead("per token"),
                    value(told, "decode_joules_per_token", 9),
                    Run("  a prompt token ", "dim"),
                    value(told, "prefill_joules_per_token", 7, "text"),
                )
            ),
        ),
    )


def system(view: View, width: int) -> Section:
    told = view.frame.system if view.frame is not None else None
    standing = view.standing("system")
    said = (standing,) if standing is not None else ()
    if told is None:
        source = view.sources.get("system")
        why = source.reason if source is not None and source.reason else "not read yet"
        return Section("CPU, disk, network", (note(why),), said)

    def figure(key: str, size: int, label: str = "", *, always: bool = False) -> list[Run]:
        """``always``: keeps its place while it is not known."""
        name = [Run(f"{label} ", "dim")] if label else []
        style = weight(fields.BY_ID[f"system.{key}"])
        known = always or getattr(told, key) is not None
        return [*name, view.value(told, key, size, style)] if known else []

    disk, network = told.disk is not None, told.network is not None
    clock = view.gpu is not None and view.gpu.cpu_hertz is not None and not view.late("gpu")
    lines = [
        ("CPU", [
            (0, figure("cpu_busy_percent", 5, always=True)),
            (1, figure("cpu_temperature_celsius", 6)),
            (2, [view.value(view.gpu, "cpu_hertz", 8, "text")] if clock else []),
            (3, [Run("load ", "dim"), _load(view, told)] if told.load_1m is not None else []),
            (4, figure("cpus", 3, "threads")),
        ]),
        (told.disk or "disk", [
            (0, figure("disk_busy_percent", 5, always=disk)),
            (1, figure("disk_read_bytes_per_second", 10, "read", always=disk)),
            (1, figure("disk_write_bytes_per_second", 10, "write", always=disk)),
        ]),
        (told.network or "network", [
            (0, figure("network_receive_bytes_per_second", 10, "receive", always=network)),
            (0, figure("network_send_bytes_per_second", 10, "send", always=network)),
        ]),
        ("stall", [
            (0, figure("memory_pressure_percent", 5, "memory")),
            (0, figure("io_pressure_percent", 5, "disk")),
        ]),
        ("swap", [
            (0, figure("swap_in_bytes_per_second", 10, "in")),
            (0, figure("swap_out_bytes_per_second", 10, "out")),
        ] if told.swap_in_bytes_per_second or told.swap_out_bytes_per_second else []),
        ("OOM kills", [(0, figure("oom_kills", 3))] if told.oom_kills else []),
    ]  # fmt: skip
    return Section(
        "CPU, disk, network", [_line(name, pieces, width) for name, pieces in lines if pieces], said
    )


def _load(view: View, told: System) -> Run:
    """A number of tasks, not a share."""
    assert told.load_1m is not None
    return view.value(told, "load_1m", style="text")._replace(text=f"{told.load_1m:5.2f}")


def _line(name: str, pieces: list[tuple[int, list[Run]]], width: int) -> Line:
    runs = joined(pieces, width - _NAME - 2, _GAP)
    return Line((Run(f" {fit(name, _NAME)} ", "dim"), *(runs or [Run("–", "dim")])))
