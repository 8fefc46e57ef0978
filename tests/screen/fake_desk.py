"""A scripted desk, for pictures and keys alone: what the real one does is tested with real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from halotui.actions import (
    ActionError,
    Ask,
    Change,
    Check,
    Field,
    Kind,
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

URL = "http://127.0.0.1:8080"
GIB = 1024**3

FIELDS = (
    Field(
        name="np",
        label="slots",
        help="-np: requests at a time. Each has its share of the context.",
        value="4",
    ),
    Field(name="c", label="context", help="-c: tokens, all slots together.", value="131072"),
    Field(
        name="ctk",
        label="KV cache K",
        help="-ctk: type of the K cache; on Vulkan the same as V.",
        value="f16",
        choices=("f16", "q8_0", "q4_0"),
    ),
    Field(
        name="ctv",
        label="KV cache V",
        help="-ctv: type of the V cache.",
        value="f16",
        choices=("f16", "q8_0", "q4_0"),
    ),
    Field(name="fa", label="flash attn", help="-fa", value="on", choices=("on", "off", "auto")),
    Field(name="b", label="batch", help="-b: tokens of a prompt at a time."),
    Field(
        name="spec",
        label="speculation",
        help="--spec-type",
        value="ngram-simple",
        choices=("none", "draft-simple", "ngram-simple"),
    ),
    Field(name="draft", label="draft model", help="-md: path of the draft model."),
    Field(name="draft-max", label="draft tokens", help="--draft-max: at most so many a draft.", value="8"),
    Field(name="mmap", label="mmap", help="--no-mmap", value="off", choices=("on", "off")),
    Field(name="cram", label="prompt cache", help="-cram: MiB of RAM for prompts.", value="512"),
    Field(name="lv", label="verbosity", help="-lv", value="1"),
    Field(name="extra", label="extra flags", help="Flags that no line above stands for, as they are."),
)

PROFILES = (
    ProfileRow(
        name="coder", preset=False, complete=True, summary="Vulkan, toolbox; np 4, c 131072", current=True
    ),
    ProfileRow(
        name="coder-rocm", preset=False, complete=True, summary="ROCm, toolbox; np 4, c 131072, ctk q8_0"
    ),
    ProfileRow(
        name="glm",
        preset=False,
        complete=True,
        summary="ROCm, plain",
        problem="no such file: /srv/models/GLM-4.7-Q4_K_M.gguf",
    ),
    ProfileRow(name="vulkan", preset=True, complete=False, summary="Vulkan, plain; fa on, ngl 99, mmap off"),
    ProfileRow(name="vulkan-spec", preset=True, complete=False, summary="Vulkan, plain; draft-max 8"),
    ProfileRow(name="rocm-hipblaslt", preset=True, complete=False, summary="ROCm; ROCBLAS_USE_HIPBLASLT=1"),
    ProfileRow(name="rocm-wmma", preset=True, complete=False, summary="ROCm with rocWMMA"),
    ProfileRow(name="cpu", preset=True, complete=False, summary="CPU; ngl 0"),
)

CHECKS = (
    Check(
        id="binary", title="binary runs", verdict=Verdict.OK, detail="llama.cpp b9876, in toolbox llama-rocm"
    ),
    Check(id="model", title="model is readable", verdict=Verdict.OK, detail="57.3 GiB, 3 parts"),
    Check(id="flags", title="flags are known", verdict=Verdict.OK, detail="17 flags, --version accepts them"),
    Check(id="port", title="port", verdict=Verdict.OK, detail="8080, free once the old one leaves"),
    Check(
        id="memory",
        title="memory fits",
        verdict=Verdict.WARN,
        detail="57.3 weights + 8.20 KV + 1.10 compute = 66.6 GiB of 70.2 GiB",
        fix="Close to the end: -ctk q8_0 -ctv q8_0 saves 4.10 GiB.",
    ),
    Check(id="vocab", title="draft vocabulary", verdict=Verdict.UNKNOWN, detail="no draft model is set"),
    Check(id="busy", title="requests in flight", verdict=Verdict.WARN, detail="2 of 4 slots are busy: lost"),
)
FAILED = Check(
    id="flags",
    title="flags are known",
    verdict=Verdict.FAIL,
    detail="--frobnicate: this build (b9876) does not know it",
    fix="Take it away, or use another binary.",
)

COMMAND = (
    *(
        "toolbox",
        "run",
        "-c",
        "llama-vulkan-radv",
        "llama-server",
        "-m",
        "/srv/models/Qwen3.5-122B-Q6_K.gguf",
    ),
    *("-ngl", "99", "-fa", "on", "--no-mmap", "-np", "4", "-c", "131072", "--port", "8080", "--metrics"),
)
CHANGES = (
    Change(part="how", name="backend", before="Vulkan", after="ROCm"),
    Change(part="how", name="container", before="llama-vulkan-radv", after="llama-rocm-7.2"),
    Change(part="flag", name="-ctk", after="q8_0"),
    Change(part="flag", name="-np", before="4", after="1"),
    Change(part="env", name="ROCBLAS_USE_HIPBLASLT", after="1"),
)

SLOW = Speed(
    prompt_tokens_per_second=303,
    prompt_spread=4.2,
    generation_tokens_per_second=24.7,
    generation_spread=0.3,
    peak_memory_bytes=78 * GIB,
    runs=3,
)
FAST = Speed(
    prompt_tokens_per_second=404,
    prompt_spread=6.0,
    generation_tokens_per_second=40.1,
    generation_spread=1.2,
    draft_acceptance_ratio=0.71,
    draft_coverage_ratio=0.94,
    peak_memory_bytes=82 * GIB,
    runs=3,
)


def outcome(step: Step = Step.KEPT, **more: Any) -> Outcome:
    facts: dict[str, Any] = {"id": "1", "step": step, "kind": Kind.RELAUNCH, "url": URL, "pid": 4711}
    return Outcome(**{**facts, "before": "coder", "after": "coder-rocm", **more})


KEPT = outcome(
    speed_before=SLOW,
    speed_after=FAST,
    load_seconds_before=41.0,
    load_seconds_after=58.5,
    notes=("4 slots instead of 1: it was so before too",),
)
ROLLED_BACK = outcome(
    Step.ROLLED_BACK,
    reason="It ended while loading (exit 1) after 8 s: out of memory.",
    log_tail=(
        "load_tensors: offloaded 95/95 layers to GPU",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 68719.48 MiB on device 0: out of memory",
        "llama_model_load: error loading model: unable to allocate ROCm0 buffer",
    ),
    log_path="~/.local/state/halotui/logs/coder-rocm-20261120-104200.log",
)
LOST = outcome(
    Step.LOST, pid=None, reason="The new one did not start, and what ran before ended with exit 1.",
    log_tail=ROLLED_BACK.log_tail, command_before=COMMAND, command_after=(*COMMAND, "-ctk", "q8_0"),
)  # fmt: skip

CUT = Standing(
    id="1",
    kind=Kind.RELAUNCH,
    step=Step.LOADING,
    before="coder",
    after="coder-rocm",
    url=URL,
    text="coder was stopped; coder-rocm was loading when halotui ended.",
)

HAPPY = (
    Progress(step=Step.RECORDED),
    Progress(step=Step.STOPPING, seconds=1.2, text="asked to end (TERM)"),
    Progress(step=Step.STOPPED, seconds=2.0),
    Progress(step=Step.STARTING),
    Progress(step=Step.LOADING, seconds=24.0, ratio=0.42, text="24.1 GiB of 57.3 GiB read"),
)
ASKS = (*HAPPY[:1], Progress(step=Step.STOPPING, seconds=20, question="kill", text="TERM was sent twice"))


class FakeDesk:
    """Says what it was told to, and remembers what it was asked. ``go`` lets the undertaking end."""

    def __init__(
        self,
        *,
        told: Sequence[Progress] = HAPPY,
        end: Outcome | ActionError = KEPT,
        checks: Sequence[Check] = CHECKS,
        swap: str | None = "coder-rocm",
        standing: Sequence[Standing | None] = (None,),
        refusal: ActionError | None = None,
        no_form: ActionError | None = None,
    ) -> None:
        self.told, self.end, self.checks, self.swap = told, end, tuple(checks), swap
        self.stood, self.refusal, self.no_form = list(standing), refusal, no_form
        self.asked: list[Ask] = []
        self.carried: list[str] = []
        self.answers: list[tuple[str, bool]] = []
        self.cancelled = self.closed = 0
        self.opened = 0
        self.go = asyncio.Event()

    async def open(self) -> FakeDesk:
        self.opened += 1
        return self

    async def servers(self) -> list[ServerRow]:
        return []

    async def profiles(self, server: str = "") -> list[ProfileRow]:
        return list(PROFILES)

    async def form(self, server: str) -> list[Field]:
        if self.no_form is not None:
            raise self.no_form
        return list(FIELDS)

    async def swap_profile(self, server: str) -> str | None:
        return self.swap

    async def prepare(self, ask: Ask) -> Proposal:
        self.asked.append(ask)
        if self.refusal is not None:
            raise self.refusal
        after = "" if ask.kind is Kind.STOP else ask.profile or "as it was"
        return Proposal(
            id=f"plan-{len(self.asked)}",
            ask=ask,
            before="" if ask.kind is Kind.START else "coder",
            after=after,
            url=URL,
            checks=self.checks,
            changes=CHANGES if after else (),
            command_before=COMMAND,
            command_after=(*COMMAND, "-ctk", "q8_0") if after else (),
        )

    async def carry_out(self, proposal_id: str) -> AsyncGenerator[Progress, None]:
        self.carried.append(proposal_id)
        for progress in self.told:
            yield progress
            await asyncio.sleep(0)
        await self.go.wait()
        if isinstance(self.end, ActionError):
            raise self.end
        yield Progress(step=self.end.step, outcome=self.end)

    async def answer(self, question: str, yes: bool) -> None:
        self.answers.append((question, yes))

    async def cancel(self) -> None:
        self.cancelled += 1

    async def standing(self) -> Standing | None:
        return self.stood.pop(0) if len(self.stood) > 1 else self.stood[0]

    async def give_up(self) -> Standing:
        raise ActionError("nothing was cut off")

    async def last(self) -> Outcome | None:
        return self.end if isinstance(self.end, Outcome) else None

    async def save(self, server: str, name: str) -> str:
        return ""

    async def close(self) -> None:
        self.closed += 1
