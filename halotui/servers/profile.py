"""Profiles: how the user wants a server started, as it stands in config.toml and in ``presets.toml``.

One that names a model is complete; one that does not changes what runs. Flags are in halotui's own
vocabulary and rendered for the binary at hand much later.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from halotui.actions import ActionError, Value
from halotui.safe import clean
from halotui.servers.launch import Runner

PRESETS = Path(__file__).with_name("presets.toml")
BACKENDS = ("vulkan", "rocm", "cuda", "cpu")  # as logs and binaries name them
OWN_KEYS = ("model", "draft", "host", "port")  # settings that a profile says beside its flags
NO_DRAFT = "none"  # a draft that takes the parent's away
HIGHEST_PORT = 65535
NAME = re.compile(r"\w[\w.+-]*")  # it names log files too
# Where a model may come from, besides a path.
SOURCES = (
    *("-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo"),
    *("--models-dir", "--models-preset"),
)
# What a runner cannot do without. Plain needs nothing; what another one needs, it must not have.
PLACES = {
    Runner.TOOLBOX: "container",
    Runner.DISTROBOX: "container",
    Runner.PODMAN: "image",
    Runner.DOCKER: "image",
    Runner.SYSTEMD: "unit",
}
# All of it stands in the unit, not here.
UNIT_SAYS = ("binary", "model", "draft", "flags", "extra", "env", "cwd", "log")
# Saying the first of a pair is unsaying the parent's second.
INSTEAD = {"api_key_env": "api_key_file", "api_key_file": "api_key_env"}


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is empty is not said: it comes from the parent, from what runs, or is left to llama-server."""

    description: str = ""
    inherits: str = ""
    runner: Runner | None = None  # None: plain
    binary: str | tuple[str, ...] = ()  # one path, or the words of a wrapper and the path
    image: str = ""  # podman, docker
    container: str = ""  # toolbox, distrobox
    unit: str = ""  # of systemd --user
    backend: str = ""
    model: str = ""
    draft: str = ""
    host: str = ""
    port: int | None = None
    log: str = ""  # where its output goes
    cwd: str = ""
    env: dict[str, str] = {}
    flags: dict[str, str | int | float | bool] = {}
    extra: str | tuple[str, ...] = ()  # flags that no setting stands for
    api_key_env: str = ""  # the variable of halotui that holds the key
    api_key_file: str = ""
    load_seconds: float | None = None  # longest time to wait until it serves

    def __post_init__(self) -> None:
        """What is wrong whatever is inherited. The key at fault stands in backticks."""
        if self.port is not None and not 1 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"`port`: {self.port} is not between 1 and {HIGHEST_PORT}")
        if self.load_seconds is not None and not self.load_seconds > 0:
            raise ValueError(f"`load_seconds`: {self.load_seconds:g} is no time to wait")
        if self.backend and self.backend not in BACKENDS:
            raise ValueError(
                f"`backend`: {clean(self.backend)}: no such backend; there are {', '.join(BACKENDS)}"
            )
        for name in self.env:
            if not name or "=" in name:
                raise ValueError(f"`{clean(name)}`: no name of an environment variable")
        for key, value in _said(self):
            if any("\0" in text for text in _texts(value)):
                raise ValueError(f"`{key}`: no command line can hold a NUL")
        try:
            _ = self.extra_words
        except ValueError as error:
            raise ValueError(f"`extra`: {str(error).lower()}") from None
        for name, value in self.flags.items():
            if problem := _problem(name, value):
                raise ValueError(f"`{clean(name)}`: {problem}")

    def __repr__(self) -> str:
        """Without the environment: a traceback may print it."""
        return f"Profile(runner={self.runner}, model={self.model!r})"

    @property
    def binary_words(self) -> tuple[str, ...]:
        return (self.binary,) if isinstance(self.binary, str) and self.binary else tuple(self.binary)

    @property
    def extra_words(self) -> tuple[str, ...]:
        return tuple(shlex.split(self.extra)) if isinstance(self.extra, str) else self.extra

    @property
    def complete(self) -> bool:
        """It says all that a server needs; else it changes what runs."""
        named = self.model or self.runner is Runner.SYSTEMD
        return bool(named) or any(word.partition("=")[0] in SOURCES for word in self.extra_words)


