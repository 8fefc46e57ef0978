"""Tiny GGUF models that a real llama.cpp server loads: random weights, readable words, no end.

The same arguments give the same file. Weights are drawn per tensor, so a model of fewer layers is a
prefix of the deeper one; later layers say less and less, which makes such a prefix, with or without
noise, a draft of any acceptance wanted. EOS has no weight: a request ends at ``n_predict``, always.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

_TEXT = """
    a and as at but by for from in is it its not of on or so that the then this to was when with
    amber apple bird blue bread bright calm cloud cold copper dawn deep door dust early east far field fire
    fish glass gold grass grey hand heavy hill home iron lake late leaf light long low moon morning narrow
    near night north oak old open path plain quiet rain red river road salt sand sea shore silver slow small
    snow soft south spring star stone storm street summer sun tall tide tree valley walks warm water west
    white wide wind winter wood
"""
WORDS = _TEXT.split()
FIRST_WORD = 3 + 256 + 1  # its token: control tokens, all bytes and the space come before
CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
HEADS = 4
FADE = 0.15  # how much of the voice of one layer the next one has


@dataclass(frozen=True)
class Shape:
    """What decides size and speed: parameters are about ``layers * 10 * dim²``, four bytes each."""

    dim: int
    layers: int
    context: int = 4096


TINY = Shape(dim=64, layers=2)  # 0.5 MB, about 1000 t/s on one core
SLOW = Shape(dim=512, layers=6, context=32768)  # 64 MB, tens of t/s: an eye can follow
BENCH = Shape(dim=128, layers=1, context=32768)  # 1 MB: eight thousand tokens in a few seconds
SLOW_DRAFT = Shape(dim=512, layers=1, context=32768)  # the first layer of SLOW


class _Weights:
    """Matrices by name: the same seed and name give the same matrix, whatever else the model has."""

    def __init__(self, seed: int, noise: float) -> None:
        self.seed = seed
        self.noise = noise

    def matrix(self, name: str, rows: int, columns: int, gain: float) -> NDArray[np.float32]:
        key = [self.seed, zlib.crc32(name.encode())]
        values = np.random.default_rng(key).standard_normal((rows, columns), dtype=np.float32)
        if self.noise:
            other = np.random.default_rng([*key, 1]).standard_normal((rows, columns), dtype=np.float32)
            values += np.float32(self.noise) * other
        values *= np.float32(gain / np.sqrt(columns))
        return values


def write_model(
    path: Path,
    *,
    dim: int = TINY.dim,
    layers: int = TINY.layers,
    context: int = TINY.context,
    seed: int = 1,
    noise: float = 0.0,
    name: str = "tiny",
) -> Path:
    """Write a GGUF file and return its path.

    ``noise`` is relative to every weight: 0 drafts perfectly for the model of the same seed, 0.02 about
    half of the time, 0.2 hardly ever. ``dim`` must be a multiple of 8 (four heads of even width).
    """
    writer = gguf.GGUFWriter(path, "llama")
    _write_header(writer, dim, layers, context, name)
    _write_vocabulary(writer)
    vocabulary = FIRST_WORD + len(WORDS)
    weights = _Weights(seed, noise)
    ones = np.ones(dim, np.float32)

    def add(tensor: str, rows: int, columns: int, gain: float) -> None:
        writer.add_tensor(f"{tensor}.weight", weights.matrix(tensor, rows, columns, gain))

    add("token_embd", vocabulary, dim, float(np.sqrt(dim)))
    for layer in range(layers):
        block = f"blk.{layer}"
        voice = 2.0 * FADE**layer
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        for part in ("attn_q", "attn_k", "attn_v"):
            add(f"{block}.{part}", dim, dim, 2.0)
        add(f"{block}.attn_output", dim, dim, voice)
        add(f"{block}.ffn_gate", 2 * dim, dim, 2.0)
        add(f"{block}.ffn_up", 2 * dim, dim, 2.0)
        add(f"{block}.ffn_down", dim, 2 * dim, voice)
    writer.add_tensor("output_norm.weight", ones)
    output = weights.matrix("output", vocabulary, dim, 4.0)
    output[:FIRST_WORD] = 0.0  # words only: the text is readable and the end never comes
    writer.add_tensor("output.weight", output)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_preset(path: Path, shape: Shape, *, noise: float = 0.0, name: str | None = None) -> Path:
    """:func:`write_model` of a named shape; the file's name is the model's, unless told."""
    return write_model(
        path,
        dim=shape.dim,
        layers=shape.layers,
        context=shape.context,
        noise=noise,
        name=name or path.stem,
    )


def _write_header(writer: gguf.GGUFWriter, dim: int, layers: int, context: int, name: str) -> None:
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * dim)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(dim // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)


def _write_vocabulary(writer: gguf.GGUFWriter) -> None:
    """Control tokens, all bytes and the space, so that a text is as many tokens as bytes; then the words."""
    kind = gguf.TokenType
    control = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    octets = [(f"<0x{octet:02X}>", kind.BYTE) for octet in range(256)]
    words = [(f"\u2581{word}", kind.NORMAL) for word in ("", *WORDS)]
    tokens, kinds = zip(*control, *octets, *words, strict=True)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * FIRST_WORD + [-float(rank) for rank in range(len(WORDS))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
