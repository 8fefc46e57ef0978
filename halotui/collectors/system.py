"""CPU, disks and network as the kernel counts them: one look, no rates.

Physical devices only, those with a ``device`` link: what loop, dm, zram, lo, bridges and tunnels carry is
counted again below them.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from halotui.hosts import Host
from halotui.model import SourceState, Unavailable
from halotui.safe import clean

SECTOR = 512  # bytes, whatever the disk's own are
_CPU = re.compile(rb"cpu +(\d{1,19}(?: \d{1,19}){3,9})\n")
_SOME = re.compile(rb"some avg10=(\d{1,3}\.\d\d) ")
_LOAD = re.compile(rb"(\d{1,9}\.\d\d) ")
_NUMBER = re.compile(rb"\d{1,19}")
_NO_DISKS = ("sr", "fd")  # they have a device: a tray, and what no one reads a model from


class Disk(Struct, frozen=True, kw_only=True):
    """Counters since boot."""

    read_bytes: int
    written_bytes: int
    busy_milliseconds: int  # with at least one request under way


class Network(Struct, frozen=True, kw_only=True):
    """Counters since the interface came up."""

    received_bytes: int
    sent_bytes: int


class SystemReading(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the files say at one instant; None or left out where they do not."""

    cpu_busy_ticks: int | None = None  # of all threads, since boot
    cpu_ticks: int | None = None  # busy, idle and waiting
    cpus: int | None = None
    cpu_temperature_celsius: float | None = None
    load_1m: float | None = None
    memory_pressure_percent: float | None = None
    io_pressure_percent: float | None = None
    swapped_in_pages: int | None = None
    swapped_out_pages: int | None = None
    oom_kills: int | None = None
    disks: dict[str, Disk] = {}
    networks: dict[str, Network] = {}


_NOTHING = SystemReading()


class Counters:
    """A reader that keeps paths. ``search`` looks which devices there are: dearer than ``read``, and due but
    now and then."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._temperature: str | None = None
        self._disks: dict[str, str] = {}
        self._networks: dict[str, tuple[str, str]] = {}

    def search(self) -> None:
        sysfs = self._host.sysfs
        self._host.expect(f"{sysfs}/class/hwmon/*/name", f"{sysfs}/block/*/hidden")
        self._temperature = next(
            (
                f"{name.parent}/temp1_input"
                for name in self._glob("class/hwmon", "*/name")
                if self._is_cpu(name)
            ),
            None,
        )
        disks = [device.parent for device in self._glob("block", "*/device")]
        self._disks = {
            clean(disk.name, 40): f"{disk}/stat"
            for disk in disks
            if not disk.name.startswith(_NO_DISKS) and self._text(f"{disk}/hidden").strip() != b"1"
        }  # hidden: one path of several to an NVMe disk, which counts them all
        statistics = [card.with_name("statistics") for card in self._glob("class/net", "*/device")]
        self._networks = {
            clean(place.parent.name, 40): (f"{place}/rx_bytes", f"{place}/tx_bytes") for place in statistics
        }

    def read(self) -> SystemReading:
        """Some ten small reads. Raises Unavailable(ABSENT) when none of them tells anything."""
        busy, ticks, cpus = _cpu(self._proc("stat"))
        vmstat = self._proc("vmstat")
        reading = SystemReading(
            cpu_busy_ticks=busy,
            cpu_ticks=ticks,
            cpus=cpus,
            cpu_temperature_celsius=self._celsius(),
            load_1m=_first(_LOAD, self._proc("loadavg")),
            memory_pressure_percent=_first(_SOME, self._proc("pressure/memory")),
            io_pressure_percent=_first(_SOME, self._proc("pressure/io")),
            swapped_in_pages=_after(b"\npswpin ", vmstat),
            swapped_out_pages=_after(b"\npswpout ", vmstat),
            oom_kills=_after(b"\noom_kill ", vmstat),
            disks={name: disk for name, path in self._disks.items() if (disk := _disk(self._text(path)))},
            networks={
                name: card for name, paths in self._networks.items() if (card := self._network(*paths))
            },
        )
        if reading == _NOTHING:
            where = f"{self._host.procfs} and {self._host.sysfs}"
            raise Unavailable(SourceState.ABSENT, f"{where} tell nothing of CPU, disks and network")
        return reading

    def _glob(self, place: str, pattern: str) -> list[Path]:
        return self._host.glob(self._host.sysfs / place, pattern)

    def _is_cpu(self, name: Path) -> bool:
        return self._text(str(name)).strip() == b"k10temp"

    def _celsius(self) -> float | None:
        """Tctl, in whole steps of the chip's; None for what no processor can have."""
        raw = _whole(self._text(self._temperature)) if self._temperature else None
        return raw / 1000 if raw is not None and 0 < raw <= 200_000 else None

    def _network(self, received: str, sent: str) -> Network | None:
        came, went = _whole(self._text(received)), _whole(self._text(sent))
        return None if came is None or went is None else Network(received_bytes=came, sent_bytes=went)

    def _proc(self, name: str) -> bytes:
        return self._text(f"{self._host.procfs}/{name}")

    def _text(self, path: str) -> bytes:
        try:
            return self._host.read(path)
        except OSError:  # gone, refused, or pressure that is switched off
            return b""


def _cpu(text: bytes) -> tuple[int | None, int | None, int | None]:
    """Busy and all ticks of the first line, and how many threads have one of their own."""
    if not (found := _CPU.match(text)):
        return None, None, None
    user, nice, system, idle, *rest = map(int, found[1].split())
    waiting, *serving = rest[:4] or [0]  # guest time, behind steal, is part of user
    busy = user + nice + system + sum(serving)
    return busy, busy + idle + waiting, text.count(b"\ncpu") or None


def _disk(text: bytes) -> Disk | None:
    fields = text.split()
    if len(fields) < 10 or not all(map(_NUMBER.fullmatch, fields[:10])):
        return None
    return Disk(
        read_bytes=int(fields[2]) * SECTOR,
        written_bytes=int(fields[6]) * SECTOR,
        busy_milliseconds=int(fields[9]),
    )


def _first(pattern: re.Pattern[bytes], text: bytes) -> float | None:
    found = pattern.match(text)
    return float(found[1]) if found else None


def _after(key: bytes, text: bytes) -> int | None:
    """The number behind ``key``: the file is long, and all else in it is of no use here."""
    at = text.find(key)
    return _whole(text[at + len(key) : text.find(b"\n", at + 1)]) if at >= 0 else None


def _whole(text: bytes) -> int | None:
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else None
