"""llama-bench's output formats, as build 11549 writes them. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any, Protocol

from halotui.demo.bench_flags import Said

_FIELDS = """
    build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params
    n_batch n_ubatch n_threads cpu_mask cpu_strict poll type_k type_v n_gpu_layers n_cpu_moe split_mode
    main_gpu no_kv_offload flash_attn devices tensor_split tensor_buft_overrides load_mode lazy_mode
    embeddings no_op_offload no_host repack fit_target fit_min_ctx n_prompt n_gen n_depth test_time
    avg_ns stddev_ns avg_ts stddev_ts
"""
FIELDS = tuple(_FIELDS.split())
_TEXTS = """
    build_commit cpu_info gpu_info backends model_filename model_type cpu_mask type_k type_v split_mode
    devices tensor_split tensor_buft_overrides load_mode lazy_mode test_time
"""
_SQL = {**dict.fromkeys(_TEXTS.split(), "TEXT"), "avg_ts": "REAL", "stddev_ts": "REAL"}  # else INTEGER
CONSTANT = {  # what has no flag here
    "cpu_mask": "0x0",
    "cpu_strict": False,
    "poll": 50,
    "n_cpu_moe": 0,
    "no_kv_offload": False,
    "tensor_split": "0.00",
    "tensor_buft_overrides": "none",
    "lazy_mode": "auto",
    "embeddings": False,
    "repack": True,
    "fit_target": 0,
    "fit_min_ctx": 0,
}
_AS_NUMBER = ("no_op_offload",)  # a switch that json has as 0 and 1
_COLUMNS = {  # of a table, in its order: what heads it and how wide it is; negative: to the left
    "n_gpu_layers": ("ngl", 3),
    "n_threads": ("threads", 7),
    "n_batch": ("n_batch", 7),
    "n_ubatch": ("n_ubatch", 8),
    "type_k": ("type_k", 6),
    "type_v": ("type_v", 6),
    "main_gpu": ("main_gpu", 10),
    "split_mode": ("sm", 6),
    "flash_attn": ("fa", 3),
    "devices": ("dev", -12),
    "load_mode": ("lm", 10),
    "no_op_offload": ("nopo", 4),
    "no_host": ("noh", 4),
}
Record = dict[str, Any]


def record(settings: Record, samples_ns: Sequence[int]) -> Record:
    """All its fields, in order, and the samples."""
    tokens = settings["n_prompt"] + settings["n_gen"]
    rates = [1e9 * tokens / nanoseconds for nanoseconds in samples_ns]
    known = {
        **CONSTANT,
        **settings,
        "avg_ns": round(fmean(samples_ns)),
        "stddev_ns": round(stdev(samples_ns)) if len(samples_ns) > 1 else 0,
        "avg_ts": fmean(rates),
        "stddev_ts": stdev(rates) if len(rates) > 1 else 0.0,
    }
    return {name: known[name] for name in FIELDS} | {"samples_ns": list(samples_ns), "samples_ts": rates}


class Format(Protocol):
    """Text, each piece with its line's end."""

    def head(self) -> str: ...
    def test(self, record: Record) -> str: ...
    def foot(self, build: str) -> str: ...


class _Plain:
    def __init__(self, said: Said, gpu: bool) -> None:
        pass

    def head(self) -> str:
        return ""

    def foot(self, build: str) -> str:
        return ""


class _Csv(_Plain):
    def head(self) -> str:
        return ",".join(FIELDS) + "\n"

    def test(self, record: Record) -> str:
        return ",".join('"{}"'.format(_text(record[name]).replace('"', '""')) for name in FIELDS) + "\n"


class _Jsonl(_Plain):
    def test(self, record: Record) -> str:
        fields = "".join(f'"{name}": {value}, ' for name, value in _json(record))
        times, rates = _samples(record)
        return f'{{{fields}"samples_ns": [ {times} ],"samples_ts": [ {rates} ]}}\n'


