"""What a token costs by a model's header: the parameters it goes through, the bytes of weights it reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from msgspec import Struct

from halotui.gguf.model_file import count_of, parts_of
from halotui.gguf.reader import Raw, Tensor, read
from halotui.gguf.types import BLOCKS
from halotui.hosts import Host
from halotui.safe import clean

_MOST = 1 << 53  # elements and bytes: beyond lies no model
_HEADER = 64 << 20  # bytes that a header may have
_FILLED = 1.5  # times its weights: a larger file is not what its header says
_EXPERTS = re.compile(r"exps\b")  # all of a layer in one tensor, the last dimension counts them
_EXPERT = re.compile(r"exps\b|\.ffn_(?:gate|up|down|gate_up)\.\d+\.")  # the latter: one file format ago
# Of a table a token reads one row; sight and hearing are not asked for each token.
_ROW = re.compile(r"(?:per_layer_)?token_embd\.|position_embd\.|token_types\.|(?:v|a|mm)\.")
_TABLE = "token_embd.weight"
_OUTPUT = "output.weight"
_PREDICTS = re.compile(r"blk\.(\d+)\.nextn\.")
_BLOCK = re.compile(r"blk\.(\d+)\.")


class Weights(Struct, frozen=True, kw_only=True):
    """Of one model, all of its files. ``None``: a type or a mixture not known, or a file far too large.

    ``active_parameters`` and ``token_bytes`` are of what a generated token goes through: of a mixture of
    experts its share; without the embedding table, unless that is the output as well, and without the layers
    that predict further tokens.
    """

    parameters: int
    architecture: str | None = None
    bytes: int | None = None
    active_parameters: int | None = None
    token_bytes: int | None = None
    experts: int | None = None
    experts_used: int | None = None


def facts(path: Path, host: Host | None = None) -> Weights | None:
    """Read a model's header, of all its files. None where a file is missing or what they say cannot be.

    Blocking: a tenth of a second, most of it for going past the vocabulary. Raises ActionError.
    """
    first = read(path, vocabulary=False, host=host)
    paths, missing = parts_of(path, first.pairs.get("split.count"), host)
    if missing:
        return None
    others = [read(other, vocabulary=False, host=host) for other in paths[1:]]
    tensors = [tensor for part in (first, *others) for tensor in part.tensors]
    return weigh(first, tensors, sum(part.size for part in (first, *others)))


def weigh(first: Raw, tensors: Sequence[Tensor], size: int) -> Weights | None:
    """Pure. ``first``: the part with the pairs; ``size``: of all files, which the tensors cannot exceed."""
    architecture = first.pairs.get("general.architecture")

    def told(name: str) -> int | None:
        return count_of(first.pairs.get(f"{architecture}.{name}")) or None

    elements = [prod(tensor.shape) for tensor in tensors]
    parameters = sum(elements)
    if not 0 < parameters < _MOST:
        return None
    sizes = [_bytes(tensor, count) for tensor, count in zip(tensors, elements, strict=True)]
    known = [number for number in sizes if number is not None]
    whole = sum(known) if len(known) == len(sizes) else None
    if sum(known) > size:
        return None
    experts, used = told("expert_count"), told("expert_used_count")
    named = clean(architecture, 60) or None if isinstance(architecture, str) else None
    found = Weights(
        parameters=parameters, architecture=named, bytes=whole, experts=experts, experts_used=used
    )
    if whole is not None and size > _FILLED * whole + _HEADER:
        return found
    names = {tensor.name for tensor in tensors}
    # a model for embeddings has no output at all
    tied = _OUTPUT not in names and f"{architecture}.pooling_type" not in first.pairs
    left_out = _predicting(names, told("block_count"), told("nextn_predict_layers"))
    active = read_bytes = 0.0
    for tensor, count, number in zip(tensors, elements, sizes, strict=True):
        if _ROW.match(tensor.name) and not (tied and tensor.name == _TABLE):
            continue
        block = _BLOCK.match(tensor.name)
        if block and int(block[1]) in left_out:
            continue
        share = 1.0
        if _EXPERT.search(tensor.name):
            many = tensor.shape[-1] if tensor.shape and _EXPERTS.search(tensor.name) else experts
            if experts is None or used is None or used > experts or many != experts:
                return found
            share = used / experts
        active += count * share
        read_bytes += (number or 0) * share
    return Weights(
        parameters=parameters,
        architecture=named,
        bytes=whole,
        active_parameters=round(active) or None,
        token_bytes=(round(read_bytes) or None) if whole is not None else None,
        experts=experts,
        experts_used=used,
    )


def _bytes(tensor: Tensor, elements: int) -> int | None:
    """None for a type that is not known. A row is whole blocks."""
    block = BLOCKS.get(tensor.kind)
    return -(-elements // block[0]) * block[1] if block is not None else None


def _predicting(names: set[str], layers: int | None, predict: int | None) -> frozenset[int]:
    """The layers that a token of the model itself does not go through."""
    marked = {int(found[1]) for found in map(_PREDICTS.match, names) if found}
    last = range(layers - predict, layers) if layers and predict and predict < layers else ()
    return frozenset(marked.union(last))
