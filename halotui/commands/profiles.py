"""One profile, whole: with everything it inherits, and nothing secret."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from halotui.commands.printing import harmless, no_profile
from halotui.exits import UsageError
from halotui.servers.profile import merged, resolve
from halotui.servers.secret import masked, masked_env

if TYPE_CHECKING:
    from halotui.config import Settings


def show(name: str, settings: Settings, *, as_json: bool) -> str:
    """As TOML or JSON. Raises UsageError, ActionError."""
    known = merged(settings.profiles)
    if name not in known:
        raise UsageError(no_profile(name, [*known]))
    table: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resolve(name, known)))
    for key, mask in (("env", masked_env), ("binary", _masked), ("extra", _masked)):
        if key in table:
            table[key] = mask(table[key])
    if as_json:
        return json.dumps(table, indent=2)
    import tomlkit

    return harmless(tomlkit.dumps({"profiles": {name: table}}).rstrip().split("\n"))


def _masked(words: str | list[str]) -> str | list[str]:
    """As it is written in the profile: one text, or words."""
    return shlex.join(masked(shlex.split(words))) if isinstance(words, str) else [*masked(words)]
