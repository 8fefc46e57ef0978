"""suite.toml: which rows a table shall have, which tests each is put to, and how carefully."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from halotui import strict, times
from halotui.actions import ActionError, Value
from halotui.benching.workloads import WORKLOADS
from halotui.servers.profile import OWN_KEYS, meant
from halotui.servers.settings import BY_NAME
from halotui.servers.vocabulary import convert
from halotui.strict import TomlError, Wrong

__all__ = ["Row", "Server", "Suite", "TomlError", "Trial", "read", "seconds"]

NAME = re.compile(r"\w[\w.+-]*")  # it names directories too
ORDERS = ("shuffled", "as written")
MOST_TOKENS = 10_000_000
LONGEST = 7 * 86400.0
_PAIR = re.compile(r"[1-9]\d*,[1-9]\d*", re.ASCII)
_ODD = re.compile(r"[^\w.+-]+")

Setting = str | int | float | bool  # as TOML has it
Numbers = int | tuple[int, ...]


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[run]]``: a row of the table."""

    label: str = ""
    profile: str = ""
    bench: str = ""
    env: dict[str, str] = {}
    flags: dict[str, Setting] = {}
    extra: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.env:
            if not name or "=" in name:
                raise ValueError(f"`{name}`: no name of an environment variable")
        if any("\0" in text for text in (self.bench, self.label, *self.env.values(), *self.extra)):
            raise ValueError("`label`: no command line can hold a NUL")
        try:
            _ = self.extra_words
        except ValueError as error:
            raise ValueError(f"`extra`: {str(error).lower()}") from None

    @property
    def extra_words(self) -> tuple[str, ...]:
        return tuple(shlex.split(self.extra)) if isinstance(self.extra, str) else self.extra


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[test]]``: what one call of llama-bench measures, and one capture covers. Tokens."""

    pp: Numbers = ()
    tg: Numbers = ()
    pg: str | tuple[str, ...] = ()
    depth: Numbers = ()

    def __post_init__(self) -> None:
        for name, least in (("pp", 1), ("tg", 1), ("depth", 0)):
            for number in many(getattr(self, name)):
                if not least <= number <= MOST_TOKENS:
                    raise ValueError(f"`{name}`: {number} is not between {least} and {MOST_TOKENS}")
        for pair in many(self.pg):
            if not _PAIR.fullmatch(pair):
                raise ValueError(f"`pg`: '{pair}' is no pair like '512,128'")
        if not (many(self.pp) or many(self.tg) or many(self.pg)):
            raise ValueError("`pp`: a test needs pp, tg or pg")


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: a profile is launched, given workloads, and stopped."""

    workloads: str | tuple[str, ...] = tuple(WORKLOADS)
    speculation: str | tuple[str, ...] = ()  # kinds, each a row; (): as the profile has it
    repeats: int = 3

    def __post_init__(self) -> None:
        if not many(self.workloads):
            raise ValueError("`workloads`: none is named")
        for name in many(self.workloads):
            if name not in WORKLOADS:
                raise ValueError(f"`workloads`: there is no {name}; there are {', '.join(WORKLOADS)}")
        if not 1 <= self.repeats <= 1000:
            raise ValueError(f"`repeats`: {self.repeats} is not between 1 and 1000")


