"""The estimate against the buffers that a real server reports, and the verdict on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import pytest

from binaries import Brood, binary
from halotui.actions import Value, Verdict
from halotui.demo.model import write_model
from halotui.gguf.model_file import Header, read_header
from halotui.servers.fit import Layout, Need, Room, cells, compute_bytes, judge, kv_bytes, layout, need

GIB = 1 << 30
MIB = 1 << 20
BUFFER = re.compile(r"(\w+) (KV|compute) buffer size = +([\d.]+) MiB")


def buffers(log: str) -> list[tuple[str, float]]:
    """Kind and bytes, in order: the target's, then the draft's."""
    return [(kind, float(mib) * MIB) for _, kind, mib in BUFFER.findall(log)]


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        ("-np 1 -c 2048", {"np": 1, "c": 2048}),
        ("-np 3 -c 1000", {"np": 3, "c": 1000}),
        ("-c 4096 -ub 128", {"c": 4096, "ub": 128}),
        ("-np 2 -c 2048 -kvu", {"np": 2, "c": 2048, "kvu": True}),
        ("-np 1", {"np": 1}),
        (
            "-np 2 -c 2048 -ctk q8_0 -ctv q4_0 -fa on",
            {"np": 2, "c": 2048, "ctk": "q8_0", "ctv": "q4_0", "fa": "on"},
        ),
        ("-np 1 -c 4096 -fa off", {"np": 1, "c": 4096, "fa": "off"}),
    ],
)
def test_as_a_real_server_reports(tmp_path: Path, flags: str, values: dict[str, Value]) -> None:
    # heads of 32: a quantised cache wants whole blocks
    path = write_model(tmp_path / "model.gguf", dim=128)
    with Brood(tmp_path) as brood:
        told = buffers(
            brood.start(binary(tmp_path), *flags.split(), "-m", path, "-lv", "4").wait_ready().log()
        )
    asked, model = layout(values), read_header(path)
    cache = kv_bytes(model, asked)
    assert cache and cache[1] == pytest.approx(sum(size for kind, size in told if kind == "KV"), rel=0.01)
    assert cache[0] <= cache[1]
    real = sum(size for kind, size in told if kind == "compute")
    assert real / 3 < compute_bytes(model, asked) < real * 3


def test_a_draft_has_a_cache_of_its_own(tmp_path: Path, models: Path) -> None:
    flags = ("-np", "2", "-c", "4096", "-md", models / "draft-mid.gguf", "--spec-type", "draft-simple")
    with Brood(tmp_path, models) as brood:
        told = buffers(brood.start(binary(tmp_path), *flags, "-lv", "4").wait_ready().log())
    values: dict[str, Value] = {"np": 2, "c": 4096}
    target, draft = read_header(models / "tiny.gguf"), read_header(models / "draft-mid.gguf")
    wanted = need(target, layout(values), draft, layout(values, draft=True))
    sizes = {item.name: item.bytes for item in wanted.items}
    caches = [size for kind, size in told if kind == "KV"]
    assert [sizes["KV cache"], sizes["draft KV cache"]] == pytest.approx(caches, rel=0.01)
    assert sizes["draft weights"] == (models / "draft-mid.gguf").stat().st_size
    assert wanted.least < wanted.bytes and "draft KV cache" in str(wanted)


def model(**more: Any) -> Header:
    """Llama-3-8B's shape."""
    shape: dict[str, Any] = {
        "architecture": "llama",
        "version": 3,
        "weights_bytes": 16 * GIB,
        "layers": 32,
        "embedding": 4096,
        "heads": 32,
        "kv_heads": 8,
        "context": 131072,
    }
    return Header(**{**shape, **more})


