"""Settings: flags beat the environment, which beats config.toml, which beats the defaults.

An unknown key is an error that names file and line. The file is the user's: it is never written here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from halotui.keymap import IDS
from halotui.themes import DEFAULT

ENVIRONMENT = "HALOTUI_"  # HALOTUI_THEME, HALOTUI_INTERVAL ...
_VARIABLES = ("urls", "interval", "gpu_source", "theme", "api_key_env", "readonly")
SHORTEST, LONGEST = 0.25, 3600.0  # seconds


class ConfigError(ValueError):
    """One line that says where and what."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """config.toml, key by key; README documents each."""

    urls: tuple[str, ...] = ()
    interval: float = 1.0  # seconds between frames
    gpu_source: str = "auto"
    theme: str = DEFAULT
    api_key_env: str = ""  # the variable that holds the API key
    readonly: bool = False  # only look: no key and no command that acts
    keys: dict[str, str] = {}
    profiles: dict[str, Any] = {}  # servers.profile.Profile by name, without the presets


def config_dir() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if base.startswith("/") else Path.home() / fallback) / "halotui"


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of file and environment. A file that was named must exist. Raises ``ConfigError``."""
    file = path or config_dir() / "config.toml"
    settings = _read(file) if path is not None or file.is_file() else Settings()
    said: dict[str, Any] = {
        key: environ[variable] for key in _VARIABLES if (variable := f"{ENVIRONMENT}{key.upper()}") in environ
    }
    if "urls" in said:
        said["urls"] = said["urls"].split()
    try:
        over = msgspec.convert(said, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{ENVIRONMENT}*: {error}") from None
    return msgspec.structs.replace(settings, **{key: getattr(over, key) for key in said})


def _read(file: Path) -> Settings:
    try:
        text = file.read_text()
        values = msgspec.toml.decode(text)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8") from None
    except msgspec.DecodeError as error:  # TOML's own words name the line
        what, _, place = str(error).partition(" (at line ")
        number = place.partition(",")[0]
        raise ConfigError(f"{file}:{number}: {what}" if number else f"{file}: {what}") from None
    try:
        settings = _convert(values, Settings)
        for key in settings.keys:
            if key not in IDS:
                raise _Wrong(("keys", key), f"no such key; there are {', '.join(sorted(IDS))}")
        return msgspec.structs.replace(settings, profiles=_profiles(settings.profiles))
    except _Wrong as wrong:
        line = _line_of(wrong.keys, text)
        raise ConfigError(f"{file}:{line}: {'.'.join(wrong.keys)}: {wrong.what}") from None


def _profiles(tables: dict[str, Any]) -> dict[str, Any]:
    """Imports what a profile is only where there is one: 10 ms that a start need not wait for."""
    if not tables:
        return tables
    from halotui.servers.profile import Profile

    return _convert({"profiles": tables}, dict[str, dict[str, Profile]])["profiles"]


class _Wrong(Exception):
    def __init__(self, keys: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.keys = keys
        self.what = what


_T = TypeVar("_T")


def _convert(values: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _locate(error, values, kind) from None


def _locate(error: msgspec.ValidationError, values: dict[str, Any], kind: Any) -> _Wrong:
    """The keys down to what the error is about, and what it says. It calls a table's member ``[...]``: which
    one it is shows when each is tried alone."""
    what, _, path = str(error).partition(" - at `$")
    keys: tuple[str, ...] = ()
    for name, any_of in re.findall(r"\.(\w+)|\[(\.\.\.)\]", path):
        members = _at(values, keys) if any_of else (name,)
        keys += tuple(m for m in members if not any_of or _fails((*keys, m), members[m], kind, error))[:1]
    if unknown := re.match(r"Object contains unknown field `(.+)`$", what):
        return _Wrong((*keys, unknown[1]), "no such key")
    if told := re.match(r"`(.+?)`: (.*)", what):  # a struct's own check: of a key, or of one a table below
        table = _at(values, keys)
        above = [name for name in table if isinstance(table[name], dict) and told[1] in table[name]]
        return _Wrong((*keys, *(above[:1] if told[1] not in table else ()), told[1]), told[2])
    return _Wrong(keys, what)


def _fails(keys: tuple[str, ...], value: object, kind: Any, error: msgspec.ValidationError) -> bool:
    for key in reversed(keys):
        value = {key: value}
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as same:
        return str(same) == str(error)
    return False


def _at(values: Any, keys: tuple[str, ...]) -> Any:
    """What stands below those keys; None when nothing does."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _line_of(keys: tuple[str, ...], text: str) -> int:
    """Where a key is set: the first statement after which TOML's own parser knows it, however it is spelt."""
    lines, start = text.split("\n"), 1
    for number in range(1, len(lines) + 1):
        try:
            values = msgspec.toml.decode("\n".join(lines[:number]))
        except msgspec.DecodeError:  # in the midst of a statement
            continue
        if _at(values, keys) is not None:
            return start
        start = number + 1
    return 1


def check(settings: Settings) -> None:
    """What every source of settings must keep. Raises ``ConfigError``."""
    if not SHORTEST <= settings.interval <= LONGEST:
        raise ConfigError(f"interval: {settings.interval:g} s is not between {SHORTEST:g} and {LONGEST:g}")
