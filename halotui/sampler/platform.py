"""The box itself: the fixed part once, settings now and then. No frame waits for a command."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable

from msgspec.structs import replace

from halotui.collectors import images, packages, platform
from halotui.collectors.platform_facts import Facts
from halotui.hosts import Host, LinkDown
from halotui.model import PLATFORM_SOURCE, Platform, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

SETTINGS_EVERY = 5.0  # seconds
IMAGES_EVERY = 600.0
AGAIN = 60.0  # what failed
PATIENT = 1.0  # seconds of grace: who grants so much wants it all in one frame
_PROMPT = 0.3  # seconds that files may take of a frame
_EARLY = 0.05
_ROOT_ONLY = {"mes": "the version of MES", "installed_bytes": "the size of the memory modules"}


class _Part:
    """Some of the facts, in a thread of their own: packages that hang behind a lock cost nothing else."""

    def __init__(
        self, host: Host, clock: Clock, read: Callable[[Host], Facts], deadline: float, every: float
    ) -> None:
        self.facts = Facts()
        self.trouble: Unavailable | None = None
        self.task: asyncio.Task[None] | None = None
        self.at: float | None = None  # monotonic seconds of its last success
        self.took: float | None = None
        self._host, self._clock, self._read = host, clock, read
        self._deadline, self._every = deadline, every
        self._due = clock.monotonic()
        self._worker = Worker(f"platform-{read.__name__}", host=host)

    def hurry(self) -> None:
        self._due = self._clock.monotonic()

    def start(self) -> bool:
        """Look, when that is due."""
        now = self._clock.monotonic()
        if now < self._due or (self.task is not None and not self.task.done()):
            return False
        self._due = now + self._every - _EARLY
        self.task = asyncio.create_task(self._look(now))
        return True

    async def _look(self, began: float) -> None:
        try:
            self.facts = await self._worker.call(lambda: self._read(self._host), self._deadline)
            self.trouble, self.at = None, self._clock.monotonic()
            self.took = self.at - began
        except LinkDown:  # what is known stays, and the rest is asked for again
            self._due = self._clock.monotonic()
        except Unavailable as trouble:
            self._fail(trouble)
        except Exception as error:
            self._fail(unforeseen(error))

    def _fail(self, trouble: Unavailable) -> None:
        self.facts, self.trouble = Facts(), trouble
        self._due = min(self._due, self._clock.monotonic() + AGAIN)


class PlatformWatch:
    def __init__(self, host: Host, clock: Clock) -> None:
        self.platform: Platform | None = None
        self._host, self._clock = host, clock
        never = float("inf")  # again: firmware and driver in use are those of the boot
        self._fixed = _Part(host, clock, platform.fixed, 3.0, never)
        self._scheduler = _Part(host, clock, platform.scheduler, 3.0, never)
        self._settings = _Part(host, clock, platform.settings, 1.0, SETTINGS_EVERY)
        self._packages = _Part(host, clock, packages.installed, 8.0, never)
        self._images = _Part(host, clock, images.present, 8.0, IMAGES_EVERY)
        self._files = (self._fixed, self._scheduler, self._settings)
        self._parts = (*self._files, self._packages, self._images)
        self._shown = tuple(part.facts for part in self._parts)

    def skip(self) -> None:
        """The settings may be others; what failed may have been the link's fault."""
        for part in self._parts:
            if part is self._settings or part.at is None:
                part.hurry()

    async def read(self, grace: float) -> None:
        """Waits for files, which come at once; for commands only where ``grace`` is a patient one's."""
        begun = [part for part in self._parts if part.start()]
        patient = grace >= PATIENT
        awaited = self._parts if patient else [part for part in begun if part in self._files]
        tasks = [part.task for part in awaited if part.task is not None and not part.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace if patient else min(grace, _PROMPT))
        told = tuple(part.facts for part in self._parts)
        if not all(map(operator.is_, told, self._shown)):
            self._shown = told
            self._show()

    def source(self) -> Source:
        """Ok as soon as files have told; what is root's to read, or late, stands in the reason."""
        settings, trouble = self._settings, self._fixed.trouble or self._settings.trouble
        if trouble is None and self._fixed.at is None:
            return Source(id=PLATFORM_SOURCE, state=SourceState.NO_DATA, reason="not read yet")
        age = self._clock.monotonic() - settings.at if settings.at is not None else None
        source = standing(PLATFORM_SOURCE, "sysfs, procfs", trouble, age=age, took=settings.took)
        return source if trouble is not None else replace(source, reason="; ".join(self._notes()) or None)

    def _show(self) -> None:
        """The same object while nothing has changed."""
        facts = Facts()
        for part in self._shown:
            facts.add(part)
        now = facts.platform(self._host) if facts.values else None
        if now != self.platform:
            self.platform = now

    def _notes(self) -> list[str]:
        roots = self._fixed.facts.denied | self._scheduler.facts.denied
        denied = [words for key, words in _ROOT_ONLY.items() if key in roots]
        notes = [f"root alone may read {' and '.join(denied)}"] if denied else []
        for part, name in (
            (self._scheduler, "MES"),
            (self._packages, "packages"),
            (self._images, "images"),
        ):
            if part.trouble is not None:
                notes.append(f"{name}: {part.trouble.reason}")
        return notes
