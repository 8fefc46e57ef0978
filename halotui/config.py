"""Settings: flags beat the environment, which beats config.toml, which beats the defaults.

An unknown key is an error that names file and line. The file is the user's: it is never written here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from halotui.keymap import IDS
from halotui.themes import DEFAULT

ENVIRONMENT = "HALOTUI_"  # HALOTUI_THEME, HALOTUI_INTERVAL ...
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
    keys: dict[str, str] = {}


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
    values: dict[str, Any] = {}
    if path is not None or file.is_file():
        values = _read(file)
    for key in ("interval", "gpu_source", "theme", "api_key_env"):
        said = environ.get(f"{ENVIRONMENT}{key.upper()}")
        if said is not None:
            values[key] = said
    if f"{ENVIRONMENT}URLS" in environ:
        values["urls"] = environ[f"{ENVIRONMENT}URLS"].split()
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"environment or {file}: {error}") from None
    for key in settings.keys:
        if key not in IDS:
            line = _line_of(f"`{key}`", file.read_text())
            raise ConfigError(f"{file}:{line}: keys.{key}: no such key; there are {', '.join(sorted(IDS))}")
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        msgspec.toml.decode(text, type=Settings)
        return dict(msgspec.toml.decode(text))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}:{_line_of(str(error), text)}: {error}") from None
    except msgspec.DecodeError as error:  # TOML's own words name the line
        raise ConfigError(f"{file}: {error}") from None


def _line_of(error: str, text: str) -> int:
    """The line of the key that the error names, by the key's own name."""
    named = re.findall(r"`\$?\.?([\w.-]+)", error)
    for number, line in enumerate(text.splitlines(), 1):
        if any(re.match(rf"\s*\[?{re.escape(name.rpartition('.')[2])}\b", line) for name in named):
            return number
    return 1


def check(settings: Settings) -> None:
    """What every source of settings must keep. Raises ``ConfigError``."""
    if not SHORTEST <= settings.interval <= LONGEST:
        raise ConfigError(f"interval: {settings.interval:g} s is not between {SHORTEST:g} and {LONGEST:g}")
