"""A model by its file: what memory it needs and with which vocabulary, without loading it."""

from __future__ import annotations

import os
import re
from array import array
from pathlib import Path

from msgspec import Struct

from halotui.gguf.reader import KEEP, Entry, Raw, Tensor, read
from halotui.hosts import Host
from halotui.safe import clean

SIZE_DIFFERENCE = 128  # tokens: SPEC_VOCAB_MAX_SIZE_DIFFERENCE of llama.cpp
FIRST_COMPARED = 5  # SPEC_VOCAB_CHECK_START_TOKEN_ID
# tokenizer.ggml.model by llama_vocab_type, as far as known
_TYPES = {"llama": "SPM", "gpt2": "BPE", "gemma4": "BPE", "bert": "WPM", "t5": "UGM", "rwkv": "RWKV"}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_RECURRENT = re.compile(r"\.(?:ssm|wkv|kda|shortconv)\.|\.attention\.recurrent_layers$")


class Vocabulary(Struct, frozen=True, kw_only=True):
    """What two models must share to speculate together. ``prints`` has 64 bits a token."""

    model: str | None = None  # tokenizer.ggml.model: llama, gpt2, ...
    pre: str | None = None
    bos: int | None = None
    eos: int | None = None
    add_bos: bool | None = None
    add_eos: bool | None = None
    tokens: int | None = None
    prints: array[int] = array("q")


class Header(Struct, frozen=True, kw_only=True):
    """One model. Lengths in elements, per-layer lists where the file has them; unknown is None."""

    architecture: str
    name: str | None = None
    version: int
    file_type: int | None = None  # llama_ftype
    weights_bytes: int  # of all shards that are there
    missing: tuple[str, ...] = ()  # file names of shards that are not
    part: int = 0  # of a model in several files; only the first one can be loaded
    layers: int | None = None
    embedding: int | None = None
    heads: int | tuple[int, ...] | None = None
    kv_heads: int | tuple[int, ...] | None = None
    key_length: int | None = None
    value_length: int | None = None
    key_length_swa: int | None = None  # where sliding-window layers have another
    value_length_swa: int | None = None
    latent: bool = False  # multi-head latent attention: V is a view of K in newer builds
    context: int | None = None  # trained
    window: int | None = None  # sliding, tokens
    window_pattern: int | tuple[bool, ...] | None = None  # every nth layer is full | true: it slides
    shared_kv_layers: int = 0  # the last ones, which use another layer's cache
    predict_layers: int = 0  # the last ones, for multi-token prediction
    recurrent: bool = False  # some layers keep a state instead of a cache
    attention_interval: int | None = None  # every nth layer of a hybrid has attention
    attention_layers: frozenset[int] | None = None  # as the tensors tell; None: they do not
    experts: int | None = None
    experts_used: int | None = None
    vocabulary: Vocabulary = Vocabulary()


def per_layer(value: int | tuple[int, ...] | None, layer: int) -> int | None:
    """Of a number for all layers, or of one for each."""
    if isinstance(value, tuple):
        return value[layer] if layer < len(value) else None
    return value


def read_header(path: Path, host: Host | None = None) -> Header:
    """Read one model of ``host``, else of this box, all of its shards. Blocking: here well under a second.
    Raises ActionError, LinkDown."""
    raw = read(path, host=host)
    shards, missing = parts_of(path, raw.pairs.get("split.count"), host)
    others = [read(shard, vocabulary=False, host=host) for shard in shards[1:]]
    for other in others:
        raw.tensors += other.tensors
    return _header(raw, raw.size + sum(other.size for other in others), missing)


def mismatch(target: Vocabulary, draft: Vocabulary) -> str | None:
    """Why the two cannot speculate together, as llama.cpp judges (common/speculative.cpp,
    ``common_speculative_are_compatible``); None when nothing known speaks against it."""
    kinds = [_TYPES.get(one.model or "") for one in (target, draft)]
    if None not in kinds and kinds[0] != kinds[1]:
        return f"{kinds[0]} and {kinds[1]} tokenizers"
    for adds, id_, label in (("add_bos", "bos", "first"), ("add_eos", "eos", "last")):
        ours, theirs = getattr(target, adds), getattr(draft, adds)
        if ours is not None and theirs is not None and ours != theirs:
            return f"only one of them adds a {label} token"
        pair = getattr(target, id_), getattr(draft, id_)
        if ours and theirs and None not in pair and pair[0] != pair[1]:
            return f"the {label} token is {pair[0]} and {pair[1]}"
    if not target.tokens or not draft.tokens:
        return None
    if abs(target.tokens - draft.tokens) > SIZE_DIFFERENCE:
        return f"{target.tokens:,} and {draft.tokens:,} tokens"
    pairs = zip(target.prints[FIRST_COMPARED:], draft.prints[FIRST_COMPARED:], strict=False)
    differing = next((at for at, (one, other) in enumerate(pairs, FIRST_COMPARED) if one != other), None)
    return None if differing is None else f"token {differing:,} is another text"


