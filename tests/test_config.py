"""Settings: what is accepted, from where, and how trouble is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from halotui import config
from halotui.config import ConfigError, Settings


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return config.load(file, environ)


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, "")
    assert settings == Settings() and settings.interval == 1.0 and settings.gpu_source == "auto"


def test_every_key(tmp_path: Path) -> None:
    text = """
urls = ["http://127.0.0.1:8080", "halo:8081"]
interval = 2
gpu_source = "sysfs"
theme = "halo-light"
api_key_env = "MINE"
[keys]
freeze = "f12"
"""
    assert load(tmp_path, text) == Settings(
        urls=("http://127.0.0.1:8080", "halo:8081"),
        interval=2.0,
        gpu_source="sysfs",
        theme="halo-light",
        api_key_env="MINE",
        keys={"freeze": "f12"},
    )


def test_environment_beats_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path, 'interval = 2\ntheme = "halo-light"\n', HALOTUI_INTERVAL="0.5", HALOTUI_URLS="a:1  b:2"
    )
    assert (settings.interval, settings.theme, settings.urls) == (0.5, "halo-light", ("a:1", "b:2"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("intervall = 1\n", ":1: "),
        ("theme = 3\n", ":1: "),
        ("\n\n[keys]\nfreeze = 1\n", "keys"),
        ("[key]\n", ":1: "),
        ("a = [\n", "end of document"),
        ("urls = 'x'\n", ":1: "),
    ],
)
def test_trouble_names_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as trouble:
        load(tmp_path, text)
    said = str(trouble.value)
    assert said.startswith(str(tmp_path / "config.toml")) and words in said and "\n" not in said


def test_trouble_with_the_file_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b'theme = "\xe4"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "latin.toml", {})
    with pytest.raises(ConfigError):
        config.load(tmp_path, {})


@pytest.mark.parametrize("interval", [0.0, -1.0, 0.1, 5000.0, float("nan"), float("inf")])
def test_intervals_out_of_bounds(interval: float) -> None:
    with pytest.raises(ConfigError, match="interval"):
        config.check(Settings(interval=interval))


def test_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an absolute path counts, as the specification has it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for said, wanted in (("/x", Path("/x/halotui")), ("rel", None), ("", None)):
        monkeypatch.setenv("XDG_CONFIG_HOME", said)
        monkeypatch.setenv("XDG_STATE_HOME", said)
        assert config.config_dir() == (wanted or tmp_path / ".config/halotui")
        assert config.state_dir() == (wanted or tmp_path / ".local/state/halotui")


def test_no_file_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.load(None, {}) == Settings()
