"""Settings: flags beat the environment, which beats config.toml, which beats the defaults.

An unknown key is an error that names file and line. The file is the user's: it is never written here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from halotui import strict
from halotui.hooks.settings import HookSettings
from halotui.keymap import IDS
from halotui.strict import TomlError, Wrong
from halotui.themes import DEFAULT

if TYPE_CHECKING:
    from halotui.rules.tuning import Tuning

ENVIRONMENT = "HALOTUI_"  # HALOTUI_THEME, HALOTUI_INTERVAL ...
_VARIABLES = (
    "urls",
    "interval",
    "gpu_source",
    "theme",
    "api_key_env",
    "readonly",
    "recorder",
    "recorder_megabytes",
    "timeline_days",
)
SHORTEST, LONGEST = 0.25, 3600.0  # seconds


class ConfigError(ValueError):
    """One line that says where and what."""


VIA = ("sh", "halotui")  # how a far box is read: by its shell, or by ``halotui stream`` there


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[hosts.NAME]``: a box of the fleet. What is not said is as in the general settings, but for ``urls``,
    which are those of this box. Raises ValueError."""

    ssh: str = ""  # what ssh is given: an alias, user@host, ssh://user@host:port; "": NAME; ".": this box
    groups: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    log: str = ""  # of its first server, a path there
    interval: float | None = None
    readonly: bool | None = None
    api_key_env: str = ""  # a variable here
    sysfs: str = "/sys"
    procfs: str = "/proc"
    via: str = "sh"

    def __post_init__(self) -> None:
        if self.via not in VIA:
            raise ValueError(f"`via`: '{self.via}' is none of {', '.join(VIA)}")
        if self.interval is not None and not SHORTEST <= self.interval <= LONGEST:
            raise ValueError(f"`interval`: {self.interval:g} s is not between {SHORTEST:g} and {LONGEST:g}")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """config.toml, key by key; README documents each."""

    urls: tuple[str, ...] = ()
    interval: float = 1.0  # seconds between frames
    gpu_source: str = "auto"
    theme: str = DEFAULT
    api_key_env: str = ""  # the variable that holds the API key
    readonly: bool = False  # only look: no key and no command that acts
    recorder: bool = True  # the dashboard keeps its frames in the state directory
    recorder_megabytes: int = 64  # the oldest go first
    timeline_days: int = 90  # samples of older captures go, their numbers stay; 0: never
    ssh_config: str = ""  # ssh -F
    hosts: dict[str, HostSettings] = {}
    hooks: HookSettings = HookSettings()
    keys: dict[str, str] = {}
    rules: dict[str, Any] = {}  # as it stands in the file; ``tuning`` reads it
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
        values, text = strict.read(file)
        try:
            settings = strict.convert(values, Settings)
            for key in settings.keys:
                if key not in IDS:
                    raise Wrong(("keys", key), f"no such key; there are {', '.join(sorted(IDS))}")
            if settings.rules:
                _read_tuning(settings.rules)  # now that its lines can be named
            return msgspec.structs.replace(settings, profiles=_profiles(settings.profiles))
        except Wrong as wrong:
            raise strict.located(file, text, wrong) from None
    except TomlError as error:
        raise ConfigError(str(error)) from None


def _profiles(tables: dict[str, Any]) -> dict[str, Any]:
    """Imports what a profile is only where there is one: 10 ms that a start need not wait for."""
    if not tables:
        return tables
    from halotui.servers.profile import Profile

    return strict.convert({"profiles": tables}, dict[str, dict[str, Profile]])["profiles"]


def tuning(settings: Settings) -> Tuning:
    """What ``[rules]`` sets. Imports the rules. Raises ``ConfigError``."""
    try:
        return _read_tuning(settings.rules)
    except Wrong as wrong:  # of settings that no file was read for
        raise ConfigError(f"{'.'.join(map(str, wrong.steps))}: {wrong.what}") from None


def _read_tuning(table: dict[str, Any]) -> Tuning:
    """Raises Wrong. Imports the rules, which a start without a word of them need not wait for."""
    from halotui.rules.tuning import read

    return read(table)


def check(settings: Settings) -> None:
    """What every source of settings must keep. Raises ``ConfigError``."""
    if not SHORTEST <= settings.interval <= LONGEST:
        raise ConfigError(f"interval: {settings.interval:g} s is not between {SHORTEST:g} and {LONGEST:g}")
    if not 1 <= settings.recorder_megabytes <= 100_000:
        raise ConfigError(f"recorder_megabytes: {settings.recorder_megabytes} is not between 1 and 100000")
    if settings.timeline_days < 0:
        raise ConfigError(f"timeline_days: {settings.timeline_days} is below 0")