def parts_of(path: Path, parts: Entry | None, host: Host | None = None) -> tuple[list[Path], tuple[str, ...]]:
    """The files that make the model, the one given first, and the names of those that are missing. A whole
    model may have kept the name of a part: what counts is how many its header says."""
    found = _SHARD.fullmatch(path.name)
    if not found or parts in (0, 1) or (parts is None and found[2] == "00001"):
        return [path], ()
    stem, count = found[1], int(found[3])
    names = [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, min(count, KEEP) + 1)]
    others = [path.with_name(name) for name in names if name != path.name]
    there = [other for other in others if _exists(other, host)]
    return [path, *there], tuple(clean(other.name) for other in others if other not in there)


def _exists(path: Path, host: Host | None) -> bool:
    return path.exists() if host is None else host.access(path, os.F_OK)


def _header(found: Raw, weights: int, missing: tuple[str, ...]) -> Header:
    pairs = found.pairs
    architecture = _word(pairs.get("general.architecture")) or "unknown"

    def whole(name: str) -> int | None:
        return count_of(pairs.get(f"{architecture}.{name}"))

    def many(name: str) -> int | tuple[int, ...] | None:
        value = pairs.get(f"{architecture}.{name}")
        if isinstance(value, tuple):
            return tuple(int(entry) for entry in value if isinstance(entry, (int, bool)))
        return count_of(value)

    pattern = pairs.get(f"{architecture}.attention.sliding_window_pattern")
    layers = whole("block_count")
    return Header(
        architecture=architecture,
        name=_word(pairs.get("general.name")),
        version=found.version,
        file_type=count_of(pairs.get("general.file_type")),
        weights_bytes=weights,
        missing=missing,
        part=count_of(pairs.get("split.no")) or 0,
        layers=layers if layers is not None and layers <= KEEP else None,
        embedding=whole("embedding_length"),
        heads=many("attention.head_count"),
        kv_heads=many("attention.head_count_kv"),
        key_length=whole("attention.key_length"),
        value_length=whole("attention.value_length"),
        key_length_swa=whole("attention.key_length_swa"),
        value_length_swa=whole("attention.value_length_swa"),
        latent=f"{architecture}.attention.kv_lora_rank" in pairs,
        context=whole("context_length"),
        window=whole("attention.sliding_window") or None,
        window_pattern=tuple(map(bool, pattern)) if isinstance(pattern, tuple) else count_of(pattern) or None,
        shared_kv_layers=whole("attention.shared_kv_layers") or 0,
        predict_layers=whole("nextn_predict_layers") or 0,
        recurrent=any(_RECURRENT.match(key, len(architecture)) for key in pairs),
        attention_interval=whole("full_attention_interval") or None,
        attention_layers=None if missing else _attention(found.tensors),
        experts=whole("expert_count") or None,
        experts_used=whole("expert_used_count") or None,
        vocabulary=_vocabulary(found),
    )


def _attention(tensors: list[Tensor]) -> frozenset[int] | None:
    """The layers that keep keys and values: those with a K of their own. A joint QKV beside ssm tensors
    is the input of a recurrent layer."""
    parts: dict[int, set[str]] = {}
    for block in (_BLOCK.match(tensor.name) for tensor in tensors):
        if block:
            parts.setdefault(int(block[1]), set()).add(block[2])
    if not parts:
        return None
    joint = {"attn_qkv", "attn_kv_a_mqa"}
    return frozenset(
        layer
        for layer, names in parts.items()
        if "attn_k" in names or (names & joint and not any(name.startswith("ssm_") for name in names))
    )


def _vocabulary(found: Raw) -> Vocabulary:
    def of(name: str) -> Entry | None:
        return found.pairs.get(f"tokenizer.ggml.{name}")

    add_bos, add_eos = of("add_bos_token"), of("add_eos_token")
    return Vocabulary(
        model=_word(of("model")),
        pre=_word(of("pre")),
        bos=count_of(of("bos_token_id")),
        eos=count_of(of("eos_token_id")),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        add_eos=add_eos if isinstance(add_eos, bool) else None,
        tokens=found.tokens,
        prints=found.prints,
    )


def count_of(value: Entry | None) -> int | None:
    """A count that can be one: not negative, and below 2**53."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _word(value: Entry | None) -> str | None:
    return (clean(value, 200) or None) if isinstance(value, str) else None
