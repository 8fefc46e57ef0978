"""What is the same and what differs between sides, beside the numbers: model, build, settings, box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from halotui.benching.sides import Side
from halotui.benching.tables import mib
from halotui.format import DASH
from halotui.runs import Environment, Kind, Run

# Attribute of Environment -> the word for it; first what explains a difference most often.
_BOX = {
    "host": "host",
    "distribution": "distribution",
    "kernel": "kernel",
    "kernel_parameters": "kernel parameters",
    "firmware": "firmware",
    "mesa": "mesa",
    "rocm": "rocm",
    "power_mode": "power mode",
    "performance_level": "dpm",
    "governor": "governor",
    "cpu": "cpu",
    "gpu": "gpu",
    "memory_bytes": "memory (MiB)",
    "gtt_total_bytes": "GTT (MiB)",
    "vram_total_bytes": "VRAM (MiB)",
}
MODEL, ENV = "model", "env "
# Said even where it is the same: without these a number means nothing. The model's and backend's names speak
# for themselves.
LABELS = (MODEL, "backend", "build", "gpu", "kernel", "firmware", "mesa", "rocm", "power mode")
_BARE = (MODEL, "backend", "build", "gpu")
# llama-bench's setting -> its flag: those that move its numbers most.
_FLAGS = {
    "n_gpu_layers": "-ngl",
    "flash_attn": "-fa",
    "n_batch": "-b",
    "n_ubatch": "-ub",
    "type_k": "-ctk",
    "type_v": "-ctv",
}
_MOST = 3  # values that one side may have before it is "several"

Facts = dict[str, str]


def facts(side: Side) -> Facts:
    """What is known of it; a side may have several values of one thing."""
    seen: dict[str, dict[str, None]] = {}
    for name, value in _all(side):
        seen.setdefault(name, {})[value] = None
    return {name: _listed(list(values)) for name, values in seen.items()}


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:_MOST]) + (f" … ({len(values)})" if len(values) > _MOST else "")


def _all(side: Side) -> Iterator[tuple[str, str]]:
    pairs = (pair for part in (_results(side), _boxes(side.runs), _env(side.runs)) for pair in part)
    return ((name, value) for name, value in pairs if value)


def _results(side: Side) -> Iterator[tuple[str, str]]:
    for result in side.results:
        yield MODEL, result.model_type or result.model
    for result in side.results:
        yield "file", result.model
    for result in side.results:
        yield "backend", result.backend
        yield "build", result.build
        if result.backend:  # llama-bench's; a workload's settings say the same as its name
            yield from result.settings.items()


def _boxes(runs: Iterable[Run]) -> Iterator[tuple[str, str]]:
    return (pair for run in runs if run.environment for pair in of_box(run.environment))


def of_box(box: Environment) -> Iterator[tuple[str, str]]:
    """What is known of it, in words."""
    for attribute, name in _BOX.items():
        if value := getattr(box, attribute):
            words = " ".join(value) if isinstance(value, tuple) else str(value)
            yield name, mib(value) if attribute.endswith("_bytes") else words


def _env(runs: Iterable[Run]) -> Iterator[tuple[str, str]]:
    for run in runs:
        yield from ((f"{ENV}{name}", value) for name, value in run.env.items())


def same(known: Sequence[Facts]) -> Facts:
    """What every side has, and alike."""
    first, *others = known
    return {name: value for name, value in first.items() if all(o.get(name) == value for o in others)}


def differing(sides: Sequence[Side], known: Sequence[Facts]) -> dict[str, tuple[str, ...]]:
    """What at least two sides know and do not agree on. A variable that was not set is known to be unset,
    other than a setting that a file does not tell."""
    names = dict.fromkeys(name for each in known for name in each)
    measured = all(run.kind is not Kind.IMPORT for side in sides for run in side.runs)
    found = {}
    for name in names:
        values = [each.get(name) for each in known]
        told = {value for value in values if value is not None}
        unset = measured and name.startswith(ENV) and None in values
        if len(told) > 1 or (unset and told):
            found[name] = tuple(value or DASH for value in values)
    return found


def label_line(known: Mapping[str, str]) -> str:
    """``llama 7B Q4_0 · Vulkan · b11549 (de3ff81) · kernel 6.18.4 · -ngl 99 -fa 1``."""
    told = ((name, known[name]) for name in LABELS if name in known)
    parts = [value if name in _BARE else f"{name} {value}" for name, value in told]
    flags = " ".join(f"{flag} {known[name]}" for name, flag in _FLAGS.items() if name in known)
    variables = " ".join(f"{name.removeprefix(ENV)}={known[name]}" for name in known if name.startswith(ENV))
    return " · ".join(filter(None, (*parts, flags, variables)))


def difference_lines(names: Sequence[str], differ: Mapping[str, tuple[str, ...]]) -> list[str]:
    """``build: b4748 → b11549``; of more than two sides, each with its name."""
    if len(names) == 2:
        return [f"{what}: {first} → {second}" for what, (first, second) in differ.items()]
    return [
        f"{what}: {' · '.join(f'{name} {value}' for name, value in zip(names, values, strict=True))}"
        for what, values in differ.items()
    ]


def model_warning(sides: Sequence[Side], differ: Mapping[str, tuple[str, ...]]) -> str:
    """One line where it is not the same model on every side; empty else."""
    if MODEL in differ:
        return f"the models differ: {', '.join(dict.fromkeys(differ[MODEL]))}"
    sizes = [next((r.parameters for r in side.results if r.parameters), None) for side in sides]
    told = [size for size in sizes if size]
    if told and max(told) > 1.01 * min(told):  # md has three digits
        return f"the models differ: of {min(told) / 1e9:.2f} and of {max(told) / 1e9:.2f} billion parameters"
    return ""
