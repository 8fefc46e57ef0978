"""What a token costs by the header: shapes of real models worked by hand, mixtures, parts, and damage."""

from __future__ import annotations

from math import prod
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_files import number, word, write
from halotui.actions import ActionError
from halotui.gguf.reader import Tensor
from halotui.gguf.types import BLOCKS
from halotui.gguf.weights import Weights, facts

F32, Q4_0, Q8_0, Q6_K, MXFP4 = 0, 2, 8, 14, 39
LLAMA = (word("general.architecture", "llama"), number("llama.block_count", 2))


def model(
    path: Path, *tensors: Tensor, experts: int = 0, used: int = 0, room: int | None = None, **more: int
) -> Weights | None:
    """``room``: bytes of weights that the file has room for; else for those that it has."""
    room = min(1 << 40, sum(map(size, tensors))) if room is None else room
    keys = {"expert_count": experts, "expert_used_count": used, "block_count": 2, **more}
    pairs = [number(f"llama.{key}", value) for key, value in keys.items()]
    return facts(
        write(path / "m.gguf", word("general.architecture", "llama"), *pairs, tensors=tensors, more=room)
    )


def size(tensor: Tensor) -> int:
    many, bytes_ = BLOCKS.get(tensor.kind, (1, 8))
    return -(-prod(tensor.shape) // many) * bytes_


def test_a_file_far_larger_than_its_weights_is_not_what_it_seems(tmp_path: Path) -> None:
    """As the demo's: a small model, and a hole behind it."""
    table = Tensor("output.weight", (64, 1000), Q8_0)
    assert (model(tmp_path, table, room=68_000 + (32 << 20)) or Weights(parameters=0)).token_bytes == 68_000
    found = model(tmp_path, table, room=58 << 30)
    assert found and found.parameters == 64_000 and found.bytes == 68_000
    assert found.token_bytes is None and found.active_parameters is None


def test_block_sizes_are_the_librarys() -> None:
    """But for Q8_1, where its table stands as ggml had it in 2024; no file holds that type."""
    library = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    assert library.items() <= BLOCKS.items()
    assert BLOCKS[9] == (32, 36)


def llama_2_7b() -> list[Tensor]:
    blocks = [
        Tensor(f"blk.{layer}.{name}.weight", shape, Q4_0)
        for layer in range(32)
        for name, shape in (
            *((f"attn_{part}", (4096, 4096)) for part in ("q", "k", "v", "output")),
            *((f"ffn_{part}", (4096, 11008)) for part in ("gate", "up", "down")),
        )
    ]
    norms = [f"blk.{layer}.{part}_norm.weight" for layer in range(32) for part in ("attn", "ffn")]
    return [
        Tensor("token_embd.weight", (4096, 32000), Q4_0),
        *blocks,
        *(Tensor(name, (4096,), F32) for name in (*norms, "output_norm.weight")),
        Tensor("output.weight", (4096, 32000), Q6_K),
    ]


def test_llama_2_7b_by_hand(tmp_path: Path) -> None:
    """As llama-bench prints it: 6.74 B, 3.56 GiB; at the playbook's 52.22 t/s it reads 196 GB/s."""
    found = model(tmp_path, *llama_2_7b())
    assert found and found.parameters == 6_738_415_616 and found.bytes == 3_825_065_984
    assert found.bytes / 2**30 == pytest.approx(3.56, abs=0.005)
    # without the table of 32,000 × 4096 at 4.5 bits
    assert found.active_parameters == 6_738_415_616 - 131_072_000
    assert found.token_bytes == 3_825_065_984 - 73_728_000 == 3_751_337_984
    assert 52.22 * found.token_bytes / 256e9 == pytest.approx(0.765, abs=0.001)
    assert found.experts is None and found.experts_used is None


def test_a_tied_table_is_read_as_the_output(tmp_path: Path) -> None:
    table, layer = Tensor("token_embd.weight", (64, 1000), Q8_0), Tensor("blk.0.attn_q.weight", (64, 64), F32)
    rows = Tensor("per_layer_token_embd.weight", (64, 9999), Q8_0)
    tied = model(tmp_path, table, rows, layer)
    assert tied and tied.active_parameters == 64_000 + 4096 and tied.token_bytes == 68_000 + 16_384
    embedder = model(tmp_path, table, layer, pooling_type=1)
    assert embedder and embedder.active_parameters == 4096


def mixture(last: int = 8) -> tuple[Tensor, ...]:
    """Eight experts of 64 × 32 at 4.25 bits, one shared, two layers; 8,192 numbers of the output."""
    of_layer = (
        ("attn_q.weight", (64, 64), F32),
        ("ffn_gate_inp.weight", (64, 8), F32),
        ("ffn_gate_up_exps.weight", (64, 64, last), MXFP4),
        ("ffn_down_exps.weight", (32, 64, last), MXFP4),
        ("ffn_down_exps.bias", (64, last), F32),
        ("ffn_up_shexp.weight", (64, 32), F32),
    )
    layers = [Tensor(f"blk.{n}.{name}", shape, kind) for n in range(2) for name, shape, kind in of_layer]
    return (Tensor("output.weight", (64, 128), Q8_0), Tensor("token_embd.weight", (64, 128), Q8_0), *layers)


def test_of_a_mixture_the_share_that_is_used(tmp_path: Path) -> None:
    found = model(tmp_path, *mixture(), experts=8, used=2)
    whole = 4096 + 512 + 2048  # attention, router, shared expert: of a layer, all of it
    share = (4096 + 2048) * 2  # two of eight experts
    bias = 64 * 2
    assert found and (found.experts, found.experts_used) == (8, 2)
    assert found.active_parameters == 8192 + 2 * (whole + share + bias)
    assert found.token_bytes == 8704 + 2 * (whole * 4 + share * 17 // 32 + bias * 4)
    assert found.parameters == 2 * 8192 + 2 * (whole + (share + bias) * 4)


@pytest.mark.parametrize(("experts", "used"), [(0, 0), (8, 0), (8, 9), (16, 2)])
def test_a_mixture_that_is_not_understood_is_not_reckoned(tmp_path: Path, experts: int, used: int) -> None:
    found = model(tmp_path, *mixture(), experts=experts, used=used)
    assert found and found.active_parameters is None and found.token_bytes is None


def test_experts_in_tensors_of_their_own(tmp_path: Path) -> None:
    parts = [
        Tensor(f"blk.0.ffn_{part}.{n}.weight", (64, 64), F32) for part in ("up", "down") for n in range(4)
    ]
    found = model(tmp_path, Tensor("output.weight", (64, 1), F32), *parts, experts=4, used=1)
    assert found and found.active_parameters == 64 + 2 * 4096


def test_layers_that_predict_are_no_part_of_a_token(tmp_path: Path) -> None:
    layers = [Tensor(f"blk.{n}.attn_q.weight", (64, 64), F32) for n in range(4)]
    output, predicts = (
        Tensor("output.weight", (64, 1), F32),
        Tensor("blk.3.nextn.eh_proj.weight", (64, 9), F32),
    )
    marked = model(tmp_path, output, *layers, predicts, block_count=4)
    told = model(tmp_path, output, *layers, block_count=4, nextn_predict_layers=1)
    assert marked and told and marked.active_parameters == told.active_parameters == 64 + 3 * 4096
    sight = Tensor("v.blk.0.attn_q.weight", (64, 64), F32)
    plain = model(tmp_path, output, *layers, sight, block_count=4)
    assert plain and plain.active_parameters == 64 + 4 * 4096


def test_all_parts_or_nothing(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    write(parts[0], *LLAMA, number("split.count", 2), tensors=("output.weight",), more=4096 * 4)
    assert facts(parts[0]) is None
    write(parts[1], tensors=("blk.0.attn_q.weight", "token_embd.weight"), more=8192 * 4)
    found = facts(parts[0])
    assert found and found.parameters == 3 * 4096 and found.token_bytes == 2 * 4096 * 4


def test_what_cannot_be_is_not_believed(tmp_path: Path) -> None:
    output = Tensor("output.weight", (64, 64), F32)
    assert model(tmp_path, output, room=4096 * 4 - 1000) is None  # larger than its file
    assert model(tmp_path, Tensor("output.weight", (2**63, 2**63), F32)) is None
    assert model(tmp_path) is None
    new = model(tmp_path, output, Tensor("blk.0.attn_q.weight", (64, 64), 199))  # a fork's own type
    assert new == Weights(parameters=8192, architecture="llama", active_parameters=8192)


def test_as_the_library_writes_it(models: Path) -> None:
    library = gguf.GGUFReader(models / "tiny.gguf").tensors
    found = facts(models / "tiny.gguf")
    assert found and found.bytes == sum(int(one.n_bytes) for one in library)
    assert found.parameters == sum(int(one.n_elements) for one in library)
    (table,) = (one for one in library if one.name == "token_embd.weight")
    assert found.token_bytes == found.bytes - int(table.n_bytes)


@given(st.data())
def test_any_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "weighed.gguf"
    raw = bytearray(write(path, *LLAMA, tensors=mixture(), more=9).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        facts(path)
    except ActionError as error:
        assert error.reason.isprintable()
