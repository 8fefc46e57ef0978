"""Themes are data: a TOML file of a dozen colours, checked when it is loaded.

The shipped ones lie beside this file; the user's own in ``themes/`` of the config directory, where one
of the same name replaces a shipped one.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

DEFAULT = "halo-dark"
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")


class Colors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each ``#rrggbb``. One colour is for life, one for trouble; the rest is neutral or fills the bar."""

    background: str
    surface: str  # header, footer
    text: str
    strong: str  # values
    dim: str  # labels, units
    faint: str  # rules, empty parts of bars
    life: str
    warning: str
    trouble: str
    vram: str
    gtt: str
    ram: str


class Theme(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dark: bool
    colors: Colors


class ThemeError(ValueError):
    """A theme file that cannot be used; the message names the file and what is wrong."""


def load(path: Path) -> Theme:
    """One theme file. Raises ``ThemeError``."""
    try:
        theme = msgspec.toml.decode(path.read_bytes(), type=Theme)
    except OSError as error:
        raise ThemeError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ThemeError(f"{path}: {error}") from None
    for key in Colors.__struct_fields__:
        color = getattr(theme.colors, key)
        if not _HEX.match(color):
            raise ThemeError(f"{path}: colors.{key}: '{color}' is not a colour like #a0b1c2")
    return theme


def load_all(user: Path | None = None) -> tuple[dict[str, Theme], list[str]]:
    """Every theme by name, the default first, and a line for each user file that could not be used."""
    themes = {theme.name: theme for theme in map(load, sorted(Path(__file__).parent.glob("*.toml")))}
    themes = {DEFAULT: themes.pop(DEFAULT), **themes}
    troubles = []
    for path in sorted(user.glob("*.toml")) if user is not None and user.is_dir() else ():
        try:
            theme = load(path)
            themes[theme.name] = theme
        except ThemeError as error:
            troubles.append(str(error))
    return themes, troubles
