"""Requests out of logs that real servers wrote, against what they answered in the same run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from log_reading import LOGS, block, bytes_of, feed, read

from halotui.collectors.llama_log import LogParser, Progress
from halotui.collectors.log_follow import gap
from halotui.model import End, Request

SERVED: dict[str, list[dict[str, Any]]] = json.loads((LOGS / "served.json").read_text())


def as_printed(ours: float | None, answered: float, digits: int = 2) -> bool:
    """Half a digit of what is printed, and what a float cannot hold."""
    return ours is not None and abs(ours - answered) <= 0.5 * 10**-digits + 1e-6


def served_by(request: Request, answers: list[dict[str, Any]]) -> dict[str, Any]:
    (answer,) = (
        a
        for a in answers
        if (a["id_slot"], a["prompt_n"], a["predicted_n"])
        == (request.slot, request.prompt_tokens, request.generation_tokens)
        and as_printed(request.prompt_seconds and request.prompt_seconds * 1e3, a["prompt_ms"])
    )
    return answer


@pytest.mark.parametrize("name", sorted(SERVED))
def test_requests_agree_with_the_answers_of_the_same_run_to_the_last_printed_digit(name: str) -> None:
    answers = [answer for answer in SERVED[name] if "error" not in answer]
    requests = [r for r in read(name)[1] if r.generation_tokens is not None]
    assert len(requests) == len(answers)
    for request in requests:
        answer = served_by(request, answers)
        answers.remove(answer)
        assert as_printed(request.prompt_tokens_per_second, answer["prompt_per_second"])
        assert as_printed((request.generation_seconds or 0) * 1e3, answer["predicted_ms"])
        if answer["predicted_n"] > 1:
            assert as_printed(request.generation_tokens_per_second, answer["predicted_per_second"])
        assert (request.draft_tokens or 0) == answer.get("draft_n", 0)
        assert (request.draft_accepted_tokens or 0) == answer.get("draft_n_accepted", 0)
        if "draft_n" in answer:
            assert as_printed(
                request.draft_acceptance_ratio, answer["draft_n_accepted"] / answer["draft_n"], 5
            )
            assert request.draft_coverage_ratio == pytest.approx(
                answer["draft_n"] / answer["predicted_n"], abs=1e-5
            )
        if request.cached_tokens is not None:
            assert request.cached_tokens == answer["cache_n"]
        if request.generation_tokens:
            assert request.prompt_seconds is not None and request.ttft_seconds is not None
            assert 0 <= request.ttft_seconds - request.prompt_seconds < 0.02  # nobody held the slot up
        else:
            assert request.ttft_seconds is None


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("served-0.2.14-draft", 0),  # its log says what it reuses
        ("served-b11549-verbose-draft", 0),
        ("served-b11549-two-slots", 0),  # without drafts it follows from the rest
        ("served-b9873-draft", 5),  # accepted drafts beyond the last token hide it
        ("served-b11549-draft", 5),
        ("served-b11549-jsonl-draft", 5),
        ("served-b9873-kv-full", 1),  # a context that was full
    ],
)
def test_cached_tokens_are_known_or_left_out(name: str, unknown: int) -> None:
    requests = [r for r in read(name)[1] if r.generation_tokens is not None]
    assert sum(r.cached_tokens is None for r in requests) == unknown


@pytest.mark.parametrize("name", ["served-b8672-two-slots", "served-b11549-two-slots"])
def test_who_goes_away_and_who_asks_too_much_make_requests_too(name: str) -> None:
    *_, cancelled, refused = read(name)[1]
    assert (cancelled.end, cancelled.generation_tokens) == (End.CANCELLED, None)
    assert (refused.end, refused.reason) == (
        End.ERROR,
        "44001 tokens of prompt do not fit in 2048 of context",
    )


@pytest.mark.parametrize("name", ["served-b8672-kv-full", "served-b9873-kv-full"])
def test_a_full_kv_cache_ends_all_that_run(name: str) -> None:
    requests = read(name)[1]
    assert [(r.slot, r.end, r.reason) for r in requests[:4]] == [
        (slot, End.ERROR, "the KV cache was full") for slot in range(4)
    ]
    assert [r.end for r in requests[4:]] == [End.TRUNCATED]


def test_times_come_from_the_start_of_the_process() -> None:
    first = read("served-b11549-two-slots", started=1000.0)[1][0]
    assert first.started_time and first.ended_time and first.wall_seconds
    assert 1000 < first.started_time < first.ended_time < 1001
    assert first.ended_time - first.started_time == pytest.approx(first.wall_seconds, abs=1e-5)
    assert first.prompt_seconds and first.generation_seconds and first.ttft_error_seconds
    whole = first.prompt_seconds + first.generation_seconds
    assert whole <= first.wall_seconds < whole + 0.05
    assert first.ttft_error_seconds == 0.001


SLOT = "id  1 | task 7 |"
WAITED = f"""\
0.10.000.000 I slot launch_slot_: {SLOT} processing task, is_child = 0
0.23.200.100 I slot print_timing: {SLOT} prompt eval time = 3974.56 ms / 400 tokens (9.94 ms per token)
0.23.200.110 I slot print_timing: {SLOT}        eval time = 2000.00 ms /  60 tokens (33.9 ms per token)
0.23.200.900 I slot      release: {SLOT} stop processing: n_tokens = 459, truncated = 0
"""


def test_what_a_slot_waits_for_another_is_part_of_the_time_to_its_first_token() -> None:
    """Seen with b11549, three slots and a draft model: 3.97 s of prompt, and the client waited 11.2 s."""
    (request,) = LogParser().feed(WAITED.encode()).requests
    assert request.prompt_seconds == 3.97456
    assert request.ttft_seconds == pytest.approx(11.2, abs=0.001)


def test_without_a_clock_the_wall_time_is_the_total_that_is_printed() -> None:
    first = read("served-b8672-two-slots", started=1000.0)[1][0]
    assert (first.wall_seconds, first.started_time, first.ttft_error_seconds) == (0.16899, None, None)


# Fixtures of before: three requests in each format


@pytest.mark.parametrize(
    ("name", "drafts"),
    [
        ("old-draft", [(30, 25), (45, 32), (0, 0)]),
        ("mid-draft", [(42, 33), (64, 41), (0, 0)]),
        ("new-draft", [(42, 33), (64, 41), (0, 0)]),
        ("new-verbose-draft", [(132, 1), (183, 0), (0, 0)]),
        ("new-draft-unused", [(None, None)] * 3),
        ("new-color", [(None, None)] * 3),
        ("new-jsonl", [(None, None)] * 3),
        ("new-bare", [(None, None)] * 3),
    ],
)
def test_three_requests_of_each_era_and_format(
    name: str, drafts: list[tuple[int | None, int | None]]
) -> None:
    _, requests = read(name)
    assert [r.prompt_tokens for r in requests] == [26, 11, 12]  # the last two reuse the cache
    assert [r.generation_tokens for r in requests] == [48, 64, 1]
    assert [r.context_tokens for r in requests] == [73, 89, 28]
    assert [(r.draft_tokens, r.draft_accepted_tokens) for r in requests] == drafts
    assert {(r.source, r.slot, r.end) for r in requests} == {("log", 0, End.DONE)}


def test_rates_are_the_servers_own() -> None:
    first, _, last = read("new-draft")[1]
    assert (first.prompt_tokens_per_second, first.generation_tokens_per_second) == (10152.28, 2207.30)
    assert (first.draft_acceptance_ratio, first.draft_mean_tokens) == (0.78571, 3.36)
    assert last.prompt_tokens_per_second == 7812.5
    assert last.generation_tokens_per_second is None  # one token, which came with the prompt: not 0 t/s


def test_an_old_build_does_not_make_a_million_of_one_token() -> None:
    assert read("old-draft")[1][-1].generation_tokens_per_second is None


@pytest.mark.parametrize("name", ["old-two-slots", "new-two-slots"])
def test_slots_at_the_same_time_are_kept_apart(name: str) -> None:
    parser, requests = read(name)
    assert [(r.slot, r.generation_tokens) for r in requests][:2] in (
        [(0, 200), (1, 200)],
        [(1, 200), (0, 200)],
        [(1, 300), (0, 300)],
    )
    last_started, truncated = requests[2:]  # the short one overtakes
    assert (last_started.slot, last_started.generation_tokens, last_started.end) == (0, 8, End.DONE)
    assert (truncated.slot, truncated.generation_tokens, truncated.end) == (1, 1010, End.TRUNCATED)
    assert last_started.task is not None and truncated.task is not None
    assert last_started.task > truncated.task
    assert parser.server.facts.slots_total == 2


# One line at a time

SLOT = "slot print_timing: id  0 | task {} | "
EVAL = "eval time =     100.00 ms /    10 tokens (   10.00 ms per token,   100.00 tokens per second)"
LAUNCH = "slot launch_slot_: id  0 | task 7 | processing task, is_child = 0"
RELEASE = "slot      release: id  0 | task 7 | stop processing: n_tokens = 20, truncated = 0"
CANCEL = "srv          stop: cancel task, id_task = 7"


def test_a_launch_ends_a_request_whose_release_was_not_seen() -> None:
    launch = LAUNCH.replace("task 7", "task 8")
    (request,) = feed(LogParser(), SLOT.format(7) + "prompt " + EVAL, SLOT.format(7) + EVAL, launch)
    assert (request.task, request.generation_tokens, request.context_tokens) == (7, 10, None)


def test_what_was_seen_to_start_is_running_until_its_release() -> None:
    parser = LogParser()
    feed(parser, LAUNCH)
    assert parser.server.running == {0: 7}
    assert feed(parser, RELEASE) == []  # an embedding: no timings, no request
    assert parser.server.running == {}


def test_only_a_task_that_was_seen_to_start_can_be_cancelled() -> None:
    (request,) = feed(LogParser(), LAUNCH, CANCEL, RELEASE)
    assert (request.end, request.task, request.context_tokens) == (End.CANCELLED, 7, 20)
    assert feed(LogParser(), CANCEL, RELEASE) == []
    assert feed(LogParser(), LAUNCH, CANCEL.replace("7", "9"), RELEASE) == []  # another one, in the queue


def test_a_client_that_leaves_at_the_end_takes_nothing_away() -> None:
    (request,) = feed(LogParser(), LAUNCH, SLOT.format(7) + "prompt " + EVAL, SLOT.format(7) + EVAL, RELEASE)
    assert request.end == End.DONE
    assert request.cached_tokens == 1  # 20 in the slot, 10 of prompt, 10 generated: the last is not in it
    assert feed(LogParser(), RELEASE, CANCEL) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "request (419 tokens) exceeds the available context size (256 tokens), try increasing it",
            "419 tokens of prompt do not fit in 256 of context",
        ),
        ("Compute error.", "the backend failed to compute"),
        ("got exception: whatever a user wrote", "the server met an exception"),
        ("something new", "the server said so"),
    ],
)
def test_the_reason_of_an_error_is_in_our_words(said: str, reason: str) -> None:
    error = f"0.00.2 E srv    send_error: task id = 7, error: {said}"
    (request,) = feed(LogParser(), LAUNCH, error, RELEASE)
    assert (request.end, request.reason, request.context_tokens) == (End.ERROR, reason, None)


def test_the_end_of_a_request_is_enough() -> None:
    (request,) = feed(LogParser(), SLOT.format(7) + "      " + EVAL, RELEASE)
    assert (request.prompt_tokens, request.generation_tokens, request.context_tokens) == (None, 10, 20)
    assert request.cached_tokens is None


def test_nan_and_inf_are_no_rates() -> None:
    timing = "eval time = 0.00 ms / 5 tokens ( -nan ms per token, inf tokens per second)"
    (request,) = feed(LogParser(), SLOT.format(7) + timing, RELEASE)
    assert (request.generation_tokens, request.generation_tokens_per_second) == (5, None)


def test_a_block_survives_a_line_of_another_thread_but_not_a_gap() -> None:
    lines = [
        SLOT.format(7),
        "prompt " + EVAL,
        "srv  log_server_r: done request: GET /slots",
        "       " + EVAL,
    ]
    (request,) = feed(LogParser(), *lines, RELEASE)
    assert (request.prompt_tokens, request.generation_tokens) == (10, 10)
    assert feed(LogParser(), *lines[:2], gap(99), *lines[3:], RELEASE) == []


def test_the_sums_at_exit_are_no_request() -> None:
    perf = "llama_perf_context_print:        " + EVAL
    (request,) = feed(LogParser(), SLOT.format(7), "prompt " + EVAL, perf, RELEASE)
    assert request.generation_tokens is None


def test_only_the_first_batch_tells_what_was_reused() -> None:
    said = "slot   operator(): id  0 | task 7 | cached n_tokens = {0}, memory_seq_rm [{0}, end)"
    lines = [said.format(5), said.format(2053), SLOT.format(7) + "prompt " + EVAL, SLOT.format(7) + EVAL]
    assert feed(LogParser(), LAUNCH, *lines, RELEASE)[0].cached_tokens == 5
    assert feed(LogParser(), *lines[1:], RELEASE)[0].cached_tokens == 1  # we came late: it may be any batch


def test_a_server_that_ends_leaves_its_requests_in_error() -> None:
    start = "0.00.000.487 I srv  llama_server: initializing ..."
    (request,) = feed(LogParser(), LAUNCH, start)
    assert (request.end, request.reason, request.ended_time) == (End.ERROR, "the server ended", None)
    (done,) = feed(LogParser(), LAUNCH, SLOT.format(7) + "prompt " + EVAL, SLOT.format(7) + EVAL, start)
    assert (done.end, done.reason) == (End.DONE, None)  # its figures come when it has ended
    (aborted,) = feed(LogParser(), LAUNCH, "/src/ggml/src/ggml.c:99: GGML_ASSERT(x > 0) failed")
    assert aborted.end == End.ERROR


def test_a_task_number_that_comes_again_after_a_restart_is_another() -> None:
    (log,) = (bytes_of("new-draft"),)
    parser = LogParser()
    once = parser.feed(log).requests
    assert [(r.task, r.generation_tokens) for r in parser.feed(log).requests] == [
        (r.task, r.generation_tokens) for r in once
    ]


# Prompts under way


def test_prompt_progress_until_it_generates() -> None:
    parser, seen = LogParser(), []
    for line in bytes_of("new-long-prompt").splitlines():
        parser.feed(block([line]))
        seen.append(parser.server.prompts)
    shown = [p[0] for p in seen if p]
    assert shown[0] == Progress(slot=0, task=1, tokens=3072, ratio=0.30)  # said after 3 s
    assert shown[-1] == Progress(slot=0, task=1, tokens=9216, ratio=0.91)
    assert seen[-1] == ()


def test_prompt_progress_of_old_builds_ends_when_it_is_done() -> None:
    parser, seen = LogParser(), []
    for line in bytes_of("old-progress").splitlines():
        parser.feed(block([line]))
        seen.append(tuple((p.tokens, round(p.ratio, 2)) for p in parser.server.prompts))
        if b"processing done" in line:
            assert seen[-1] == ()
    assert list(dict.fromkeys(seen))[:3] == [(), ((256, 0.15),), ((512, 0.29),)]


# Speculation, summed


def test_draft_sums_of_the_statistics_lines() -> None:
    totals = read("served-b11549-verbose-draft")[0].server.draft
    answers = SERVED["served-b11549-verbose-draft"]
    assert totals.kind == "draft-simple"
    assert totals.drafted == sum(a.get("draft_n", 0) for a in answers)
    assert totals.accepted == sum(a.get("draft_n_accepted", 0) for a in answers)
    assert totals.drafts == 72 and totals.draft_seconds and totals.draft_seconds > 0
    assert list(totals.accepted_per_position) == sorted(totals.accepted_per_position, reverse=True)
    assert len(totals.accepted_per_position) == 6
    old = read("served-0.2.14-draft")[0].server.draft
    assert (old.kind, old.drafted) == (
        "draft",
        sum(a.get("draft_n", 0) for a in SERVED["served-0.2.14-draft"]),
    )


def test_draft_sums_of_old_builds_are_added_slot_by_slot() -> None:
    said = (
        "statistics draft: #calls(b,g,a) = 1 48 29, #gen drafts = {}, #acc drafts = 29, #gen tokens = 69,"
        " #acc tokens = 46, dur(b,g,a) = 0.001, 70.263, 0.006 ms"
    )
    parser = LogParser()
    feed(parser, SLOT.format(1), said.format(1), SLOT.format(2).replace("id  0", "id  1"), said.format(2))
    feed(parser, SLOT.format(3), said.format(4))
    assert (parser.server.draft.drafts, parser.server.draft.drafted) == (6, 138)
    assert parser.server.draft.draft_seconds == pytest.approx(0.14054)
