"""Themes are checked when loaded; the shipped ones can be read by everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from halotui.themes import DEFAULT, Theme, ThemeError, load, load_all
from halotui.widgets.styles import styles

THEMES, _ = load_all()


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_four_are_there() -> None:
    assert next(iter(THEMES)) == DEFAULT
    assert set(THEMES) == {"halo-dark", "halo-light", "high-contrast", "colour-blind"}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_text_can_be_read(theme: Theme) -> None:
    colors = theme.colors
    for key in ("text", "strong", "dim", "life", "warning", "trouble"):
        for ground in (colors.background, colors.surface):
            assert contrast(getattr(colors, key), ground) >= 4.5, (key, ground)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name = 1", "name"),
        ('name = "x"\ndark = true\n[colors]\nbackground = "black"', "colors"),
        ("not toml at all", "bad.toml"),
    ],
)
def test_a_bad_theme_says_where(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ThemeError, match=word):
        load(path)
    themes, troubles = load_all(tmp_path)
    assert len(themes) == 4
    assert len(troubles) == 1


def test_a_user_theme_joins(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "halotui/themes/halo-dark.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("halo-dark", "mine"))
    assert "mine" in load_all(tmp_path)[0]


def test_without_colour_weight_says_it() -> None:
    plain = styles(THEMES[DEFAULT], color=False)
    assert all(style.color is None and style.bgcolor is None for style in plain.values())
    assert plain["trouble"] != plain["warning"] != plain["text"]
