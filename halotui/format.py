"""Numbers as people read them: three significant digits, a unit always, ``–`` for the unknown."""

from __future__ import annotations

import time
from collections.abc import Callable

from halotui.fields import Field

DASH = "–"
_STEPS = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def digits(value: float) -> str:
    """Three significant digits without an exponent, two below 1: 0.52, 5.27, 52.7, 527, 5270."""
    size = abs(value)
    if 0 < value < 0.005:
        return "<0.01"
    return (
        f"{value:.0f}" if size >= 99.95 or not value else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
    )


def size(bytes_: float) -> str:
    """Bytes in binary units: ``57.3 GiB``."""
    for step, unit in _STEPS:
        if abs(bytes_) >= step * 0.9995:
            return f"{digits(bytes_ / step)} {unit}"
    return f"{bytes_:.0f} B"


def percent(ratio: float) -> str:
    """A ratio of 0..1 as ``78 %``; above 0 and below 1 % never ``0 %``."""
    return "<1 %" if 0 < ratio <= 0.005 else f"{ratio * 100:.0f} %"


def count(number: float) -> str:
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Three significant digits; ``5.03k`` from ten thousand on keeps the width."""
    return digits(per_second) if per_second < 9999.5 else f"{digits(per_second / 1000)}k"


def hertz(value: float) -> str:
    return f"{value / 1e6:.0f} MHz"


def watts(value: float) -> str:
    return f"{value:.1f} W" if value < 99.95 else f"{value:.0f} W"


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h 05``, ``3 d 04 h``: one glance, no ticking digits."""
    whole = int(max(0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02}" if hours < 24 else f"{hours // 24} d {hours % 24:02} h"


def seconds(value: float) -> str:
    """``42.0 ms``, ``1.27 s``, ``2 min``: where fractions count."""
    if value < 0.9995:
        return f"{digits(value * 1000)} ms"
    return f"{digits(value)} s" if value < 59.95 else duration(value)


def thousandths(value: float, unit: str) -> str:
    """With three digits below 1 as well: ``297 mJ``, ``18.9 mWh``."""
    return f"{digits(value * 1000)} m{unit}" if 0 < value < 0.9995 else f"{digits(value)} {unit}"


def clock(unix: float) -> str:
    """The time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(unix))


_UNITS: dict[str, Callable[[float], str]] = {
    "bytes": size,
    "bytes/s": lambda value: f"{size(value)}/s",
    "hertz": hertz,
    "watts": watts,
    "watt-hours": lambda value: thousandths(value, "Wh"),
    "joules": lambda value: thousandths(value, "J"),
    "celsius": lambda value: f"{value:.0f} °C",
    "percent": lambda value: f"{value:.0f} %",
    "ratio": percent,
    "seconds": duration,
    "tokens": lambda value: f"{count(value)} tok",
    "tokens/s": lambda value: f"{rate(value)} t/s",
    "count": count,
    "number": digits,
    "time": clock,
    "text": str,
}
_FINE: dict[str, Callable[[float], str]] = {  # where fractions count
    "seconds": seconds,
    "tokens": lambda value: f"{digits(value)} tok",
}


def show(field: Field, value: object) -> str:
    """A field's value with its unit; ``–`` when it is unknown."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        unit = (_FINE.get(field.unit) if field.fine else None) or _UNITS.get(field.unit, str)
        return str(value) if field.unit == "count" and field.key in ("pid", "id", "task") else unit(value)
    return str(value)
