"""Boxes with several servers, many requests and all that a server tells, made of words alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from builders import GIB, frame, gpu, memory, server, source
from halotui.history import History
from halotui.model import (
    Buffer,
    Device,
    End,
    Frame,
    LogLine,
    ModelState,
    Request,
    ServedModel,
    Server,
    ServerFacts,
    ServerState,
    Slot,
    SlotPhase,
    Source,
    SourceState,
)

NOW = 1795171320.0  # 2026-11-20 10:42:00 UTC
MIB = 1024**2
BASE = "http://127.0.0.1"
CODER = "Qwen3.5-122B-A10B-REAP-20-Q6_K"
HIDDEN = (
    "buffers, KV types and layers: this build keeps them to itself at its log level; "
    "a relaunch with -lv 4 or --log-jsonl shows them"
)
PROVENANCE = {
    **dict.fromkeys(("model", "build", "slots_total"), "/props"),
    **dict.fromkeys(("model_type", "parameters", "model_bytes", "context_trained_tokens"), "/v1/models"),
    **dict.fromkeys(("draft_model", "threads", "rpc_peers", "verbosity"), "command line"),
    **dict.fromkeys(("slot_context_tokens", "spec_type"), "/slots"),
    **dict.fromkeys(("batch_tokens", "ubatch_tokens"), "llama.cpp's default"),
    **dict.fromkeys(
        (
            "backend",
            "buffers",
            "cache_type_k",
            "cache_type_v",
            "context_tokens",
            "flash_attention",
            "graph_nodes",
            "graph_splits",
            "kv_cache_bytes",
            "kv_layers",
            "kv_unified",
            "layers_offloaded",
            "layers_total",
            "load_seconds",
            "prompt_cache_bytes",
        ),
        "log",
    ),
}


class Still:
    """A feed of frames that are of now: all of them, then none, or what ``more`` brings."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.history, self.interval, self._frames = History(), 1.0, frames
        self.more: asyncio.Queue[Frame] = asyncio.Queue()

    async def frames(self) -> AsyncIterator[Frame]:
        for one in self._frames:
            self.history.push(one)
            yield one
        while True:
            one = await self.more.get()
            self.history.push(one)
            yield one

    async def close(self) -> None:
        pass


def moment(servers: Sequence[Server], at: float = NOW, **more: Any) -> Frame:
    """A frame of a healthy box."""
    sources = [source("gpu"), source("memory"), source("processes")]
    for one in servers:
        sources += [source(f"/slots {one.url}"), source(f"log {one.url}")]
    parts: dict[str, Any] = {
        "gpus": [gpu(gtt=77, name="Radeon 8060S", busy_percent=97, sclk_hertz=2_700_000_000)],
        "memory": memory(available=30),
        "sources": sources,
        "host": "strix",
        **more,
    }
    return frame(at, servers=servers, **parts)


def slots(count: int = 4, context: int = 32768, **more: Any) -> tuple[Slot, ...]:
    """Decoding, in its prompt, idle, idle ..."""
    known = [
        {
            "phase": SlotPhase.DECODE,
            "used_tokens": 9211,
            "generated_tokens": 611,
            "remaining_tokens": 413,
            "generation_tokens_per_second": 20.6,
            "kv_ratio": 0.53,
            "phase_seconds": 29.0,
            "elapsed_seconds": 36.0,
        },
        {
            "phase": SlotPhase.PROMPT,
            "used_tokens": 6144,
            "prompt_processed_tokens": 4096,
            "prompt_cached_tokens": 2048,
            "prompt_progress_ratio": 0.38,
            "prompt_tokens_per_second": 402.0,
            "kv_ratio": 0.35,
            "phase_seconds": 10.0,
            "elapsed_seconds": 10.0,
        },
        {"phase": SlotPhase.IDLE, "used_tokens": 2100, "kv_ratio": 0.12, "elapsed_seconds": None},
    ]
    out = []
    for id_ in range(count):
        told: dict[str, Any] = dict(known[min(id_, 2)])
        if id_ > 2:
            told.update(used_tokens=0, kv_ratio=0.0)
        told.update(more if id_ == 0 else {})
        out.append(
            Slot(
                id=id_,
                task=1200 + 7 * id_,
                context_tokens=context,
                used_ratio=told["used_tokens"] / context,
                draft_acceptance_ratio=0.74 if id_ < 3 else None,
                draft_coverage_ratio=0.93 if id_ < 3 else None,
                draft_mean_tokens=2.6 if id_ < 3 else None,
                **told,
            )
        )
    return tuple(out)


