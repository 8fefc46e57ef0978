"""Which boxes a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from halotui import config
from halotui.commands import places
from halotui.config import HostSettings, Settings
from halotui.exits import UsageError

LAB = {
    "desk": HostSettings(
        ssh="me@10.0.0.5", groups=("lab",), urls=("localhost:9090",), readonly=True, interval=5
    ),
    "attic": HostSettings(groups=("lab", "home"), sysfs="/tmp/sys", procfs="/tmp/proc", log="/tmp/x.log"),
    "own": HostSettings(ssh=".", groups=("home",)),
}


def names(found: list[places.Place]) -> list[tuple[str, str | None]]:
    return [(place.name, place.target) for place in found]


def test_without_a_word_it_is_this_box() -> None:
    assert names(places.places(Settings(hosts=LAB), {})) == [("", None)]
    assert names(places.places(Settings(hosts=LAB), {"ssh": ["."]})) == [("", None)]


def test_names_of_the_config_targets_and_groups_each_once() -> None:
    said = {"ssh": ["desk", "root@far", "desk"], "fleet": "lab"}
    assert names(places.places(Settings(hosts=LAB), said)) == [
        ("desk", "me@10.0.0.5"),
        ("root@far", "root@far"),
        ("attic", "attic"),
    ]
    assert names(places.places(Settings(hosts=LAB), {"fleet": ""}))[-1] == ("own", None)


def test_a_box_has_its_own_settings_and_the_command_line_beats_them() -> None:
    settings = Settings(urls=("http://127.0.0.1:1",), interval=2.0, hosts=LAB)
    desk, far, own = places.places(settings, {"ssh": ["desk", "far", "own"]})
    assert desk.settings.urls == ("http://localhost:9090",)
    assert (desk.settings.readonly, desk.settings.interval) == (True, 5)
    assert far.settings.urls == ()  # the general ones are of this box
    assert own.settings.urls == ("http://127.0.0.1:1",)
    said = {"ssh": ["desk"], "url": ["http://127.0.0.1:2"], "interval": 1.0}
    over = places.place(Settings(urls=("http://127.0.0.1:2",), interval=1.0, hosts=LAB), said)
    assert (over.settings.urls, over.settings.interval) == (("http://127.0.0.1:2",), 1.0)


def test_what_is_remembered_of_a_far_box_stands_apart() -> None:
    attic, odd, dots = places.places(Settings(hosts=LAB), {"ssh": ["attic", "u@h/../x", ".."]})
    assert attic.state == config.state_dir() / "hosts/attic"
    assert attic.said["sysfs"] == Path("/tmp/sys")
    assert attic.said["log"] == "/tmp/x.log"
    assert odd.state == config.state_dir() / "hosts/u@h%2F..%2Fx"
    assert dots.state.parent == config.state_dir() / "hosts"
    assert dots.state.resolve() != config.state_dir().resolve()


@pytest.mark.parametrize("target", ["-oProxyCommand=touch x", "", "a b", "a\nb", "\x1b[2J"])
def test_what_ssh_must_not_be_given(target: str) -> None:
    with pytest.raises(UsageError, match="--ssh"):
        places.places(Settings(), {"ssh": [target]})


def test_one_clear_line() -> None:
    with pytest.raises(UsageError, match="one box at a time: 2 are named"):
        places.place(Settings(), {"ssh": ["a", "b"]})
    with pytest.raises(UsageError, match="no box is in the group 'x'; groups: home, lab"):
        places.places(Settings(hosts=LAB), {"fleet": "x"})
    with pytest.raises(UsageError, match="there is no"):
        places.places(Settings(), {"fleet": ""})
    with pytest.raises(UsageError, match="of which box"):
        places.places(Settings(), {"ssh": ["a", "b"], "log": "/x"})


def test_the_config_names_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('theme = "halo-dark"\n[hosts.a]\nssh = "x"\n[hosts.b]\nvia = "telnet"\n')
    with pytest.raises(config.ConfigError, match=r"config.toml:5: hosts\.b\.via|config.toml:5"):
        config.load(file)
    file.write_text("[hosts.a]\nport = 22\n")
    with pytest.raises(config.ConfigError, match=r"config.toml:2.*port"):
        config.load(file)
