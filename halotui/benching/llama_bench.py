"""llama-bench's output: md, json, jsonl, csv and sql, as old and new builds write them.

It is read as it comes, line by line; whatever else stands in the stream is passed over. A record that is
not whole or not sound is left out: nothing here raises, and nothing grows with a line that never ends.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from halotui.runs import Result
from halotui.safe import clean

LONGEST = 1 << 20  # characters of a line, and of a JSON record
LONGEST_TEXT = 200  # of a value

_Speed = Annotated[float, Meta(gt=0, lt=1e9)]  # tokens/s; neither NaN nor infinite
_Spread = Annotated[float, Meta(ge=0, lt=1e9)]
_Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class _Record(Struct, kw_only=True):
    """One test under llama-bench's own names; csv and sql give every value as text."""

    avg_ts: _Speed
    stddev_ts: _Spread | None = None
    samples_ts: Annotated[tuple[_Speed, ...], Meta(max_length=10_000)] = ()
    avg_ns: _Count | None = None
    n_prompt: _Count
    n_gen: _Count
    n_depth: _Count = 0  # not in builds of early 2025 and before
    build_commit: str = ""
    build_number: _Count = 0
    backends: str = ""
    model_filename: str = ""
    model_type: str = ""
    model_size: _Count | None = None
    model_n_params: _Count | None = None
    test_time: str = ""
    gpu_info: str = ""


# Until late in 2024 a column for each backend stood where ``backends`` stands now; the first that is set won.
_OLD_BACKENDS = {
    "cuda": "CUDA",
    "vulkan": "Vulkan",
    "opencl": "OpenCL",
    "kompute": "Kompute",
    "metal": "Metal",
    "sycl": "SYCL",
    "gpu_blas": "GPU BLAS",
    "blas": "BLAS",
    "rpc": "RPC",
}
_AMD = re.compile(r"AMD|Radeon|gfx\d", re.IGNORECASE)
# What is said of a test beside its settings; ``gpu_info`` is one of them, too.
_NO_SETTINGS = {*_Record.__struct_fields__, "stddev_ns", "samples_ns", *_OLD_BACKENDS} - {"gpu_info"}
# A md table heads its columns with the flags.
_MD_NAMES = {
    "model": "model_type",
    "size": "model_size",
    "params": "model_n_params",
    "backend": "backends",
    "ngl": "n_gpu_layers",
    "threads": "n_threads",
    "sm": "split_mode",
    "mg": "main_gpu",
    "nkvo": "no_kv_offload",
    "fa": "flash_attn",
    "mmap": "use_mmap",
    "dio": "use_direct_io",
    "lm": "load_mode",
    "lzm": "lazy_mode",
    "embd": "embeddings",
    "nopo": "no_op_offload",
    "noh": "no_host",
    "dev": "devices",
    "ts": "tensor_split",
    "ot": "tensor_buft_overrides",
    "fitt": "fit_target",
    "fitc": "fit_min_ctx",
}
_UNITS = {
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "K": 10**3,
    "M": 10**6,
    "B": 10**9,
    "T": 10**12,
}

_TEST = re.compile(r"(?:pp ?(\d{1,15}))?(?:\+?tg ?(\d{1,15}))?(?: *@ *d ?(\d{1,15}))?\Z")
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:\s*[^\s\w.]{1,3}\s*(\d+(?:\.\d+)?|-?nan))?\Z")  # 884.20 ± 2.31
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)\Z")
_BUILD = re.compile(r"build: (\S+) \((\d{1,15})\)")
_INSERT = re.compile(r"INSERT INTO \w+ \(([\w, ]+)\) VALUES \('(.*)'\);?\Z")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}]')
_NOT_JSON = re.compile(r"(?<=[:\[, ])-?(?:nan|inf)(?=[\s,\]}])")  # as C++ prints them


def parse(text: str) -> list[Result]:
    """The records of a whole output; empty when it is none of llama-bench's."""
    reader = Reader(whole=True)
    return [*reader.feed(text.encode("utf-8", "replace")), *reader.close()]


