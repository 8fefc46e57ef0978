"""Ceilings over states: what is told, of which speed, and where nothing may be told."""

from __future__ import annotations

import asyncio
import os
import time
from math import prod
from pathlib import Path
from typing import Any

import pytest

from builders import request, server
from gguf_files import number, word, write
from halotui.gguf.reader import Tensor
from halotui.hosts.local import LocalHost
from halotui.model import Device, Gpu, Server, ServerFacts, ServerState, Slot, SlotPhase, SourceState
from halotui.sampler import model_book
from halotui.sampler.ceiling import Ceilings
from halotui.sampler.clock import Clock

HALO = (Gpu(id="0000:c5:00.0", source="sysfs", name="Radeon 8060S"),)
CARD = Gpu(id="0000:03:00.0", source="sysfs", name="AMD GPU 0x744C")
BILLION = Tensor("output.weight", (1024, 1_000_000), 24)  # I8: 1.024e9 parameters and as many bytes
IDLE, PROMPT, DECODE = SlotPhase.IDLE, SlotPhase.PROMPT, SlotPhase.DECODE
CEILING = 250.0  # tokens a second: 256e9 / 1.024e9


class Turned:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)


def model(path: Path, *tensors: Tensor, experts: int = 0, used: int = 0) -> Path:
    keys = (number("llama.expert_count", experts), number("llama.expert_used_count", used))
    tensors = tensors or (BILLION,)
    room = sum(prod(tensor.shape) for tensor in tensors)
    return write(path, word("general.architecture", "llama"), *keys, tensors=tensors, more=room)


def mixture(path: Path) -> Path:
    """Eight billions of experts, of which one is used: a billion a token."""
    return model(path, Tensor("blk.0.ffn_up_exps.weight", (1024, 1_000_000, 8), 24), experts=8, used=1)


def serving(path: Path | str, *slots: Slot, **more: Any) -> Server:
    more = {"pid": os.getpid(), "backend": "vulkan", "model_path": str(path), "slots": slots, **more}
    return server(**{"state": ServerState.BUSY if slots else ServerState.IDLE, **more})


def decoding(speed: float | None, id: int = 0, **more: Any) -> Slot:
    return Slot(id=id, phase=DECODE, generation_tokens_per_second=speed, **more)


async def read(one: Server, turned: Turned | None = None) -> Ceilings:
    ceilings = Ceilings(LocalHost(), (turned or Turned()).clock)
    await ceilings.read((one,), 5)
    return ceilings


async def told(one: Server, gpus: tuple[Gpu, ...] = HALO) -> Server:
    return (await read(one)).of(one, gpus)


