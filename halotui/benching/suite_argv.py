"""A row and its tests as a command line of llama-bench, in the spelling of the binary at hand.

llama-bench says many things otherwise than llama-server, and otherwise from build to build: ``-fa 1`` became
``-fa on``, ``-mmp 0`` became ``-lm none``. Its own ``--help`` decides. A comma in a value would make several
tests of one: lists of devices and the like are said with ``/`` or ``;``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from halotui.actions import Value
from halotui.benching.suite_file import Trial, many
from halotui.safe import clean
from halotui.servers.dialect import Dialect, Flag
from halotui.servers.secret import plain
from halotui.servers.settings import text_of
from halotui.servers.vocabulary import is_flag

FORMATS = ("jsonl", "json", "csv")  # what can be read record by record first

_LINE = re.compile(r"\s{1,4}(-[^\s,<]+(?:,? +-[^\s,<]+)*)(?:\s+(<.*))?")
_CHOICES = re.compile(r"<([\w.+-]+(?:\|[\w.+-]+)+)>")
_MEANS = {"on": ("on", "1"), "off": ("off", "0")}
# Flags of llama-server whose lists llama-bench separates otherwise.
_SEPARATORS = {
    **dict.fromkeys(("-dev", "--device", "-ts", "--tensor-split"), "/"),
    **dict.fromkeys(("-ot", "--override-tensor"), ";"),
}
_OURS = (  # what the suite says itself
    *("-m", "--model", "-p", "--n-prompt", "-n", "--n-gen", "-pg", "-d", "--n-depth"),
    *("-r", "--repetitions", "-o", "--output", "-oe", "--output-err"),
)


class Unsayable(Exception):
    """``what`` this build of llama-bench cannot be told."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this llama-bench {what}")


def parse_help(text: str) -> Dialect:
    """Its flags; none when it is no help of llama-bench. A flag takes one value or none."""
    flags: dict[str, Flag] = {}
    for line in text.splitlines():
        if not (found := _LINE.match(line)):
            continue
        hint = found[2] or ""
        listed = _CHOICES.match(hint)
        flag = Flag(1 if hint else 0, tuple(listed[1].split("|")) if listed else ())
        flags |= dict.fromkeys((word.strip() for word in re.split(r",\s*|\s+", found[1]) if word), flag)
    return Dialect(flags=flags) if {"-m", "-p", "-n", "-r"} <= set(flags) else Dialect()


class _Form(Struct, frozen=True):
    """One spelling: of a setting's value, the word that says it; None where it cannot."""

    flags: tuple[str, ...]
    write: Callable[[Value, Flag], str | None]


def _plain(value: Value, flag: Flag) -> str | None:
    return text_of(value)


def _chosen(value: Value, flag: Flag) -> str | None:
    """on, off, auto as this build lists them: in words or as 1 and 0."""
    text = text_of(value)
    words = _MEANS.get(text, (text,))
    return next((word for word in words if not flag.choices or word in flag.choices), None)


def _layers(value: Value, flag: Flag) -> str | None:
    """llama-bench knows numbers only."""
    return {"all": "99"}.get(str(value), text_of(value))


def _devices(value: Value, flag: Flag) -> str | None:
    return str(value).replace(",", "/")


def _bit(value: Value, flag: Flag) -> str | None:
    return {True: "1", False: "0"}.get(bool(value)) if isinstance(value, bool) else None


def _form(flags: str, write: Callable[[Value, Flag], str | None] = _plain) -> tuple[_Form, ...]:
    return (_Form(tuple(flags.split()), write),)


_LOADING = ("mmap", "mlock", "dio", "lm")
_FORMS: dict[str, tuple[_Form, ...]] = {
    "b": _form("-b --batch-size"),
    "ub": _form("-ub --ubatch-size"),
    "ctk": _form("-ctk --cache-type-k"),
    "ctv": _form("-ctv --cache-type-v"),
    "t": _form("-t --threads"),
    "ngl": _form("-ngl --n-gpu-layers", _layers),
    "fa": _form("-fa --flash-attn", _chosen),
    "device": _form("-dev --device", _devices),
    "mmap": _form("-mmp --mmap", _bit),
    "dio": _form("-dio --direct-io", _bit),
}
KNOWN = frozenset((*_FORMS, *_LOADING))  # settings that some build of llama-bench has
# Saying them is saying nothing, where there is no flag for it.
_DEFAULTS = {"mmap": True, "mlock": False, "dio": False, "lm": "auto"}
_UNSAID = {"ngl": "auto"}  # left to the build


def settings(said: Mapping[str, Value], dialect: Dialect, *, strict: bool) -> tuple[str, ...]:
    """Settings as arguments. What has no flag here is left out, or raises Unsayable if ``strict``."""
    words: list[str] = []
    unknown: list[str] = []
    left = dict(said)
    loading = {name: left.pop(name) for name in _LOADING if name in left}
    for name, value in left.items():
        if text := _said(name, value, dialect):
            words += text
        elif _UNSAID.get(name) != value:
            unknown.append(f"{name}={text_of(value)}")
    more, missing = _load(loading, dialect)
    words += more
    unknown += missing
    if unknown and strict:
        raise Unsayable(f"has no flag for {', '.join(unknown)}")
    return tuple(words)