def name_of(prompt: int, generation: int, depth: int) -> str:
    """A test in llama-bench's own words: pp512, tg128, pp512+tg128, pp512 @ d4096."""
    test = "+".join(f"{kind}{tokens}" for kind, tokens in (("pp", prompt), ("tg", generation)) if tokens)
    return f"{test} @ d{depth}" if depth else test


def configuration(result: Result) -> dict[str, str]:
    """All that tells a result from another of the same test."""
    of_result = {"model": result.model or result.model_type, "backend": result.backend, "build": result.build}
    return of_result | result.settings


class Reader:
    """The same from a stream: each record as soon as it is whole.

    md names the build below its table. ``whole``: its rows wait for that line; else they come at once,
    without a build, and ``build`` tells it later.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.build = ""  # the last that a md output named
        self._whole = whole
        self._line = bytearray()
        self._too_long = False
        self._waiting: list[Result] = []
        self._markdown = _Markdown()
        self._forms: tuple[Callable[[str], Iterator[Result]], ...] = (_Json().take, _Csv().take, _sql)

    def feed(self, data: bytes) -> list[Result]:
        # A progress line ends with CR alone.
        *ends, rest = data.replace(b"\r", b"\n").split(b"\n")
        results = []
        for end in ends:
            self._append(end)
            results += self._end_line()
        self._append(rest)
        return results

    def close(self) -> list[Result]:
        """What the end makes whole."""
        return [*self._end_line(), *self._release()]

    def _append(self, part: bytes) -> None:
        self._line += part[: LONGEST + 1]
        if len(self._line) > LONGEST:
            self._line.clear()
            self._too_long = True

    def _end_line(self) -> list[Result]:
        raw, lost = bytes(self._line), self._too_long
        self._line.clear()
        self._too_long = False
        line = "" if lost else clean(raw, LONGEST).strip()
        return list(self._take(line)) if line else []

    def _take(self, line: str) -> Iterator[Result]:
        for take in self._forms:
            yield from take(line)
        if built := _BUILD.match(line):
            self.build = _build(built[1], int(built[2]))
            yield from self._release()
        elif line.startswith("|"):
            if self._markdown.heads(line):
                yield from self._release()  # of a table that had no build line
                self.build = ""
            elif (row := self._markdown.row(line)) is not None:
                if self._whole:
                    self._waiting.append(row)
                else:
                    yield row

    def _release(self) -> list[Result]:
        rows, self._waiting = self._waiting, []
        return [msgspec.structs.replace(row, build=self.build) for row in rows]


class _Json:
    """json, jsonl, and any other way to write the same objects. Records are flat, and no string goes over a
    line's end: so a stray brace costs at most what comes before the next."""

    def __init__(self) -> None:
        self._parts: list[str] = []  # of the record that has begun
        self._size = 0

    def take(self, line: str) -> Iterator[Result]:
        begin = 0 if self._parts else line.find("{")
        if begin < 0:
            return
        start: int | None = begin if self._parts else None
        for token in _TOKEN.finditer(line, begin):
            if token[0] == "{":
                self._drop()
                start = token.start()
            elif token[0] == '"':
                self._drop()
                return
            elif token[0] == "}" and start is not None:
                record = "\n".join((*self._parts, line[start : token.end()]))
                self._drop()
                start = None
                yield from _json(record)
        if start is not None:
            self._parts.append(line[start:])
            self._size += len(line) - start + 1
            if self._size > LONGEST:
                self._drop()

    def _drop(self) -> None:
        self._parts, self._size = [], 0


