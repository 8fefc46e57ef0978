"""Where the weights come to lie: on the GPU, all of them, in the pool that has room."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.collectors.log_memory import on_host
from halotui.format import count, percent, size
from halotui.model import Buffer, Gpu, Holder, Patch, Server, ServerFacts, ServerState, Severity
from halotui.rules import Level, Rule, Symptom, Undefined, View
from halotui.rules.apu import apus
from halotui.rules.launch import PAIRS
from halotui.rules.pairs import deal_of, known, on_this_chip

GIB = 1 << 30
CARVED = 2 * GIB  # a smaller carve-out is the screen's, and no trap: nothing fits in it at all
SETTLED = 60.0  # seconds: a server that is younger may not hold its weights yet
_GPU = ("vulkan", "rocm")
_PAIR = next(pair for pair in PAIRS if pair.id == "cpu-fallback")


def _graph_splits(view: View) -> Iterator[Symptom | Undefined]:
    for server, facts in known(view):
        if server.backend not in _GPU:
            continue
        if facts.graph_splits is None:
            yield Undefined(server.url)
        elif facts.graph_splits > view.levels["splits"] and not _partly(facts) and not _kept_back(facts):
            nodes = f" in {count(facts.graph_nodes)} nodes" if facts.graph_nodes else ""
            yield Symptom(
                subject=server.url,
                title="The graph is cut into many pieces",
                evidence=f"{count(facts.graph_splits)} graph splits{nodes}, 1 or 2 are usual",
                fix=_FIX_UNIFIED if server.backend == "rocm" else None,
            )


def _partly(facts: ServerFacts) -> bool:
    """Layers are left on the CPU: that is cpu-fallback's, and cuts the graph by itself."""
    done, total = facts.layers_offloaded, facts.layers_total
    return done is not None and total is not None and done < total


def _kept_back(facts: ServerFacts) -> bool:
    """Experts are left on the CPU, by --n-cpu-moe or -ot, or because -fit found no room: that cuts, too."""
    weights = [buffer for buffer in facts.buffers if _is_weights(buffer)]
    on_cpu = sum(buffer.bytes for buffer in weights if on_host(buffer.device))
    # the embeddings lie there always
    return on_cpu > max(2 * GIB, 0.05 * sum(buffer.bytes for buffer in weights))


_FIX_UNIFIED = (
    "Try a build with GGML_HIP_UMA, or GGML_CUDA_ENABLE_UNIFIED_MEMORY=1, and measure: it can also make it "
    "worse (#18159)."
)


def _cpu_fallback(view: View) -> Iterator[Symptom | Undefined]:
    for server, facts in known(view):
        on_chip = on_this_chip(view, server)
        if on_chip is False or facts.device_asked == "none" or not _is_up(server):
            continue
        if server.backend in _GPU:
            yield from _left_on_cpu(view, server, facts)
        elif server.backend == "cpu" and on_chip:
            yield from _all_on_cpu(view, server, facts)


def _is_up(server: Server) -> bool:
    return server.state not in (ServerState.LOADING, ServerState.SLEEPING)


def _left_on_cpu(view: View, server: Server, facts: ServerFacts) -> Iterator[Symptom | Undefined]:
    done, total = facts.layers_offloaded, facts.layers_total
    if done is not None and total is not None:
        if done < total:
            asked = facts.layers_asked
            chosen = str(done) == asked
            if chosen and not done and _is_small(facts):
                return
            words = f", -ngl {asked}" if asked else ""
            fitted = bool(done) and not chosen  # it put as many there as there was room for
            yield Symptom(
                subject=server.url,
                severity=Severity.INFO if chosen else None,
                title="Some layers are left on the CPU" if done else "All layers are left on the CPU",
                evidence=f"{count(done)} of {count(total)} layers on the GPU{words}",
                fix=_FIX_FITTED if fitted else None,
                patch=None if fitted else _ALL_LAYERS,
            )
    elif evidence := _PAIR.check(deal_of(server, None)):
        if not _is_small(facts):
            yield Symptom(
                subject=server.url,
                severity=Severity.INFO,  # somebody chose the CPU
                title=_PAIR.title,
                evidence=evidence,
                why=_PAIR.why,
                patch=_ALL_LAYERS,
            )
    else:
        holder = _holder(view, server)
        large = (facts.model_bytes or 0) > GIB and (server.uptime_seconds or 0.0) > SETTLED
        # the driver counts what Vulkan holds, of ROCm's not all
        if server.backend == "vulkan" and large and holder is not None and _holds_nothing(holder):
            yield Symptom(
                subject=server.url,
                title="A GPU build, and nothing of it on the GPU",
                evidence=f"{size(facts.model_bytes or 0)} of weights, 0 B of GPU memory held",
                patch=_ALL_LAYERS,
            )
        else:
            yield Undefined(server.url)


def _all_on_cpu(view: View, server: Server, facts: ServerFacts) -> Iterator[Symptom | Undefined]:
    """By its log: a build that shows no GPU may be right as it is, one that was asked for it is not."""
    if server.provenance.get("backend") != "log" or facts.layers_asked == "0":
        return  # somebody chose the CPU
    holder = _holder(view, server)
    if holder is None or holder.hidden:
        yield Undefined(server.url)
        return
    if not _holds_nothing(holder):
        return  # what holds GPU memory uses it, whatever its log calls it
    found = [device.id for device in facts.devices if device.id != "CPU"]
    asked = bool(facts.layers_asked) and facts.layers_asked != "auto"
    if not found and not asked and (facts.model_bytes or 0) < GIB:
        return
    weights = sum(buffer.bytes for buffer in facts.buffers if _is_weights(buffer))
    words = [f"{size(weights)} of weights on the CPU" if weights else "all weights on the CPU"]
    words += [f"-ngl {facts.layers_asked}"] if facts.layers_asked else []
    words.append(f"found {', '.join(found[:4])}" if found else "no GPU found")
    yield Symptom(
        subject=server.url,
        severity=None if found or asked else Severity.INFO,
        title="The model runs on the CPU alone",
        evidence=", ".join(words),
        patch=_ALL_LAYERS if found else None,
    )


