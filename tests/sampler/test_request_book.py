"""Finished requests: the log's own figures, or what watching a slot can know, and never a guess."""

from __future__ import annotations

from typing import Any

import pytest

from halotui.model import Metrics, Request, SlotReading
from halotui.sampler.requests import CounterBook, RequestBook

WALL = 1000.0  # Unix seconds at monotonic 0


def slot(task: int | None = 7, decoded: int | None = 0, *, busy: bool = True, **more: Any) -> SlotReading:
    return SlotReading(id=0, task=task, decoded=decoded, processing=busy, **more)


class Box:
    """A book and its clock: a look at ``at`` seconds, and what it makes of it."""

    def __init__(self, *, has_log: bool = False) -> None:
        self.book = RequestBook()
        self.has_log = has_log

    def look(self, at: float, *slots: SlotReading, log: tuple[Request, ...] = (), **more: Any) -> Any:
        if slots:
            self.book.look(slots, at)
        told = {"has_log": self.has_log, "speculative": None, **more}
        return self.book.finished(log, at, WALL + at, **told)


def logged(task: int = 7, **more: Any) -> Request:
    return Request(source="log", slot=0, task=task, **{"generation_tokens": 40, **more})


def test_a_newer_build_leaves_its_tokens_behind() -> None:
    """As real ones do: 73 prompt tokens, 256 generated, 328 left in the slot."""
    box = Box()
    assert box.look(0, slot(None, busy=False)) == ()
    for at in range(1, 7):
        decoded = 40 * at - 20
        reading = slot(7, decoded, prompt_processed=53, prompt_cached=20, tokens=72 + decoded)
        assert box.look(at, reading) == ()
    (request,) = box.look(7, slot(7, busy=False, tokens=328, prompt_processed=0, prompt_cached=0))
    assert request == Request(
        source="slots",
        slot=0,
        task=7,
        prompt_tokens=53,
        cached_tokens=20,
        ttft_seconds=0.5,
        ttft_error_seconds=0.5,
        generation_tokens=256,
        generation_tokens_per_second=40,
        context_tokens=328,
        started_time=1000.5,
        ended_time=1006.5,
        wall_seconds=6.0,
    )
    assert box.look(8, slot(7, busy=False, tokens=328)) == ()  # once


def test_a_speed_that_was_seen_for_a_moment_is_not_told() -> None:
    """60 of 96 tokens, and between 1 and 3 of its seconds: others may have been at work in the rest."""
    box = Box()
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 20, prompt_processed=53, prompt_cached=20, tokens=92))
    box.look(2, slot(7, 60, prompt_processed=53, prompt_cached=20, tokens=132))
    (request,) = box.look(3, slot(7, busy=False, tokens=168, prompt_processed=0, prompt_cached=0))
    assert request.generation_tokens == 96 and request.generation_tokens_per_second is None
    assert request.started_time == 1000.5 and request.ended_time == 1002.5  # each ± half a look
    assert request.wall_seconds is None  # 2 ± 1


def test_an_older_build_keeps_its_count() -> None:
    box = Box()
    box.look(0, slot(None, None, busy=False))
    box.look(1, slot(7, 20))
    (request,) = box.look(2, slot(7, 60, busy=False))
    assert (request.generation_tokens, request.prompt_tokens, request.cached_tokens) == (60, None, None)
    assert request.generation_tokens_per_second is None  # one look is no interval


@pytest.mark.parametrize(
    "after",
    [
        slot(8, 5),  # another task is at work there: what the first one did last was not seen
        slot(7, 0, busy=False, tokens=0),  # moved to RAM
        slot(7, 0, busy=False, tokens=40),  # shifted: fewer than were generated
        slot(7, 0, busy=False, tokens=168, speculative=True),  # rejected drafts may be among them
        slot(7, 0, busy=False),  # an older build that does not keep it
    ],
)
def test_tokens_that_cannot_be_known(after: SlotReading) -> None:
    box = Box()
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 60, prompt_processed=53, prompt_cached=20))
    (request,) = box.look(2, after)
    assert request.generation_tokens is None and request.prompt_tokens == 53


def test_a_prompt_that_was_given_up() -> None:
    box = Box()
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 0, prompt_processed=0, prompt_cached=0))
    for at in range(2, 9):
        box.look(at, slot(7, 0, prompt_processed=at // 2 * 2048, prompt_cached=0))
    (request,) = box.look(9, slot(7, 0, busy=False, tokens=8192, prompt_processed=0, prompt_cached=0))
    assert request.prompt_tokens is None and request.generation_tokens is None
    assert request.prompt_tokens_per_second == pytest.approx(1024)  # in 6 ± 1 s
    assert request.ttft_seconds is None and request.end is None


def test_what_ran_when_we_came_has_no_beginning() -> None:
    box = Box()
    box.look(0, slot(7, 100, prompt_processed=5, prompt_cached=0))
    box.look(1, slot(7, 150, prompt_processed=5, prompt_cached=0))
    (request,) = box.look(2, slot(7, busy=False, tokens=204))
    assert request.started_time is None and request.ttft_seconds is None and request.wall_seconds is None
    assert request.generation_tokens == 200 and request.ended_time == 1001.5


def test_a_start_in_a_long_gap_is_not_known() -> None:
    box = Box()
    box.look(0, slot(None, busy=False))
    box.look(5, slot(7, 0))
    box.look(6, slot(7, 30))
    (request,) = box.look(7, slot(7, 60, busy=False))
    assert request.ttft_seconds is None and request.started_time is None


def test_time_to_the_first_token_lies_between_looks() -> None:
    box = Box()
    box.look(0, slot(None, busy=False))
    for at in (1, 2, 3):
        box.look(at, slot(7, 0))
    box.look(4, slot(7, 10))
    (request,) = box.look(5, slot(7, 30, busy=False))
    assert (request.ttft_seconds, request.ttft_error_seconds) == (3.0, 1.0)  # from 0..1 to 3..4


def test_the_log_is_believed_and_its_slot_adds_what_was_reused() -> None:
    box = Box(has_log=True)
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 20, prompt_processed=53, prompt_cached=20))
    (request,) = box.look(2, slot(7, busy=False, tokens=168), log=(logged(cached_tokens=None),))
    assert (request.source, request.cached_tokens, request.started_time) == ("log", 20, 1000.5)
    assert box.look(20, slot(7, busy=False)) == ()  # and not told again by the slot


