"""Requests, as a llama-server's log tells them: one for each task of a slot that came to an end.

Three eras: timing blocks of several bare lines (to about b9125), a line per figure behind
``slot print_timing: id N | task M |`` (from b9181), and the latter as JSON. Function names differ by build
and are cut to 12 characters, so only what follows them is keyed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from halotui.collectors.log_drafts import Speculation
from halotui.collectors.log_line import Line
from halotui.collectors.log_time import Timeline, seconds_between
from halotui.model import End, Request

CLOSE = 0.001  # seconds: how near the timing lines are to the last token
MOST_SLOTS = 256  # a real server has a handful; a hostile log names as many as it likes


class Progress(msgspec.Struct, frozen=True):
    """A prompt under way: ``tokens`` in the slot so far, ``ratio`` of the whole prompt, 0 to 1."""

    slot: int
    task: int
    tokens: int
    ratio: float


class Timing(msgspec.Struct, frozen=True):
    """A line ``eval time = S ms / N tokens (..., R tokens per second)``, as printed but in seconds."""

    seconds: float | None
    tokens: int
    rate: float | None


class Draft(msgspec.Struct, frozen=True):
    accepted: int
    drafted: int
    ratio: float | None
    mean: float | None  # newer builds


@dataclass(slots=True)
class Task:
    """What the log said so far of one task."""

    slot: int
    id: int
    launched: Line | None = None
    cached: int | None = None
    prompt: Timing | None = None
    generation: Timing | None = None
    timed: Line | None = None  # the line that told the generation
    draft: Draft | None = None
    progress: Progress | None = None
    cancelled: bool = False
    failure: str | None = None  # our words


class Tasks:
    """What runs in the slots of one server. ``ended`` gathers requests for whoever takes them."""

    def __init__(self, timeline: Timeline, speculation: Speculation) -> None:
        self.ended: list[Request] = []
        self.block: Task | None = None  # the one that bare timing lines belong to
        self._timeline = timeline
        self._speculation = speculation
        self._tasks: dict[int, Task] = {}  # by slot: it runs one at a time

    @property
    def running(self) -> dict[int, int]:
        """Slot -> task, of those launched and not yet released."""
        return {slot: task.id for slot, task in self._tasks.items() if task.launched}

    @property
    def prompts(self) -> tuple[Progress, ...]:
        """Prompts under way, one per slot at most.

        Newer builds write these only after 3 s of prompt and do not say when it is done, so one may stay
        until the task has generated for 3 s: the phase itself is for /slots to tell.
        """
        return tuple(t.progress for t in self._tasks.values() if t.progress)

    def forget(self) -> None:
        """Lines are missing: what was half read will not be completed."""
        self._tasks.clear()
        self.block = None

    def die(self, line: Line | None, reason: str) -> None:
        """The server ended: what ran, and was seen to start, came to nothing."""
        for slot in list(self._tasks):
            task = self._tasks[slot]
            if task.launched and not task.generation:  # what is timed is done
                task.failure = task.failure or reason
            self._finish(slot, line)
        self.forget()

    def feed(self, line: Line) -> bool:
        """Take a line; whether that is all there is to it."""
        text = line.text
        if b"| task " in text and (said := _SLOT.search(text)) and said[2] != b"-1":
            return self._of_slot(line, int(said[1]), int(said[2]), said[3])
        for needle, pattern, handler in _BARE:
            if needle in text and (found := pattern.search(text)):
                handler(self, found, line)
                return True
        for needle, pattern, handler in _FAILURES:
            if needle in text and (found := pattern.search(text)):
                handler(self, found, line)
                break
        return False

    def _of_slot(self, line: Line, slot: int, number: int, rest: bytes) -> bool:
        task = self._tasks.get(slot)
        if task is None or task.id != number:
            self._finish(slot, None)  # no release was seen
            if len(self._tasks) >= MOST_SLOTS:
                del self._tasks[next(iter(self._tasks))]
            task = self._tasks[slot] = Task(slot, number)
        self.block = None if rest.strip() else task
        for needle, pattern, handler in _OF_TASK:
            if needle in rest and (found := pattern.search(rest)):
                handler(self, task, found, line)
                return True
        return False

    def _finish(
        self, slot: int, line: Line | None, tokens: int | None = None, truncated: bool = False
    ) -> None:
        """Close the slot's task. One without timings that just ends (an embedding) makes no request."""
        task = self._tasks.pop(slot, None)
        self.block = None
        if task is None:
            return
        timed = task.prompt or task.generation
        if not timed and not (task.launched and (task.cancelled or task.failure)):
            return
        end = (
            End.ERROR
            if task.failure
            else End.CANCELLED
            if task.cancelled
            else End.TRUNCATED
            if truncated
            else End.DONE
        )
        last = line or task.timed
        wall = self._timeline.wall
        self.ended.append(
            Request(
                source="log",
                slot=slot,
                task=task.id,
                cached_tokens=_cached(task, tokens, truncated),
                context_tokens=None if task.failure else tokens,
                end=end,
                reason=task.failure,
                started_time=wall(task.launched) if task.launched else None,
                ended_time=wall(last) if last else None,
                wall_seconds=_wall_seconds(task, last),
                **_figures(task, bool(self._speculation.on) and timed is not None),
            )
        )

    # Lines of a task.

    def _release(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        self._finish(task.slot, line, int(found[1]), found[2] == b"1")

    def _launch(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        self._tasks[task.slot] = Task(task.slot, task.id, launched=line)

    def _reused(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        if task.launched and task.cached is None:  # later batches of a prompt say it again, of themselves
            task.cached = int(found[1])

    def _timing(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        tokens, rate = int(found[3]), float(found[4]) if found[4] else None
        seconds = round(float(found[2]) / 1e3, 9)
        if found[1]:
            task.prompt = Timing(seconds, tokens, rate if tokens else None)
            task.progress = None
        else:  # the first token comes with the prompt: alone it took no time
            task.generation = Timing(seconds, tokens, rate if tokens > 1 else None)
            task.timed = line

    def _drafted(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        ratio, mean = (float(part) if part else None for part in found.group(1, 4))
        task.draft = Draft(int(found[2]), int(found[3]), ratio, mean)
        self._speculation.on = True

    def _progress(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        task.progress = Progress(task.slot, task.id, int(found[1]), min(float(found[2]), 1.0))

    def _prompt_done(self, task: Task, found: re.Match[bytes], line: Line) -> None:
        task.progress = None

    # Lines without a slot.

    def _block_timing(self, found: re.Match[bytes], line: Line) -> None:
        if self.block:
            self._timing(self.block, found, line)

    def _block_drafted(self, found: re.Match[bytes], line: Line) -> None:
        if self.block:
            self._drafted(self.block, found, line)

    def _cancelled(self, found: re.Match[bytes], line: Line) -> None:
        for task in self._tasks.values():
            if task.id == int(found[1]):
                task.cancelled = True

    def _failed(self, found: re.Match[bytes], line: Line) -> None:
        for task in self._tasks.values():
            if task.id == int(found[1]):
                task.failure = reason(found[2])

    def _all_failed(self, found: re.Match[bytes], line: Line) -> None:
        for task in self._tasks.values():
            task.failure = task.failure or reason(found[0])


def reason(said: bytes) -> str:
    """Why a request ended in error, in our words."""
    for needle, pattern, words in REASONS:
        if needle in said and (found := pattern.search(said)):
            return words.format(*(group.decode() for group in found.groups()))
    return "the server said so"


def _figures(task: Task, speculative: bool) -> dict[str, Any]:
    """What the timing lines told, as printed."""
    told: dict[str, Any] = {}
    if prompt := task.prompt:
        told |= {
            "prompt_tokens": prompt.tokens,
            "prompt_seconds": prompt.seconds,
            "prompt_tokens_per_second": prompt.rate,
        }
        if task.generation and task.generation.tokens:
            told["ttft_seconds"], told["ttft_error_seconds"] = _ttft(task, prompt, task.generation)
    if generation := task.generation:
        told |= {
            "generation_tokens": generation.tokens,
            "generation_seconds": generation.seconds,
            "generation_tokens_per_second": generation.rate,
        }
    draft = task.draft or (Draft(0, 0, None, None) if speculative else None)
    if draft:
        told |= {
            "draft_tokens": draft.drafted,
            "draft_accepted_tokens": draft.accepted,
            "draft_acceptance_ratio": draft.ratio,
            "draft_mean_tokens": draft.mean,
        }
        if generation and generation.tokens:
            told["draft_coverage_ratio"] = draft.drafted / generation.tokens
    return told


def _ttft(task: Task, prompt: Timing, generation: Timing) -> tuple[float | None, float | None]:
    """Seconds from the launch to the first token, and ±.

    By the log's clock: from the line of the launch to those of the timings, which come within a millisecond
    of the last token, less the time of the generation. The prompt's time leaves out what a slot waits while
    another one's prompt or draft is computed, which can be seconds; without a clock it is all there is.
    """
    whole = seconds_between(task.launched, task.timed)
    if whole is None or generation.seconds is None:
        return prompt.seconds, None
    return round(max(whole - generation.seconds, prompt.seconds or 0.0), 6), CLOSE


def _wall_seconds(task: Task, last: Line | None) -> float | None:
    """From launch to release by the log's clock; without one the sum that "total time" prints."""
    seconds = seconds_between(task.launched, last)
    if seconds is None and task.prompt and task.generation:
        seconds = round((task.prompt.seconds or 0.0) + (task.generation.seconds or 0.0), 6)
    return seconds


def _cached(task: Task, context: int | None, truncated: bool) -> int | None:
    """Prompt tokens that were reused: as said at -lv 4, else what the slot holds beyond the counted.

    The last generated token is not in the slot yet. Where drafts were accepted, those after the last token
    that counts are in it as well, as many as nobody tells: then only "none at all" is certain.
    """
    if task.failure:
        return None
    if task.cached is not None:
        return task.cached
    if context is None or truncated or task.cancelled or not (task.prompt and task.generation):
        return None
    if not task.generation.tokens:
        return None
    rest = context - task.prompt.tokens - task.generation.tokens + 1
    if rest < 0 or (rest and task.draft and task.draft.accepted):
        return None
    return rest


_N = rb" *(\d{1,15})"
_F = rb" *(\d{1,15}(?:\.\d{1,9})?)"
_SLOT = re.compile(rb"^[^\"'{]{0,80}?slot +\S+ +id +(\d{1,6}) \| task (-1|\d{1,15}) \| ?(.*)", re.S)
_STOP = re.compile(rb"stop processing: n_(?:tokens|past) =" + _N + rb", truncated = (\d)")
_TIMING = re.compile(
    rb"(prompt )?eval time =" + _F + rb" ms /" + _N + rb" tokens(?: \(.*," + _F + rb" tokens per second)?"
)
_DRAFT = re.compile(
    rb"draft acceptance(?: rate)? =(?:" + _F + rb"|.{1,20}?) \("
    + _N + rb" accepted /" + _N + rb" generated(?:\), mean len =" + _F + rb")?"
)  # fmt: skip

_TaskRow = tuple[bytes, re.Pattern[bytes], Callable[[Tasks, Task, re.Match[bytes], Line], None]]
_BareRow = tuple[bytes, re.Pattern[bytes], Callable[[Tasks, re.Match[bytes], Line], None]]

# What a line must hold, its pattern, what to do. The cheap test comes first; the first row to match wins.

_OF_TASK: tuple[_TaskRow, ...] = (
    (b"eval time =", _TIMING, Tasks._timing),
    (b"stop processing", _STOP, Tasks._release),
    (b"processing task", re.compile(rb"^processing task"), Tasks._launch),
    (b"draft acceptance", _DRAFT, Tasks._drafted),
    (b"memory_seq_rm [", re.compile(rb"n_tokens =" + _N + rb", memory_seq_rm"), Tasks._reused),
    (b"progress =", re.compile(rb"n_(?:past|tokens) =" + _N + rb",.* progress =" + _F), Tasks._progress),
    (b"done, n_", re.compile(rb"^prompt (?:processing )?done"), Tasks._prompt_done),
    (b", tg = ", re.compile(rb"^n_(?:gen|decoded) ="), Tasks._prompt_done),
)
_BARE: tuple[_BareRow, ...] = (
    (b"eval time =", re.compile(rb"^(?!.*_perf_).*?" + _TIMING.pattern), Tasks._block_timing),
    (b"draft acceptance", _DRAFT, Tasks._block_drafted),
    (b"cancel task, id_task", re.compile(rb"cancel task, id_task =" + _N), Tasks._cancelled),
)
_FAILURES: tuple[_BareRow, ...] = (  # an event as well
    (b", error: ", re.compile(rb"task id =" + _N + rb", error: (.*)", re.S), Tasks._failed),
    (b"Context size has been", re.compile(rb"Context size has been exceeded"), Tasks._all_failed),
)
REASONS = tuple(
    (needle, re.compile(pattern), words)
    for needle, pattern, words in (
        (
            b"exceeds the available context",
            rb"request \((\d{1,12}) tokens\) exceeds the available context size \((\d{1,12}) tokens\)",
            "{} tokens of prompt do not fit in {} of context",
        ),
        (b"exceeds the available context", rb"", "the prompt does not fit in the context"),
        (b"Context size has been", rb"", "the KV cache was full"),
        (b"too large to process", rb"", "the input is longer than a batch"),
        (b"Compute error", rb"", "the backend failed to compute"),
        (b"Invalid input batch", rb"", "the batch was not valid"),
        (b"got exception", rb"", "the server met an exception"),
    )
)
