"""Draft figures, and the net gain: against answers whose cost is known."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from halotui.collectors.log_drafts import DraftTotals
from halotui.model import LogFacts, Metrics, Request, ServerProcess
from halotui.sampler.speculation import (
    Gained,
    SpecBook,
    Timed,
    bounds,
    draft_ratios,
    mean_length,
    net_gain,
    pass_seconds,
)

PASS, CHECK = 0.050, 0.004  # seconds of a pass, and of checking a drafted token


def request(task: int = 0, slot: int = 0, at: float = 0.0, seconds: float = 2.0, **more: Any) -> Request:
    told = {"generation_tokens": 40, "draft_tokens": 20, "draft_accepted_tokens": 15}
    times = {"started_time": at, "ended_time": at + seconds, "generation_seconds": seconds}
    return Request(source="log", slot=slot, task=task, **{**told, **times, **more})


def answer(
    drafted: int, accepted: int, tokens: int = 200, noise: float = 1.0, drafting: float = 0.0
) -> Timed:
    passes = tokens - accepted
    return Timed(passes, drafted, tokens, (PASS * passes + CHECK * drafted) * noise + drafting, drafting)


def gain_of(answers: Iterable[Timed]) -> float:
    last = list(answers)[-4:]
    return PASS * sum(a.tokens for a in last) / sum(a.seconds for a in last)


# --- ratios


def test_ratios_and_mean_length() -> None:
    drafted = Request(source="log", generation_tokens=96, draft_tokens=131, draft_accepted_tokens=50)
    nothing = Request(source="log", generation_tokens=54, draft_tokens=0, draft_accepted_tokens=0)
    unknown = Request(source="log", generation_tokens=1000)
    assert draft_ratios((drafted, nothing, unknown)) == (50 / 131, 131 / 150)
    assert mean_length((drafted, nothing, unknown)) == 1.5
    assert draft_ratios((unknown,)) == (None, None) and mean_length((unknown,)) is None
    assert draft_ratios((nothing,)) == (None, 0.0) and mean_length((nothing,)) == 1.0


def test_the_last_four_and_never_a_watched_one() -> None:
    book = SpecBook()
    for task in range(6):
        book.finished((request(task, draft_accepted_tokens=task),))
    book.finished((Request(source="slots", slot=0, task=9, generation_tokens=999),))
    figures = book.figures(None, None)
    assert figures.acceptance == (2 + 3 + 4 + 5) / 80 and figures.coverage == 0.5
    last = book.last_of(0)
    assert last is not None and last.task == 5 and book.last_of(1) is None


def test_until_something_ends_all_there_was_stands_in() -> None:
    book = SpecBook()
    before = (Request(source="metrics", generation_tokens=100, draft_tokens=50, draft_accepted_tokens=40),)
    assert book.figures(None, None, since_start=before).acceptance == 0.8
    book.finished((request(),))
    assert book.figures(None, None, since_start=before).acceptance == 0.75


def test_figures_are_reckoned_once() -> None:
    book, metrics = SpecBook(), Metrics()
    assert book.figures(metrics, None) is book.figures(metrics, None)
    first = book.figures(metrics, None)
    book.finished((request(),))
    assert book.figures(metrics, None) is not first


def test_gained_and_positions_by_counters_else_by_the_log() -> None:
    """Real figures: 453 drafts, 287, 138 and 66 accepted."""
    book = SpecBook()
    metrics = Metrics(
        draft_accepted_total=491, draft_steps_total=453, draft_accepted_per_position=(287, 138, 66)
    )
    totals = DraftTotals(accepted=57, accepted_per_position=(0.574, 0.246, 0.115))
    assert book.figures(metrics, totals, counted=1).gained == 491
    assert book.figures(metrics, totals).per_position == pytest.approx((0.634, 0.305, 0.146), abs=0.001)
    assert book.figures(None, totals, counted=1).gained == 57
    assert book.figures(None, totals).per_position == (0.574, 0.246, 0.115)
    assert book.figures(None, None, counted=7).gained == 7
    assert book.figures(None, None).gained is None
    many = Metrics(draft_accepted_total=64, draft_steps_total=1, draft_accepted_per_position=(1.0,) * 64)
    assert len(book.figures(many, None).per_position) == 16


def test_what_was_gained_is_counted_from_the_start_of_a_process() -> None:
    gained, log = Gained(), LogFacts(model_loaded=True)
    first = ServerProcess(pid=1, url="", started_time=100.0)
    older = request(0, at=50, draft_accepted_tokens=7)
    gained.count((older, request(1, at=110, draft_accepted_tokens=5)), first)
    gained.count((request(2, at=120, draft_accepted_tokens=6),), first)
    assert gained.tokens(first, log) == 11
    assert gained.tokens(first, LogFacts()) is None and gained.tokens(first, None) is None
    second = ServerProcess(pid=2, url="", started_time=200.0)
    assert gained.tokens(second, log) is None
    gained.count((request(0, at=210, draft_accepted_tokens=2),), second)
    assert gained.tokens(second, log) == 2
    gained.count((request(1, ended_time=None),), second)
    assert gained.tokens(second, log) is None  # it may have been another one's


# --- the net gain


def test_a_pass_is_told_from_what_it_costs_to_check_a_draft() -> None:
    answers = [answer(20 * n, 15 * n) for n in range(8)]
    fit = pass_seconds(answers)
    assert fit is not None and fit[0] == pytest.approx(PASS) and fit[1] == pytest.approx(0, abs=1e-6)
    gain = net_gain(answers)
    assert gain is not None and gain[0] == pytest.approx(gain_of(answers))


@pytest.mark.parametrize("accepted", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_drafts_good_mid_and_bad(accepted: float, seed: int) -> None:
    dice = random.Random(seed)
    answers = []
    for n in range(20):
        drafted = 12 * (n * 7 % 11)
        answers.append(answer(drafted, int(drafted * accepted), noise=dice.gauss(1, 0.03)))
    gain = net_gain(answers)
    assert gain is not None and abs(gain[0] - gain_of(answers)) <= gain[1] < 0.2 * gain[0]


def test_an_outlier_does_not_move_it() -> None:
    answers = [answer(20 * (n % 6), 15 * (n % 6)) for n in range(14)]
    answers[3] = answers[3]._replace(seconds=answers[3].seconds * 5)  # the box was busy with something else
    gain = net_gain(answers)
    assert gain is not None and gain[0] == pytest.approx(gain_of(answers), rel=0.05)


@pytest.mark.parametrize(
    "answers",
    [
        [answer(20 * n, 15 * n) for n in range(5)],  # too few
        [answer(0, 0) for _ in range(9)],  # no drafts: nothing to gain
        [answer(150, 100) for _ in range(9)],  # all alike, and no certain loss
        [
            answer(20 * n, 15 * n)._replace(drafting=None) for n in range(9)
        ],  # a draft model that tells no time
    ],
)
def test_no_guess(answers: list[Timed]) -> None:
    assert net_gain(answers) is None


def test_a_draft_of_fixed_length_is_a_range() -> None:
    """One in ten tokens drafted: a pass costs what it costs, or a tenth less."""
    answers = [answer(20, 18, tokens=200, drafting=0.02) for _ in range(8)]
    gain = net_gain(answers)
    assert gain is not None and abs(gain[0] - gain_of(answers)) <= gain[1] < 0.1 * gain[0]
    least, most = bounds(answers)
    assert least < PASS < most


def test_a_certain_loss_is_told_however_wide_its_range() -> None:
    answers = [answer(600, 0, tokens=200, drafting=15.0) for _ in range(8)]
    gain = net_gain(answers)
    assert gain is not None and gain[0] + gain[1] < 1 and abs(gain[0] - gain_of(answers)) <= gain[1]


def logged(task: int, drafted: int, accepted: int, at: float, slot: int = 0) -> Request:
    seconds = PASS * (199 - accepted) + CHECK * drafted
    return request(
        task,
        slot,
        at,
        seconds,
        generation_tokens=200,
        draft_tokens=drafted,
        draft_accepted_tokens=accepted,
    )


def test_from_the_log_of_one_user() -> None:
    book = SpecBook()
    for n in range(8):
        book.finished((logged(n, 20 * n, 15 * n, 100.0 * n),), slots=4, kind="ngram-mod")
    figures = book.figures(None, None)
    assert figures.gain is not None and figures.gain_error is not None
    assert figures.gain == pytest.approx(gain_of(answer(20 * n, 15 * n, 199) for n in range(8)), rel=0.001)


def test_answers_beside_others_are_left_out() -> None:
    for more in ({"slots": 4, "began": ((1, 0.0),)}, {"slots": 4}):
        book = SpecBook()
        for n in range(8):
            at = 100.0 * n
            other = () if "began" in more else (request(50 + n, 1, at + 1),)  # ended beside it
            book.finished((*other, logged(n, 20 * n, 15 * n, at)), kind="ngram-mod", **more)
        assert book.figures(None, None).gain is None


def test_without_a_clock_a_single_slot_is_alone() -> None:
    for slots, known in ((1, True), (4, False), (None, False)):
        book = SpecBook()
        for n in range(8):
            bare = logged(n, 20 * n, 15 * n, 0.0)
            told = Request(**{**{f: getattr(bare, f) for f in bare.__struct_fields__}, "started_time": None})
            book.finished((told,), slots=slots, kind="ngram-simple")
        assert (book.figures(None, None).gain is not None) is known


def test_the_time_of_drafts_is_taken_from_the_log() -> None:
    """A draft model that is always wrong: 3 tokens a pass, checked and thrown away."""
    book = SpecBook()
    for n in range(8):
        totals = DraftTotals(draft_seconds=5.0 * (n + 1), drafted=600 * (n + 1), accepted=0)
        book.finished((logged(n, 600, 0, 100.0 * n),), slots=1, kind="draft-simple", totals=totals)
    gain = book.figures(None, None).gain
    assert gain is not None and gain < 1
    silent = SpecBook()
    for n in range(8):
        silent.finished((logged(n, 600, 0, 100.0 * n),), slots=1, kind="draft-simple")
    assert silent.figures(None, None).gain is None