def _problem(name: str, value: str | int | float | bool) -> str:
    """Why it is no setting, if it is none."""
    from halotui.servers.vocabulary import BY_NAME, convert  # here: most configurations have no flags

    if name in OWN_KEYS:
        return f"is no flag here but a key of the profile: {name} = ..."
    try:
        if name in BY_NAME:
            meant(name, value)
            return ""
        hint = f"did you mean {convert(name, '')[0]}?"  # a flag's own spelling
    except ActionError as error:
        if name in BY_NAME:
            return error.reason
        hint = error.hint
    return f"no such setting; {hint}"


def meant(name: str, value: str | int | float | bool) -> Value | None:
    """A setting's value as a profile says it; None takes away the parent's, or that of what runs: an empty
    text, and ``false`` where that is no value. Raises ``ActionError``.
    """
    from halotui.servers.vocabulary import BY_NAME, convert

    setting = BY_NAME[name]
    if value is False and setting.kind is not bool and not setting.closed:
        return None
    return convert(name, as_text(value))[1]


def as_text(value: str | int | float | bool) -> str:
    """As the command line would say it."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)


@cache
def presets() -> dict[str, Profile]:
    """The shipped profiles."""
    read = msgspec.toml.decode(PRESETS.read_bytes(), type=dict[str, dict[str, Profile]])
    return read["profiles"]


def merged(user: Mapping[str, Profile]) -> dict[str, Profile]:
    """The user's profiles, then the presets. One with a preset's name builds on it, unless it inherits
    something else."""
    shipped = presets()
    own = {
        name: replace(over(shipped[name], profile), inherits=shipped[name].inherits)
        if name in shipped and profile.inherits in ("", name)
        else profile
        for name, profile in user.items()
    }
    return own | {name: profile for name, profile in shipped.items() if name not in own}


def over(parent: Profile, child: Profile) -> Profile:
    """The child's word where it has one; ``env`` and ``flags`` key by key. Another runner is another place:
    binary, image, container and unit of the parent do not come along."""
    unsaid = {INSTEAD[key] for key in INSTEAD if getattr(child, key)}
    if child.runner and child.runner is not (parent.runner or Runner.PLAIN):
        unsaid |= {"binary", *PLACES.values()}
    kept = {key: value for key, value in _said(parent) if key not in unsaid}
    both: dict[str, Any] = {**kept, **dict(_said(child))}
    return Profile(**both | {"env": parent.env | child.env, "flags": parent.flags | child.flags})


def _said(profile: Profile) -> Iterator[tuple[str, Any]]:
    for key in profile.__struct_fields__:
        if value := getattr(profile, key):
            yield key, value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for text in (*value, *value.values()) if isinstance(text, str))
    elif isinstance(value, tuple):
        yield from value


def resolve(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """The profile with all that it inherits, and fit to be used. Raises ``ActionError``."""
    if not NAME.fullmatch(name):
        raise ActionError(f"{clean(name)}: no name for a profile", "letters, digits, . + - and _")
    chain = [name]
    profile = own = _named(name, profiles, "")
    while profile.inherits:
        parent = profile.inherits
        told = " → ".join(map(clean, (*chain, parent)))
        if parent in chain:
            raise ActionError(f"profile {clean(name)} inherits itself: {told}")
        above = _named(parent, profiles, told)
        profile = replace(over(above, profile), inherits=above.inherits)
        chain.append(parent)
    profile = replace(profile, inherits="", description=own.description)
    if problem := _unfit(profile):
        raise ActionError(f"profile {name}: {problem}")
    return profile


def _named(name: str, profiles: Mapping[str, Profile], chain: str) -> Profile:
    if name in profiles:
        return profiles[name]
    raise ActionError(
        f"no profile {clean(name)}{f' ({chain})' if chain else ''}", f"there {_are(name, profiles)}"
    )


def _are(name: str, names: Collection[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f"is {clean(close[0])}" if close else f"are {clean(', '.join(names)) or 'none'}"


def _unfit(profile: Profile) -> str:
    """What its runner lacks, or cannot have."""
    runner = profile.runner or Runner.PLAIN
    needed = PLACES.get(runner, "")
    if needed and not getattr(profile, needed):
        return f"runner {runner} needs {needed} = ..."
    for place in dict.fromkeys(PLACES.values()):
        if place != needed and getattr(profile, place):
            fitting = " or ".join(other for other, needs in PLACES.items() if needs == place)
            return f"{place} is for runner {fitting}, not {runner}"
    said = [key for key in UNIT_SAYS if getattr(profile, key)]
    if runner is Runner.SYSTEMD and said:
        return f"with runner systemd the unit says {', '.join(said)}"
    return ""
