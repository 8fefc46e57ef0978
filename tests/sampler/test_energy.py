"""Joules by hand: frames a second apart, whatever the servers do meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import server
from halotui.model import (
    Device,
    Energy,
    Gpu,
    ModelState,
    ServedModel,
    Server,
    ServerFacts,
    ServerState,
    Slot,
    SlotPhase,
)
from halotui.sampler.clock import Clock
from halotui.sampler.energy import EnergyBook

IDLE, PROMPT, DECODE = SlotPhase.IDLE, SlotPhase.PROMPT, SlotPhase.DECODE


class Watched:
    """A book, and the hands of its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.book = EnergyBook(Clock(monotonic=lambda: self.now))

    def see(
        self,
        watts: float | None,
        *servers: Server,
        step: float = 1.0,
        times: int = 1,
        card: bool = False,
        **more: Any,
    ) -> Energy | None:
        for _ in range(times):
            gpu = Gpu(id="a", source="sysfs", socket_power_watts=watts, **more)
            beside = (Gpu(id="b", source="sysfs", integrated=False),) if card else ()
            energy = self.book.look((gpu, *beside), servers)
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
    assert energy == Energy(seconds=30, watt_hours=1.0, tokens=0)
    assert watched.see(None, times=10) == energy  # no power is known
    assert watched.see(60.0) == Energy(seconds=31, watt_hours=1.016667, tokens=0)
    watched.now += 3600  # suspended, or stopped
    assert watched.see(60.0) == Energy(seconds=31, watt_hours=1.016667, tokens=0)


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
    watched.see(60.0, decoding(20.0))  # it began in this frame: a part of it was something else
    energy = watched.see(100.0, decoding(40.0), times=2)
    assert energy and energy.tokens == 100 and energy.decode_joules_per_token is None  # under three seconds
    energy = watched.see(100.0, decoding(40.0))
    assert energy and energy.tokens == 140 and energy.decode_joules_per_token == pytest.approx(2.5)
    # a minute later the older ones are out of it; a slow one's frames without a token count as well
    energy = watched.see(50.0, decoding(2.0), decoding(0.0, url="b"), times=60)
    assert energy and energy.decode_joules_per_token == pytest.approx(25.0)
    same = watched.see(20.0, server(pid=1), times=600)  # idle: what it cost last stands
    assert same and same.decode_joules_per_token == pytest.approx(25.0)
    assert same.tokens == 140 + 120 and same.watt_hours == pytest.approx((120 + 300 + 3000 + 12000) / 3600)


@pytest.mark.parametrize(
    "other",
    [
        prompting(500, url="b"),
        decoding(None, url="b", prompt_tokens_per_second=None),
        server(url="b", pid=2, state=ServerState.LOADING),
        server(url="b", pid=2, state=ServerState.WAITING),
        server(url="b", pid=2, state=ServerState.LOCKED),
        server(url="b", pid=2, slots_busy=None),  # --no-slots: it may be at work
        server(url="b", pid=2, models=(ServedModel(id="m", state=ModelState.LOADED),)),
        decoding(5.0, url="b", backend="cuda"),
        decoding(5.0, url="b", facts=ServerFacts(rpc_peers=("10.0.0.2:50052",))),
        decoding(5.0, url="b", facts=ServerFacts(devices=(Device(id="Vulkan0", name="NVIDIA RTX"),))),
    ],
)
def test_what_is_not_decoding_alone_is_left_out(other: Server) -> None:
    watched = Watched()
    watched.see(100.0)
    watched.see(100.0, decoding(40.0), times=6)
    energy = watched.see(900.0, decoding(40.0), other, times=5)
    assert energy and energy.decode_joules_per_token == pytest.approx(2.5)


@pytest.mark.parametrize(
    "other",
    [
        server(url="b", pid=2, state=ServerState.DOWN),
        server(url="b", pid=2, state=ServerState.SLEEPING),
        server(url="b", pid=2, models=(ServedModel(id="m", state=ModelState.UNLOADED),)),
        server(url="b", pid=2, models=(ServedModel(id="m", state=ModelState.LOADED, url="c"),)),
    ],
)
def test_who_computes_nothing_does_not_count(other: Server) -> None:
    watched = Watched()
    energy = watched.see(100.0, decoding(40.0), other, times=10)
    assert energy and energy.decode_joules_per_token == pytest.approx(2.5)


def test_a_card_that_computes_is_not_the_package() -> None:
    """It takes 300 W, and the package idles at 11: no token costs a third of a joule."""
    watched = Watched()
    energy = watched.see(11.0, decoding(40.0), card=True, times=20)
    assert energy and energy.watt_hours and energy.decode_joules_per_token is None
    devices = (Device(id="Vulkan0", name="Radeon 8060S Graphics (RADV GFX1151)"), Device(id="CPU"))
    energy = watched.see(100.0, decoding(40.0, facts=ServerFacts(devices=devices)), card=True, times=20)
    assert energy and energy.decode_joules_per_token == pytest.approx(2.5)


def test_frames_far_apart_are_no_gaps_and_a_stop_is_one() -> None:
    watched = Watched()
    watched.see(36.0, times=4)
    energy = watched.see(36.0, step=10.0, times=21)  # the first of them might be a gap
    assert energy and energy.seconds == pytest.approx(4 + 19 * 10)
    watched.now += 3600
    same = watched.see(36.0, step=10.0)
    assert same and same.seconds == energy.seconds


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
        energy = watched.see(900.0, decoding(3.0, slots=(read(3000, task),)), times=3)
    assert energy and energy.prefill_joules_per_token == pytest.approx(600 / 3000)


def read(done: int, task: int) -> Slot:
    return Slot(id=0, phase=DECODE, task=task, prompt_processed_tokens=done)


def test_a_prompt_of_less_than_a_frame_tells_nothing() -> None:
    """150 tokens in 0.3 s, now and then seen at the end of a frame: that whole frame is not its cost."""
    watched, idle = Watched(), server(pid=1, slots=(Slot(id=0, phase=IDLE, task=1),), slots_busy=0)
    for task in range(2, 40):
        watched.see(100.0, prompting(0, task))
        energy = watched.see(100.0, decoding(20.0, slots=(read(150, task),)))
        energy = watched.see(100.0, idle)
    assert energy and energy.prefill_joules_per_token is None


def test_prompts_one_after_another_that_nobody_saw_end() -> None:
    """A server of embeddings: most of what it reads ends between two looks."""
    watched = Watched()
    for task in range(2, 40):
        energy = watched.see(100.0, prompting(100, task))
    assert energy and energy.prefill_joules_per_token is None


def test_a_short_answer_is_not_paid_with_the_idle_rest_of_its_frame() -> None:
    watched, idle = Watched(), server(pid=1, slots=(Slot(id=0, phase=IDLE, task=1),), slots_busy=0)
    for _ in range(20):
        watched.see(100.0, decoding(40.0), times=3)
        energy = watched.see(100.0, replace(idle, generation_tokens_per_second=4.0))
    assert energy and energy.decode_joules_per_token == pytest.approx(2.5)


def test_a_prompt_whose_tokens_are_not_told() -> None:
    watched = Watched()
    energy = watched.see(100.0, prompting(None), times=20)
    assert energy and energy.prefill_joules_per_token is None and energy.seconds == 19
