"""The three workloads by which owners compare server setups: chat, code, summarise; against a live one.

They tell what llama-bench cannot: how a launched profile does with all its settings, speculation too. Rates
are the server's own (``timings``), prefill and decode apart; seconds are what a client waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import PurePath
from statistics import fmean, stdev
from time import monotonic, time

from msgspec import Struct

from halotui.collectors.http_wire import Door
from halotui.collectors.llama_answers import HttpProblem
from halotui.collectors.llama_http import LlamaHttp
from halotui.model import Props
from halotui.runs import Result
from halotui.safe import clean
from halotui.servers.completing import Completer, Timings, completer, drafting

WARM_UP = 64, 8  # tokens of prompt and answer, before anything is timed
LIMIT_SECONDS = 1800.0  # for one request: the slowest that was published took 156 s


class Workload(Struct, frozen=True):
    """Tokens in and out of one request, as published (playbook, production configurations)."""

    prompt: int
    answer: int


WORKLOADS = {
    "chat": Workload(30, 1000),
    "code": Workload(2000, 2000),
    "summarise": Workload(8000, 256),
}


class WorkError(Exception):
    """Why it went no further, in one line; what was measured until then is in ``results``."""

    def __init__(self, reason: str, results: Sequence[Result] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.results = list(results)


class _Server(Struct, frozen=True):
    """What it says of itself."""

    model: str = ""
    build: str = ""
    context: int | None = None  # tokens of its smallest slot
    speculative: bool = False


async def work(
    url: str,
    api_key: str | None,
    names: Sequence[str],
    *,
    repeats: int = 3,
    tell: Callable[[str], None] = lambda words: None,
    put: Callable[[Result], None] = lambda result: None,
    limit: float = LIMIT_SECONDS,
    door: Door | None = None,
) -> list[Result]:
    """A result for each workload, after one warm-up of all. ``limit``: seconds for one request. ``door``: the
    way to a far box.

    ``put`` has each as soon as it is there. One that does not fit into a slot is left out, which ``tell``
    says. Raises WorkError, and KeyError for a name that is not in WORKLOADS. A request that is cancelled or
    takes too long ends at the server, too.
    """
    asked = {name: WORKLOADS[name] for name in names}
    results: list[Result] = []
    try:
        server = await _look(url, api_key, door)
        fitting = {name: load for name, load in asked.items() if _fits(name, load, server, tell)}
        if fitting:
            async with completer(url, api_key, door) as model:
                tell("warming up")
                text = await model.text(max(WARM_UP[0], *(load.prompt for load in fitting.values())))
                await _request(model, text, 0, Workload(*WARM_UP), limit)
                run = 0
                for name, load in fitting.items():
                    replies: list[tuple[Timings, float]] = []
                    for number in range(1, repeats + 1):
                        tell(f"{name} {number}/{repeats}")
                        run += 1
                        replies.append(await _request(model, text, run, load, limit))
                    results.append(_result(name, load, server, replies))
                    put(results[-1])
    except HttpProblem as problem:
        raise WorkError(problem.reason, results) from None
    except TimeoutError:
        raise WorkError(f"a request took longer than {limit:g} s", results) from None
    except WorkError as error:
        raise WorkError(error.reason, results) from None
    return results


async def _look(url: str, api_key: str | None, door: Door | None) -> _Server:
    """Slots are not shown by every server; that it cannot be reached shows at the first request."""
    http = LlamaHttp(url, api_key, door=door)
    props, contexts, speculative = Props(), [], False
    try:
        with suppress(HttpProblem):
            props = await http.props()
        with suppress(HttpProblem):
            slots = await http.slots()
            contexts = [slot.context_tokens for slot in slots if slot.context_tokens]
            speculative = any(slot.speculative for slot in slots)
    finally:
        await http.aclose()
    return _Server(
        model=clean(PurePath(props.model_path or "").name, 200),
        build=clean(props.build or "", 60),
        context=min(contexts, default=props.context_tokens),
        speculative=speculative,
    )


def _fits(name: str, load: Workload, server: _Server, tell: Callable[[str], None]) -> bool:
    needed = load.prompt + load.answer
    if server.context is None or server.context >= needed:
        return True
    tell(f"{name} is left out: it takes {needed} tokens, and a slot holds {server.context}")
    return False


async def _request(
    model: Completer, text: list[int], run: int, load: Workload, limit: float
) -> tuple[Timings, float]:
    """Its timings, and the seconds that its client waited."""
    began = monotonic()
    async with asyncio.timeout(limit):
        timings = await model.complete(text, run, load.prompt, load.answer)
    waited = monotonic() - began
    if timings.prompt_n < load.prompt or timings.predicted_n < load.answer:
        raise WorkError(
            f"asked for {load.prompt} tokens in and {load.answer} out, it made {timings.prompt_n} "
            f"and {timings.predicted_n}"
        )
    return timings, waited


def _result(name: str, load: Workload, server: _Server, replies: list[tuple[Timings, float]]) -> Result:
    timings = [each for each, _ in replies]
    prefill = [each.prompt_per_second for each in timings if each.prompt_per_second]
    decode = [each.predicted_per_second for each in timings if each.predicted_per_second]
    acceptance, coverage = drafting(timings, speculative=server.speculative)
    mean = fmean(decode) if decode else None
    return Result(
        test=name,
        prompt_tokens=load.prompt,
        generation_tokens=load.answer,
        tokens_per_second=mean,
        spread=stdev(decode) if len(decode) > 1 else None,
        samples=tuple(decode),
        seconds=fmean(waited for _, waited in replies),
        model=server.model,
        build=server.build,
        settings={"prompt": str(load.prompt), "generate": str(load.answer)},
        prompt_tokens_per_second=fmean(prefill) if prefill else None,
        generation_tokens_per_second=mean,
        draft_acceptance_ratio=acceptance,
        draft_coverage_ratio=coverage,
        tested_time=time(),
    )