def coder(port: int = 8080, **more: Any) -> Server:
    """A server at work, as far as its API tells."""
    known: dict[str, Any] = {
        "state": ServerState.BUSY,
        "model": f"{CODER}.gguf",
        "build": "b11549-2c4f1e0",
        "backend": "vulkan",
        "pid": 2719,
        "uptime_seconds": 8052.0,
        "slots_total": 4,
        "slots_busy": 2,
        "slot_context_tokens": 32768,
        "requests_deferred": 0,
        "generation_tokens_per_second": 41.2,
        "prompt_tokens_per_second": 402.0,
        "slots": slots(),
        "log_path": "journal llama-coder.service",
        "unit": "llama-coder.service",
        "provenance": PROVENANCE,
    }
    return server(f"{BASE}:{port}", **{**known, **more})


def rich(**more: Any) -> Server:
    """It, with everything that a log at -lv 4 tells."""
    told = ServerFacts(
        devices=(
            Device(
                id="Vulkan0", name="Radeon 8060S (RADV GFX1151)", total_bytes=126 * GIB, free_bytes=121 * GIB
            ),
        ),
        buffers=(
            Buffer(device="Vulkan0", kind="model", bytes=int(70.1 * GIB)),
            Buffer(device="CPU_Mapped", kind="model", bytes=int(0.8 * GIB)),
            Buffer(device="Vulkan0", kind="kv", bytes=12 * GIB),
            Buffer(device="Vulkan0", kind="compute", bytes=int(1.1 * GIB)),
            Buffer(device="Vulkan_Host", kind="compute", bytes=80 * MIB),
            Buffer(device="Vulkan_Host", kind="output", bytes=2 * MIB),
            Buffer(device="Vulkan0", kind="model", bytes=600 * MIB, draft=True),
            Buffer(device="Vulkan0", kind="kv", bytes=896 * MIB, draft=True),
            Buffer(device="Vulkan0", kind="compute", bytes=298 * MIB, draft=True),
        ),
        layers_offloaded=49,
        layers_total=49,
        context_tokens=131072,
        kv_cells=131072,
        kv_layers=48,
        cache_type_k="f16",
        cache_type_v="f16",
        flash_attention="on",
        batch_tokens=2048,
        ubatch_tokens=512,
        graph_splits=2,
        graph_nodes=3118,
        threads=16,
        load_seconds=58.5,
        prompt_cache_bytes=8 * GIB,
        rpc_peers=("192.168.1.20:50052",),
        verbosity=4,
        context_trained_tokens=262144,
        parameters=97_800_000_000,
        model_bytes=int(70.9 * GIB),
        model_type="Q6_K",
    )
    known: dict[str, Any] = {
        "facts": told,
        "draft_model": "Qwen3.5-0.8B-Q4_K_M.gguf",
        "kv_unified": True,
        "kv_cache_bytes": 12 * GIB,
        "kv_used_tokens": 17455,
        "kv_capacity_tokens": 131072,
        "kv_used_ratio": 17455 / 131072,
        "kv_token_bytes": 12 * GIB / 131072,
        "speculative": True,
        "spec_type": "draft-simple",
        "draft_acceptance_ratio": 0.74,
        "draft_coverage_ratio": 0.93,
        "draft_mean_tokens": 2.61,
        "draft_gained_tokens": 481_220,
        "draft_accepted_per_position": (0.81, 0.55, 0.33, 0.2, 0.11, 0.06, 0.02, 0.01),
        "draft_gain_ratio": 1.34,
        "draft_gain_error_ratio": 0.08,
        "ttft_seconds": 1.42,
        "last_generation_tokens_per_second": 20.4,
        "last_prompt_tokens_per_second": 411.0,
    }
    return coder(**{**known, **more})


def hidden(**more: Any) -> Server:
    """It, with a log that keeps what it took to itself."""
    told = ServerFacts(
        threads=16, batch_tokens=2048, ubatch_tokens=512, parameters=97_800_000_000, verbosity=3
    )
    return coder(facts=told, facts_hidden=HIDDEN, kv_used_tokens=17455, **more)


def several(count: int) -> list[Server]:
    """So many: at work, idle, and what else a server may be."""
    names = ("Qwen3.5-122B-A10B-REAP-20-Q6_K", "gpt-oss-120b", "embed-nomic-v2", "GLM-4.7-Air-Q4_K_M")
    states = (ServerState.BUSY, ServerState.IDLE, ServerState.SLEEPING, ServerState.DOWN, ServerState.LOADING)
    out = [coder()]
    for at in range(1, count):
        state = states[at % len(states)]
        busy = state is ServerState.BUSY
        out.append(
            server(
                f"{BASE}:{8080 + at}",
                state=state,
                model=f"/srv/models/{names[at % len(names)]}.gguf",
                generation_tokens_per_second=12.25 if busy else 0.0 if state is ServerState.IDLE else None,
                slots_total=1,
            )
        )
    return out


