"""llama-bench's command line: its parameters, each with a list of values, and the tests that they make.

Standard library only. Of the real one's flags those are known that mean something here, or nothing anywhere
with one device; the others end it, as any unknown flag does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Value = str | int | bool

OUTPUTS = ("csv", "json", "jsonl", "md", "sql")
TYPES = ("f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")
_RANGE = re.compile(r"(-?\d+)(?:-(\d+)(?:([+*])(\d+))?)?", re.ASCII)
_ON, _OFF = ("on", "enabled", "true", "1"), ("off", "disabled", "false", "0")


class BadArgument(Exception):
    """What llama-bench says of it, on stderr; the usage follows on stdout."""


def _numbers(text: str) -> list[Value]:
    """``4``, ``1-4``, ``1-9+4``, ``1-8*2``."""
    if not (found := _RANGE.fullmatch(text)):
        raise ValueError(text)
    first, last = int(found[1]), int(found[2] or found[1])
    step = int(found[4] or 1)
    if (step < 1 and found[3] == "+") or (found[3] == "*" and (step < 2 or first < 1)):
        raise ValueError(text)
    values: list[Value] = []
    while first <= last:
        values.append(first)
        first = first * step if found[3] == "*" else first + step
    return values


def _natural(text: str) -> list[Value]:
    if text.startswith("-"):
        raise ValueError(text)
    return _numbers(text)


def _bit(text: str) -> list[Value]:
    return [bool(("0", "1").index(text))]


def _flash(text: str) -> list[Value]:
    if text in ("auto", "-1"):
        return [-1]
    if text not in (*_ON, *_OFF):
        raise ValueError(text)
    return [int(text in _ON)]


def _text(text: str) -> list[Value]:
    return [text]


def _one_of(*choices: str) -> Callable[[str], list[Value]]:
    return lambda text: [choices[choices.index(text)]]


@dataclass(frozen=True)
class Parameter:
    """One that a test has; ``name`` is its field in llama-bench's records."""

    name: str
    spellings: str  # and what it takes, as the help says it
    default: Value
    read: Callable[[str], list[Value]]
    shown: str = ""  # the default, where it is written otherwise


MODES = ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")
SPLITS = ("none", "layer", "row", "tensor")
PARAMETERS = (  # in the order of the help
    Parameter("model_filename", "-m, --model <filename>", "models/7B/ggml-model-q4_0.gguf", _text),
    Parameter("n_prompt", "-p, --n-prompt <n>", 512, _natural),
    Parameter("n_gen", "-n, --n-gen <n>", 128, _natural),
    Parameter("n_depth", "-d, --n-depth <n>", 0, _natural),
    Parameter("n_batch", "-b, --batch-size <n>", 2048, _natural),
    Parameter("n_ubatch", "-ub, --ubatch-size <n>", 512, _natural),
    Parameter("type_k", "-ctk, --cache-type-k <t>", "f16", _one_of(*TYPES)),
    Parameter("type_v", "-ctv, --cache-type-v <t>", "f16", _one_of(*TYPES)),
    Parameter("n_threads", "-t, --threads <n>", 1, _natural),  # one: the other core is the sampler's
    Parameter("n_gpu_layers", "-ngl, --n-gpu-layers <n>", -1, _numbers),
    Parameter("split_mode", f"-sm, --split-mode <{'|'.join(SPLITS)}>", "layer", _one_of(*SPLITS)),
    Parameter("main_gpu", "-mg, --main-gpu <i>", 0, _natural),
    Parameter("flash_attn", "-fa, --flash-attn <on|off|auto>", -1, _flash, "auto"),
    Parameter("devices", "-dev, --device <dev0/dev1/...>", "auto", _one_of("auto", "none")),
    Parameter("load_mode", f"-lm, --load-mode <{'|'.join(MODES)}>", "auto", _one_of(*MODES)),
    Parameter("no_op_offload", "-nopo, --no-op-offload <0|1>", False, _bit, "0"),
    Parameter("no_host", "--no-host <0|1>", False, _bit, "0"),
)
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}
NESTED = (  # the first changes least often, as in the real one, which so loads a model once
    *("model_filename", "n_gpu_layers", "split_mode", "load_mode", "main_gpu", "devices", "no_host"),
    *("no_op_offload", "n_batch", "n_ubatch", "type_k", "type_v", "flash_attn", "n_threads", "n_depth"),
)
PAIRS = "-pg <pp,tg>"
OPTIONS = (
    ("-h, --help", ""),
    ("--version", "show version and build info"),
    ("-r, --repetitions <n>", "number of times to repeat each test (default: 5)"),
    ("--delay <0...N> (seconds)", "delay between each test (default: 0)"),
    ("-o, --output <csv|json|jsonl|md|sql>", "output format printed to stdout (default: md)"),
    ("-oe, --output-err <csv|json|jsonl|md|sql>", "output format printed to stderr (default: none)"),
    ("--list-devices", "list available devices and exit"),
    ("-v, --verbose", "verbose output"),
    ("--progress", "print test progress indicators"),
    ("--no-warmup", "skip warmup runs before benchmarking"),
)


