"""From a theme's dozen colours to the styles that rows name. Without colour, weight and reverse say it."""

from __future__ import annotations

from rich.style import Style
from textual.theme import Theme as TextualTheme

from halotui.themes import Theme

# style name -> (foreground, background, bold, what it becomes without colour)
_TABLE: dict[str, tuple[str, str, bool, str]] = {
    "text": ("text", "background", False, ""),
    "dim": ("dim", "background", False, "dim"),
    "faint": ("faint", "background", False, "dim"),
    "rule": ("faint", "background", False, "dim"),
    "title": ("dim", "background", True, "bold"),
    "value": ("strong", "background", True, "bold"),
    "late": ("dim", "background", False, "dim"),
    "life": ("life", "background", True, "bold"),
    "chart": ("life", "background", False, ""),
    "chart2": ("ram", "background", False, ""),
    "warning": ("warning", "background", True, "bold"),
    "trouble": ("trouble", "background", True, "bold reverse"),
    "head": ("text", "surface", False, "reverse"),
    "headdim": ("dim", "surface", False, "reverse"),
    "headvalue": ("strong", "surface", True, "bold reverse"),
    "headlife": ("life", "surface", True, "bold reverse"),
    "headwarning": ("warning", "surface", True, "bold reverse"),
    "headtrouble": ("trouble", "surface", True, "bold reverse"),
    "vram": ("vram", "background", False, ""),
    "gtt": ("gtt", "background", False, ""),
    "ram": ("ram", "background", False, ""),
    "free": ("faint", "background", False, "dim"),
    "cursor": ("background", "strong", True, "reverse"),
}


def styles(theme: Theme, color: bool = True) -> dict[str, Style]:
    """Style name -> Rich style."""
    if not color:
        return {name: Style.parse(plain or "none") for name, (_, _, _, plain) in _TABLE.items()}
    colors = theme.colors
    return {
        name: Style(color=getattr(colors, front), bgcolor=getattr(colors, back), bold=bold)
        for name, (front, back, bold, _) in _TABLE.items()
    }


def textual_theme(theme: Theme) -> TextualTheme:
    """What pop-ups and toasts need of a theme."""
    colors = theme.colors
    return TextualTheme(
        name=theme.name,
        dark=theme.dark,
        primary=colors.life,
        secondary=colors.ram,
        accent=colors.life,
        warning=colors.warning,
        error=colors.trouble,
        success=colors.life,
        foreground=colors.text,
        background=colors.background,
        surface=colors.surface,
        panel=colors.surface,
    )