def router(*, chosen: int = 0) -> list[Server]:
    """A router with a child at work and one that sleeps; Ollama beside it."""
    url = f"{BASE}:8080"
    models = (
        ServedModel(
            id="gpt-oss-120b",
            state=ModelState.LOADED,
            address=f"{BASE}:46629",
            url=f"{url}?model=gpt-oss-120b",
            context_tokens=131072,
            bytes=int(64.5 * GIB),
        ),
        ServedModel(
            id="qwen3-coder-30b", state=ModelState.SLEEPING, address=f"{BASE}:46630", context_tokens=65536
        ),
        ServedModel(id="glm-4.7-air", state=ModelState.LOADING, address=f"{BASE}:46631"),
        ServedModel(id="broken", state=ModelState.FAILED, reason="exit code 1: unknown model architecture"),
        *(
            ServedModel(id=f"unsloth/Qwen3.5-{size}B-GGUF:Q4_K_M", state=ModelState.UNLOADED)
            for size in (4, 9, 27)
        ),
    )
    parent = server(
        url, state=ServerState.IDLE, models=models, build="b11549-2c4f1e0", pid=611, uptime_seconds=9000.0
    )
    child = coder(model="gpt-oss-120b", behind=url, address=f"{BASE}:46629", pid=612)
    child = Server(
        **{
            **{key: getattr(child, key) for key in child.__struct_fields__},
            "url": f"{url}?model=gpt-oss-120b",
        }
    )
    ollama = server(
        f"{BASE}:11434",
        state=ServerState.IDLE,
        engine="ollama",
        build="0.12.3",
        models=(
            ServedModel(
                id="llama3.2:3b",
                state=ModelState.LOADED,
                bytes=int(3.4 * GIB),
                gpu_bytes=int(3.4 * GIB),
                context_tokens=4096,
                expires_time=NOW + 240,
            ),
        ),
    )
    asleep = server(f"{url}?model=qwen3-coder-30b", state=ServerState.SLEEPING, behind=url)
    return [parent, ollama, child, asleep]


def requests(count: int, *, end: float = NOW - 4, seed: int = 7) -> tuple[Request, ...]:
    """Oldest first, one about every 11 s."""
    chance = random.Random(seed)
    out = []
    for number in range(count):
        prompt = int(chance.lognormvariate(7, 1.2)) + 4
        output = int(chance.lognormvariate(5.6, 0.9)) + 1
        prefill, decode = chance.gauss(410, 30), chance.gauss(20.5, 2.5)
        ttft = prompt / prefill
        drafted = int(output * chance.uniform(0.7, 1.1))
        accepted = int(drafted * chance.uniform(0.5, 0.9))
        how = End.DONE
        if number % 17 == 5:
            how = End.CANCELLED
        elif number % 29 == 7:
            how = End.TRUNCATED
        elif number % 41 == 3:
            how = End.ERROR
        watched = number % 23 == 11
        ended = end - 11.3 * (count - 1 - number)
        wall = ttft + output / decode
        out.append(
            Request(
                source="slots" if watched else "log",
                slot=number % 4,
                task=100 + 7 * number,
                prompt_tokens=prompt,
                cached_tokens=(number * 911) % 6000 if number % 3 else 0,
                prompt_tokens_per_second=prefill,
                prompt_seconds=ttft,
                ttft_seconds=ttft,
                ttft_error_seconds=0.5 if watched else 0.001,
                generation_tokens=None if how is End.ERROR else output,
                generation_tokens_per_second=None if how is End.ERROR else decode,
                generation_seconds=output / decode,
                draft_tokens=drafted,
                draft_accepted_tokens=accepted,
                draft_acceptance_ratio=accepted / drafted if drafted else None,
                draft_coverage_ratio=drafted / output,
                draft_mean_tokens=output / max(1, output - accepted),
                context_tokens=prompt + output + (number * 911) % 6000,
                end=how,
                reason="the context was exceeded" if how is End.ERROR else None,
                started_time=ended - wall,
                ended_time=ended,
                wall_seconds=wall,
            )
        )
    return tuple(out)


def no_log(one: Server) -> list[Source]:
    """Its sources, when its log is not to be had."""
    return [
        source("gpu"),
        source("memory"),
        source(f"/slots {one.url}"),
        source(
            f"log {one.url}",
            SourceState.ABSENT,
            reason="its stderr is a terminal",
            hint="start it with --log-file FILE, or under systemd",
        ),
    ]


def lines(*texts: str) -> tuple[LogLine, ...]:
    return tuple(LogLine(text=text) for text in texts)
