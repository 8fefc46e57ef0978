"""Rings that stay in step, hold gaps as gaps, and do not grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import builders
from halotui.history import KERNEL_EVENTS, REQUESTS, SUBJECTS, History, Ring
from halotui.model import KernelEvent, Severity, SourceState

GPU, URL = builders.GPU, builders.URL
OK = (builders.source("gpu"), builders.source("memory"))


@given(st.integers(1, 20), st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))))
def test_a_ring_is_the_end_of_the_list(length: int, values: list[float | None]) -> None:
    ring = Ring(length)
    for value in values:
        ring.push(value)
    assert ring.last(length) == values[-length:]
    assert ring.last(3) == values[-min(3, length) :]
    assert ring.pushed == len(values) and ring.last(0) == []


def test_subjects_and_fields() -> None:
    history = History(10)
    history.push(
        builders.frame(
            1.0,
            gpus=[builders.gpu(busy_percent=40)],
            memory=builders.memory(),
            servers=[builders.server(generation_tokens_per_second=12.5)],
            sources=OK,
        )
    )
    for subject, field, value in (
        (GPU, "gpu.busy_percent", 40),
        (URL, "server.generation_tokens_per_second", 12.5),
        ("memory", "memory.available_bytes", 60 * builders.GIB),
    ):
        ring = history.series(subject, field)
        assert ring is not None and ring.last(5) == [value], field
    assert history.series("nobody", "gpu.busy_percent") is None
    assert history.series(GPU, "gpu.no_such") is None


def test_a_late_or_missing_reading_is_a_gap() -> None:
    history = History(10)
    hung = (builders.source("gpu", SourceState.HUNG), builders.source("memory"))
    for time, gpus, sources in (
        (1.0, [builders.gpu(busy_percent=40)], OK),
        (2.0, [builders.gpu(busy_percent=40)], hung),  # the last reading, shown dim
        (3.0, [], OK),
        (4.0, [builders.gpu(busy_percent=0)], OK),
    ):
        history.push(builders.frame(time, gpus=gpus, sources=sources))
    ring = history.series(GPU, "gpu.busy_percent")
    assert ring is not None and ring.last(9) == [40, None, None, 0]
    assert history.times.last(9) == [1.0, 2.0, 3.0, 4.0]


def test_requests_are_kept_with_their_time() -> None:
    history = History()
    for time in range(3):
        requests = (builders.request(4, 2, task=time),)
        history.push(builders.frame(float(time), servers=[builders.server(requests=requests)]))
    assert [(s.time, s.request.task) for s in history.requests(URL)] == [(0, 0), (1, 1), (2, 2)]
    assert list(history.requests("nobody")) == []


def test_a_request_that_knows_when_it_ended_keeps_that() -> None:
    """A first frame carries what the log already held."""
    history = History()
    past = (builders.request(task=1, ended_time=12.5), builders.request(task=2))
    history.push(builders.frame(100.0, servers=[builders.server(requests=past)]))
    assert [s.time for s in history.requests(URL)] == [12.5, 100.0]


def test_requests_are_bounded() -> None:
    history = History()
    for time in range(3):
        many = tuple(builders.request(task=time * REQUESTS + i) for i in range(REQUESTS))
        history.push(builders.frame(float(time), servers=[builders.server(requests=many)]))
    kept = [s.request.task for s in history.requests(URL)]
    assert kept == list(range(2 * REQUESTS, 3 * REQUESTS))


def test_it_does_not_grow_without_bound() -> None:
    history = History(5)
    for time in range(3 * SUBJECTS):
        server = builders.server(f"http://h:{time}", requests=(builders.request(),) * 3)
        history.push(builders.frame(float(time), servers=[server]))
    assert len(history._rings) == len(history._requests) == SUBJECTS


def test_what_the_kernel_told_is_kept() -> None:
    history = History(10)
    for second in range(KERNEL_EVENTS):
        old = KernelEvent(kind="suspend", severity=Severity.INFO, text="it sleeps", time=5.0)
        new = KernelEvent(kind="resume", severity=Severity.INFO, text="it woke")
        history.push(replace(builders.frame(100.0 + second), kernel=(old, new)))
    kept = history.kernel()
    assert len(kept) == KERNEL_EVENTS and [noted.event.kind for noted in kept][:2] == ["suspend", "resume"]
    assert (kept[0].time, kept[-1].time) == (5.0, 99.0 + KERNEL_EVENTS)  # as said, else the frame's
