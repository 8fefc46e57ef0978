"""The header of the scripted server's model: what it is made of, before weights that are not there."""

from __future__ import annotations

import os
import struct
from math import prod
from pathlib import Path

LAYERS, EXPERTS, USED, WIDTH, EXPERT_WIDTH, WORDS = 48, 205, 8, 3072, 1024, 248_320
Q4_K, Q6_K = (12, 144), (14, 210)  # number of the type, bytes of a block
_BLOCK = 256  # elements
_U32, _TEXT = 4, 8  # types of a pair

Tensor = tuple[str, tuple[int, ...], tuple[int, int]]


def write(path: Path) -> None:
    """A file as large as the model would be, which takes no room."""
    pairs = [("general.architecture", "qwen35moe")]
    counts = {"block_count": LAYERS, "expert_count": EXPERTS, "expert_used_count": USED}
    told = [_text(key) + struct.pack("<I", _TEXT) + _text(value) for key, value in pairs]
    told += [_text(f"qwen35moe.{key}") + struct.pack("<II", _U32, count) for key, count in counts.items()]
    tensors = _tensors()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(told)) + b"".join(told)
    for name, shape, (kind, _) in tensors:
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(head)
    os.truncate(path, len(head) + sum(prod(shape) // _BLOCK * size for _, shape, (_, size) in tensors))


def _tensors() -> list[Tensor]:
    """Of a layer: its experts, and all the rest as one."""
    out: list[Tensor] = [(f"{name}.weight", (WIDTH, WORDS), Q6_K) for name in ("token_embd", "output")]
    for layer in range(LAYERS):
        out += [
            (f"blk.{layer}.ffn_gate_exps.weight", (WIDTH, EXPERT_WIDTH, EXPERTS), Q4_K),
            (f"blk.{layer}.ffn_up_exps.weight", (WIDTH, EXPERT_WIDTH, EXPERTS), Q4_K),
            (f"blk.{layer}.ffn_down_exps.weight", (EXPERT_WIDTH, WIDTH, EXPERTS), Q6_K),
            (f"blk.{layer}.attn_qkv.weight", (WIDTH, 25_944), Q6_K),
        ]
    return out


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
