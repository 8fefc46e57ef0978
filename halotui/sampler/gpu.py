"""Which GPU source is asked, and which one won: sysfs, else amdgpu_top, else amdsmi."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from halotui.collectors.amdsmi import NOT_FAR
from halotui.collectors.gpu_reading import Reading
from halotui.hosts import Host
from halotui.model import GPU_SOURCE, Gpu, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.gpu_cards import Cards
from halotui.sampler.gpu_child import STALE, STREAMS, Child
from halotui.sampler.gpu_watch import GpuWatch
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Crew, Worker

DEADLINE = 0.4  # seconds a read of sysfs may take
KEPT = 10.0  # seconds a last reading is still shown, dim, with its age
AGAIN = 10.0  # seconds before absent sources are tried again, and better ones than the one that won
SYSFS = "sysfs"
AMDSMI = "amdsmi"
HELPER = "amdgpu_top"  # fills in what sysfs lacks
NEEDED = ("gtt_used_bytes", "busy_percent", "sclk_hertz", "socket_power_watts", "temperature_celsius")
LACKING = 5  # readings in a row without one of them, before help is called
CONTENT = 60  # readings in a row with all of them, before it is sent away
_UNITS = ("_bytes", "_percent", "_hertz", "_watts", "_celsius")
_MEASURED = tuple(key for key in Gpu.__struct_fields__ if key.endswith(_UNITS))  # what may be filled in


class GpuSource:
    """``read`` gives the GPUs as last seen, and ``sources`` says how that stands."""

    def __init__(self, host: Host, choice: str, clock: Clock, crew: Crew | None = None) -> None:
        self._host = host
        self._clock = clock
        self._choice = choice
        streams = tuple(STREAMS) if host.native else ()  # a child would speak of another box than the files
        if not host.here:
            streams = tuple(name for name in streams if name != AMDSMI)
        self._wanted = (SYSFS, *streams) if choice == "auto" else (choice,)
        self._cards = Cards(host, clock)
        self._worker = Worker("gpu", clock.monotonic, crew, host)
        self._watch = GpuWatch(clock)
        self._children: dict[str, Child] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._winner: str | None = None
        self._retry_at = 0.0
        self._patience = STALE  # seconds that a child's first line is worth: the first frame alone waits
        self._readings: tuple[Reading, ...] = ()  # of sysfs
        self._need = Need()
        self._gpus: tuple[Gpu, ...] = ()
        self._read_at: float | None = None
        self._took: float | None = None
        self._trouble: Unavailable | None = None

    async def read(self) -> tuple[Gpu, ...]:
        """The reading of this moment; the last one while it is young; else nothing."""
        now = self._clock.monotonic()
        if now >= self._retry_at and self._may_elect():
            await self._elect(now)
        elif self._winner is not None:
            await self._try(self._winner)
        self._patience = 0.0
        return self._gpus if self._young() else ()

    def skip(self) -> None:
        self._cards.skip()
        self._watch.skip()
        self._retry_at = 0.0

    def source(self) -> Source:
        now, trouble = self._clock.monotonic(), self._trouble
        age = now - self._read_at if self._read_at is not None else None
        return standing(GPU_SOURCE, self._winner or "/".join(self._wanted), trouble, age=age, took=self._took)

    def sources(self) -> Iterator[Source]:
        """Itself first, then what it is made of, and what it could be."""
        yield self.source()
        if self._winner == SYSFS and self._readings:
            yield self._table()
        for name in STREAMS:
            child = self._children.get(name)
            yield child.source() if child is not None else self._unused(name)

    async def close(self) -> None:
        for name in tuple(self._children):
            self._dismiss(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _young(self) -> bool:
        return self._read_at is not None and self._clock.monotonic() - self._read_at < KEPT

    def _may_elect(self) -> bool:
        """Whether another source may do better. A hang ends no term: another one hangs on the same driver."""
        if self._winner is None or len(self._wanted) == 1:
            return self._winner is None
        hung = self._trouble is not None and self._trouble.state is SourceState.HUNG
        return not hung and (self._winner != SYSFS or not self._young())

    async def _elect(self, now: float) -> None:
        """Try the sources in order; the first that answers is asked from then on."""
        first_trouble: Unavailable | None = None
        self._retry_at = now + AGAIN
        for name in self._wanted:
            if await self._try(name):
                self._crown(name)
                return
            trouble = self._trouble
            first_trouble = first_trouble or trouble
            state = trouble.state if trouble is not None else None
            if state is SourceState.HUNG and self._winner is None:
                self._winner = name  # it is there: another source would hang on the same driver
                return
            if state is SourceState.NO_DATA and name != SYSFS:
                self._retry_at = now  # a child that starts: the next one waits for what it has to say
                break
            if state is SourceState.ABSENT and name == SYSFS:
                break  # no such GPU: a child would look in vain, again and again
        self._trouble = first_trouble
        if self._winner is None and first_trouble and first_trouble.state is not SourceState.ABSENT:
            self._winner = self._wanted[0]  # it is there, and may come to itself any moment

    def _crown(self, name: str) -> None:
        self._winner = name
        for other in tuple(self._children):
            if other != name and not (other == HELPER and name == SYSFS and self._need.stands):
                self._dismiss(other)

    async def _try(self, name: str) -> bool:
        began = self._clock.monotonic()
        try:
            if name == SYSFS:
                await self._from_sysfs()
            else:
                await self._from_child(name)
        except Unavailable as trouble:
            self._trouble = trouble
            return False
        except Exception as error:
            self._trouble = unforeseen(error)
            return False
        self._took, self._trouble = self._clock.monotonic() - began, None
        return True

    async def _from_sysfs(self) -> None:
        readings = await self._worker.call(self._cards.read, self._clock.allow(DEADLINE))
        self._readings = readings
        if HELPER in self._wanted:
            readings = await self._helped(readings)
        self._gpus = self._watch.told(readings)
        self._read_at = self._clock.monotonic()

    async def _from_child(self, name: str) -> None:
        heard = await self._child(name).latest(self._patience)
        if heard.at != self._read_at:
            self._gpus = self._watch.told(Reading(gpu=gpu) for gpu in heard.gpus)
            self._read_at = heard.at

    async def _helped(self, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """The readings, and from the helper what they lack, where it is needed and has something to say."""
        if not self._need.look(readings):
            self._dismiss(HELPER)
            return readings
        try:
            heard = await self._child(HELPER).latest()
        except Unavailable:  # its own row among the sources says so
            return readings
        return tuple(filled(reading, readings, heard.gpus) for reading in readings)

    def _child(self, name: str) -> Child:
        if name not in self._children:
            self._children[name] = Child(name, self._host, self._clock)
        return self._children[name]

    def _dismiss(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None and (ending := child.stop()) is not None:
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def _table(self) -> Source:
        """How gpu_metrics stands, of the first GPU: the APU where there is one."""
        reading, trouble = self._readings[0], self._trouble
        if trouble is not None:
            trouble = Unavailable(trouble.state, "not read: sysfs gives nothing")
        elif reading.table_trouble is not None:
            trouble = reading.table_trouble
        elif not reading.table and reading.gpu.asleep:
            trouble = Unavailable(SourceState.NO_DATA, "the GPU sleeps: reading it would wake it")
        elif not reading.table:
            trouble = Unavailable(
                SourceState.ABSENT,
                "this driver writes no gpu_metrics",
                "hwmon and pp_dpm tell a part of it; a newer kernel may tell all",
            )
        age = self._clock.monotonic() - self._read_at if self._read_at is not None and reading.table else None
        return standing("gpu_metrics", reading.table or "gpu_metrics", trouble, age=age)

    def _unused(self, name: str) -> Source:
        if name == AMDSMI and not self._host.here:
            return Source(id=name, name=name, state=SourceState.UNUSED, reason=NOT_FAR)
        hung = self._trouble is not None and self._trouble.state is SourceState.HUNG
        if self._choice != "auto":
            why = f"{self._choice} was chosen (--gpu-source {self._choice})"
        elif self._winner is None:
            why = "there is no AMD GPU"
        elif hung:
            why = "it would hang as well"
        else:
            why = f"{self._winner} {'answers' if self._trouble is None else 'comes first'}"
        state, reason = SourceState.UNUSED, f"not asked: {why}"
        hint = f"to ask it: halotui --gpu-source {name}"
        return Source(id=name, name=name, state=state, reason=reason, hint=hint)


class Need:
    """Whether sysfs lacks what a person looks for first, for long enough to call for help."""

    def __init__(self) -> None:
        self.stands = False
        self._lacking = 0  # readings in a row
        self._content = 0

    def look(self, readings: Sequence[Reading]) -> bool:
        gpu = next((one.gpu for one in readings if one.gpu.integrated is not False), None)
        if gpu is None or gpu.asleep or all(getattr(gpu, key) is not None for key in NEEDED):
            self._lacking, self._content = 0, self._content + 1
        else:
            self._lacking, self._content = self._lacking + 1, 0
        self.stands = self._lacking >= LACKING or (self.stands and self._content < CONTENT)
        return self.stands


def filled(reading: Reading, readings: Sequence[Reading], others: Sequence[Gpu]) -> Reading:
    """What ``others`` know and the reading does not, of the same GPU and named as theirs."""
    gpu = reading.gpu
    same = next((other for other in others if other.id == gpu.id), None)
    if same is None and len(readings) == len(others) == 1 and ":" not in others[0].id:
        same = others[0]  # it does not name its slot, and there is only the one
    if same is None or gpu.asleep:
        return reading
    found: dict[str, Any] = {
        key: value
        for key in _MEASURED
        if getattr(gpu, key) is None and (value := getattr(same, key)) is not None
    }
    if not found:
        return reading
    origin = {**gpu.provenance, **dict.fromkeys(found, same.source)}
    return replace(reading, gpu=replace(gpu, **found, provenance=origin))