class Suite(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    name: str = ""
    model: str = ""
    bench: str = "llama-bench"
    repeats: int = 5
    warmup: bool = True
    order: str = "shuffled"
    seed: int = 0
    cooldown_celsius: float | None = None  # None: no waiting
    cooldown_seconds: float = 120.0
    pause_seconds: float = 0.0
    timeout: str | float = "6h"  # for one item: what hangs ends some day, and the rest is run
    hz: float = 20.0
    run: tuple[Row, ...] = ()
    test: tuple[Trial, ...] = ()
    matrix: dict[str, Setting | tuple[Setting, ...]] = {}
    server: Server | None = None

    def __post_init__(self) -> None:
        if self.name and not NAME.fullmatch(self.name):
            raise ValueError("`name`: letters, digits, . + - and _")
        if self.order not in ORDERS:
            raise ValueError(f"`order`: '{self.order}' is none of {', '.join(ORDERS)}")
        for name, least, most in (
            ("repeats", 1, 1000),
            ("hz", 1, 100),
            ("cooldown_seconds", 0, 86400),
            ("pause_seconds", 0, 86400),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"`{name}`: {value:g} is not between {least} and {most}")
        if self.cooldown_celsius is not None and not 0 < self.cooldown_celsius < 120:
            raise ValueError(f"`cooldown_celsius`: {self.cooldown_celsius:g} is no temperature to wait for")
        try:
            seconds(self.timeout)
        except ValueError as error:
            raise ValueError(f"`timeout`: {error}") from None

    @property
    def timeout_seconds(self) -> float:
        return seconds(self.timeout)


def many(value: Any) -> tuple[Any, ...]:
    """One is a list of one."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def seconds(said: str | float) -> float:
    """``60``, ``90s``, ``5m``, ``1h``: a week at most. Raises ValueError."""
    value = times.seconds(str(said))
    if value > LONGEST:
        raise ValueError(f"'{said}' is no length of time of a week at most")
    return value


def read(file: Path, profiles: Mapping[str, object]) -> Suite:
    """The suite, its rows' profiles known by name. Raises TomlError."""
    values, text = strict.read(file)
    try:
        suite = strict.convert(values, Suite)
        _check(suite, profiles)
    except Wrong as wrong:
        raise strict.located(file, text, wrong) from None
    return suite if suite.name else replace(suite, name=_named(file))


def _named(file: Path) -> str:
    return _ODD.sub("-", file.stem).strip("-.+") or "suite"


def _check(suite: Suite, profiles: Mapping[str, object]) -> None:
    """What needs the vocabulary and the profiles. Raises Wrong."""
    if not suite.run:
        raise Wrong((), 'no row: it needs a [[run]], as [[run]] label = "Vulkan"')
    if not suite.test and suite.server is None:
        raise Wrong(
            (), "nothing to measure: it needs a [[test]], as [[test]] pp = 512 tg = 128, or a [server]"
        )
    for at, row in enumerate(suite.run):
        if row.profile and row.profile not in profiles:
            there = ", ".join(profiles) or "none"
            raise Wrong(("run", at, "profile"), f"no profile {row.profile}; there are {there}")
        if suite.server is not None and not row.profile:
            raise Wrong(("run", at), "a row of a suite with a [server] needs a profile")
        for name, value in row.flags.items():
            _setting(("run", at, "flags", name), name, value, served=suite.server is not None)
    for name, choices in suite.matrix.items():
        if not many(choices):
            raise Wrong(("matrix", name), "an empty list has no combinations")
        for value in many(choices):
            _setting(("matrix", name), name, value, served=suite.server is not None)
    labels = [label_of(row) for row in suite.run]
    if twice := next((at for at, label in enumerate(labels) if label in labels[:at]), None):
        raise Wrong(("run", twice), f"a second row with the label {labels[twice]}")
    if suite.server is not None:
        for kind in many(suite.server.speculation):
            try:
                convert("spec", kind)
            except ActionError as error:
                raise Wrong(("server", "speculation"), error.reason) from None


def _setting(steps: tuple[str | int, ...], name: str, value: Setting, *, served: bool) -> None:
    from halotui.benching.suite_argv import KNOWN

    if name in OWN_KEYS:
        raise Wrong(steps, "is no flag here" + (': model = "..."' if name == "model" else ""))
    if name not in BY_NAME:
        try:
            hint = f"did you mean {convert(name, '')[0]}?"  # a flag's own spelling
        except ActionError as error:
            hint = error.hint
        raise Wrong(steps, f"no such setting; {hint}")
    try:
        meant(name, value)
    except ActionError as error:
        raise Wrong(steps, error.reason) from None
    if name not in KNOWN and not served:
        raise Wrong(steps, "a llama-bench has no such flag; for llama-server there is [server]")


def label_of(row: Row) -> str:
    """Said, else the profile's name, else the program's."""
    return row.label or row.profile or PurePath(row.bench).parent.name or "llama-bench"


def settings_of(flags: Mapping[str, Setting]) -> dict[str, Value]:
    """In halotui's vocabulary, checked before; what takes something away is left out."""
    said = ((name, meant(name, value)) for name, value in flags.items())
    return {name: value for name, value in said if value is not None}


def combinations(suite: Suite) -> Sequence[dict[str, Setting]]:
    """Of the matrix; one without anything where there is none. K and V alike unless V is said."""
    rows: list[dict[str, Setting]] = [{}]
    for name, choices in suite.matrix.items():
        rows = [{**row, name: value} for row in rows for value in many(choices)]
    return rows
