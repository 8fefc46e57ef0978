"""The memory modules and the board, by SMBIOS: a table as its specification lays it out, and any bytes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from box_tree import write
from halotui.collectors import dmi
from halotui.hosts.local import LocalHost

GIB = 1 << 30


def structure(kind: int, body: bytes, *strings: str) -> bytes:
    text = b"".join(string.encode() + b"\0" for string in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(body), kind) + body + text + b"\0"


def device(size: int, extended: int = 0, kind: int = 0x23) -> bytes:
    """A memory device of SMBIOS 2.7 (34 bytes); 0x23 is LPDDR5."""
    body = struct.pack(
        "<HHHHHBBBBBHHBBBBBI", 1, 2, 64, 64, size, 9, 0, 1, 2, kind, 0, 8000, 3, 0, 0, 0, 0, extended
    )
    return structure(17, body + b"\0\0", "DIMM 0", "P0 CHANNEL A", "Micron Technology", "12345678")


def table(*devices: bytes) -> bytes:
    return b"".join((structure(0, b"\0" * 20, "INSYDE", "03.04"), *devices, structure(127, b"")))


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ([device(16384)] * 8, 128 * GIB),  # a Strix Halo box: eight channels, soldered
        ([device(0x7FFF, 65536), device(0x7FFF, 65536)], 128 * GIB),  # too large for the old key
        ([device(0x8000 | 512)], 512 * 1024),  # counted in KiB
        ([device(32768 // 2), device(0)], 16 * GIB),  # an empty socket
        ([device(16384), device(16, kind=0x09)], 16 * GIB),  # flash is no RAM
        ([device(16384), device(0xFFFF)], None),  # one that does not tell
        ([device(0x7FFF, 0x7FFFFFFF)] * 9000, None),  # more than a number of JSON can hold
        ([], None),
    ],
)
def test_installed(devices: list[bytes], told: int | None) -> None:
    assert dmi.installed_bytes(table(*devices)) == told


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=40)).map(lambda parts: table(*parts)))
@example(device(16384)[:20])
@example(b"\x11\x03\0\0\0\0")
def test_any_bytes(data: bytes) -> None:
    told = dmi.installed_bytes(data)
    assert told is None or 0 < told < 2**63


UDEV = "I:123\nE:ID_VENDOR=x\nE:MEMORY_ARRAY_NUM_DEVICES={}\nE:MEMORY_DEVICE_0_SIZE=68719476736\n"
UDEV += "E:MEMORY_DEVICE_0_TYPE=LPDDR5\nE:MEMORY_DEVICE_1_SIZE=68719476736\nE:MEMORY_DEVICE_2_PRESENT=0\n"


def memory(root: Path) -> tuple[int | None, set[str]]:
    facts = dmi.memory(LocalHost(root / "sys", root / "proc"))
    return facts.values.get("installed_bytes"), facts.denied


def test_what_root_alone_may_read_udev_tells_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sys/firmware/dmi/tables/DMI"
    assert memory(tmp_path) == (None, set())  # a box without SMBIOS denies nothing
    path.parent.mkdir(parents=True)
    path.write_bytes(table(device(16384)))
    assert memory(tmp_path) == (16 * GIB, set())

    def denied(_host: LocalHost, asked: Path) -> bytes:
        if asked == path:
            raise PermissionError(13, "Permission denied")
        return asked.read_bytes()

    monkeypatch.setattr(LocalHost, "read", denied)  # tests run as root, too
    assert memory(tmp_path) == (None, {"installed_bytes"})
    write(tmp_path, {"run/udev/data/+dmi:id": UDEV.format(3)})
    assert memory(tmp_path) == (128 * GIB, set())
    write(tmp_path, {"run/udev/data/+dmi:id": UDEV.format(4)})  # the fourth does not tell its size
    assert memory(tmp_path) == (None, {"installed_bytes"})


@pytest.mark.parametrize(
    ("files", "product", "bios"),
    [
        (
            {"sys_vendor": "Framework", "product_name": "Desktop (AMD Ryzen AI Max 300 Series)"}
            | {"bios_version": "03.04", "bios_date": "11/19/2025"},
            "Framework Desktop (AMD Ryzen AI Max 300 Series)",
            "03.04, 2025-11-19",
        ),
        (
            {"sys_vendor": "HP", "product_name": "HP ZBook Ultra G1a", "bios_date": "soon"},
            "HP ZBook Ultra G1a",
            "soon",
        ),
        (
            {
                "sys_vendor": "To Be Filled By O.E.M.",
                "product_name": "Default string",
                "board_name": "AXB35-02",
            },
            "AXB35-02",
            None,
        ),
        ({"sys_vendor": "GMK\x1b[31mtec", "product_name": "NucBox_EVO-X2"}, "GMKtec NucBox_EVO-X2", None),
        ({"sys_vendor": "QEMU"}, None, None),
        ({}, None, None),
    ],
)
def test_the_board(tmp_path: Path, files: dict[str, str], product: str | None, bios: str | None) -> None:
    write(tmp_path, {f"sys/class/dmi/id/{name}": f"{content}\n" for name, content in files.items()})
    facts = dmi.board(LocalHost(tmp_path / "sys", tmp_path / "proc"))
    assert (facts.values.get("product"), facts.values.get("bios")) == (product, bios)
    assert facts.provenance.keys() == facts.values.keys()


@pytest.mark.skipif(
    os.geteuid() == 0 or not Path("/sys/class/dmi/id").exists(), reason="needs SMBIOS, as a user"
)
def test_this_very_box_is_read_without_root() -> None:
    dmi.memory(LocalHost())
    assert dmi.board(LocalHost()).values
