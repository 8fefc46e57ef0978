"""Settings: what is accepted, from where, and how trouble is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from halotui import config
from halotui.config import ConfigError, Settings
from halotui.rules.tuning import AS_SHIPPED, Tuning
from halotui.servers.profile import Profile
from running import environment


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


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[profiles.a]\nport = 1\ncolour = 3\n[profiles.b]\ncolour = 4\n", 3, "profiles.a.colour: no such"),
        ("[profiles.a]\nport = 1\n[profiles.b]\nport = 'x'\n", 4, "profiles.b.port: Expected"),
        ("[profiles.a]\nport = 1\n\n# port\n[profiles.b]\nport = 99999\n", 6, "profiles.b.port: 99999"),
        ("[profiles]\na = { port = 1 }\nb = { port = 1, colour = 2 }\n", 3, "profiles.b.colour"),
        ("profiles.a.port = 1\nprofiles.b.env.X = 'x'\nprofiles.b.env.Y = 2\n", 3, "profiles.b.env.Y"),
        ('[profiles.\'a b\']\nmodel = """\ncolour = 1\n"""\ncolour = 1\n', 5, "profiles.a b.colour"),
        ("[profiles.a]\nbinary = [\n  'x',\n  3,\n]\n", 2, "profiles.a.binary"),
        ("[profiles.a.flags]\nnp = 1\nc = [1]\n", 3, "profiles.a.flags.c"),
        ("[profiles.a.flags]\nnp = 1\nnpp = 1\n", 3, "profiles.a.flags.npp"),
        ("[profiles.a.flags]\nnp = 1\nfa = 'perhaps'\n", 3, "profiles.a.flags.fa"),
        ("theme = 'x'\r\n\r\n[profiles.a]\r\nrunner = 'magic'\r\n", 4, "profiles.a.runner"),
        ("interval = 1\nprofiles = 3\n", 2, "profiles: Expected"),
        ("interval = 1\n[[profiles.a]]\nport = 1\n", 2, "profiles.a: Expected"),
        ("readonly = 'perhaps'\n", 1, "readonly"),
        ("[keys]\nfreeze = 'f'\nfly = 'g'\n", 3, "keys.fly: no such key"),
        ("# theme\n[keys]\ntheme = 3\n", 3, "keys.theme: Expected"),
        ("[profiles.a]\nport = 1\nport = 2\n", 3, "overwrite"),
        (
            "[rules]\nsilence = ['np-slot']\n",
            2,
            "rules.silence: np-slot: no such rule; did you mean np-slots",
        ),
        ("[rules.gtt-presure]\nwarning = 0.9\n", 1, "rules.gtt-presure: no such rule; did you mean"),
        ("[rules.gtt-pressure]\nclear = 0.9\nwarn = 0.9\n", 3, "rules.gtt-pressure.warn: no such threshold"),
        ("[rules]\n\ngtt-pressure.warning = 'x'\n", 3, "rules.gtt-pressure.warning: Expected a number"),
        ("[rules.gtt-pressure]\nwarning = nan\n", 2, "rules.gtt-pressure.warning: nan is not between"),
        ("rules = 3\n", 1, "rules: Expected"),
    ],
)
def test_trouble_names_the_key_and_its_own_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    """Not the first line with a key of that name, and however TOML lets it be spelt."""
    with pytest.raises(ConfigError) as trouble:
        load(tmp_path, text)
    said = str(trouble.value)
    assert said.startswith(f"{tmp_path / 'config.toml'}:{line}: ") and words in said and "\n" not in said


def test_profiles_are_read_whole(tmp_path: Path) -> None:
    text = """
[profiles.small]
model = "/m/small.gguf"
port = 8081
flags = { np = 1, fa = "on", draft-p-min = 0.5, mmap = false }

[profiles.big]
inherits = "small"
env.GGML_X = "1"
binary = ["nice", "/opt/llama-server"]
"""
    profiles = load(tmp_path, text).profiles
    assert profiles == {
        "small": Profile(
            model="/m/small.gguf", port=8081, flags={"np": 1, "fa": "on", "draft-p-min": 0.5, "mmap": False}
        ),
        "big": Profile(inherits="small", env={"GGML_X": "1"}, binary=("nice", "/opt/llama-server")),
    }
    assert profiles["small"].flags["mmap"] is False and type(profiles["small"].flags["np"]) is int


@pytest.mark.parametrize(("said", "wanted"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_readonly_by_the_environment(tmp_path: Path, said: str, wanted: bool) -> None:
    assert load(tmp_path, f"readonly = {str(not wanted).lower()}", HALOTUI_READONLY=said).readonly is wanted


def test_trouble_with_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HALOTUI_"):
        load(tmp_path, "", HALOTUI_READONLY="perhaps")


def test_rules_are_tuned(tmp_path: Path) -> None:
    text = "[rules]\nsilence = ['np-slots']\n[rules.gtt-pressure]\nwarning = 0.96\nhold_seconds = 10\n"
    assert config.tuning(load(tmp_path, text)) == Tuning(
        levels={"gtt-pressure": {"warning": 0.96}},
        holds={"gtt-pressure": 10.0},
        silent=frozenset({"np-slots"}),
    )
    assert config.tuning(Settings()) == AS_SHIPPED
    with pytest.raises(ConfigError, match=r"^rules\.x: no such rule"):
        config.tuning(Settings(rules={"x": {}}))


def test_no_profile_and_no_rule_cost_no_import() -> None:
    """The cockpit of a user without profiles starts without what only profiles need; rules likewise."""
    code = (
        "import sys, halotui.config as c; c.load(None, {});"
        "print(any(name in sys.modules for name in ('halotui.servers.profile', 'halotui.rules')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "False\n", done.stderr


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
