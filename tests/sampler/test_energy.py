"""Joules by hand: frames a second apart, whatever the servers do meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from builders import server
from halotui.model import Energy, Gpu, Server, ServerState, Slot, SlotPhase
from halotui.sampler.clock import Clock
from halotui.sampler.energy import EnergyBook

IDLE, PROMPT, DECODE = SlotPhase.IDLE, SlotPhase.PROMPT, SlotPhase.DECODE


class Watched:
    """A book, and the hands of its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.book = EnergyBook(Clock(monotonic=lambda: self.now))

    def see(
        self, watts: float | None, *servers: Server, step: float = 1.0, times: int = 1, **more: Any
    ) -> Energy | None:
        for _ in range(times):
            gpu = Gpu(id="a", source="sysfs", socket_power_watts=watts, **more)
            energy = self.book.look((gpu,), servers)
            self.now += step
        return energy


def decoding(rate: float | None, **more: Any) -> Server:
    told = {
        "pid": 1,
        "state": ServerState.BUSY,
        "slots_busy": 1,
        "slots": (Slot(id=0, phase=DECODE, task=1),),
    }
    return server(**{**told, "generation_tokens_per_second": rate, "prompt_tokens_per_second": 0.0, **more})


def prompting(done: int | None, task: int = 2, **more: Any) -> Server:
    slot = Slot(id=0, phase=PROMPT, task=task, prompt_processed_tokens=done)
    return decoding(0.0, slots=(slot,), prompt_tokens_per_second=500.0, **more)


def test_watts_over_time() -> None:
    watched = Watched()
    assert watched.see(120.0) is None  # no time has passed yet
    energy = watched.see(120.0, times=30)
    assert energy == Energy(seconds=30, watt_hours=1.0)
    assert watched.see(None, times=10) == energy  # no power is known
    assert watched.see(60.0) == Energy(seconds=31, watt_hours=1.0 + 60 / 3600)
    watched.now += 3600  # suspended, or stopped
    assert watched.see(60.0) == Energy(seconds=31, watt_hours=1.0 + 60 / 3600)


def test_a_card_of_its_own_is_not_the_package() -> None:
    watched = Watched()
    assert watched.see(300.0, times=5, integrated=False) is None
    assert watched.book.look((), ()) is None


def test_a_reading_that_hangs_is_no_power() -> None:
    watched, gpu = Watched(), Gpu(id="a", source="sysfs", socket_power_watts=100.0)
    for _ in range(100):
        energy = watched.book.look((gpu,), ())
        watched.now += 1
    assert energy is not None and energy.seconds == 5


def test_a_generated_token() -> None:
    watched = Watched()
    watched.see(30.0, times=3)
    energy = watched.see(100.0, decoding(40.0), times=4)
    assert energy and energy.tokens == 160 and energy.decode_joules_per_token is None  # under five seconds
    energy = watched.see(100.0, decoding(40.0))
    assert energy and energy.tokens == 200 and energy.decode_joules_per_token == pytest.approx(2.5)
    # a minute later the older ones are out of it; a slow one's frames without a token count as well
    energy = watched.see(50.0, decoding(2.0), decoding(0.0, url="b"), times=60)
    assert energy and energy.decode_joules_per_token == pytest.approx(25.0)
    same = watched.see(20.0, server(pid=1), times=600)  # idle: what it cost last stands
    assert same and same.decode_joules_per_token == pytest.approx(25.0)
    assert same.tokens == 200 + 120 and same.watt_hours == pytest.approx((60 + 500 + 3000 + 12000) / 3600)


@pytest.mark.parametrize(
    "other",
    [
        prompting(500, url="b"),
        decoding(None, url="b", prompt_tokens_per_second=None),
        server(url="b", pid=2, state=ServerState.LOADING),
        server(url="b", pid=2, state=ServerState.WAITING),
    ],
)
def test_what_is_not_decoding_alone_is_left_out(other: Server) -> None:
    watched = Watched()
    watched.see(100.0)
    watched.see(100.0, decoding(40.0), times=5)
    energy = watched.see(900.0, decoding(40.0), other, times=5)
    assert energy and energy.tokens == 400 and energy.decode_joules_per_token == pytest.approx(2.5)


def test_a_server_elsewhere_costs_nothing_here() -> None:
    watched = Watched()
    watched.see(100.0)
    energy = watched.see(100.0, decoding(40.0, pid=None), times=10)
    assert energy and energy.tokens == 0 and energy.decode_joules_per_token is None


def test_a_prompt_token_by_batches() -> None:
    """Two prompts of three batches of 1,000, two seconds each; the end of each is seen decoding."""
    watched = Watched()
    idle = server(pid=1, slots=(Slot(id=0, phase=IDLE, task=1),), generation_tokens_per_second=0.0)
    watched.see(10.0, idle, times=2)
    for task in (2, 3):
        for done in (0, 0, 1000, 1000, 2000, 2000):
            watched.see(100.0, prompting(done, task))
        slot = Slot(id=0, phase=DECODE, task=task, prompt_processed_tokens=3000)
        energy = watched.see(900.0, decoding(3.0, slots=(slot,)), times=3)
    assert energy and energy.prefill_joules_per_token == pytest.approx(600 / 3000)


def test_a_prompt_whose_tokens_are_not_told() -> None:
    watched = Watched()
    energy = watched.see(100.0, prompting(None), times=20)
    assert energy and energy.prefill_joules_per_token is None and energy.seconds == 19