class _Json(_Plain):
    _first = True

    def head(self) -> str:
        return "[\n"

    def test(self, record: Record) -> str:
        comma, self._first = ("" if self._first else ",\n"), False
        fields = "".join(f'    "{name}": {value},\n' for name, value in _json(record))
        times, rates = _samples(record)
        samples = f'    "samples_ns": [ {times} ],\n    "samples_ts": [ {rates} ]\n'
        return f"{comma}  {{\n{fields}{samples}  }}"

    def foot(self, build: str) -> str:
        return "\n]\n"


class _Sql(_Plain):
    def head(self) -> str:
        kinds = ",\n".join(f"  {name} {_SQL.get(name, 'INTEGER')}" for name in FIELDS)
        return f"CREATE TABLE IF NOT EXISTS llama_bench (\n{kinds}\n);\n\n"

    def test(self, record: Record) -> str:
        values = ", ".join(f"'{_text(record[name])}'" for name in FIELDS)
        return f"INSERT INTO llama_bench ({', '.join(FIELDS)}) VALUES ({values});\n"


class _Markdown(_Plain):
    """Of the settings those that vary, or differ from the defaults; with a GPU layers, else threads."""

    def __init__(self, said: Said, gpu: bool) -> None:
        always = {"n_gpu_layers": gpu, "n_threads": not gpu or said.varies("n_threads")}
        shown = [name for name in _COLUMNS if always.get(name, said.varies(name))]
        self._names = ["model", "size", "params", "backend", *shown, "test", "t/s"]
        ends = {"model": -30, "size": 10, "params": 10, "backend": -10, "test": 15, "t/s": 20}
        self._widths = [ends.get(name) or _COLUMNS[name][1] for name in self._names]

    def head(self) -> str:
        titles = [_COLUMNS[name][0] if name in _COLUMNS else name for name in self._names]
        dashes = ["-" * (abs(width) - 1) + ("-" if width < 0 else ":") for width in self._widths]
        return self._row(titles) + self._row(dashes)

    def test(self, record: Record) -> str:
        shown = {
            "model": record["model_type"],
            "size": _size(record["model_size"]),
            "params": _parameters(record["model_n_params"]),
            "backend": record["backends"],
            "test": _test(record),
            "t/s": f"{record['avg_ts']:.2f} ± {record['stddev_ts']:.2f}",
        }
        return self._row([shown[name] if name in shown else _text(record[name]) for name in self._names])

    def foot(self, build: str) -> str:
        return f"\nbuild: {build}\n"

    def _row(self, cells: Sequence[str]) -> str:
        padded = (
            f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
            for cell, width in zip(cells, self._widths, strict=True)
        )
        return f"| {' | '.join(padded)} |\n"


FORMATS: dict[str, type[Any]] = {"csv": _Csv, "json": _Json, "jsonl": _Jsonl, "md": _Markdown, "sql": _Sql}


def _text(value: object) -> str:
    """As csv has it."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _json(record: Record) -> Iterator[tuple[str, str]]:
    for name in FIELDS:
        value = record[name]
        if isinstance(value, bool) and name not in _AS_NUMBER:
            yield name, str(value).lower()
        elif isinstance(value, str):
            yield name, '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
        else:
            yield name, _text(value)


def _samples(record: Record) -> tuple[str, str]:
    times = ", ".join(map(str, record["samples_ns"]))
    return times, ", ".join(f"{rate:.6g}" for rate in record["samples_ts"])


def _test(record: Record) -> str:
    parts = ((kind, record[name]) for kind, name in (("pp", "n_prompt"), ("tg", "n_gen")))
    test = "+".join(f"{kind}{tokens}" for kind, tokens in parts if tokens)
    return test + (f" @ d{record['n_depth']}" if record["n_depth"] else "")


def _size(size: int) -> str:
    return f"{size / (1 << 20):.2f} MiB" if size < 1 << 30 else f"{size / (1 << 30):.2f} GiB"


def _parameters(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 10**9 else f"{count / 1e9:.2f} B"
