"""A sysfs tree of a Strix Halo box, with values that owners of such boxes published."""

from __future__ import annotations

import struct
from pathlib import Path

# The C struct gpu_metrics_v3_0 as one format: written apart from the decoder's table, to check it.
V3_0 = "<HBB2H16HH2H8H16H4H2xQIH2x4I16H3H8H16H2H2x7II4x"
_NONE = 0xFFFF
SLOT = "0000:c5:00.0"

DEVICE = {
    "vendor": "0x1002",
    "device": "0x1586",
    "revision": "0xc1",
    "uevent": f"DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:1586\nPCI_SLOT_NAME={SLOT}",
    "mem_info_vram_total": "536870912",
    "mem_info_vram_used": "477102080",
    "mem_info_gtt_total": "133143986176",
    "mem_info_gtt_used": "60880695296",
    "gpu_busy_percent": "97",
    "power_dpm_force_performance_level": "auto",
    "pp_dpm_sclk": "0: 600Mhz \n1: 1100Mhz \n2: 2900Mhz *",
    "pp_dpm_mclk": "0: 1000Mhz *\n1: 800Mhz \n2: 400Mhz ",
    "pp_dpm_fclk": "0: 2000Mhz \n1: 1200Mhz \n2: 600Mhz *",
    "hwmon/hwmon6/name": "amdgpu",
    "hwmon/hwmon6/temp1_input": "45000",
    "hwmon/hwmon6/power1_input": "34097000",
    "hwmon/hwmon6/freq1_input": "2883000000",
    "hwmon/hwmon6/in0_input": "0",
}


def v3_0(**changed: int) -> bytes:
    """A v3.0 table under a GPU load, with the fields that are tested open to change."""
    value = {
        "temperature_gfx": 4588,
        "temperature_soc": 4238,
        "gfx_activity": 97,
        "vcn_activity": 1250,
        "socket_power": 38430,
        "ipu_power": 20,
        "gfx_power": 18720,
        "all_core_power": 2500,
        "ipuclk": 1267,
        "npu": -1,  # %, of each column; -1: another one each
        "coreclk": 1400,
        "spl": 0,
        "fppt": 34055,
        "thm_gfx": 306735,
        "gfxclk": 2900,
        "fclk": 2000,
        "uclk": 1000,
        "gfx_maxfreq": 2900,
    } | changed
    v = value.__getitem__
    return struct.pack(
        V3_0,
        *(264, 3, 0, v("temperature_gfx"), v("temperature_soc")),
        *[0] * 16,  # cores: not measured
        0,  # skin
        *(v("gfx_activity"), v("vcn_activity")),
        *(range(8) if v("npu") < 0 else [v("npu")] * 8),  # columns
        *[3] * 16,
        *(65534, 9000, 0, 0),  # DRAM and NPU traffic
        3719000000000,
        *(v("socket_power"), v("ipu_power"), 38430, v("gfx_power"), 0, v("all_core_power")),
        *[150] * 16,
        *(0, _NONE, _NONE),  # system power, STAPM limits
        *(v("gfxclk"), 1200, 0, v("ipuclk"), v("fclk"), 0, v("uclk"), 0),
        *[1400] * 15,
        v("coreclk"),
        *(5150, v("gfx_maxfreq")),
        *(0, v("spl"), v("fppt"), 0, 0, v("thm_gfx"), 0, 1_000_000),
    )


def v2(minor: int) -> bytes:
    """A v2 table of an older APU; what no test reads is all ones, as the kernel leaves it."""
    size = {1: 120, 2: 128, 3: 152, 4: 168}[minor]
    head = struct.pack("<HBB2H", size, 2, minor, 5050, 5675)
    load = struct.pack("<2HQ4H", 4200, _NONE, 174959847681811, 15200, 9000, _NONE, 3100)
    clocks = struct.pack("<4H", 1800, 1200, 3000, 1600)
    body = head + b"\xff" * 20 + load + b"\xff" * 16 + clocks
    return body + b"\xff" * (size - len(body))


def build(root: Path, *, card: int = 1, metrics: bytes | None = None, **changed: str | None) -> Path:
    """A tree under ``root`` with one card; ``name=None`` leaves a file out, ``/`` is spelt ``__``.

    Returns the card's device directory.
    """
    drm = root / "class/drm"
    device = drm / f"card{card}/device"
    for connector in (f"card{card}-DP-1", f"card{card}-Writeback-1", f"renderD{128 + card}"):
        (drm / connector).mkdir(parents=True, exist_ok=True)
    files: dict[str, str | None] = {**DEVICE, **{key.replace("__", "/"): v for key, v in changed.items()}}
    for name, text in files.items():
        if text is not None:
            path = device / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    if metrics is not None:
        (device / "gpu_metrics").write_bytes(metrics)
    return device
