"""Runs to hold against each other, as a store would have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halotui.benching.llama_bench import name_of
from halotui.benching.tables import GTT, MIB, RAM, VRAM
from halotui.runs import Environment, Kind, Result, Run, Status, Summary, Track

RECORD = json.loads(
    (Path(__file__).parents[1] / "fixtures/llama_bench/bench-v0.5.0.jsonl").read_text().splitlines()[0]
)
BOX = Environment(kernel="6.18.4", mesa="26.1.2", firmware="20261018", power_mode="performance")
# Five repeats of mean 1: spread 1 %.
SHAPE = (0.9875, 0.9944, 1.0, 1.0056, 1.0125)


def result(mean: float, prompt: int = 0, generation: int = 0, depth: int = 0, **more: Any) -> Result:
    samples = tuple(mean * share for share in SHAPE)
    return Result(
        **{
            "test": name_of(prompt, generation, depth),
            "prompt_tokens": prompt,
            "generation_tokens": generation,
            "depth_tokens": depth,
            "tokens_per_second": mean,
            "samples": samples,
            "model_type": "llama 7B Q4_0",
            "backend": "Vulkan",
            "build": "b5000 (aaaaaaa)",
            **more,
        }
    )


def pp(mean: float, depth: int = 0, **more: Any) -> Result:
    return result(mean, prompt=512, depth=depth, **more)


def tg(mean: float, depth: int = 0, **more: Any) -> Result:
    return result(mean, generation=128, depth=depth, **more)


def work(test: str, seconds: float, **more: Any) -> Result:
    return Result(
        test=test, prompt_tokens=30, generation_tokens=1000, seconds=seconds, model="m.gguf", **more
    )


def summary(vram: float, gtt: float, ram: float = 0.0, joules: float | None = None) -> Summary:
    """Delta-peaks in MiB, above what was there before."""
    peaks = ((VRAM, vram), (GTT, gtt), (RAM, ram))
    tracks = tuple(Track(field=f, baseline=500 * MIB, peak=(500 + mib) * MIB, samples=9) for f, mib in peaks)
    return Summary(hertz=20, began_time=1e9, seconds=5, samples=100, tracks=tracks, energy_joules=joules)


def measured(label: str, results: Sequence[Result], **more: Any) -> Run:
    return Run(
        **{
            "kind": Kind.COMMAND,
            "status": Status.OK,
            "label": label,
            "results": tuple(results),
            "environment": BOX,
            "started_time": 1e9,
            **more,
        }
    )


def bench_file(path: Path, speeds: dict[tuple[str, int], float], **more: Any) -> Path:
    """jsonl, as llama-bench writes it: (pp512 or tg128, depth) -> t/s."""
    lines = []
    for (test, depth), mean in speeds.items():
        kind, tokens = test[:2], int(test[2:])
        lines.append(
            json.dumps(
                {
                    **RECORD,
                    "n_prompt": tokens if kind == "pp" else 0,
                    "n_gen": tokens if kind == "tg" else 0,
                    "n_depth": depth,
                    "avg_ts": mean,
                    "stddev_ts": mean * 0.01,
                    "samples_ts": [mean * share for share in SHAPE],
                    **more,
                }
            )
        )
    path.write_text("\n".join(lines) + "\n")
    return path
