"""A desk as a script, for the pictures of a scene: one swap, told with figures that owners published."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from halotui.actions import (
    ActionError,
    Ask,
    Change,
    Check,
    Field,
    Outcome,
    ProfileRow,
    Progress,
    Proposal,
    ServerRow,
    Speed,
    Standing,
    Step,
    Verdict,
)
from halotui.demo.script import CONTEXT, DIRECTORY, DRAFT_MODEL, MODEL, SLOTS
from halotui.demo.tree import GIB

NOW, THEN = "rocm-spec", "vulkan-spec"
FLAGS = ("-m", f"{DIRECTORY}/{MODEL}.gguf", "-md", f"{DIRECTORY}/{DRAFT_MODEL}.gguf", "-np", str(SLOTS))
MORE = ("-c", str(SLOTS * CONTEXT), "-ngl", "99", "-fa", "on", "-lm", "none", "--port", "8080", "--metrics")
CHANGES = (
    Change(
        part="how",
        name="binary",
        before="/opt/llama.cpp/rocm/bin/llama-server",
        after="/opt/llama.cpp/vulkan/bin/llama-server",
    ),
    Change(part="how", name="backend", before="rocm", after="vulkan"),
    Change(part="env", name="RADV_PERFTEST", after="nogttspill"),
    Change(part="env", name="ROCBLAS_USE_HIPBLASLT", before="1"),
)
CHECKS = tuple(
    Check(id=title, title=title, verdict=verdict, detail=detail)
    for title, verdict, detail in (
        ("Requests", Verdict.WARN, "2 requests run and will be cut off"),
        ("Binary", Verdict.OK, "version: 0.6.0-dev (build 11549)"),
        ("Flags", Verdict.OK, "all 17 to b11549"),
        ("Command line", Verdict.OK, "by the binary itself"),
        ("Model", Verdict.OK, f"{MODEL}, 70.9 GiB"),
        ("Draft vocabulary", Verdict.OK, "248,320 tokens agree"),
        ("Port", Verdict.OK, "8080: free when the old server has left"),
        ("Memory", Verdict.OK, "70.9 + KV cache 4.25 + compute 1.10 = 76.3 GiB, of 117 GiB free by then"),
        ("Known-bad pairs", Verdict.OK, "none"),
    )
)
SPEEDS = (  # prefill, decode, acceptance, peak GiB
    Speed(
        prompt_tokens_per_second=404,
        prompt_spread=5.1,
        generation_tokens_per_second=40.1,
        generation_spread=0.8,
        draft_acceptance_ratio=0.71,
        peak_memory_bytes=int(77.9 * GIB),
        runs=3,
    ),
    Speed(
        prompt_tokens_per_second=302,
        prompt_spread=3.8,
        generation_tokens_per_second=35.3,
        generation_spread=0.6,
        draft_acceptance_ratio=0.70,
        peak_memory_bytes=int(77.2 * GIB),
        runs=3,
    ),
)


class ScriptedDesk:
    """An ``actions.Desk`` that acts on nothing."""

    async def servers(self) -> list[ServerRow]:
        return []

    async def profiles(self, server: str = "") -> list[ProfileRow]:
        return []

    async def form(self, server: str) -> list[Field]:
        return []

    async def swap_profile(self, server: str) -> str | None:
        return THEN

    async def prepare(self, ask: Ask) -> Proposal:
        self._ask = ask
        return Proposal(
            id="scene",
            ask=ask,
            before=NOW,
            after=THEN,
            url=ask.server,
            checks=CHECKS,
            changes=CHANGES,
            command_before=("/opt/llama.cpp/rocm/bin/llama-server", *FLAGS, *MORE),
            command_after=("/opt/llama.cpp/vulkan/bin/llama-server", *FLAGS, *MORE),
        )

    async def carry_out(self, proposal_id: str) -> AsyncGenerator[Progress, None]:
        outcome = Outcome(
            id=proposal_id,
            step=Step.KEPT,
            kind=self._ask.kind,
            before=NOW,
            after=THEN,
            url=self._ask.server,
            pid=48213,
            speed_before=SPEEDS[0],
            speed_after=SPEEDS[1],
            load_seconds_before=58.5,
            load_seconds_after=41.0,
        )
        yield Progress(step=Step.KEPT, outcome=outcome)

    async def answer(self, question: str, yes: bool) -> None:
        pass

    async def cancel(self) -> None:
        pass

    async def standing(self) -> Standing | None:
        return None

    async def give_up(self) -> Standing:
        raise ActionError("nothing was cut off")

    async def last(self) -> Outcome | None:
        return None

    async def save(self, server: str, name: str) -> str:
        return ""

    async def close(self) -> None:
        pass