def test_a_log_with_a_clock_keeps_its_times() -> None:
    box = Box(has_log=True)
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 20))
    (request,) = box.look(2, slot(7, busy=False), log=(logged(started_time=1000.25),))
    assert request.started_time == 1000.25


def test_what_a_gap_in_the_log_swallowed_is_told_by_its_slot() -> None:
    box = Box(has_log=True)
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 20))
    assert box.look(2, slot(7, 60, busy=False)) == ()
    assert box.look(6) == ()
    (request,) = box.look(8)
    assert (request.source, request.generation_tokens) == ("slots", 60)
    assert box.look(9, log=(logged(),)) == ()  # too late: it has been told
    assert len(box.look(10, log=(logged(task=9),))) == 1


def test_a_log_that_goes_leaves_the_rest_to_the_slots() -> None:
    box = Box(has_log=True)
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 20))
    box.has_log = False
    (request,) = box.look(2, slot(7, 60, busy=False))
    assert request.source == "slots"


def test_the_same_numbers_in_another_run_of_the_same_log() -> None:
    """It was appended to: both runs began with task 7."""
    box = Box(has_log=True)
    assert len(box.look(0, log=(logged(), logged()))) == 2


def test_nothing_drafted_while_speculation_is_on() -> None:
    box = Box(has_log=True)
    (none, some) = box.look(
        0, log=(logged(), logged(task=9, draft_tokens=20, draft_accepted_tokens=15)), speculative=True
    )
    assert (none.draft_tokens, none.draft_accepted_tokens, none.draft_coverage_ratio) == (0, 0, 0.0)
    assert none.draft_acceptance_ratio is None
    assert (some.draft_acceptance_ratio, some.draft_coverage_ratio) == (0.75, 0.5)
    (unknown,) = box.look(1, log=(logged(task=11),), speculative=False)
    assert unknown.draft_tokens is None
    (embedding,) = box.look(2, log=(logged(task=12, generation_tokens=None),), speculative=True)
    assert embedding.draft_tokens is None


def test_the_last_one_and_the_median_are_the_logs() -> None:
    box = Box(has_log=True)
    assert box.book.ttft_seconds is None and box.book.last is None
    for task, seconds in enumerate((0.5, 9.0, 0.7)):
        box.look(task, log=(logged(task, ttft_seconds=seconds),))
    box.has_log = False
    box.look(10, slot(None, busy=False))
    box.look(11, slot(7, 5))
    (watched,) = box.look(12, slot(7, 9, busy=False))
    assert watched.ttft_seconds == 0.5 and box.book.ttft_seconds == 0.7
    assert box.book.last is not None and box.book.last.task == 2


def test_books_do_not_grow() -> None:
    box = Box(has_log=True)
    for task in range(3000):
        box.look(task * 0.001, SlotReading(id=task % 300, task=task, processing=True, decoded=1))
        box.look(task * 0.001, SlotReading(id=task % 300, task=task, decoded=1))
        box.look(task * 0.001, log=(logged(task=10_000 + task),))
    book = box.book
    assert max(map(len, (book._gone, book._told))) <= 512 and not book._working


def test_slots_at_work_and_since_when() -> None:
    box = Box()
    box.look(0, slot(None, busy=False))
    box.look(1, slot(7, 5))
    assert list(box.book.began(WALL)) == [(0, 1001.0)]
    box.look(2, slot(7, 9, busy=False))
    assert list(box.book.began(WALL)) == []


def test_counters_sum_what_ended_between_two_looks() -> None:
    book = CounterBook()
    start = Metrics(generation_tokens_total=1000, draft_tokens_total=400, draft_accepted_total=300)
    assert book.look(start, True) == ()
    (before,) = book.since_start
    assert (before.generation_tokens, before.draft_tokens, before.draft_accepted_tokens) == (1000, 400, 300)
    assert book.look(start, True) == ()
    now = Metrics(generation_tokens_total=1100, draft_tokens_total=440, draft_accepted_total=330)
    (request,) = book.look(now, True)
    assert request == Request(
        source="metrics", generation_tokens=100, draft_tokens=40, draft_accepted_tokens=30
    )
    assert book.look(start, True) == ()  # began anew
    assert book.look(Metrics(generation_tokens_total=5), True) == ()  # a build that counts no drafts
