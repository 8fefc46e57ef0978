"""What the board says of itself: SMBIOS, as the kernel and udev hand it on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from halotui.collectors.platform_facts import Facts, text
from halotui.hosts import Host
from halotui.safe import clean

_MEMORY_DEVICE, _END = 17, 127
_SIZE, _TYPE, _EXTENDED_SIZE = 0x0C, 0x12, 0x1C  # offsets in a memory device
_MOST = 1 << 48  # bytes: 256 TiB
_NO_RAM = range(0x08, 0x0D)  # its types: ROM, flash and their like
_UNKNOWN, _EXTENDED = 0xFFFF, 0x7FFF
_UDEV: Final = "run/udev/data/+dmi:id"  # systemd 248 and later: root's reading, for everybody
_UDEV_SIZE = re.compile(r"^E:MEMORY_DEVICE_(\d{1,3})_SIZE=(\d{1,15})$", re.MULTILINE)
_UDEV_EMPTY = re.compile(r"^E:MEMORY_DEVICE_\d{1,3}_PRESENT=0$", re.MULTILINE)
_UDEV_DEVICES = re.compile(r"^E:MEMORY_ARRAY_NUM_DEVICES=(\d{1,3})$", re.MULTILINE)

_FILLER = re.compile(  # what makers forget to fill in
    r"to be filled.*|default string|system (?:product name|manufacturer|version)|not (?:specified|applicable)"
    r"|o\.?e\.?m\.?|none|unknown|n/?a|invalid|type\d.*|[\s0.x-]*",
    re.IGNORECASE,
)
_AMERICAN = re.compile(r"(\d\d)/(\d\d)/(\d{4})")


def board(host: Host) -> Facts:
    """Product and BIOS, for everybody to read."""
    place = host.sysfs / "class/dmi/id"

    def word(name: str) -> str:
        said = clean(text(host, place / name).strip(), 80)
        return "" if _FILLER.fullmatch(said) else said

    vendor, product, bios = (
        word("sys_vendor"),
        word("product_name") or word("board_name"),
        word("bios_version"),
    )
    date = _AMERICAN.sub(r"\3-\1-\2", word("bios_date"))
    if product and not product.lower().startswith(vendor.lower()):
        product = f"{vendor} {product}"
    facts = Facts()
    facts.tell("product", product, place)
    facts.tell("bios", ", ".join(part for part in (bios, date) if part), place)
    return facts


def memory(host: Host) -> Facts:
    """Size of the memory modules: from the table itself as root, else from what udev read of it."""
    facts = Facts()
    table, database = host.sysfs / "firmware/dmi/tables/DMI", host.root / _UDEV
    try:
        facts.tell("installed_bytes", installed_bytes(host.read(table)), table)
    except PermissionError:
        facts.denied.add("installed_bytes")
    except OSError:
        pass  # there is none
    facts.tell("installed_bytes", _by_udev(text(host, database)), database)
    if facts.values:
        facts.denied.clear()
    return facts


def installed_bytes(table: bytes) -> int | None:
    """Sum over the memory devices; None when there is none, or one does not tell."""
    total = 0
    for device in _structures(table, _MEMORY_DEVICE):
        if len(device) <= _SIZE + 1 or (len(device) > _TYPE and device[_TYPE] in _NO_RAM):
            continue
        size = int.from_bytes(device[_SIZE : _SIZE + 2], "little")
        extended = device[_EXTENDED_SIZE : _EXTENDED_SIZE + 4]
        if size == _UNKNOWN or (size == _EXTENDED and len(extended) < 4):
            return None
        if size == _EXTENDED:
            total += (int.from_bytes(extended, "little") & 0x7FFFFFFF) << 20
        else:
            total += (size & 0x7FFF) << (10 if size & 0x8000 else 20)
    return _plausible(total)


def _structures(table: bytes, kind: int) -> Iterator[bytes]:
    """The formatted part of each structure of a kind; text follows it, up to two zero bytes."""
    at = 0
    while at + 4 <= len(table) and table[at] != _END:
        length = table[at + 1]
        if length < 4 or at + length > len(table):
            return
        if table[at] == kind:
            yield table[at : at + length]
        end = table.find(b"\0\0", at + length)
        if end < 0:
            return
        at = end + 2


def _by_udev(database: str) -> int | None:
    sizes = dict(_UDEV_SIZE.findall(database))
    devices = _UDEV_DEVICES.search(database)
    if devices and int(devices[1]) != len(sizes) + len(_UDEV_EMPTY.findall(database)):
        return None  # one of them does not tell
    return _plausible(sum(map(int, sizes.values())))


def _plausible(total: int) -> int | None:
    return total if 0 < total <= _MOST else None