_ALL_LAYERS: Patch = {"ngl": 99, "device": None}
_FIX_FITTED = (
    "The server put as many on the GPU as it found room for: free memory for the rest, with a smaller -c, "
    "-ctk q8_0 -ctv q8_0 or smaller weights; -ngl 99 alone would not load."
)


def _is_small(facts: ServerFacts) -> bool:
    """A model for embeddings and their like does well on the CPU. Unknown is not small."""
    return facts.model_bytes is not None and facts.model_bytes < GIB


def _is_weights(buffer: Buffer) -> bool:
    return buffer.kind == "model" and not buffer.draft


def _holder(view: View, server: Server) -> Holder | None:
    if server.pid is None:
        return None
    return next((holder for holder in view.frame.holders if holder.pid == server.pid), None)


def _holds_nothing(holder: Holder) -> bool:
    return not holder.hidden and not holder.gtt_bytes and not holder.vram_bytes


def _vram_trap(view: View) -> Iterator[Symptom | Undefined]:
    rocm = [(server, facts) for server, facts in known(view) if server.backend == "rocm" and _is_up(server)]
    chips = apus(view) if rocm else ()
    for server, facts in rocm:
        if facts.model_bytes is None or not chips:
            yield Undefined(server.url)
            continue
        for gpu in chips:
            yield from _trapped(view, server, facts.model_bytes, gpu)


def _trapped(view: View, server: Server, weights: int, gpu: Gpu) -> Iterator[Symptom | Undefined]:
    """What of the weights does not fit in the carve-out is not in GTT either."""
    vram, total = gpu.vram_used_bytes, gpu.vram_total_bytes
    gtt, room = gpu.gtt_used_bytes, gpu.gtt_total_bytes
    if vram is None or total is None or gtt is None or room is None:
        yield Undefined(server.url)
        return
    full = CARVED <= total < weights and vram > view.levels["vram"] * total
    if full and gtt < view.levels["gtt"] * (weights - total):
        yield Symptom(
            subject=server.url,
            title="ROCm is held to the BIOS carve-out",
            evidence=f"VRAM {size(vram)} of {size(total)} ({percent(vram / total)}), "
            f"GTT {size(gtt)} of {size(room)}, model {size(weights)}",
        )


_ISSUES = "https://github.com/ggml-org/llama.cpp/issues/"
_AT_START = "the server is started again without it"

RULES = (
    Rule(
        id="graph-splits",
        check=_graph_splits,
        title="The graph is cut into many pieces",
        hold_seconds=3,
        window="since the server started",
        clears=_AT_START,
        levels=(Level(name="splits", value=8, help="graph splits; 1 or 2 are usual", least=2),),
        evidence="{number} graph splits[ in {number} nodes], 1 or 2 are usual",
        needs=("server.facts", "server.backend"),
        marks=("facts.graph_splits",),
        why="Parts of each token are computed elsewhere, and carried to and fro: ROCm without unified memory "
        "had 94 splits, and loads of an hour.",
        fix="See which tensors lie on the CPU (-lv 4): all layers belong on the GPU, -ngl 99.",
        reference=_ISSUES + "18159",
    ),
    Rule(
        id="cpu-fallback",
        check=_cpu_fallback,
        title="Layers are computed by the CPU",
        hold_seconds=5,
        window="since the server started",
        clears=_AT_START,
        evidence="[{number} of {number} layers on the GPU[, -ngl {layers}]]"
        "[{size} of weights, 0 B of GPU memory held]"
        "[{weights} on the CPU[, -ngl {layers}], {found}][-ngl 0 with a {backend} build]",
        needs=("server.backend", "server.facts", "server.provenance", "holder.gtt_bytes", "gpu.name"),
        marks=("facts.layers_offloaded", "facts.layers_asked"),
        may_patch=True,
        why="The CPU decodes at about half the speed of the GPU, and reads prompts at a third.",
        fix="Relaunch with -ngl 99, with a build for Vulkan or ROCm whose libraries find the GPU.",
    ),
    Rule(
        id="vram-trap",
        check=_vram_trap,
        title="ROCm is held to the BIOS carve-out",
        hold_seconds=10,
        clears="VRAM is not full, or GTT is used",
        levels=(
            Level(name="vram", value=0.95, help="share of VRAM that is full", most=1.0),
            Level(name="gtt", value=0.5, help="share of the weights' rest that GTT holds", most=1.0),
        ),
        evidence="VRAM {used} of {total} ({share}), GTT {used} of {total}, model {size}",
        needs=(
            *("server.backend", "server.facts", "gpu.vram_used_bytes", "gpu.vram_total_bytes"),
            *("gpu.gtt_used_bytes", "gpu.gtt_total_bytes"),
        ),
        marks=("gpu.vram_used_bytes", "gpu.gtt_used_bytes"),
        why="ROCm fills the memory that the BIOS carved out, and leaves the GTT idle, which is the large "
        "pool here: what does not fit stays on the CPU.",
        fix="Set the carve-out in the BIOS to its least (512 MB) so that ROCm takes GTT; else try "
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY=1, and measure.",
        reference=_ISSUES + "18159",
    ),
)
