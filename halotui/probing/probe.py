"""What all probes have in common: their course, their end, and whether they were alone."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath
from time import monotonic, time
from typing import Any

from halotui.actions import Verdict
from halotui.collectors.http_wire import Door
from halotui.collectors.llama_answers import HttpProblem
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import count
from halotui.hosts import LinkDown
from halotui.model import SlotReading
from halotui.probing import Aim, Column, Report, Row, Tell
from halotui.runs import Result
from halotui.safe import clean
from halotui.servers.completing import Completer, Timings, completer, drafting

QUIET_SECONDS = 20.0  # to wait for others' requests to end
POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.1  # that a slot may take to be free after its answer


class Probe(ABC):
    """One course of one probe. Whatever ends it, ``report`` tells what was measured."""

    name: str
    columns: Sequence[Column]

    def __init__(self, aim: Aim, tell: Tell) -> None:
        self.server = aim.server
        self.baselines = aim.baselines
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.trouble = ""  # why it went no further
        self.left = "everything"  # what would be left out if time ran out now
        self.speculative = bool(aim.server.speculative)
        self._tell = tell
        self._began, self._end = time(), monotonic()
        self._took = 0.0
        self._others = 0  # requests of others, the most that were seen
        self._ours: int | None = None  # the slot that our requests go to, where we chose it
        self._slots: tuple[SlotReading, ...] = ()

    @property
    @abstractmethod
    def plan(self) -> str:
        """What it is about to send, in a few words; empty: nothing, there is nothing to try."""

    @abstractmethod
    async def measure(self, model: Completer, http: LlamaHttp) -> None:
        """Send what is to be sent. Raises HttpProblem; may be cancelled at any point."""

    @abstractmethod
    def verdict(self) -> tuple[Verdict, str]:
        """Of what was measured until now."""

    @abstractmethod
    def results(self) -> list[Result]:
        """For the store."""

    async def carry_out(
        self, url: str, api_key: str | None, seconds: float, door: Door | None = None
    ) -> None:
        """At most so long. ``door``: the way to a far box. Raises CancelledError alone; by then its requests
        have ended."""
        began = monotonic()
        self._began, self._end = time(), began + seconds
        http = LlamaHttp(url, api_key, door=door)
        try:
            async with asyncio.timeout(seconds), completer(url, api_key, door) as model:
                await self._quiet(http)
                await self.measure(model, http)
        except TimeoutError:
            self.notes.append(f"{seconds:g} s were not enough: left out: {self.left}")
        except HttpProblem as problem:
            self.trouble = problem.reason
        except LinkDown as error:
            self.trouble = f"the box is not reached any more: {clean(str(error))}"
        finally:
            self._took = monotonic() - began
            await http.aclose()

    def report(self, *, interrupted: bool = False) -> Report:
        verdict, headline = self.verdict()
        if self.trouble:
            verdict = verdict if verdict is Verdict.FAIL else Verdict.UNKNOWN
            headline = f"{headline}; it ended early: {self.trouble}" if self.rows else self.trouble
        if self._others:
            plural = "s were" if self._others > 1 else " was"
            self.notes.insert(0, f"{count(self._others)} other request{plural} running: not comparable")
            self._others = 0
        return Report(
            probe=self.name,
            url=self.server.url,
            model=self.server.model or "",
            build=self.server.build or "",
            verdict=verdict,
            headline=headline,
            rows=tuple(self.rows),
            notes=tuple(dict.fromkeys(self.notes)),
            started_time=self._began,
            seconds=round(self._took, 3),
            interrupted=interrupted,
            results=tuple(self.results()),
        )

    # --- for those who measure

    def step(self, ratio: float, words: str, left: str) -> None:
        self.left = left
        self._tell(ratio, words)

    @property
    def seconds_left(self) -> float:
        return self._end - monotonic()

    async def look(self, http: LlamaHttp) -> tuple[SlotReading, ...]:
        """Its slots while nothing of ours runs; empty where it does not show them."""
        with suppress(HttpProblem):
            self._slots = await http.slots()
            if self._busy():
                await asyncio.sleep(SETTLE_SECONDS)
                self._slots = await http.slots()
            self._others = max(self._others, self._busy())
            self.speculative |= any(slot.speculative for slot in self._slots)
        return self._slots

    def _busy(self) -> int:
        return sum(slot.processing for slot in self._slots if slot.id != self._ours)

    def take_slot(self) -> dict[str, int]:
        """One that is free for us, as of the last look; for the bodies of requests."""
        self._ours = next((slot.id for slot in self._slots if not slot.processing), None)
        return {} if self._ours is None else {"id_slot": self._ours}

    @property
    def room(self) -> int | None:
        """Tokens that each slot can hold."""
        contexts = [slot.context_tokens for slot in self._slots if slot.context_tokens]
        return min(contexts, default=self.server.slot_context_tokens)

    def result(self, test: str, replies: Sequence[Timings] = (), **more: Any) -> Result:
        """With what is true of each."""
        acceptance, coverage = drafting(list(replies), speculative=self.speculative)
        server = self.server
        return Result(
            test=test,
            model=clean(PurePath(server.model_path or server.model or "").name, 200),
            build=server.build or "",
            backend=server.backend or "",
            draft_acceptance_ratio=acceptance,
            draft_coverage_ratio=coverage,
            tested_time=self._began,
            **more,
        )

    async def _quiet(self, http: LlamaHttp) -> None:
        """Until nobody else is served, for so long at most."""
        end = monotonic() + min(QUIET_SECONDS, self.seconds_left / 4)
        self.step(0.0, "waiting for quiet", self.left)
        while True:
            self._others = 0
            await self.look(http)
            if not self._others or monotonic() > end:
                return
            await asyncio.sleep(POLL_SECONDS)
