"""llama-bench's output in each format, by old and new builds, whole, in pieces, and hostile."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.benching.llama_bench import LONGEST, Reader, name_of, parse
from halotui.runs import Result

SAMPLES = Path(__file__).parents[1] / "fixtures" / "llama_bench"
FORMATS = ("md", "json", "jsonl", "csv", "sql")


def sample(form: str) -> str:
    return (SAMPLES / f"bench-v0.5.0.{form}").read_text()


def record(**changes: Any) -> dict[str, Any]:
    """One of a new build, as json has it."""
    first: dict[str, Any] = json.loads(sample("json"))[0]
    return {**first, **changes}


def one(text: str) -> Result:
    (result,) = parse(text)
    return result


# --- what a new build writes


@pytest.mark.parametrize(
    ("form", "tests", "first"),
    [
        ("md", ["pp32", "tg8"], (402.59, 290.37)),
        ("json", ["pp32", "tg8"], (69.072482, 0.699921)),
        ("jsonl", ["pp64", "tg16", "pp64 @ d128", "tg16 @ d128"], (143.508979, 0.905149)),
        ("csv", ["pp32", "tg8"], (7516.649154, 8607.704619)),
        ("sql", ["pp32", "tg8"], (88.458823, 41.553342)),
    ],
)
def test_every_format(form: str, tests: list[str], first: tuple[float, float]) -> None:
    results = parse(sample(form))
    assert [result.test for result in results] == tests
    assert (results[0].tokens_per_second, results[0].spread) == first
    for result in results:
        assert result.build == "b1 (de3ff81)"
        assert result.backend == "CPU"
        assert result.model_type == "llama ?B all F32"
        assert result.settings["n_threads"] == "2"


def test_all_that_a_record_tells() -> None:
    prompt, generation = parse(sample("json"))
    assert (prompt.prompt_tokens, prompt.generation_tokens, prompt.depth_tokens) == (32, 0, 0)
    assert (generation.prompt_tokens, generation.generation_tokens) == (0, 8)
    assert prompt.samples == (69.5674, 68.5776)
    assert prompt.seconds == pytest.approx(0.463305244)
    assert prompt.model == "tiny.gguf"
    assert (prompt.model_bytes, prompt.parameters) == (2630144, 657536)
    assert prompt.tested_time == 1795197073  # 2026-11-20T17:51:13Z
    assert prompt.settings["flash_attn"] == "-1"
    assert prompt.settings["load_mode"] == "auto"
    assert prompt.settings["embeddings"] == "0"  # false, as csv has it
    for told in ("avg_ts", "test_time", "samples_ts", "n_prompt", "model_size", "build_commit", "backends"):
        assert told not in prompt.settings


def test_settings_are_the_same_in_every_format_that_has_them_all() -> None:
    assert (
        len({tuple(parse(sample(form))[0].settings.items()) for form in ("json", "jsonl", "csv", "sql")}) == 1
    )


def test_depth() -> None:
    deep = parse(sample("jsonl"))[3]
    assert (deep.test, deep.generation_tokens, deep.depth_tokens) == ("tg16 @ d128", 16, 128)


def test_both_at_once_has_both_in_its_name() -> None:
    assert one(json.dumps(record(n_prompt=512, n_gen=128, n_depth=4096))).test == "pp512+tg128 @ d4096"


def test_a_single_repeat_has_no_spread() -> None:
    assert one(json.dumps(record(samples_ts=[69.0], stddev_ts=0.0))).spread is None


MARKDOWN = (SAMPLES / "varied-b4748-SYNTHETIC.md").read_text()


def test_a_table_with_the_columns_that_vary() -> None:
    prompt, deep, both = parse(MARKDOWN)
    assert (prompt.tokens_per_second, prompt.spread, deep.spread, both.spread) == (884.20, 2.31, 0.0, None)
    assert (deep.test, both.test) == ("tg128 @ d4096", "pp512+tg128")
    assert prompt.settings == {"n_gpu_layers": "99", "n_batch": "256", "type_k": "q8_0", "flash_attn": "1"}
    assert prompt.backend == "Vulkan,RPC"
    assert prompt.model_bytes == round(3.56 * 2**30) and prompt.parameters == 6_740_000_000
    assert {result.build for result in (prompt, deep, both)} == {"b4748 (34c961b)"}


def test_each_table_has_the_build_below_it() -> None:
    none = MARKDOWN.replace("build: 34c961b (4748)", "")
    other = MARKDOWN.replace("34c961b (4748)", "1111111 (5000)")
    builds = [result.build for result in parse(none + other + MARKDOWN)]
    assert builds == [""] * 3 + ["b5000 (1111111)"] * 3 + ["b4748 (34c961b)"] * 3


def test_a_stream_does_not_wait_for_the_build() -> None:
    reader = Reader()
    head, _, rest = MARKDOWN.partition("|           pp512 |        884.20 ± 2.31 |\n")
    assert not reader.feed(head.encode())
    (prompt,) = reader.feed("|           pp512 |        884.20 ± 2.31 |\n".encode())
    assert (prompt.test, prompt.build, reader.build) == ("pp512", "", "")
    assert len(reader.feed(rest.encode())) == 2
    assert reader.build == "b4748 (34c961b)" and not reader.close()


# --- what old builds wrote

# early 2025: no depth, flash_attn as a bool, use_mmap
OLD = {
    key: value
    for key, value in json.loads((SAMPLES / "bench-v0.5.0.json").read_text())[0].items()
    if key
    not in (
        "n_depth",
        "n_cpu_moe",
        "devices",
        "load_mode",
        "lazy_mode",
        "fit_target",
        "fit_min_ctx",
        "no_host",
    )
} | {"flash_attn": True, "use_mmap": False, "build_commit": "34c961b", "build_number": 4748}


def test_a_bool_for_flash_attention_and_no_depth() -> None:
    result = one(json.dumps(OLD))
    assert (result.test, result.depth_tokens, result.build) == ("pp32", 0, "b4748 (34c961b)")
    assert (result.settings["flash_attn"], result.settings["use_mmap"]) == ("1", "0")
    assert "load_mode" not in result.settings


OLDEST = """\
build_commit,build_number,cuda,opencl,vulkan,metal,gpu_blas,blas,cpu_info,gpu_info,model_filename,model_type,\
model_size,model_n_params,n_batch,n_threads,f16_kv,n_gpu_layers,main_gpu,mul_mat_q,tensor_split,n_prompt,n_gen,\
test_time,avg_ns,stddev_ns,avg_ts,stddev_ts
"3469684","1275","{cuda}","0","{vulkan}","0","1","1","A ""CPU"", fast","{gpu}","m/7B/ggml-model-q4_0.gguf",\
"llama 7B mostly Q4_0","3825065984","6738415616","512","16","1","99","0","1","0.00","512","0",\
"2023-09-23T12:09:01Z","212155977","732372","2413.341687","8.305961"
"""


@pytest.mark.parametrize(
    ("cuda", "vulkan", "gpu", "backend"),
    [
        (1, 0, "NVIDIA GeForce RTX 3090 Ti", "CUDA"),
        (1, 0, "AMD Radeon Graphics", "ROCm"),
        (0, 1, "Radeon 8060S (RADV GFX1151)", "Vulkan"),
    ],
)
def test_a_column_for_each_backend(cuda: int, vulkan: int, gpu: str, backend: str) -> None:
    result = one(OLDEST.format(cuda=cuda, vulkan=vulkan, gpu=gpu))
    assert (result.backend, result.build, result.test) == (backend, "b1275 (3469684)", "pp512")
    assert (result.tokens_per_second, result.spread, result.samples) == (2413.341687, 8.305961, ())
    assert result.settings["cpu_info"] == 'A "CPU", fast'
    assert not {"cuda", "vulkan", "blas"} & result.settings.keys()


def test_the_oldest_words_for_a_test() -> None:
    rows = "| model | test | t/s |\n| a | tg 128 | 132.19 ± 0.55 |\n| a | pp 512 | 2400.01 |\n"
    assert [(r.test, r.tokens_per_second, r.spread) for r in parse(rows)] == [
        ("tg128", 132.19, 0.55),
        ("pp512", 2400.01, None),
    ]


def test_sql_escapes_nothing() -> None:
    text = sample("sql").replace("models/tiny.gguf", "models/it's (tiny), 'new'.gguf")
    assert [result.model for result in parse(text)] == ["it's (tiny), 'new'.gguf"] * 2


# --- what stands around


@pytest.mark.parametrize("form", FORMATS)
def test_in_pieces_of_any_size(form: str) -> None:
    data = sample(form).encode()
    whole = parse(sample(form))
    for size in (1, 7, 64, 4096):
        reader = Reader(whole=True)
        results = [r for at in range(0, len(data), size) for r in reader.feed(data[at : at + size])]
        assert results + reader.close() == whole


@pytest.mark.parametrize("form", FORMATS)
def test_a_terminal_s_line_ends_colours_and_progress(form: str) -> None:
    noisy = "".join(
        f"\x1b[0mllama-bench: benchmark 1/4: prompt run 1/2\rload {{ 10%\r\x1b]0;title\x07{line}\x1b[0m\r\n"
        for line in sample(form).splitlines()
    )
    if form != "json":  # where a record goes over lines, whatever stands between them is of it
        assert parse(noisy) == parse(sample(form))
    assert parse(sample(form).replace("\n", "\r\n")) == parse(sample(form))


def test_all_formats_after_each_other_with_garbage_between() -> None:
    forms = [sample(form) for form in FORMATS]
    garbage = 'ROCm error: {"unfinished": "\n\xff{ [ 12%\n"x","y"\n|a|b|\nINSERT INTO t (a) VALUES (1);\n'
    text = garbage + garbage.join(forms) + garbage
    assert parse(text) == [result for form in forms for result in parse(form)]


def test_objects_in_one_line_and_within_another() -> None:
    rows = [record(), record(n_prompt=64)]
    assert [r.test for r in parse(json.dumps(rows))] == ["pp32", "pp64"]
    assert [r.test for r in parse(json.dumps({"results": rows, "host": {"name": "x"}}))] == ["pp32", "pp64"]


def test_a_record_comes_before_the_next_line_is_there() -> None:
    first = sample("jsonl").splitlines(keepends=True)[0].encode()
    reader = Reader()
    assert not reader.feed(first[:-1])  # its line is not whole
    assert len(reader.feed(first[-1:])) == 1
    assert not reader.close()


def test_the_last_line_may_lack_its_end() -> None:
    reader = Reader()
    assert not reader.feed(sample("csv").rstrip("\n").rpartition("\n")[0].encode())
    assert len(reader.close()) == 1


@pytest.mark.parametrize(
    "text", ["", "\n", "hello", "{}", "[]", "{" * 10_000, "[" * 10_000, "| | |", "null\0"]
)
def test_none_of_these(text: str) -> None:
    assert parse(text) == []


# --- hostile


@pytest.mark.parametrize(
    "change",
    [
        {"avg_ts": "fast"},
        {"avg_ts": None},
        {"avg_ts": 0},
        {"avg_ts": -1.0},
        {"avg_ts": 1e300},
        {"avg_ts": True},
        {"n_prompt": -5},
        {"n_prompt": 10**30},
        {"n_prompt": [512]},
        {"n_prompt": 0, "n_gen": 0},
        {"n_depth": "deep"},
        {"samples_ts": [1.0, "x"]},
        {"samples_ts": {"a": 1}},
        {"samples_ts": [1.0] * 10_001},
        {"model_filename": 7},
        {"model_size": 1e40},
        {"stddev_ts": -3},
    ],
)
def test_one_unsound_record_is_left_out_and_costs_no_other(change: dict[str, Any]) -> None:
    lines = [json.dumps(record()), json.dumps(record(**change)), json.dumps(record(n_prompt=64))]
    assert [result.test for result in parse("\n".join(lines))] == ["pp32", "pp64"]


@pytest.mark.parametrize("form", ["json", "csv", "sql"])
@pytest.mark.parametrize("said", ["nan", "-nan", "inf", "-inf", "1e999"])
def test_a_speed_that_is_no_number(form: str, said: str) -> None:
    first = {"json": "69.072482", "csv": "7516.649154", "sql": "88.458823"}[form]
    assert [result.test for result in parse(sample(form).replace(first, said))] == ["tg8"]


@pytest.mark.parametrize(
    ("form", "spread"), [("json", "0.699921"), ("csv", "8607.704619"), ("sql", "41.553342")]
)
def test_a_spread_that_rounding_made_no_number_is_unknown(form: str, spread: str) -> None:
    first, second = parse(sample(form).replace(spread, "-nan"))
    assert first.spread is None and second.spread is not None


def test_nothing_grows_with_what_never_ends() -> None:
    reader = Reader()
    tracemalloc.start()
    try:
        for start in (b'{"a": 1,', b"|", b"", b"build_commit,avg_ts,n_prompt,n_gen"):
            assert not reader.feed(start)
            for _ in range(60):
                assert not reader.feed(b'x, "y": 1,' * 10_000)  # 6 MB without a line's end
            assert not reader.feed(b"\n")
        assert not reader.feed(b"{\n")
        for _ in range(60):
            assert not reader.feed(b'"key": 1,\n' * 1000)  # a record that never ends
        assert tracemalloc.get_traced_memory()[1] < 12 * LONGEST
    finally:
        tracemalloc.stop()
    assert len(reader.feed(sample("jsonl").encode())) == 4  # and it reads on


def test_nothing_harmful_comes_out() -> None:
    evil = "\x1b[2J\u202eevil\x07" + "x" * 5000
    result = one(json.dumps(record(model_type=evil, model_filename=f"/m/{evil}", type_k=evil, backends=evil)))
    for text in (result.model_type, result.model, result.backend, result.settings["type_k"]):
        assert text.startswith("evil") and len(text) <= 200


@given(st.data())
def test_whatever_is_broken_nothing_is_raised(data: st.DataObject) -> None:
    raw = bytearray(sample(data.draw(st.sampled_from(FORMATS))).encode())
    dice = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(dice.randrange(1, 8)):
        at = dice.randrange(len(raw))
        match dice.randrange(4):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at : at + dice.randrange(100)]
            case 2:
                raw[at:at] = raw[dice.randrange(len(raw)) :][: dice.randrange(500)]
            case _:
                raw[at:at] = dice.choice(
                    [b"{", b'"', b"}", b"\n", b"|", b"1e999", b"[" * 500, b"-nan", b"\r"]
                )
    sound(Reader(), bytes(raw))


@given(st.binary(max_size=2000))
def test_any_bytes(raw: bytes) -> None:
    sound(Reader(whole=True), raw)


def sound(reader: Reader, raw: bytes) -> None:
    """Whatever comes out can be used, stored and shown."""
    for result in [*reader.feed(raw), *reader.close()]:
        assert result.tokens_per_second is not None and 0 < result.tokens_per_second < 1e9
        assert result.spread is None or 0 <= result.spread < 1e9
        assert all(0 < value < 1e9 and math.isfinite(value) for value in result.samples)
        assert result.test.startswith(("pp", "tg")) and result.test.isprintable()
        assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


speeds = st.floats(0.01, 1e6)
words = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='\\"|`*'), max_size=30)
sound_records = st.builds(
    record,
    n_prompt=st.integers(1, 10**6),
    n_gen=st.integers(0, 10**6),
    n_depth=st.integers(0, 10**6),
    avg_ts=speeds,
    stddev_ts=speeds,
    samples_ts=st.lists(speeds, min_size=2, max_size=10),
    model_filename=words.map(lambda word: f"models/{word.replace('/', '')}"),
    flash_attn=st.sampled_from([-1, 0, 1, True, False]),
    n_batch=st.integers(1, 4096),
)


@given(st.lists(sound_records, max_size=5))
def test_every_format_says_the_same(records: list[dict[str, Any]]) -> None:
    """As llama-bench's own printers write them."""
    told_once = {key: value for key, value in record().items() if not key.startswith("samples")}
    rows = [[quoted(row[key]) for key in told_once] for row in records]
    text = {
        "json": json.dumps(records, indent=2),
        "jsonl": "\n".join(map(json.dumps, records)),
        "csv": "\n".join(map(",".join, [list(told_once), *rows])),
        "md": "\n".join(
            ["| model | n_batch | fa | test | t/s |", *map(row_of, records), "", "build: de3ff81 (1)"]
        ),
    }
    told = {form: parse(one) for form, one in text.items()}
    assert [len(results) for results in told.values()] == [len(records)] * 4
    assert told["json"] == told["jsonl"]
    for row, exact, plain, table in zip(records, told["json"], told["csv"], told["md"], strict=True):
        assert exact.tokens_per_second == plain.tokens_per_second == row["avg_ts"]
        assert exact.samples == tuple(row["samples_ts"])
        assert exact.model == plain.model == row["model_filename"].removeprefix("models/").strip()
        assert exact.settings == plain.settings
        assert exact.test == plain.test == table.test
        assert exact.build == plain.build == table.build
        assert table.tokens_per_second == pytest.approx(row["avg_ts"], abs=0.0051)
        assert table.settings.items() <= exact.settings.items()


def quoted(value: object) -> str:
    return f'"{int(value) if isinstance(value, bool) else value}"'.replace("\n", "")


def row_of(row: dict[str, Any]) -> str:
    test = name_of(row["n_prompt"], row["n_gen"], row["n_depth"])
    rate = f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"
    return f"| {row['model_type']} | {row['n_batch']} | {int(row['flash_attn'])} | {test} | {rate} |"
