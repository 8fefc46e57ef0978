"""Headers of GGUF files, written by hand: any of them, also those that no library would write."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from halotui.gguf.reader import Tensor


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def strings(key: str, values: list[bytes]) -> bytes:
    return pair(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values)))


def word(key: str, value: str) -> bytes:
    return pair(key, 8, text(value))


def number(key: str, value: int) -> bytes:
    return pair(key, 4, struct.pack("<I", value))


def numbers(key: str, values: list[int]) -> bytes:
    return pair(key, 9, struct.pack(f"<IQ{len(values)}i", 5, len(values), *values))


def flag(key: str, value: bool) -> bytes:
    return pair(key, 7, bytes([value]))


def tensor(told: str | Tensor) -> bytes:
    """By its name: 64 × 64 numbers of F32."""
    name, shape, kind = (told, (64, 64), 0) if isinstance(told, str) else told
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)


def write(
    path: Path, *pairs: bytes, tensors: Sequence[str | Tensor] = (), version: int = 3, more: int = 0
) -> Path:
    """``more``: bytes of weights; they take no room on the disk."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    path.write_bytes(head + b"".join(pairs) + b"".join(map(tensor, tensors)))
    os.truncate(path, path.stat().st_size + more)
    return path


def tokens(count: int, other: dict[int, bytes] | None = None) -> bytes:
    return strings("tokenizer.ggml.tokens", [(other or {}).get(i, b"t%d" % i) for i in range(count)])
