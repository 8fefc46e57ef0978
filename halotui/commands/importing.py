"""Outputs of llama-bench that were kept in files become runs."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from halotui.benching import llama_bench
from halotui.runs import Environment, Kind, Result, Run, Status
from halotui.safe import clean

_MOST = 64 << 20  # bytes; a longer file is no llama-bench output but, say, a model


class NotImported(Exception):
    """One line: why."""


def read(file: str) -> tuple[bytes, float]:
    """What a file holds, ``-`` being standard input, and when it was written. Raises NotImported."""
    try:
        if file == "-":
            data, when = sys.stdin.buffer.read(_MOST + 1), time.time()
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MOST + 1)
            when = Path(file).stat().st_mtime
    except OSError as error:
        raise NotImported(error.strerror or str(error)) from None
    if len(data) > _MOST:
        raise NotImported(f"no llama-bench output: more than {_MOST >> 20} MiB")
    return data, when


def runs_of(file: str, data: bytes, when: float, label: str = "") -> list[Run]:
    """A run for each model, backend, build and settings in it. ``series`` and ``item`` are digests: a file
    that comes again is known by them. Raises NotImported."""
    groups: dict[str, list[Result]] = {}
    for result in llama_bench.parse(data.decode("utf-8", "replace")):
        groups.setdefault(json.dumps(llama_bench.configuration(result)), []).append(result)
    if not groups:
        raise NotImported("no llama-bench output (md, json, jsonl, csv or sql)")
    name = label or ("stdin" if file == "-" else Path(file).stem)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return [
        Run(
            kind=Kind.IMPORT,
            status=Status.OK,
            label=clean(", ".join([name, *said])),
            started_time=min((r.tested_time for r in results if r.tested_time is not None), default=when),
            environment=_box(results[0]),
            results=tuple(results),
            series=digest,
            item=hashlib.sha256(key.encode()).hexdigest()[:16],
        )
        for said, (key, results) in zip(_apart(list(groups)), groups.items(), strict=True)
    ]


def _apart(keys: list[str]) -> Iterator[list[str]]:
    """For each configuration, what tells it from the others of its file."""
    all_ = [json.loads(key) for key in keys]
    names = dict.fromkeys(name for each in all_ for name in each)
    telling = [name for name in names if len({each.get(name) for each in all_}) > 1]
    for each in all_:
        yield [f"{name} {each[name]}" for name in telling if each.get(name)]


def _box(result: Result) -> Environment | None:
    """As far as the file itself tells."""
    cpu, gpu = result.settings.get("cpu_info", ""), result.settings.get("gpu_info", "")
    return Environment(cpu=cpu, gpu=gpu) if cpu or gpu else None
