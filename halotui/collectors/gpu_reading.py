"""What one look at a GPU gives: its numbers, and what only the sampler can make sense of."""

from __future__ import annotations

from msgspec import Struct

from halotui.model import Gpu, Unavailable


class Reading(Struct, frozen=True, kw_only=True):
    """One GPU of one instant. What takes two of them is left empty in ``gpu``: throttle, held_by, doubts."""

    gpu: Gpu
    limiters: dict[str, int] = {}  # spl fppt sppt prochot thm_core thm_gfx thm_soc -> counter since boot
    table: str = ""  # version of gpu_metrics, as v3.0; "": none was read
    table_trouble: Unavailable | None = None  # there is one, and it cannot be used
    hwmon_microwatts: int | None = None  # as it stands there, when socket_power_watts came from it
    refusals: int = 0  # files that gave an error