def test_the_cache_of_a_known_model() -> None:
    """Llama-3-8B: 128 KiB a token in f16; half and a little more of it in q8_0."""
    assert kv_bytes(model(), Layout(context=8192)) == (GIB, GIB)
    halved = kv_bytes(model(), Layout(context=8192, k="q8_0", v="q8_0"))
    assert halved == (GIB * 34 // 64, GIB * 34 // 64)


def test_the_server_may_choose_a_smaller_context() -> None:
    assert kv_bytes(model(), Layout()) == (GIB // 2, 16 * GIB)


@pytest.mark.parametrize(
    ("shape", "asked", "least", "most"),
    [
        # half of the layers slide: exactly so in gpt-oss
        ({"architecture": "gpt-oss", "window": 128}, {"slots": 1}, 0.25, 0.55),
        ({"architecture": "unknown", "window": 128}, {"slots": 1}, 0, 1.0),
        ({"architecture": "gpt-oss", "window": 128}, {"slots": 1, "full_windows": True}, 1.0, 1.0),
        # a hybrid: one layer in four has a cache
        ({"recurrent": True, "attention_layers": frozenset(range(3, 32, 4))}, {}, 0.25, 0.25),
        ({"recurrent": True}, {}, 0.25, 1.0),
        ({"recurrent": True, "kv_heads": (0, 0, 0, 8) * 8}, {}, 0.25, 0.25),
        ({"predict_layers": 2, "shared_kv_layers": 14}, {}, 0.5, 1.0),
        ({"latent": True, "kv_heads": 8}, {}, 0.5, 1.0),
    ],
)
def test_what_the_header_leaves_open(
    shape: dict[str, Any], asked: dict[str, Any], least: float, most: float
) -> None:
    cache = kv_bytes(model(**shape), Layout(context=8192, **asked))
    assert cache and cache[0] <= cache[1]
    assert least * GIB <= cache[0] * 2 + 1 and cache[1] == pytest.approx(most * GIB, rel=0.1)


def test_unknown_shapes_are_none() -> None:
    assert kv_bytes(model(layers=None), Layout(context=8192)) is None
    assert kv_bytes(model(kv_heads=None, heads=None), Layout(context=8192)) is None
    assert kv_bytes(model(), Layout(context=8192, k="q3_x")) is None
    assert kv_bytes(model(context=None), Layout()) is None


def test_contexts_are_rounded_as_the_server_does() -> None:
    assert cells(1000, Layout(slots=3)) == 3 * 512
    assert cells(1000, Layout(slots=3, unified=True)) == 1024
    assert cells(4096, Layout()) == 4096


def wanted(gib: float, model: Header) -> Need:
    context = int(gib * GIB) // (128 * 1024)
    return need(model, Layout(context=context))


CARVED = Room(ram_bytes=25 * GIB, gtt_bytes=15 * GIB, vram_bytes=96 * GIB)
HALVED = Room(ram_bytes=100 * GIB, gtt_bytes=20 * GIB, vram_bytes=8 * GIB)
STRIX = Room(ram_bytes=100 * GIB, gtt_bytes=60 * GIB, vram_bytes=512 * MIB)


@pytest.mark.parametrize(
    ("cache_gib", "room", "backend", "layers", "mapped", "verdict"),
    [
        (8, STRIX, "vulkan", "all", False, Verdict.OK),
        (42, STRIX, "vulkan", "all", False, Verdict.WARN),  # within 5 % of the end
        (50, STRIX, "vulkan", "all", False, Verdict.FAIL),
        (50, STRIX, "vulkan", "some", False, Verdict.WARN),  # the rest may stay in RAM
        (90, STRIX, "vulkan", "some", False, Verdict.FAIL),
        (50, Room(ram_bytes=64 * GIB, gtt_bytes=120 * GIB), "vulkan", "all", False, Verdict.FAIL),
        # the carve-out holds it where GTT does not: ROCm takes either, Vulkan both
        (40, CARVED, "rocm", "all", True, Verdict.OK),
        (8, HALVED, "vulkan", "all", True, Verdict.OK),
        (8, HALVED, "rocm", "all", True, Verdict.WARN),
        # mapped weights are page cache to the CPU
        (8, Room(ram_bytes=12 * GIB), "cpu", "none", True, Verdict.WARN),
        (8, Room(ram_bytes=12 * GIB), "cpu", "none", False, Verdict.FAIL),
        (16, Room(ram_bytes=12 * GIB), "cpu", "none", True, Verdict.FAIL),
        (8, Room(), "cpu", "none", True, Verdict.UNKNOWN),
        (8, Room(ram_bytes=12 * GIB), "vulkan", "all", True, Verdict.UNKNOWN),
    ],
)
def test_the_verdict(
    cache_gib: float, room: Room, backend: str, layers: str, mapped: bool, verdict: Verdict
) -> None:
    said, detail, fix = judge(wanted(cache_gib, model()), room, backend=backend, layers=layers, mapped=mapped)
    assert said is verdict, detail
    assert "weights 16" in detail and bool(fix) is (verdict in (Verdict.FAIL, Verdict.WARN))


def test_why_it_cannot_be_told() -> None:
    ask = {"layers": "all", "mapped": True}
    detail = judge(wanted(8, model()), Room(ram_bytes=GIB), backend="vulkan", **ask)[1]  # type: ignore[arg-type]
    assert detail.endswith("; no AMD GPU here to hold it")
    detail = judge(wanted(8, model()), STRIX, backend="cuda", **ask)[1]  # type: ignore[arg-type]
    assert detail.endswith("the memory of a cuda GPU is not seen")


def test_a_projector_counts_as_weights() -> None:
    both = need(model(), Layout(context=8192), projector_bytes=GIB)
    assert both.weights == 17 * GIB and both.least == 18 * GIB


def test_real_headers_of_hybrids_made_by_the_library(tmp_path: Path) -> None:
    """gguf's writer, lists by layer as the converters of hybrids write them."""
    path = tmp_path / "hybrid.gguf"
    writer = gguf.GGUFWriter(path, "nemotron_h")
    writer.add_block_count(4)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([0, 4, 0, 4])
    writer.add_context_length(4096)
    writer.add_ssm_state_size(16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    cache = kv_bytes(read_header(path), Layout(context=256))
    assert cache and cache[1] == 2 * 4 * (16 + 16) * 2 * 256