async def test_dense_now_and_of_the_last_request(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    last = {"last_generation_tokens_per_second": 150.0, "last_prompt_tokens_per_second": 2900.0}
    idle = await told(serving(path, **last))
    assert idle.facts and idle.facts.active_parameters == idle.facts.token_bytes == 1_024_000_000
    assert idle.facts.parameters == idle.facts.model_bytes == 1_024_000_000 and idle.facts.experts is None
    assert idle.provenance["active_parameters"] == idle.provenance["token_bytes"] == "GGUF header"
    assert idle.decode_ceiling_tokens_per_second == CEILING and idle.decode_bandwidth_ratio == 0.6
    assert idle.prefill_ceiling_tokens_per_second == 29_000 and idle.prefill_compute_ratio == 0.1
    # two streams share a pass: the fastest counts the passes
    busy = await told(serving(path, decoding(175.0), decoding(100.0, 1), **last))
    assert busy.decode_bandwidth_ratio == 0.7 and busy.prefill_compute_ratio == 0.1
    reading = Slot(id=1, phase=PROMPT, prompt_tokens_per_second=14_500.0)
    both = await told(serving(path, decoding(20.0), reading, **last))
    assert both.decode_bandwidth_ratio == 0.6 and both.prefill_compute_ratio == 0.1
    prompt = await told(serving(path, reading, **last))
    assert prompt.decode_bandwidth_ratio == 0.6 and prompt.prefill_compute_ratio == 0.5
    first = await told(serving(path, decoding(None)))
    assert first.decode_bandwidth_ratio is None and first.decode_ceiling_tokens_per_second == CEILING


async def test_passes_are_counted_not_tokens(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    drafted = await told(serving(path, decoding(300.0), speculative=True, draft_mean_tokens=2.0))
    assert drafted.decode_bandwidth_ratio == 0.6
    unknown = await told(serving(path, decoding(200.0), speculative=True))
    assert unknown.decode_bandwidth_ratio is None and unknown.decode_ceiling_tokens_per_second == CEILING


async def test_more_than_there_is_means_a_wrong_assumption(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    assert (await told(serving(path, decoding(260.0)))).decode_bandwidth_ratio == 1.04
    assert (await told(serving(path, decoding(325.0)))).decode_bandwidth_ratio is None


async def test_a_mixture_alone(tmp_path: Path) -> None:
    path = mixture(tmp_path / "m.gguf")
    one = await told(serving(path, decoding(100.0)))
    assert one.facts and one.facts.parameters == 8_192_000_000 and one.facts.experts_used == 1
    assert one.facts.token_bytes == 1_024_000_000 and one.decode_bandwidth_ratio == 0.4
    two = await told(serving(path, decoding(100.0), decoding(50.0, 1)))
    assert two.decode_bandwidth_ratio is None and two.decode_ceiling_tokens_per_second == CEILING
    assert (
        await told(serving(path, decoding(100.0), speculative=True, draft_mean_tokens=2.0))
    ).decode_bandwidth_ratio is None
    single = await told(serving(path, slots_total=1, last_generation_tokens_per_second=100.0))
    assert single.decode_bandwidth_ratio == 0.4


async def test_of_a_mixture_the_last_request_counts_if_it_ran_alone(tmp_path: Path) -> None:
    path, turned = mixture(tmp_path / "m.gguf"), Turned()
    last = {"slots_total": 4, "last_generation_tokens_per_second": 100.0}
    ceilings = await read(serving(path), turned)

    def ratio(*slots: Slot, **more: Any) -> float | None:
        turned.now += 10
        return ceilings.of(serving(path, *slots, **last, **more), HALO).decode_bandwidth_ratio

    def ended(began: float) -> Any:
        return request(started_time=turned.now + 10 - began, ended_time=turned.now + 9)

    assert ratio() is None  # it ended before we looked
    assert ratio(requests=(ended(8.0),)) == 0.4
    assert ratio() == 0.4
    assert ratio(decoding(60.0, elapsed_seconds=5), decoding(60.0, 1, elapsed_seconds=5)) is None
    assert ratio(requests=(ended(12.0),)) is None  # it was one of those
    assert ratio(requests=(ended(6.0),)) == 0.4
    assert ratio(requests=(ended(9.0), ended(8.0))) is None
    still = Slot(id=1, phase=PROMPT, elapsed_seconds=5.0)
    assert ratio(still, requests=(ended(7.0),)) is None


@pytest.mark.parametrize(
    ("gpus", "more"),
    [
        ((), {}),
        ((CARD,), {}),
        ((*HALO, CARD), {}),  # which of them computes?
        ((*HALO, CARD), {"facts": ServerFacts(devices=(Device(id="Vulkan0", name="AMD Radeon RX 7900"),))}),
        (HALO, {"backend": "cpu"}),
        (HALO, {"backend": "cuda"}),
        (HALO, {"facts": ServerFacts(devices=(Device(id="Vulkan0", name="NVIDIA GeForce RTX 4090"),))}),
        (HALO, {"facts": ServerFacts(rpc_peers=("10.0.0.2:50052",))}),
        (HALO, {"facts": ServerFacts(layers_offloaded=0)}),
    ],
)
async def test_no_ceiling_of_another_chip(tmp_path: Path, gpus: tuple[Gpu, ...], more: Any) -> None:
    one = await told(serving(model(tmp_path / "m.gguf"), decoding(100.0), **more), gpus)
    assert one.facts and one.facts.token_bytes == 1_024_000_000
    assert one.decode_ceiling_tokens_per_second is None and one.decode_bandwidth_ratio is None
    assert one.prefill_ceiling_tokens_per_second is None and one.prefill_compute_ratio is None


@pytest.mark.parametrize(
    ("name", "prefill"),
    [
        ("Radeon 8050S", 23_200),
        ("Radeon 8040S", 11_600),
        ("AMD Radeon 8060S Graphics", 29_000),
        ("Radeon 8060S family", None),  # how many CUs?
        ("GFX1151/Strix Halo", None),
    ],
)
async def test_compute_goes_by_the_units_bandwidth_does_not(
    tmp_path: Path, name: str, prefill: float | None
) -> None:
    one = await told(serving(model(tmp_path / "m.gguf")), (Gpu(id="a", source="sysfs", name=name),))
    assert one.decode_ceiling_tokens_per_second == CEILING
    assert one.prefill_ceiling_tokens_per_second == prefill


async def test_beside_a_card_when_its_log_names_this_chip(tmp_path: Path) -> None:
    devices = (Device(id="Vulkan0", name="Radeon 8060S Graphics (RADV GFX1151)"), Device(id="CPU"))
    one = await told(serving(model(tmp_path / "m.gguf"), facts=ServerFacts(devices=devices)), (*HALO, CARD))
    assert one.decode_ceiling_tokens_per_second == CEILING and one.facts and one.facts.devices == devices


async def test_without_its_file_by_name(tmp_path: Path) -> None:
    facts = ServerFacts(parameters=122_000_000_000, model_bytes=76_000_000_000)
    path = tmp_path / "Qwen3.5-122B-A10B-Q4_K_M.gguf"
    one = await told(serving(path, facts=facts, provenance={"parameters": "/v1/models"}))
    assert one.facts and one.facts.active_parameters == 10_000_000_000
    assert one.facts.token_bytes == round(76e9 * 10 / 122)
    assert one.provenance == {
        "parameters": "/v1/models",
        "active_parameters": "name",
        "token_bytes": "name",
    }
    two = await told(serving(path, decoding(5.0), decoding(5.0, 1), facts=facts))
    assert two.decode_bandwidth_ratio is None  # a mixture, by its name
    unknown = serving(tmp_path / "best-model.gguf", facts=facts)
    assert await told(unknown) is unknown
    remote = serving(path, pid=None, facts=facts)
    assert (await told(remote)).decode_ceiling_tokens_per_second is None


async def test_a_file_that_is_not_what_runs(tmp_path: Path) -> None:
    """Its parameters are others than the server says."""
    path = model(tmp_path / "m.gguf")
    one = await told(serving(path, facts=ServerFacts(parameters=8_000_000_000)))
    assert one.facts and one.facts.token_bytes is None and one.decode_ceiling_tokens_per_second is None


async def test_not_while_it_loads_and_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads, turned = model(tmp_path / "m.gguf"), [], Turned()
    real = model_book.model_weights.read
    monkeypatch.setattr(
        model_book.model_weights, "read", lambda host, path: reads.append(path) or real(host, path)
    )
    loading = serving(path, state=ServerState.LOADING)
    ceilings = await read(loading, turned)
    told = ceilings.of(loading, HALO).facts  # the file's size alone
    assert told == ServerFacts(model_bytes=path.stat().st_size) and not reads
    two = serving(path, url="http://127.0.0.1:8081")
    for _ in range(3):
        await ceilings.read((serving(path), two), 5)
    again = serving(path, pid=os.getppid())  # started anew: the file is the same
    await ceilings.read((again,), 5)
    assert len(reads) == 1 and ceilings.of(again, HALO).decode_ceiling_tokens_per_second == CEILING
    (source,) = ceilings.sources()
    assert source.state is SourceState.OK and source.name == "GGUF header"


async def test_what_cannot_be_read_is_said_and_tried_again(tmp_path: Path) -> None:
    path, turned = tmp_path / "m.gguf", Turned()
    ceilings = await read(serving(path), turned)
    (source,) = ceilings.sources()
    assert source.state is SourceState.ABSENT and source.reason
    model(path)
    turned.now += 30
    await ceilings.read((serving(path),), 5)
    assert ceilings.of(serving(path), HALO).facts is None
    turned.now += 31
    await ceilings.read((serving(path),), 5)
    assert ceilings.of(serving(path), HALO).facts is not None


async def test_a_dead_share_costs_its_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that never comes back; a FIFO is none of it, the reader is not caught by those."""
    monkeypatch.setattr(model_book, "DEADLINE", 0.1)
    real, gate = model_book.model_weights.stamp, tmp_path / "gate"
    os.mkfifo(gate)
    monkeypatch.setattr(
        model_book.model_weights,
        "stamp",
        lambda host, path: gate.read_bytes() if "dead" in path.name else real(host, path),
    )
    dead = serving(tmp_path / "dead.gguf", url="http://127.0.0.1:1")
    well = serving(model(tmp_path / "well.gguf"), url="http://127.0.0.1:2")
    ceilings, began = Ceilings(LocalHost(), Turned().clock), time.monotonic()
    await ceilings.read((dead, well), 0.0)
    assert time.monotonic() - began < 0.5  # nobody waits for it
    for _ in range(40):
        await asyncio.sleep(0.05)
        if len(list(ceilings.sources())) == 2:
            break
    hung, read_ = ceilings.sources()
    assert hung.state is SourceState.HUNG and read_.state is SourceState.OK
    assert ceilings.of(well, HALO).decode_ceiling_tokens_per_second == CEILING
    await asyncio.to_thread(gate.write_bytes, b"")


async def test_how_fast_it_loads(tmp_path: Path) -> None:
    turned, io = Turned(), tmp_path / "7/io"
    io.parent.mkdir()
    ceilings = Ceilings(LocalHost(tmp_path, tmp_path), turned.clock)

    async def rate(read: int, state: ServerState = ServerState.LOADING) -> float | None:
        io.write_text(f"rchar: 1\nread_bytes: {read}\n")
        one = server(pid=7, state=state)
        await ceilings.read((one,), 5)
        turned.now += 2
        return ceilings.of(one, HALO).load_bytes_per_second

    assert await rate(1000) is None
    assert await rate(5000) == 2000
    turned.now -= 1.9
    assert await rate(5100) == 2000  # too soon for another
    assert await rate(4000) is None  # another process of that number
    assert await rate(4000) == 0
    assert await rate(9000, ServerState.IDLE) is None
    assert await rate(9000) is None
    io.unlink()
    one = server(pid=7, state=ServerState.LOADING)
    await ceilings.read((one,), 5)
    assert ceilings.of(one, HALO) is one
