"""A 100 % that nobody works for is told; one that somebody may work for is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from builders import gpu, server
from halotui.model import Gpu, Holder, Server, ServerState
from halotui.sampler.clock import Clock
from halotui.sampler.doubt import Doubt

GIB = 1 << 30
REMOTE = "http://10.0.0.7:8080"
APU = gpu(gtt=40, busy_percent=100.0, integrated=True)


def held(pid: int, gtt: float = 20, **more: Any) -> Holder:
    """``gtt`` in GiB."""
    return Holder(pid=pid, name="x", gtt_bytes=int(gtt * GIB), **more)


def idle(pid: int | None, **more: Any) -> Server:
    return server(**{"pid": pid, "slots_busy": 0, **more})


TWO = (idle(1), idle(2))
HOLDERS = (held(1), held(2))


def said(
    servers: Sequence[Server] = TWO,
    holders: Sequence[Holder] = HOLDERS,
    gpus: tuple[Gpu, ...] = (APU,),
    times: Sequence[float] = range(12),
) -> bool | None:
    now = [0.0]
    doubt = Doubt(Clock(monotonic=lambda: now[0], wall=lambda: now[0]))
    for now[0] in times:
        told = doubt.of(gpus, servers, holders)
    return told[0].busy_doubtful


def test_two_idle_clients_pin_the_counter() -> None:
    assert said() is True
    assert said(times=range(9)) is None  # a request may just have ended
    assert said(times=(0, 5, 10)) is True
    assert said(times=(0, 9, 40)) is None  # nobody looked meanwhile
    assert said(times=(0, 10.1, 20.2, 30.3)) is True  # every ten seconds


@pytest.mark.parametrize(
    "more",
    [
        {"servers": (idle(1), idle(2, state=ServerState.BUSY, slots_busy=1))},
        {"servers": (idle(1), idle(2, state=ServerState.LOADING, slots_busy=None))},
        {"servers": (idle(1), idle(2, state=ServerState.WAITING))},
        {"holders": (*HOLDERS, held(9, 0.01, gpu_percent=40.0))},
        {"gpus": (gpu(gtt=40, busy_percent=98.0, integrated=True),)},
    ],
)
def test_somebody_works(more: dict[str, Any]) -> None:
    assert said(**more) is False


@pytest.mark.parametrize(
    "more",
    [
        {"holders": ()},
        {"holders": (*HOLDERS, held(9, 1))},  # ROCm's work is not counted: it may be its
        {"holders": (*HOLDERS, Holder(pid=9, name="x", hidden=True))},
        {"holders": (held(1),), "servers": (idle(1),)},  # 20 GiB of a process that we do not see
        {"servers": (idle(1), idle(2, slots_busy=None))},  # it does not tell whether it works
        {"servers": (idle(1), idle(2, state=ServerState.DOWN))},  # its process is there: it starts
        {"servers": (*TWO, idle(3, state=ServerState.LOCKED, slots_busy=None))},
        {"gpus": (gpu(gtt=40, integrated=True),)},
        {"gpus": (gpu(gtt=40, busy_percent=100.0, integrated=False),)},
    ],
)
def test_it_cannot_be_said(more: dict[str, Any]) -> None:
    assert said(**more) is None


@pytest.mark.parametrize(
    "more",
    [
        {"servers": (*TWO, idle(None, url=REMOTE, state=ServerState.BUSY))},
        {"servers": (*TWO, idle(None, state=ServerState.DOWN, slots_busy=None))},
        {"servers": (idle(1), idle(2, state=ServerState.SLEEPING, slots_busy=None))},
        {"holders": (*HOLDERS, held(9, 0.1, gpu_percent=1.0))},  # the desktop
        {"holders": (held(1), Holder(pid=2, name="x", hidden=True))},  # another user's server, and it is idle
        {"servers": (), "holders": (held(9, 0.1),), "gpus": (gpu(gtt=0.2, busy_percent=99.0),)},
    ],
)
def test_nobody_works_all_the_same(more: dict[str, Any]) -> None:
    assert said(**more) is True


def test_only_the_apu_is_doubted() -> None:
    card = gpu(id="0000:03:00.0", busy_percent=100.0, integrated=False)
    assert said(gpus=(APU, card)) is True
    now = [0.0]
    doubt = Doubt(Clock(monotonic=lambda: now[0], wall=lambda: now[0]))
    for now[0] in range(12):
        told = doubt.of((card, APU), TWO, HOLDERS)
    assert [one.busy_doubtful for one in told] == [None, True]
