"""What tells one kind of box from another, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Pace:
    """What a second brings."""

    cpu: float = 0.02  # share of all threads' time
    read: int = 0  # bytes, from the disk
    received: int = 2_000  # bytes
    swapped: int = 0  # pages, out
    spl: int = 0  # steps of the limiter's counter


@dataclass(frozen=True)
class Integrated:
    """Memory in bytes; ``load`` are changes to ``sysfs_tree.v3_0``, whose defaults are a GPU at work."""

    gtt_total: int
    gtt_used: int
    vram_total: int
    vram_used: int
    busy: int = 0
    card: int = 1
    slot: str = "0000:c5:00.0"
    device: str = "0x1586"
    revision: str = "0xc1"
    table: str = "v3.0"  # | v2.1
    load: dict[str, int] = field(default_factory=dict)
    files: dict[str, str | None] = field(default_factory=dict)  # changes to ``sysfs_tree.DEVICE``


@dataclass(frozen=True)
class Tenant:
    """A process that holds GPU memory, in KiB; it is no server."""

    pid: int
    name: str
    slot: str
    gtt: int
    vram: int = 0
    rss: int = 900 * MIB  # bytes
    unit: str = "comfyui.service"


@dataclass(frozen=True)
class Box:
    total_kib: int  # MemTotal
    available_kib: int
    cpu: str
    product: tuple[str, str]  # vendor, model
    threads: int = 32
    bios: tuple[str, str] = ("03.04", "11/19/2025")
    kernel: str = "6.18.9-200.fc43.x86_64"
    cmdline: str = "root=/dev/nvme0n1p3 ro rhgb quiet"
    modules: dict[str, str] = field(default_factory=dict)  # ttm.pages_limit: value
    release: str = 'ID=fedora\nPRETTY_NAME="Fedora Linux 43 (Workstation Edition)"'
    power_mode: str = "balanced"
    thermometer: str = "k10temp"
    celsius: float = 41.0
    npu: bool = True
    pressure: bool = True  # a kernel that tells of stalls
    integrated: Integrated | None = None
    discrete: bool = False  # an RX 9060 XT beside it, as card0
    strangers: bool = False  # a plain frame buffer and an NVIDIA card
    tenant: Tenant | None = None
    pace: Pace = Pace()


MAX_395 = "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"
IDLE = {
    "temperature_gfx": 3600,
    "temperature_soc": 3450,
    "gfx_activity": 0,
    "vcn_activity": 0,
    "socket_power": 11200,
    "gfx_power": 600,
    "all_core_power": 3100,
    "ipu_power": 0,
    "ipuclk": 0,
    "npu": 0,
    "gfxclk": 600,
    "fclk": 600,
    "uclk": 400,
}

KINDS = {
    # 128 GB, carve-out at its smallest, 120 GiB of GTT; a model decodes and the package is at its power limit
    "128-512m": Box(
        total_kib=131161644,
        available_kib=64_000_000,
        cpu=MAX_395,
        product=("Framework", "Desktop (AMD Ryzen AI Max 300 Series)"),
        cmdline="root=/dev/nvme0n1p3 ro iommu=pt ttm.pages_limit=31457280 ttm.page_pool_size=31457280",
        modules={
            "ttm.pages_limit": "31457280",
            "ttm.page_pool_size": "31457280",
            "amdgpu.gttsize": "-1",
            "amdgpu.cwsr_enable": "1",
            "amdgpu.lockup_timeout": "",
        },
        power_mode="performance",
        celsius=78.6,
        integrated=Integrated(
            gtt_total=120 * GIB,
            gtt_used=60880695296,
            vram_total=512 * MIB,
            vram_used=455 * MIB,
            busy=97,
            load={
                "temperature_gfx": 7238,
                "temperature_soc": 6900,
                "vcn_activity": 0,
                "socket_power": 119430,
                "gfx_power": 58720,
                "all_core_power": 31250,
                "npu": 0,
                "ipuclk": 0,
                "gfxclk": 2310,
                "gfx_maxfreq": 2400,
                "coreclk": 4650,
            },
            files={"pp_dpm_sclk": "0: 600Mhz \n1: 2310Mhz *\n2: 2900Mhz "},
        ),
        tenant=Tenant(4242, "python3", "0000:c5:00.0", gtt=59_300_000, vram=2208),
        pace=Pace(cpu=0.31, spl=900, received=48_000),
    ),
    # 128 GB, 96 of it carved out: 32 GB are left for all else, GTT is half of that; a model loads from disk
    "96-carve-out": Box(
        total_kib=32_442_112,
        available_kib=21_500_000,
        cpu=MAX_395,
        product=("GMKtec", "NucBox_EVO-X2"),
        bios=("1.04", "06/12/2025"),
        kernel="6.17.7-arch1-1",
        cmdline="root=/dev/nvme0n1p2 rw amd_iommu=off",
        modules={"ttm.pages_limit": "4055264", "amdgpu.gttsize": "-1", "amdgpu.cwsr_enable": "0"},
        release='ID=arch\nPRETTY_NAME="Arch Linux"',
        celsius=52.0,
        npu=False,
        integrated=Integrated(
            gtt_total=4055264 * 4096,
            gtt_used=310 * MIB,
            vram_total=103079215104,
            vram_used=61 * GIB,
            slot="0000:c6:00.0",
            load=IDLE | {"socket_power": 24300, "all_core_power": 9400},
            files={"pp_dpm_sclk": "0: 600Mhz *\n1: 1100Mhz \n2: 2900Mhz "},
        ),
        pace=Pace(cpu=0.08, read=2_900_000_000, swapped=800),
    ),
    # 64 GB, the smaller chip, at rest; its clocks are held up
    "64": Box(
        total_kib=65_372_160,
        available_kib=57_800_000,
        cpu="AMD RYZEN AI MAX 385 w/ Radeon 8050S",
        product=("HP", "HP Z2 Mini G1a Workstation Desktop PC"),
        threads=16,
        bios=("X53 Ver. 01.03.02", "05/08/2025"),
        kernel="6.16.12-amd64",
        cmdline="root=UUID=1 ro quiet amdgpu.gttsize=60416 ttm.pages_limit=15466496",
        modules={"ttm.pages_limit": "15466496", "amdgpu.gttsize": "60416", "amdgpu.cwsr_enable": "1"},
        release='ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"',
        integrated=Integrated(
            gtt_total=15466496 * 4096,
            gtt_used=140 * MIB,
            vram_total=512 * MIB,
            vram_used=96 * MIB,
            revision="0xc2",
            load=IDLE | {"gfxclk": 2800, "gfx_maxfreq": 2800},
            files={
                "pp_dpm_sclk": "0: 2800Mhz \n1: 1100Mhz \n2: 2800Mhz *",
                "power_dpm_force_performance_level": "high",
            },
        ),
    ),
    # a card beside the APU, and first by number
    "dgpu-and-apu": Box(
        total_kib=98_100_224,
        available_kib=74_000_000,
        cpu=MAX_395,
        product=("ASUSTeK COMPUTER INC.", "ROG Flow Z13 GZ302EA"),
        kernel="7.1.0",
        cmdline="root=/dev/nvme0n1p2 ro ttm.pages_limit=12582912",
        modules={"ttm.pages_limit": "12582912", "amdgpu.gttsize": "-1", "amdgpu.lockup_timeout": "20000"},
        integrated=Integrated(
            gtt_total=48 * GIB,
            gtt_used=11 * GIB,
            vram_total=4 * GIB,
            vram_used=3 * GIB,
            busy=41,
            load={"gfx_activity": 41, "socket_power": 44100, "gfx_power": 14200, "gfxclk": 1800},
        ),
        discrete=True,
        tenant=Tenant(4300, "blender", "0000:03:00.0", gtt=20_480, vram=8_600_000, unit="render.service"),
        pace=Pace(cpu=0.12),
    ),
    # a laptop of three years ago: an older table, no count of stalls, no NPU
    "v2_1-apu": Box(
        total_kib=31_750_144,
        available_kib=24_000_000,
        cpu="AMD Ryzen 7 PRO 6850U with Radeon Graphics",
        product=("LENOVO", "21D2CTO1WW"),
        threads=16,
        bios=("N3GET62W (1.42 )", "03/03/2024"),
        kernel="6.1.0-41-amd64",
        modules={"amdgpu.gttsize": "-1"},
        release='ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
        npu=False,
        pressure=False,
        integrated=Integrated(
            gtt_total=15 * GIB + 148 * MIB,
            gtt_used=900 * MIB,
            vram_total=1 * GIB,
            vram_used=700 * MIB,
            busy=42,
            card=0,
            slot="0000:33:00.0",
            device="0x1681",
            revision="0xd1",
            table="v2.1",
            files={"pp_dpm_sclk": "0: 200Mhz \n1: 1100Mhz \n2: 2200Mhz "},
        ),
        pace=Pace(cpu=0.2, received=900),
    ),
    # no AMD GPU at all
    "none": Box(
        total_kib=65_530_880,
        available_kib=48_000_000,
        cpu="Intel(R) Core(TM) Ultra 7 265K",
        product=("Micro-Star International Co., Ltd.", "MS-7E25"),
        threads=20,
        release='ID=ubuntu\nPRETTY_NAME="Ubuntu 24.04.3 LTS"',
        kernel="6.14.0-36-generic",
        thermometer="coretemp",
        npu=False,
        strangers=True,
    ),
}
