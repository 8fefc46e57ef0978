"""sysfs trees with published values, and with every way a file can refuse."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halotui.collectors import amdgpu_sysfs
from halotui.collectors.gpu_reading import Reading
from halotui.hosts.local import LocalHost
from halotui.model import Gpu, SourceState, Unavailable
from sysfs_tree import DEVICE, SLOT, build, v2, v3_0

FROM_TABLE = (
    *("sclk_hertz", "sclk_limit_hertz", "mclk_hertz", "fclk_hertz", "cpu_hertz", "cpu_limit_hertz"),
    *("socket_power_watts", "gfx_power_watts", "cpu_power_watts", "temperature_celsius"),
    *("soc_temperature_celsius", "media_busy_percent"),
    *("npu_busy_percent", "npu_power_watts", "npu_hertz"),
)


class Host(LocalHost):
    """This box, where the named files give an error as the kernel would."""

    def __init__(self, sysfs: Path, refuse: dict[str, int] | None = None) -> None:
        super().__init__(sysfs=sysfs)
        self.refuse = refuse or {}
        self.asked: list[str] = []

    def read(self, path: str | Path) -> bytes:
        name = Path(path).name
        self.asked.append(name)
        code = self.refuse.get(name) or self.refuse.get("*")
        if code and name not in ("vendor", "uevent"):
            raise OSError(code, os.strerror(code))
        return super().read(path)


def one(sysfs: Path, **refuse: int) -> Reading:
    (reading,) = amdgpu_sysfs.readings(Host(sysfs, refuse))
    return reading


def only(sysfs: Path, **refuse: int) -> Gpu:
    return one(sysfs, **refuse).gpu


def why(sysfs: Path, **refuse: int) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        amdgpu_sysfs.read(Host(sysfs, refuse))
    return caught.value


def test_strix_halo(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    assert only(tmp_path) == Gpu(
        id=SLOT,
        source="sysfs",
        name="Radeon 8060S",
        gtt_used_bytes=60880695296,
        gtt_total_bytes=133143986176,
        vram_used_bytes=477102080,
        vram_total_bytes=536870912,
        busy_percent=97,
        sclk_hertz=2_900_000_000,
        sclk_limit_hertz=2_900_000_000,
        mclk_hertz=1_000_000_000,
        fclk_hertz=2_000_000_000,
        socket_power_watts=38.43,
        gfx_power_watts=18.72,
        temperature_celsius=45.88,
        performance_level="auto",
        integrated=True,
        media_busy_percent=12.5,
        sclk_top_hertz=2_900_000_000,
        throttle_known=True,
        soc_temperature_celsius=42.38,
        cpu_power_watts=2.5,
        cpu_hertz=1_400_000_000,
        cpu_limit_hertz=5_150_000_000,
        npu_busy_percent=3.5,
        npu_power_watts=0.02,
        npu_hertz=1_267_000_000,
        provenance={
            **amdgpu_sysfs.MEMORY,
            **dict.fromkeys(FROM_TABLE, "gpu_metrics v3.0"),
            "busy_percent": "gpu_busy_percent",
            "performance_level": "power_dpm_force_performance_level",
            "sclk_top_hertz": "pp_dpm_sclk",
        },
    )


def test_what_stands_beside_the_numbers(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    reading = one(tmp_path)
    assert reading.table == "v3.0" and reading.table_trouble is None
    assert (reading.limiters["fppt"], reading.limiters["thm_gfx"], len(reading.limiters)) == (
        34055,
        306735,
        7,
    )
    assert reading.hwmon_microwatts is None  # the watts are the table's


def test_the_same_tellers_are_told_with_the_same_dict(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    assert only(tmp_path).provenance is only(tmp_path).provenance


def test_few_reads_of_a_card_that_is_known(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    host = Host(tmp_path)
    cards = amdgpu_sysfs.cards(host)
    host.asked.clear()
    assert amdgpu_sysfs.readings(host, cards) == amdgpu_sysfs.readings(Host(tmp_path))
    assert host.asked == ["mem_info_gtt_used", "mem_info_vram_used", "gpu_metrics", "gpu_busy_percent"]


def test_the_next_card_of_that_number_is_another(tmp_path: Path) -> None:
    """Beneath its slot nothing is to be read any more, whoever has its number."""
    slots, number = tmp_path / "devices", tmp_path / "class/drm/card1"
    number.parent.mkdir(parents=True)
    host = Host(tmp_path)
    for slot in ("c5", "03"):
        build(slots / slot, metrics=v3_0(), uevent=f"DRIVER=amdgpu\nPCI_SLOT_NAME=0000:{slot}:00.0")
        number.unlink(missing_ok=True)
        number.symlink_to(slots / slot / "class/drm/card1")
        if slot == "c5":
            cards = amdgpu_sysfs.cards(host)
            shutil.rmtree(slots)
    with pytest.raises(Unavailable, match="class/drm/card1/device"):
        amdgpu_sysfs.readings(host, cards)
    assert [card.id for card in amdgpu_sysfs.cards(host)] == ["0000:03:00.0"]


NEWER = b"\x18\x01\x03\x01" + bytes(276)
DISCRETE = b"\x78\x00\x01\x03" + bytes(116)


@pytest.mark.parametrize(
    ("metrics", "table", "trouble"),
    [
        (None, "", None),
        (b"", "", "0 bytes"),
        (DISCRETE, "v1.3", "discrete"),
        (NEWER, "v3.1", "v3.1 of 280 bytes"),
        (v3_0()[:100], "v3.0", "100 bytes that claim to be 264"),
    ],
)
def test_without_a_known_table_the_files_speak(
    tmp_path: Path, metrics: bytes | None, table: str, trouble: str | None
) -> None:
    build(tmp_path, metrics=metrics)
    reading = one(tmp_path)
    assert reading.table == table
    assert (reading.table_trouble is None) == (trouble is None)
    if reading.table_trouble is not None and trouble is not None:
        assert trouble in reading.table_trouble.reason
    assert reading.hwmon_microwatts == 34_097_000
    assert not reading.limiters
    gpu = reading.gpu
    assert gpu.provenance["socket_power_watts"] == "hwmon power1_input"
    assert gpu.provenance["mclk_hertz"] == "pp_dpm_mclk"
    assert gpu.sclk_hertz == 2_883_000_000
    assert gpu.mclk_hertz == 1_000_000_000
    assert gpu.fclk_hertz == 600_000_000
    assert gpu.temperature_celsius == 45
    assert gpu.socket_power_watts == 34.097  # as the kernel wrote it
    assert gpu.gfx_power_watts is gpu.sclk_limit_hertz is None


def test_a_newer_table_is_asked_for(tmp_path: Path) -> None:
    build(tmp_path, metrics=NEWER)
    trouble = one(tmp_path).table_trouble
    assert trouble is not None and trouble.state is SourceState.FAILED
    assert "/card1/device/gpu_metrics > gm.bin" in trouble.hint  # of this card alone


@pytest.mark.parametrize(
    ("code", "state", "known"),
    [
        (errno.EPERM, SourceState.DENIED, None),
        (errno.EBUSY, SourceState.FAILED, None),
        (errno.ENOENT, None, False),
    ],
)
def test_a_table_that_is_refused(
    tmp_path: Path, code: int, state: SourceState | None, known: bool | None
) -> None:
    build(tmp_path, metrics=v3_0())
    reading = one(tmp_path, gpu_metrics=code)
    assert (reading.table_trouble.state if reading.table_trouble else None) is state
    assert (reading.table, reading.gpu.throttle_known) == ("", known)
    assert reading.gpu.socket_power_watts == 34.097


def test_the_video_engine_without_the_table(tmp_path: Path) -> None:
    build(tmp_path, vcn_busy_percent="7")
    gpu = only(tmp_path)
    assert (gpu.media_busy_percent, gpu.provenance["media_busy_percent"]) == (7, "vcn_busy_percent")


def test_average_power_goes_before_input(tmp_path: Path) -> None:
    build(tmp_path, hwmon__hwmon6__power1_average="35005000")
    assert only(tmp_path).socket_power_watts == 35.005


def test_an_older_apu_fills_what_it_has(tmp_path: Path) -> None:
    build(tmp_path, metrics=v2(3))
    gpu = only(tmp_path)
    assert (gpu.socket_power_watts, gpu.gfx_power_watts, gpu.temperature_celsius) == (15.2, 3.1, 50.5)
    assert (gpu.cpu_power_watts, gpu.throttle_known, gpu.npu_busy_percent) == (9, False, None)
    assert gpu.provenance["cpu_power_watts"] == "gpu_metrics v2.3"


@pytest.mark.parametrize(
    ("rows", "hertz"),
    [
        ("0: 600Mhz *\n1: 1100Mhz \n2: 2900Mhz ", 2_900_000_000),
        ("0: 600Mhz \n1: 1142Mhz *\n2: 2400Mhz ", 2_400_000_000),  # capped by its owner
        ("0: 500Mhz *\n1: 2581Mhz ", 2_581_000_000),  # a card
        ("0: 500Mhz *", None),
        ("S: 19Mhz *", None),  # deep sleep alone
        (None, None),
    ],
)
def test_the_top_clock(tmp_path: Path, rows: str | None, hertz: int | None) -> None:
    build(tmp_path, metrics=v3_0(), pp_dpm_sclk=rows)
    assert only(tmp_path).sclk_top_hertz == hertz


@pytest.mark.parametrize(
    ("rows", "hertz"),
    [
        ("0: 600Mhz *\n1: 1100Mhz \n2: 2900Mhz ", 600_000_000),  # idle
        ("0: 2900Mhz \n1: 1100Mhz \n2: 2900Mhz *", 2_900_000_000),  # held high
        ("0: 600Mhz \n1: 1142Mhz *\n2: 2900Mhz ", 1_142_000_000),
        ("0: 600Mhz \n1: 1100Mhz \n2: 2900Mhz ", None),  # row 1 is a placeholder
        ("", None),
    ],
)
def test_the_starred_row_alone_is_a_clock(tmp_path: Path, rows: str, hertz: int | None) -> None:
    build(tmp_path, pp_dpm_sclk=rows, hwmon__hwmon6__freq1_input=None)
    assert only(tmp_path).sclk_hertz == hertz


def test_another_cards_hwmon_is_left_alone(tmp_path: Path) -> None:
    build(tmp_path, hwmon__hwmon6__name="nvme")
    gpu = only(tmp_path)
    assert gpu.temperature_celsius is gpu.socket_power_watts is None


def test_zeros_of_dead_sensors_are_none(tmp_path: Path) -> None:
    dead: dict[str, Any] = {"temp1_input": "0", "power1_input": "0", "freq1_input": "0"}
    build(tmp_path, pp_dpm_sclk=None, **{f"hwmon__hwmon6__{name}": zero for name, zero in dead.items()})
    gpu = only(tmp_path)
    assert gpu.temperature_celsius is gpu.socket_power_watts is gpu.sclk_hertz is None


FIELDS = {
    "mem_info_gtt_used": "gtt_used_bytes",
    "mem_info_gtt_total": "gtt_total_bytes",
    "mem_info_vram_used": "vram_used_bytes",
    "mem_info_vram_total": "vram_total_bytes",
    "power_dpm_force_performance_level": "performance_level",
    "pp_dpm_sclk": "sclk_top_hertz",
    "device": "name",
}


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY, errno.ENODATA, errno.EINVAL, errno.ENOENT])
@pytest.mark.parametrize(("file", "field"), FIELDS.items())
def test_a_refused_file_costs_its_own_field_only(tmp_path: Path, file: str, field: str, code: int) -> None:
    build(tmp_path, metrics=v3_0())
    whole, broken = only(tmp_path), only(tmp_path, **{file: code})
    assert getattr(broken, field) is None
    changed = {f for f in Gpu.__struct_fields__ if getattr(whole, f) != getattr(broken, f)}
    assert changed - {"provenance"} == {field}
    assert field not in broken.provenance


def test_busy_comes_from_the_table_when_its_file_is_gone(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0(gfx_activity=55), gpu_busy_percent=None)
    assert only(tmp_path).busy_percent == 55


@pytest.mark.parametrize(
    ("device", "revision", "name"),
    [
        ("0x1586", "0xc1", "Radeon 8060S"),
        ("0x1586", "0xd1", "Radeon 8060S"),
        ("0x1586", "0xc2", "Radeon 8050S"),
        ("0x1586", "0xd5", "Radeon 8040S"),
        ("0x1586", "0x99", "Radeon 8060S family"),
        ("0x1586", None, "Radeon 8060S family"),
        ("0x744c", "0xc8", "AMD GPU 0x744C"),
        ("nonsense", None, None),
    ],
)
def test_names(tmp_path: Path, device: str, revision: str | None, name: str | None) -> None:
    build(tmp_path, device=device, revision=revision)
    assert only(tmp_path).name == name


def test_two_cards_and_a_stranger(tmp_path: Path) -> None:
    build(tmp_path, card=0, vendor="0x8086", uevent="DRIVER=i915")
    build(tmp_path, card=1, metrics=v3_0())
    build(tmp_path, card=2, uevent="DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0", device="0x7590")
    build(tmp_path, card=3, uevent="DRIVER=radeon\nPCI_SLOT_NAME=0000:04:00.0")
    gpus = amdgpu_sysfs.read(Host(tmp_path))
    assert [(gpu.id, gpu.name) for gpu in gpus] == [
        (SLOT, "Radeon 8060S"),
        ("0000:03:00.0", "AMD GPU 0x7590"),
    ]


def test_the_integrated_one_leads_whatever_its_number(tmp_path: Path) -> None:
    card = {"uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0", "device": "0x7590"}
    build(tmp_path, card=0, metrics=DISCRETE, **card)
    build(tmp_path, card=2, metrics=DISCRETE, **card | {"uevent": card["uevent"].replace("03", "04")})
    build(tmp_path, card=10, metrics=v3_0())
    gpus = amdgpu_sysfs.read(Host(tmp_path))
    assert [gpu.id for gpu in gpus] == [SLOT, "0000:03:00.0", "0000:04:00.0"]
    assert [gpu.integrated for gpu in gpus] == [True, False, False]


OTHER = "0x15bf"  # an APU of an earlier kind
IN1, FAN, MEM = "hwmon__hwmon6__in1_label", "hwmon__hwmon6__fan1_input", "mem_busy_percent"


@pytest.mark.parametrize(
    ("metrics", "files", "integrated"),
    [
        (None, {"device": "0x1586"}, True),
        (None, {"device": "0x1586", FAN: "900"}, True),
        (v2(1), {"device": OTHER}, True),
        (NEWER, {"device": OTHER}, True),
        (DISCRETE, {"device": OTHER, IN1: "vddnb"}, False),
        (None, {"device": OTHER, IN1: "vddnb", MEM: "3"}, True),
        (None, {"device": OTHER}, True),  # neither a fan nor a memory of its own
        (None, {"device": OTHER, MEM: "3"}, False),
        (None, {"device": OTHER, FAN: "900"}, False),
        (None, {"device": OTHER, "hwmon__hwmon6__name": "nvme"}, None),
        (None, {"device": None, "hwmon__hwmon6__name": None}, None),
    ],
)
def test_integrated(
    tmp_path: Path, metrics: bytes | None, files: dict[str, str | None], integrated: bool | None
) -> None:
    build(tmp_path, metrics=metrics, **files)
    assert only(tmp_path).integrated is integrated


def test_a_card_without_a_slot_name_goes_by_its_number(tmp_path: Path) -> None:
    build(tmp_path, uevent=None)
    assert only(tmp_path).id == "card1"


def test_a_sleeping_card_is_not_woken(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0(), power__runtime_status="suspended")
    host = Host(tmp_path)
    (gpu,) = amdgpu_sysfs.read(host)
    assert gpu.asleep and gpu.vram_used_bytes == 477102080
    assert gpu.busy_percent is gpu.sclk_hertz is gpu.throttle_known is None
    harmless = {"vendor", "uevent", "device", "revision", "runtime_status", "name"}
    assert set(host.asked) <= harmless | set(amdgpu_sysfs.MEMORY.values())


def test_a_sleeping_card_is_told_from_an_apu_without_waking_it(tmp_path: Path) -> None:
    build(tmp_path, device="0x7590", power__runtime_status="suspended", mem_busy_percent="0")
    host = Host(tmp_path)
    (gpu,) = amdgpu_sysfs.read(host)
    assert gpu.integrated is False
    assert not {"mem_busy_percent", "fan1_input", "gpu_metrics"} & set(host.asked)


def test_no_card(tmp_path: Path) -> None:
    absent = why(tmp_path)
    assert absent.state is SourceState.ABSENT
    assert "there is" not in absent.reason and "llama-server" in absent.hint


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"vendor": "0x10de", "uevent": "DRIVER=nvidia"}, "NVIDIA (0x10de)"),
        ({"vendor": "0x8086", "uevent": "DRIVER=xe"}, "Intel (0x8086)"),
        ({"vendor": "0x1bad", "uevent": None}, "another maker (0x1bad)"),
        (
            {"vendor": None, "uevent": "DRIVER=simple-framebuffer"},
            "a plain frame buffer (simple-framebuffer)",
        ),
        ({"uevent": "DRIVER=radeon"}, "AMD, but with the driver radeon"),
        ({"vendor": "\x1b[2J0x10de\x07", "uevent": None}, "NVIDIA (0x10de)"),
    ],
)
def test_whose_the_gpus_are_that_are_not_ours(
    tmp_path: Path, files: dict[str, str | None], says: str
) -> None:
    build(tmp_path, card=0, **files)
    build(tmp_path, card=1, **files)
    absent = why(tmp_path)
    assert absent.state is SourceState.ABSENT
    assert absent.reason.endswith(f"; there is: {says}")  # once


def test_a_plain_frame_buffer_beside_the_gpu(tmp_path: Path) -> None:
    build(tmp_path, card=0, vendor=None, uevent="DRIVER=simple-framebuffer")
    build(tmp_path, card=1, metrics=v3_0())
    assert only(tmp_path).id == SLOT


def test_a_card_that_goes_and_comes_back_with_another_number(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    host = Host(tmp_path)
    amdgpu_sysfs.read(host)
    shutil.rmtree(tmp_path / "class/drm/card1")
    with pytest.raises(Unavailable):
        amdgpu_sysfs.read(host)
    build(tmp_path, card=0, metrics=v3_0())
    assert amdgpu_sysfs.read(host)[0].id == SLOT


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_a_card_that_refuses_everything_is_denied(tmp_path: Path, code: int) -> None:
    build(tmp_path, metrics=v3_0())
    denied = why(tmp_path, **{"*": code})
    assert denied.state is SourceState.DENIED
    assert denied.hint


def test_a_card_that_fails_everything_says_how(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    failed = why(tmp_path, **{"*": errno.EBUSY})
    assert failed.state is SourceState.FAILED
    assert "busy" in failed.reason


def test_hostile_words_are_made_harmless(tmp_path: Path) -> None:
    build(
        tmp_path,
        power_dpm_force_performance_level="\x1b[31mauto\x07",
        uevent="DRIVER=amdgpu\nPCI_SLOT_NAME=0000:\x1b]0;gotcha\x07c5:00.0",
    )
    gpu = only(tmp_path)
    assert (gpu.performance_level, gpu.id) == ("auto", "0000:c5:00.0")


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*DEVICE, "gpu_metrics", "vcn_busy_percent", "hwmon/hwmon6/power1_average"]),
        st.binary(max_size=60),
    )
)
def test_any_content_gives_a_reading_or_unavailable(files: dict[str, bytes]) -> None:
    with TemporaryDirectory() as root:
        device = build(Path(root), metrics=v3_0())
        for name, content in files.items():
            (device / name).write_bytes(content)
        try:
            found = amdgpu_sysfs.readings(LocalHost(sysfs=Path(root)))
        except Unavailable:
            return
        for gpu in (reading.gpu for reading in found):
            assert gpu.id
            assert set(gpu.provenance) <= set(Gpu.__struct_fields__)
            assert all(getattr(gpu, field) is not None for field in gpu.provenance)
            assert gpu.busy_percent is None or 0 <= gpu.busy_percent <= 100
