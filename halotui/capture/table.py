"""The few counts of ``gpu_metrics`` that a capture follows, picked out of the table in one step."""

from __future__ import annotations

import struct

from halotui.capture.probe import NAN
from halotui.collectors.gpu_metrics import LAYOUTS, QUANTITIES

SENSORS = ("busy_percent", "sclk_hertz", "socket_power_watts", "gfx_power_watts", "temperature_celsius")
LIMITERS = ("spl", "fppt", "sppt", "prochot", "thm_core", "thm_gfx", "thm_soc")
FIELDS = (*SENSORS, *(f"throttle_{limiter}" for limiter in LIMITERS))


class Picker:
    """For one version of the table."""

    def __init__(self, version: tuple[int, int]) -> None:
        layout = LAYOUTS[version]
        self.size = layout.size
        units = {field: (name, unit) for field, name, unit in QUANTITIES[version[0]] if field in FIELDS}
        there = sorted(
            (layout.fields[name][1], layout.fields[name][0], field) for field, (name, _) in units.items()
        )
        code, end = "<", 0
        self._targets = []  # of each count: position in FIELDS, the value that says unset, its unit
        for offset, letter, field in there:
            code += f"{offset - end}x{letter}"
            end = offset + struct.calcsize("<" + letter)
            unset = (1 << 8 * (end - offset)) - 1
            self._targets.append((FIELDS.index(field), unset, *units[field][1]))
        self._struct = struct.Struct(code)

    def pick(self, blob: bytes) -> list[float]:
        """A value for each of ``FIELDS``; NaN where the table has none. ``blob``: ``size`` bytes."""
        values = [NAN] * len(FIELDS)
        counts = self._struct.unpack_from(blob)
        for (index, unset, convert, least, most), raw in zip(self._targets, counts, strict=True):
            if raw != unset and least <= raw <= most:
                values[index] = convert(raw)
        return values


_PICKERS = {
    struct.pack("<HBB", layout.size, *version): Picker(version) for version, layout in LAYOUTS.items()
}


def pick(blob: bytes) -> list[float] | None:
    """The values of a whole table; None for any other size or version."""
    picker = _PICKERS.get(blob[:4])
    return picker.pick(blob) if picker is not None and len(blob) == picker.size else None
