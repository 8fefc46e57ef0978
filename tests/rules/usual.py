"""Requests and baselines of one server, in a few words: 48 t/s is usual, give or take a little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from builders import Watch, server
from halotui.baselines.setups import depth_band, prompt_band, setup_of, streams_band
from halotui.ledger import Baseline, Baselines, Conditions, Key, Metric, Observation, Setup, Software
from halotui.model import Finding, Request, Server, ServerFacts, ServerState

NOW = 1_000_000.0
DAY = 86400.0
FACTS = ServerFacts(batch_tokens=2048, ubatch_tokens=512, flash_attention="on", model_type="Q4_K - Medium")
NOISE = (0.0, 0.02, -0.01, 0.01, -0.02, 0.005, -0.015, 0.015)  # shares


def serving(**more: Any) -> Server:
    given: dict[str, Any] = {
        "model": "qwen.gguf",
        "build": "b11549",
        "backend": "vulkan",
        "facts": FACTS,
        "slots_total": 4,
        "uptime_seconds": 5 * DAY,
        "pid": 42,
    }
    return server(**{**given, **more})


SETUP = setup_of(serving())
assert SETUP is not None


def around(value: float, count: int = 64) -> list[float]:
    return [value * (1 + NOISE[i % len(NOISE)]) for i in range(count)]


def baseline(
    value: float = 48.0,
    *,
    metric: Metric = Metric.DECODE,
    setup: Setup = SETUP,
    depth: float = 3000,
    streams: float = 1,
    prompt: float = 800,
    count: int = 64,
    software: Software | None = None,
    values: list[float] | None = None,
    **conditions: Any,
) -> Baseline:
    """What was measured a day ago. ``depth``: tokens in the slot; of PREFILL, those that were cached."""
    key = Key(
        setup=setup,
        metric=metric,
        depth=depth_band(depth),
        streams=streams_band(streams),
        prompt=prompt_band(prompt) if metric is Metric.PREFILL else "",
    )
    how = Conditions(depth_tokens=depth, streams=streams, prompt_tokens=prompt, **conditions)
    observed = tuple(
        Observation(time=NOW - DAY + i, value=one, conditions=how)
        for i, one in enumerate(values or around(value, count))
    )
    return Baseline(
        key=key,
        count=len(observed),
        first_time=observed[0].time,
        last_time=observed[-1].time,
        observations=observed,
        software=software or Software(),
    )


def answer(
    at: float, speed: float = 48.0, *, depth: int = 3000, prompt: int = 800, pp: float = 600.0, **more: Any
) -> Request:
    """A request of 200 tokens that ended then; ``depth`` when it ended."""
    lasts = 200 / speed
    given: dict[str, Any] = {
        "source": "log",
        "slot": 0,
        "task": int(at),
        "context_tokens": depth,
        "cached_tokens": max(0, depth - prompt - 200),
        "prompt_tokens": prompt,
        "prompt_tokens_per_second": pp,
        "generation_tokens": 200,
        "generation_tokens_per_second": speed,
        "generation_seconds": lasts,
        "started_time": at - lasts,
        "ended_time": at,
    }
    return Request(**{**given, **more})


class Box(Watch):
    """A box that knows what is usual, a frame a request and one without after each."""

    def __init__(self, *known: Baseline, **more: Any) -> None:
        super().__init__(**more)
        self.engine.baselines = Baselines(known)
        self.now = NOW

    def serve(self, answers: Iterable[tuple[float, dict[str, Any]]], **facts: Any) -> dict[str, Finding]:
        """Answers of so many t/s, half a minute apart; what fires in the end, by id."""
        for speed, how in answers:
            self.now += 30
            at_once = [answer(self.now, speed, **how)]
            findings = self.look(requests=tuple(at_once), **facts)
        self.now += 1
        after = self.look(**facts)
        assert after == findings, "a frame without news changes nothing"
        return after

    def finish(self, speeds: Iterable[float]) -> dict[str, Finding]:
        """Answers of so many t/s, half a minute apart, that a single frame tells of."""
        ended = [answer(self.now + 30 * i, speed) for i, speed in enumerate(speeds)]
        return self.look(self.now + 30 * len(ended), requests=tuple(ended))

    def look(self, time: float | None = None, **facts: Any) -> dict[str, Finding]:
        box = {name: facts.pop(name) for name in ("gpus", "memory") if name in facts}
        seen = self.see(time or self.now, servers=[serving(**{"state": ServerState.IDLE, **facts})], **box)
        return {finding.id: finding for finding in seen}


def same(speed: float, count: int = 8, **how: Any) -> list[tuple[float, dict[str, Any]]]:
    return [(one, how) for one in around(speed, count)]
