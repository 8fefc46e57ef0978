"""One AMD GPU, read at every beat: memory pools first, then what the firmware says.

Files are read when the time has come, and understood later, many at once: after a sleep of 50 ms the
processor has forgotten this program, and each line that need not run then saves a microsecond.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from halotui.capture.notes import Notes
from halotui.capture.probe import NAN, Reads, kernel, number, probe
from halotui.capture.ration import Ration
from halotui.capture.source import Column
from halotui.capture.table import FIELDS, LIMITERS, SENSORS, pick
from halotui.collectors.amdgpu_sysfs import FALLBACKS, MEMORY
from halotui.collectors.gpu_metrics import PERCENT, Unit
from halotui.hosts import Host
from halotui.safe import clean

_AMD = b"0x1002"
_BYTES = Unit(int, 0, 2**63 - 1)
_POOLS = ("gtt_used_bytes", "vram_used_bytes")
LOOK_SECONDS = 1.0  # asleep or not; and anew, while it says nothing
COMPARE_SECONDS = 0.09  # whether files were replaced; as dear as all of them together
_BLANK = (NAN,) * len(FIELDS)

Sensor = tuple[int, Unit, bytes | None]  # position in FIELDS, what its file holds
Raw = tuple[bytes | None, bytes | None, bytes | None, Sequence[Sensor]]  # GTT, VRAM, gpu_metrics, the rest


def cards(host: Host) -> dict[str, Path]:
    """PCI slot -> device directory, of every card of the amdgpu driver."""
    found = {}
    for card in host.glob(host.sysfs / "class/drm", "card[0-9]*"):
        device = card / "device"
        if not card.name[4:].isdecimal():  # a connector
            continue
        try:
            vendor, event = host.read(device / "vendor"), host.read(device / "uevent")
        except OSError:
            continue
        said = dict(line.partition(b"=")[::2] for line in event.splitlines())
        if vendor.strip() == _AMD and said.get(b"DRIVER", b"amdgpu") == b"amdgpu":
            found[clean(said.get(b"PCI_SLOT_NAME", b""), 40) or card.name] = device
    return found


class Card:
    """The reader of one. A sleeping one is not woken: only its memory is read."""

    def __init__(self, host: Host, slot: str, device: Path, *, hertz: float, notes: Notes) -> None:
        self._host = host
        self.slot = slot
        self.device = device  # may be changed by any thread: a reset may give it another number
        self.silent = False  # no memory pool is to be read
        self._opened: Path | None = None  # None: to be opened anew
        self._notes = notes
        self._ration = Ration(hertz)
        self._asleep = False
        self._look = 0.0  # when, next
        self._probes: list[Reads] = []
        self._fallbacks: list[tuple[int, Unit, Reads]] = []
        self._wanted: list[
            tuple[int, Unit, Reads]
        ] = []  # those of them that the table does not make needless
        self._folder = -1  # the directory, where its files may be replaced
        self._changed = 0  # when one was, ns
        self._compared = 0.0

    @property
    def columns(self) -> tuple[Column, ...]:
        names = (
            *(f"gpu.{field}" for field in (*_POOLS, *SENSORS)),
            *(f"throttle.{name}" for name in LIMITERS),
        )
        return tuple((name, self.slot) for name in names)

    def read(self, now: float) -> Raw:
        if now >= self._look or self._opened is not self.device:
            self._look_around(now)
        if self._folder >= 0 and now >= self._compared + COMPARE_SECONDS:
            self._compare(now)
        gtt, vram = self._gtt.read(now), self._vram.read(now)
        if (gtt is None and vram is None) is not self.silent:
            self._tell(not self.silent)
        if self._asleep or not self._ration.due():
            return gtt, vram, None, ()
        if not self._ration.measures():
            return gtt, vram, *self._sensors(now)
        before = time.thread_time()
        sensors = self._sensors(now)
        self._ration.cost(time.thread_time() - before)
        return gtt, vram, *sensors

    def understand(self, raw: Raw) -> Sequence[float]:
        """A value per column. Any thread."""
        gtt, vram, table, others = raw
        values = (pick(table) if table is not None else None) or list(_BLANK)
        for index, unit, data in others:
            if values[index] != values[index]:
                values[index] = number(data, unit)
        return (number(gtt, _BYTES), number(vram, _BYTES), *values)

    def close(self) -> None:
        for file in self._probes:
            file.close()
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    def _look_around(self, now: float) -> None:
        self._look = now + LOOK_SECONDS
        if self.silent or self._opened is not self.device:
            self._open()
        self._asleep = (self._status.read(now) or b"").startswith(b"suspended")
        if self._asleep:
            return
        table = self._table.read(now)
        values = None if table is None else pick(table)
        if values is None and not self.silent:
            self._doubt(table)
        missing = {index for index, value in enumerate(values or _BLANK) if value != value}
        self._wanted = [sensor for sensor in self._fallbacks if sensor[0] in missing]

    def _open(self) -> None:
        self.close()
        self._opened = device = self.device
        watch = not kernel(self._host, str(device))
        self._probes = []

        def file(name: str, size: int = 64, *, watch: bool) -> Reads:
            self._probes.append(probe(self._host, f"{device}/{name}", size, watch=watch))
            return self._probes[-1]

        # One look at the directory tells of all files in it; those below it are watched one by one.
        self._gtt, self._vram = (file(MEMORY[field], watch=False) for field in _POOLS)
        self._busy = file("gpu_busy_percent", watch=False)
        self._table = file("gpu_metrics", 512, watch=False)
        self._status = file("power/runtime_status", watch=watch)
        here = _hwmon(self._host, device)
        self._fallbacks = [(SENSORS.index("busy_percent"), PERCENT, self._busy)]
        for index, field in enumerate(SENSORS if here else ()):
            if field in FALLBACKS:
                names, unit, _ = FALLBACKS[field]
                files = [file(f"hwmon/{here}/{name}", watch=watch) for name in names]
                self._fallbacks += [(index, unit, one) for one in files]
        if watch:
            with suppress(OSError):
                self._folder = os.open(device, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._changed = os.fstat(self._folder).st_mtime_ns

    def _compare(self, now: float) -> None:
        self._compared = now
        changed = os.fstat(self._folder).st_mtime_ns
        if changed != self._changed:
            self._changed = changed
            for file in self._probes:
                file.close()

    def _sensors(self, now: float) -> tuple[bytes | None, Sequence[Sensor]]:
        table = self._table.read(now)
        return table, [(index, unit, file.read(now)) for index, unit, file in self._wanted]

    def _doubt(self, table: bytes | None) -> None:
        if table:
            self._notes.say(f"GPU {self.slot}: gpu_metrics of {len(table)} bytes: a layout not known here")
        elif table is None and self._table.error is not None:
            self._notes.say(f"GPU {self.slot}: gpu_metrics: {self._table.error.strerror}")

    def _tell(self, silent: bool) -> None:
        self.silent = silent
        if silent:
            errors = (self._gtt.error, self._vram.error)
            why = next((error.strerror for error in errors if error), None) or "no answer"
            self._notes.begin(self.slot, f"GPU {self.slot}: memory not to be read ({why})", timed=True)
        else:
            self._notes.end(self.slot)
            self._opened = None  # its sensors may have another number now


def _hwmon(host: Host, device: Path) -> str | None:
    """The directory of the card's own sensors, whose number changes from boot to boot."""
    for path in host.glob(device, "hwmon/hwmon[0-9]*"):
        with suppress(OSError):
            if host.read(path / "name").strip() == b"amdgpu":
                return path.name
    return None