def _said(name: str, value: Value, dialect: Dialect) -> tuple[str, ...]:
    if _UNSAID.get(name) == value:
        return ()
    for form in _FORMS.get(name, ()):
        for flag in form.flags:
            if (known := dialect.flags.get(flag)) and (text := form.write(value, known)) is not None:
                return (flag, text)
    return ()


def _load(said: Mapping[str, Value], dialect: Dialect) -> tuple[list[str], list[str]]:
    """How the weights are read: one flag in newer builds, which may not stand beside the old ones."""
    if not said:
        return [], []
    known = next((flag for flag in ("-lm", "--load-mode") if flag in dialect.flags), None)
    if known:
        return [known, _mode(said)], []
    words: list[str] = []
    missing: list[str] = []
    for name, value in said.items():
        if text := _said(name, value, dialect):
            words += text
        elif _DEFAULTS.get(name) != value:
            missing.append(f"{name}={text_of(value)}")
    return words, missing


def _mode(said: Mapping[str, Value]) -> str:
    if "lm" in said:
        return str(said["lm"])
    if said.get("dio"):
        return "dio"
    mapped, locked = said.get("mmap", True), said.get("mlock", False)
    return {(True, False): "mmap", (False, False): "none", (False, True): "mlock"}.get(
        (bool(mapped), bool(locked)), "mmap+mlock"
    )


def free(words: Sequence[str], dialect: Dialect) -> tuple[str, ...]:
    """Of a profile's own flags, those that this llama-bench takes with the same number of values."""
    return tuple(text for pair in _free(words, dialect) for text in pair)


def _free(words: Sequence[str], dialect: Dialect) -> Iterator[tuple[str, ...]]:
    at = 0
    while at < len(words):
        flag = plain(words[at])
        values = 1 if at + 1 < len(words) and not is_flag(words[at + 1]) else 0
        known = dialect.flags.get(flag)
        if known is not None and known.arity == values and flag not in _OURS:
            text = [
                value.replace(",", _SEPARATORS.get(flag, ",")) for value in words[at + 1 : at + 1 + values]
            ]
            if not any("," in value for value in text):
                yield (flag, *text)
        at += 1 + values


def tests(test: Trial, dialect: Dialect) -> tuple[str, ...]:
    """What is measured, and that the rest is not: llama-bench has defaults. Raises Unsayable."""
    words = ["-p", _numbers(many(test.pp)) or "0", "-n", _numbers(many(test.tg)) or "0"]
    if pairs := many(test.pg):
        if "-pg" not in dialect.flags:
            raise Unsayable("has no -pg")
        words += [text for pair in pairs for text in ("-pg", str(pair))]
    if any(depths := many(test.depth)):
        if "-d" not in dialect.flags:
            raise Unsayable("has no -d: it is too old to measure at a depth")
        words += ["-d", _numbers(depths)]
    return tuple(words)


def _numbers(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def how(dialect: Dialect, *, repeats: int, warmup: bool) -> tuple[str, ...]:
    """Repeats, warm-up, and the output that is read best."""
    listed = next((dialect.flags[flag].choices for flag in ("-o", "--output") if flag in dialect.flags), ())
    words = ["-r", str(repeats), "-o", next((name for name in FORMATS if name in listed), "json")]
    if "--progress" in dialect.flags:
        words.append("--progress")
    if not warmup and "--no-warmup" in dialect.flags:
        words.append("--no-warmup")
    return tuple(words)


def name_of(test: Trial) -> str:
    """``pp512 tg128 @ d0,4096``, as llama-bench calls them."""
    parts = [
        *(f"pp{number}" for number in many(test.pp)),
        *(f"tg{number}" for number in many(test.tg)),
        *("pp{}+tg{}".format(*str(pair).split(",")) for pair in many(test.pg)),
    ]
    depths = many(test.depth)
    return clean(" ".join(parts) + (f" @ d{_numbers(depths)}" if any(depths) else ""))


DECODE = 16.0  # what a decoded token takes more than one of a prompt, roughly, on this hardware


def weight(test: Trial, repeats: int) -> float:
    """How long it takes in comparison: tokens of prompt, a decoded one counted as sixteen."""
    once: float = (
        sum(many(test.pp))
        + DECODE * sum(many(test.tg))
        + sum(int(pp) + DECODE * int(tg) for pp, tg in (str(pair).split(",") for pair in many(test.pg)))
    )
    cases = len(many(test.pp)) + len(many(test.tg)) + len(many(test.pg))
    depths = many(test.depth) or (0,)
    return float(sum(once * (repeats + 1) + cases * depth * repeats for depth in depths))
