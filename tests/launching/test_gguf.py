"""The GGUF reader against the gguf package's writer and reader, hand-made headers, and hostile files."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_files import flag, number, numbers, pair, strings, tokens, word, write
from halotui.actions import ActionError
from halotui.gguf.model_file import mismatch, read_header
from halotui.gguf.reader import Tensor, read


def refused(path: Path) -> ActionError:
    with pytest.raises(ActionError) as caught:
        read_header(path)
    return caught.value


def test_as_the_library_reads_it(models: Path) -> None:
    path = models / "tiny.gguf"
    library = gguf.GGUFReader(path)

    def of(key: str) -> Any:
        field = library.get_field(key)
        assert field
        return field.contents()

    mine = read_header(path)
    assert (mine.architecture, mine.name, mine.version) == ("llama", "tiny", 3)
    assert mine.layers == of("llama.block_count") and mine.embedding == of("llama.embedding_length")
    assert mine.heads == of("llama.attention.head_count")
    assert mine.kv_heads == of("llama.attention.head_count_kv")
    assert mine.context == of("llama.context_length") and mine.file_type == of("general.file_type")
    assert mine.weights_bytes == path.stat().st_size and mine.missing == ()
    assert mine.attention_layers == frozenset(range(2)) and not mine.recurrent
    listed = of("tokenizer.ggml.tokens")
    assert mine.vocabulary.tokens == len(listed)
    assert list(mine.vocabulary.prints) == [hash(token.encode()) for token in listed]
    assert (mine.vocabulary.model, mine.vocabulary.bos, mine.vocabulary.eos) == ("llama", 1, 2)
    assert read(path).tensors == [
        Tensor(one.name, tuple(map(int, one.shape)), int(one.tensor_type)) for one in library.tensors
    ]
    short = read(path, vocabulary=False)
    assert short.tokens is None and not short.prints and short.tensors == read(path).tensors


def test_per_layer_lists_and_markers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hybrid.gguf",
        word("general.architecture", "nemotron_h"),
        number("nemotron_h.block_count", 3),
        numbers("nemotron_h.attention.head_count_kv", [0, 8, 0]),
        number("nemotron_h.ssm.state_size", 128),
        number("nemotron_h.expert_count", 128),
        tensors=("blk.0.ssm_in.weight", "blk.1.attn_k.weight", "blk.2.attn_qkv.weight", "blk.2.ssm_a"),
        version=2,
    )
    mine = read_header(path)
    assert mine.kv_heads == (0, 8, 0) and mine.recurrent and mine.experts == 128
    assert mine.attention_layers == {1}
    assert mine.context is None and mine.key_length is None


def test_a_big_vocabulary_is_quick(tmp_path: Path) -> None:
    count = 250_000
    merges = strings("tokenizer.ggml.merges", [b"ab cd%d" % i for i in range(count)])
    kinds = numbers("tokenizer.ggml.token_type", [1] * count)
    path = write(tmp_path / "big.gguf", word("general.architecture", "qwen3"), tokens(count), kinds, merges)
    began = time.perf_counter()
    mine = read_header(path)
    assert time.perf_counter() - began < 5
    assert mine.vocabulary.tokens == count == len(mine.vocabulary.prints)


def test_texts_are_skipped_wherever_a_chunk_ends(tmp_path: Path) -> None:
    """A mebibyte is read at once: texts across its end, and longer ones, are no other for that."""
    long = [b"x" * size for size in (1_048_560, 3, 0, 2_500_000, 1, 1_048_576)]
    last = number("last", 7)
    for before in range(9):
        texts = strings("tokenizer.ggml.merges", [b"", *([b"y"] * before), *long])
        path = write(tmp_path / "long.gguf", texts, last, tensors=("output.weight",))
        raw = read(path, vocabulary=False)
        assert raw.pairs == {"last": 7} and [tensor.name for tensor in raw.tensors] == ["output.weight"]
    path.write_bytes(path.read_bytes()[:4_000_000])
    with pytest.raises(ActionError, match="end"):
        read(path, vocabulary=False)
    for length in (2**62, 2**63, 2**64 - 1):
        hostile = pair("a", 9, struct.pack("<IQQQ", 8, 2, 0, length))
        with pytest.raises(ActionError, match="past its end"):
            read(write(path, hostile, more=100), vocabulary=False)


def test_shards_are_summed_and_the_missing_named(tmp_path: Path) -> None:
    first = write(
        tmp_path / "m-00001-of-00003.gguf", word("general.architecture", "llama"), number("split.count", 3)
    )
    second = write(tmp_path / "m-00002-of-00003.gguf", tensors=("blk.0.attn_k.weight",), more=1000)
    mine = read_header(first)
    assert mine.missing == ("m-00003-of-00003.gguf",)
    assert mine.weights_bytes == first.stat().st_size + second.stat().st_size
    write(tmp_path / "m-00003-of-00003.gguf", tensors=("blk.1.attn_k.weight",))
    whole = read_header(first)
    assert whole.missing == () and whole.attention_layers == {0, 1}


def test_a_part_by_its_header_not_by_its_name(tmp_path: Path) -> None:
    """A merged model may have kept the name of its first part; the second part cannot be loaded."""
    llama = word("general.architecture", "llama")
    assert read_header(write(tmp_path / "a-00001-of-00003.gguf", llama)).missing == ()
    assert (
        read_header(write(tmp_path / "b-00001-of-00003.gguf", llama, number("split.count", 1))).missing == ()
    )
    second = write(tmp_path / "c-00002-of-00002.gguf", number("split.no", 1), number("split.count", 2))
    assert read_header(second).part == 1


GOOD = (word("general.architecture", "llama"), number("llama.block_count", 2), tokens(20), flag("x", True))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not begin with GGUF"),
        (b"PK\x03\x04" + bytes(100), "does not begin with GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "too many"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "too many"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62), "past its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + word("a", "b")[:-1], "end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 77, b""), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 9, struct.pack("<IQ", 8, 2**50)), "too long"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 9, struct.pack("<IQ", 4, 2**61)), "past its end"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 9, struct.pack("<IQ", 9, 1)), "unknown type 9"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    assert reason in refused(path).reason


@pytest.mark.parametrize("kind", [8, 4])
def test_an_endless_header_is_bounded(tmp_path: Path, kind: int) -> None:
    """A sparse file of zeros: an array of as many empty strings as it claims, or numbers without end."""
    path = tmp_path / "sparse.gguf"
    endless = pair("a", 9, struct.pack("<IQ", kind, 8_000_000 if kind == 8 else 2**38))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**18, 2**16) + endless)
    os.truncate(path, 1 << 40)
    began = time.perf_counter()
    if kind == 8:
        assert read_header(path).architecture == "unknown"
    else:
        refused(path)
    assert time.perf_counter() - began < 20


def test_no_pipe_no_directory_no_terminal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refused(tmp_path / "pipe").reason
    assert "not a file" in refused(tmp_path).reason or "directory" in refused(tmp_path).reason.lower()
    assert "No such file" in refused(tmp_path / "none").reason
    path = write(tmp_path / "a\x1b]0;x\x07.gguf", word("general.architecture", "ll\x1b[31mama"))
    assert "\x1b" not in read_header(path).architecture
    assert "\x1b" not in refused(tmp_path / "\x1b[2Jgone").reason


@given(st.data())
def test_any_damage_is_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    raw = bytearray(write(path, *GOOD, tensors=("blk.0.attn_k.weight",)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read_header(path)
    except ActionError as error:
        assert error.reason.isprintable()


def vocabulary(path: Path, *pairs: bytes) -> Any:
    return read_header(write(path, word("general.architecture", "qwen3"), *pairs)).vocabulary


ADD_BOS = "tokenizer.ggml.add_bos_token"
GPT2 = word("tokenizer.ggml.model", "gpt2")


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ((GPT2, tokens(300)), (GPT2, tokens(300)), None),
        ((GPT2, tokens(300)), (GPT2, tokens(300 + 128)), None),
        ((GPT2, tokens(300)), (GPT2, tokens(300 + 129)), "300 and 429 tokens"),
        ((GPT2, tokens(300)), (GPT2, tokens(300, {4: b"other"})), None),
        ((GPT2, tokens(300)), (GPT2, tokens(300, {5: b"other"})), "token 5 is another text"),
        ((GPT2, tokens(300)), (word("tokenizer.ggml.model", "llama"), tokens(300)), "BPE and SPM"),
        ((GPT2, tokens(300)), (word("tokenizer.ggml.model", "gemma4"), tokens(300)), None),
        (
            (flag(ADD_BOS, True),),
            (flag(ADD_BOS, False),),
            "adds",
        ),
        (  # ids of a token that neither adds do not matter: Qwen3 against Qwen2.5
            (flag(ADD_BOS, False), number("tokenizer.ggml.bos_token_id", 1)),
            (flag(ADD_BOS, False), number("tokenizer.ggml.bos_token_id", 2)),
            None,
        ),
        (
            (flag(ADD_BOS, True), number("tokenizer.ggml.bos_token_id", 1)),
            (flag(ADD_BOS, True), number("tokenizer.ggml.bos_token_id", 2)),
            "first token is 1 and 2",
        ),
        ((), (GPT2,), None),
    ],
)
def test_vocabularies_match_as_llama_cpp_judges(
    tmp_path: Path, one: tuple[bytes, ...], other: tuple[bytes, ...], reason: str | None
) -> None:
    said = mismatch(vocabulary(tmp_path / "one.gguf", *one), vocabulary(tmp_path / "other.gguf", *other))
    assert said == reason if reason is None else reason in (said or "")