def _json(text: str) -> Iterator[Result]:
    for form in (text, _NOT_JSON.sub("null", text)):
        try:
            fields = msgspec.json.decode(form, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            continue
        yield from _result(fields)
        return


class _Csv:
    """A line of names, then lines of values; a value holds no line's end."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def take(self, line: str) -> Iterator[Result]:
        if "," not in line or not (self._names or "avg_ts" in line):
            return
        try:
            cells = next(csv.reader([line]))
        except (csv.Error, StopIteration):
            return
        if {"n_prompt", "n_gen", "avg_ts"}.issubset(cells):
            self._names = cells
        elif len(cells) == len(self._names):
            yield from _result(dict(zip(self._names, cells, strict=True)))


def _sql(line: str) -> Iterator[Result]:
    """llama-bench escapes nothing here: only what stands between two values parts them."""
    if found := _INSERT.match(line):
        names, values = found[1].split(", "), found[2].split("', '")
        if len(names) == len(values):
            yield from _result(dict(zip(names, values, strict=True)))


class _Markdown:
    """A table whose columns are those that vary, or differ from the defaults."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def heads(self, line: str) -> bool:
        cells = _cells(line)
        if "test" not in cells or "t/s" not in cells:
            return False
        self._names = [_MD_NAMES.get(cell, cell) for cell in cells]
        return True

    def row(self, line: str) -> Result | None:
        cells = _cells(line)
        if len(cells) != len(self._names):
            return None
        fields: dict[str, Any] = dict(zip(self._names, cells, strict=True))
        test, rate = _TEST.match(fields.pop("test")), _RATE.match(fields.pop("t/s"))
        if test is None or rate is None:
            return None
        for name, group in (("n_prompt", 1), ("n_gen", 2), ("n_depth", 3)):
            fields[name] = test[group] or 0
        fields["avg_ts"], fields["stddev_ts"] = rate[1], rate[2]
        for name in ("model_size", "model_n_params"):
            fields[name] = _amount(fields.get(name, ""))
        return next(_result(fields), None)


def _cells(line: str) -> list[str]:
    return [cell.strip(" *`") for cell in line.strip("|").split("|")]


def _amount(cell: str) -> int | None:
    """``3.56 GiB``, ``6.74 B``: to three digits, as it was printed."""
    found = _AMOUNT.match(cell)
    return round(float(found[1][:30]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None


def _result(fields: Mapping[str, Any]) -> Iterator[Result]:
    """One, or none where the record is not sound."""
    known = {name: None if _is_nan(value) else value for name, value in fields.items()}
    try:
        record = msgspec.convert(known, _Record, strict=False)
    except msgspec.ValidationError:
        return
    if not record.n_prompt and not record.n_gen:
        return
    settings = {clean(name, 60): _setting(value) for name, value in known.items() if name not in _NO_SETTINGS}
    yield Result(
        test=name_of(record.n_prompt, record.n_gen, record.n_depth),
        prompt_tokens=record.n_prompt,
        generation_tokens=record.n_gen,
        depth_tokens=record.n_depth,
        tokens_per_second=record.avg_ts,
        spread=None if len(record.samples_ts) == 1 else record.stddev_ts,  # a single one has none
        samples=record.samples_ts,
        seconds=record.avg_ns / 1e9 if record.avg_ns else None,
        model=_text(record.model_filename.replace("\\", "/").rpartition("/")[2]),
        model_type=_text(record.model_type),
        model_bytes=record.model_size,
        parameters=record.model_n_params,
        backend=_text(record.backends) or _old_backend(known, record.gpu_info),
        build=_build(record.build_commit, record.build_number),
        settings={name: value for name, value in settings.items() if value},
        tested_time=_time(record.test_time),
    )


def _is_nan(value: object) -> bool:
    """The spread of equal repeats comes out as -nan in some builds."""
    return value != value or (isinstance(value, str) and value in ("nan", "-nan"))


def _setting(value: object) -> str:
    """As csv has it: json's true is 1."""
    if isinstance(value, bool):
        return str(int(value))
    return _text(value) if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ""


def _text(value: str) -> str:
    return clean(value, LONGEST_TEXT).strip()


def _old_backend(fields: Mapping[str, Any], gpu: str) -> str:
    name = next((said for key, said in _OLD_BACKENDS.items() if str(fields.get(key)) in ("1", "True")), "")
    if name == "CUDA" and _AMD.search(gpu):
        return "ROCm"  # the same code, built for AMD
    return name or ("CPU" if any(key in fields for key in _OLD_BACKENDS) else "")


def _build(commit: str, number: int) -> str:
    """``b11549 (de3ff81)``; a build that does not know its commit has none."""
    commit = _text(commit)
    known = commit if commit != "unknown" else ""
    if not number:
        return known
    return f"b{number} ({known})" if known else f"b{number}"


def _time(said: str) -> float | None:
    try:
        when = datetime.fromisoformat(said)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