@dataclass
class Said:
    """A command line. ``end``: what it asks for instead of tests."""

    values: dict[str, list[Value]] = field(default_factory=dict)  # of parameters that are said
    pairs: list[tuple[int, int]] = field(default_factory=list)
    end: str = ""
    repetitions: int = 5
    delay: int = 0
    output: str = "md"
    output_err: str = "none"
    verbose: bool = False
    progress: bool = False
    no_warmup: bool = False

    def listed(self, name: str) -> list[Value]:
        return self.values.get(name) or [DEFAULTS[name]]

    def varies(self, name: str) -> bool:
        """What a table has a column for."""
        return self.listed(name) != [DEFAULTS[name]]

    def tests(self) -> Iterator[dict[str, Any]]:
        """The settings of each, by their names in a record."""
        for combination in product(*(self.listed(name) for name in NESTED)):
            settings = dict(zip(NESTED, combination, strict=True))
            for prompt, generation in (
                *((number, 0) for number in self.listed("n_prompt") if number),
                *((0, number) for number in self.listed("n_gen") if number),
                *(pair for pair in self.pairs if any(pair)),
            ):
                yield {**settings, "n_prompt": prompt, "n_gen": generation}


def usage(program: str) -> str:
    """In the real one's form, which is read by programs too."""
    lines = [f"usage: {program} [options]", "", "options:"]
    lines += [f"  {heading:<43} {what}".rstrip() for heading, what in OPTIONS]
    lines += ["", "test parameters:"]
    for parameter in PARAMETERS:
        lines.append(f"  {parameter.spellings:<49} (default: {parameter.shown or parameter.default})")
        if parameter.name == "n_gen":
            lines.append(f"  {PAIRS:<49} (default: )")
    return "\n".join(
        (
            *lines,
            "",
            "Multiple values can be given for each parameter by separating them with ','",
            "or by specifying the parameter multiple times. Ranges can be given as",
            "'first-last' or 'first-last+step' or 'first-last*mult'.",
            "",
        )
    )


def parse(words: Sequence[str]) -> Said:
    """Raises BadArgument."""
    parameters = {flag: parameter for parameter in PARAMETERS for flag in _flags(parameter.spellings)}
    options = {flag: heading for heading, _ in OPTIONS for flag in _flags(heading)}
    said = Said()
    rest = iter(words)
    for word in rest:
        flag = word.replace("_", "-") if word.startswith("--") else word
        try:
            if parameter := parameters.get(flag):
                values = [value for part in next(rest).split(",") for value in parameter.read(part)]
                said.values.setdefault(parameter.name, []).extend(values)
            elif flag == "-pg":
                prompt, generation = next(rest).split(",")
                said.pairs.append((int(prompt), int(generation)))
            else:
                _option(said, options[flag], rest)
        except (KeyError, ValueError, StopIteration):
            raise BadArgument(f"error: invalid parameter for argument: {word}") from None
        if said.end:
            break
    return said


def _option(said: Said, heading: str, rest: Iterator[str]) -> None:
    """Raises ValueError and StopIteration."""
    name = _flags(heading)[-1].lstrip("-").replace("-", "_")
    if name in ("help", "version", "list_devices"):
        said.end = name
    elif "<" not in heading:
        setattr(said, name, True)
    elif name in ("output", "output_err"):
        setattr(said, name, OUTPUTS[OUTPUTS.index(next(rest))])
    else:
        number = int(next(rest))
        if number < int(name == "repetitions"):
            raise ValueError(number)
        setattr(said, name, number)


def _flags(spellings: str) -> list[str]:
    return spellings.partition(" <")[0].split(", ")
