"""``probe slots``: one request more than there are slots, at once: how many run? As many as asked for?"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from halotui.actions import Verdict
from halotui.collectors.llama_answers import HttpProblem
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import count, size
from halotui.model import SlotReading
from halotui.probing import Aim, Column, Tell
from halotui.probing.probe import Probe
from halotui.runs import Result
from halotui.servers.completing import Completer, turned

MOST = 16  # slots that are filled
PROMPT = 16  # tokens
ANSWER = 1024  # tokens at most: none is read to its end
LOOK_SECONDS = 0.05
SEE_SECONDS = 15.0  # until as many run as can
STAY_SECONDS = 0.3  # more, when they do: one too many would show


class Slots(Probe):
    name = "slots"
    columns = (Column("what", ""), Column("slots", "slots"), Column("by", "by"))

    def __init__(self, aim: Aim, tell: Tell) -> None:
        super().__init__(aim, tell)
        asked = self.server.slots_asked
        self._asked = asked if asked and asked > 0 else None  # else left to the server
        self._total = self.server.slots_total
        self._sent = 0
        self._at_once = 0  # others' requests too
        self._deferred: int | None = None
        self._ended = 0  # before all were seen
        self._seen = False

    @property
    def plan(self) -> str:
        number = min(MOST, self._total or 1) + 1
        return f"{number} requests at once, which are dropped as soon as it is seen how many run"

    async def measure(self, model: Completer, http: LlamaHttp) -> None:
        slots = await self.look(http)
        self._total = len(slots) or self._total
        if not self._total:
            self.trouble = "it does not tell how many slots it has: /slots and /props are closed"
            return
        self._sent = min(MOST, self._total) + 1
        text = await model.text(max(64, PROMPT))
        self.step(0.3, f"{self._sent} requests at once", "how many run at once")
        tasks = [
            asyncio.create_task(model.hold(turned(text, number)[:PROMPT], self._answer()))
            for number in range(self._sent)
        ]
        try:
            await self._watch(http, tasks, min(MOST + 1, self._total))
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, HttpProblem):
                self.trouble = end.reason

    def _answer(self) -> int:
        """Tokens, such that all of them fit even into one pool that all slots share."""
        room = self.room or 2 * PROMPT
        return max(
            1, min(ANSWER, room // (1 if self.server.kv_unified is False else self._sent) - PROMPT - 8)
        )

    async def _watch(self, http: LlamaHttp, tasks: list[asyncio.Task[None]], expected: int) -> None:
        """Until as many run as can, or it is plain that they do not."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(SEE_SECONDS, self.seconds_left)
        while loop.time() < end and not all(task.done() for task in tasks):
            running = await _running(http)
            if running is not None:
                self._seen = True
                self._at_once = max(self._at_once, running)
            self._ended = max(self._ended, sum(task.done() for task in tasks))
            with suppress(HttpProblem):
                waiting = (await http.metrics()).requests_deferred
                if waiting is not None:
                    self._deferred = max(self._deferred or 0, int(waiting))
            if self._at_once >= expected:
                end = min(end, loop.time() + STAY_SECONDS)
                expected = self._sent + 1  # once
            await asyncio.sleep(LOOK_SECONDS)

    def verdict(self) -> tuple[Verdict, str]:
        total, asked = self._total, self._asked
        self._tabulate()
        if not total or not self._sent:
            return Verdict.UNKNOWN, "nothing was measured"
        there = f"{_slots(total)}, {self._at_once} ran at once"
        if asked is not None and asked != total:
            known = " (#17989)" if asked == 1 and total == 4 else ""
            return Verdict.FAIL, f"asked for {_slots(asked)}, it has {there}{known}"
        if not self._seen:
            return Verdict.UNKNOWN, f"it has {_slots(total)}; how many run at once cannot be seen"
        if self._at_once < min(MOST, total):
            if self._ended:
                return Verdict.UNKNOWN, f"it has {there}, or more: they ended before all could be seen"
            if self._others:
                return Verdict.UNKNOWN, f"it has {there}, while others were served: try when it is quiet"
            return Verdict.FAIL, f"it has {there}"
        asked_for = "as asked" if asked is not None else "-np was left to it"
        return Verdict.OK, f"{there}; {asked_for}"

    def _tabulate(self) -> None:
        rows = (
            ("asked for", self._asked, "its command line"),
            ("there are", self._total, "/props, /slots"),
            ("ran at once", self._at_once if self._seen else None, f"{self._sent} requests"),
            ("had to wait", self._deferred, "/metrics"),
        )
        self.rows = [
            {"what": what, "slots": slots, "by": by}
            for what, slots, by in rows
            if self._sent and (slots is not None or what != "had to wait")
        ]
        if self._sent and (cost := self._cost()) and cost not in self.notes:
            self.notes.append(cost)

    def _cost(self) -> str:
        """What the slots take, as far as it is known."""
        server, asked, total = self.server, self._asked, self._total
        kv, context = server.kv_cache_bytes, self.room
        parts = [f"KV cache {size(kv)}"] if kv else []
        if context:
            shared = {True: "shared by all slots", False: "for each slot", None: "shown by each slot"}
            parts.append(f"{count(context)} tokens of context {shared[server.kv_unified]}")
        if kv and asked and total and asked < total and server.kv_unified is False:
            parts.append(f"{_slots(asked)} of that context would need {size(kv * asked / total)}")
        if asked and total and asked < total and server.kv_unified:
            parts.append(f"with -kvu, or another build, {_slots(asked)} would have all of it")
        return ", ".join(parts)

    def results(self) -> list[Result]:
        if not self._sent:
            return []
        asked = "auto" if self._asked is None else str(self._asked)
        at_once = str(self._at_once) if self._seen else "unknown"
        return [
            self.result("slots", settings={"asked": asked, "slots": str(self._total), "at once": at_once})
        ]


async def _running(http: LlamaHttp) -> int | None:
    """Requests at work, by /slots, else by /metrics; None: neither is shown."""
    try:
        slots: tuple[SlotReading, ...] = await http.slots()
        return sum(slot.processing for slot in slots)
    except HttpProblem:
        try:
            known = (await http.metrics()).requests_processing
        except HttpProblem:
            return None
        return None if known is None else int(known)


def _slots(number: int) -> str:
    return f"{count(number)} slot{'' if number == 1 else 's'}"
