"""A profile written into the user's file: it reads back, and nothing else has changed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui import config
from halotui.actions import ActionError
from halotui.servers import profile_file
from halotui.servers.launch import Runner
from halotui.servers.profile import Profile

MINE = """\
# my box
theme = "halo-light"  # at night

[profiles.old]  # the first one
model = "/m/old.gguf"  # do not move
port = 8080
flags = { np = 1, c = 4096 }  # enough
# about the environment
[profiles.old.env]
RADV_PERFTEST = "nogttspill"  # or it spills

[keys]
# vim hands
quit = "Q"

[profiles.last]
inherits = "vulkan"
"""
NEW = Profile(
    description='with "quotes", ünïcode and a \\',
    runner=Runner.TOOLBOX,
    binary=("nice", "llama-server"),
    container="llama-vulkan-radv",
    backend="vulkan",
    model="/models/a b.gguf",
    port=8081,
    env={"RADV_PERFTEST": "nogttspill", "ODD.NAME": "x"},
    flags={"np": 2, "fa": "on", "mmap": False, "draft-p-min": 0.5},
    extra=("--lora", "/l.gguf"),
    load_seconds=90.0,
)


def read(path: Path, name: str) -> Profile:
    """As halotui itself will."""
    found: Profile = config.load(path).profiles[name]
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(MINE)
    return path


def test_a_new_one_goes_to_the_end(file: Path) -> None:
    profile_file.save(file, "new", NEW)
    assert file.read_text().startswith(MINE)
    assert read(file, "new") == NEW


def test_a_known_one_changes_key_by_key(file: Path) -> None:
    old = read(file, "old")
    profile_file.save(
        file, "old", msgspec.structs.replace(old, port=None, flags={"np": 4, "ctk": "q8_0"}, env={"A": "1"})
    )
    text = file.read_text()
    assert read(file, "old") == Profile(model="/m/old.gguf", flags={"np": 4, "ctk": "q8_0"}, env={"A": "1"})
    for line in MINE.splitlines():
        if not line.startswith(("port", "flags", "RADV")):
            assert line in text.splitlines(), line
    assert "# enough" in text


def test_nothing_new_nothing_written_anew(file: Path) -> None:
    mine = MINE + "extra = [\n  '--lora',  # mine\n  '/l',\n]\n"
    file.write_text(mine)
    for name in ("old", "last"):
        profile_file.save(file, name, read(file, name))
    assert file.read_text() == mine


def test_what_would_change_the_rest_is_not_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if tomlkit had a fault."""
    monkeypatch.setattr(profile_file, "_with", lambda *_: '[profiles.new]\nmodel = "/m"\n')
    with pytest.raises(ActionError, match="without touching the rest"):
        profile_file.save(file, "new", Profile(model="/m"))
    assert file.read_text() == MINE


def test_a_first_file_is_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "halotui" / "config.toml"
    profile_file.save(path, "new", NEW)
    assert read(path, "new") == NEW
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


def test_a_link_is_followed_and_rights_are_kept(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "home" / "config.toml"
    link.parent.mkdir()
    link.symlink_to(Path("..") / file.name)
    file.chmod(0o640)
    profile_file.save(link, "new", NEW)
    assert link.is_symlink() and read(file, "new") == NEW
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "home"]


def test_windows_lines_stay(file: Path) -> None:
    file.write_bytes(MINE.replace("\n", "\r\n").encode())
    profile_file.save(file, "new", NEW)
    raw = file.read_bytes()
    assert raw.count(b"\n") == raw.count(b"\r\n") and read(file, "new") == NEW


def test_a_last_line_without_an_end(file: Path) -> None:
    file.write_text('theme = "halo-light"')
    profile_file.save(file, "new", NEW)
    assert file.read_text().startswith('theme = "halo-light"\n\n[profiles.new]')


def test_tables_in_one_line(file: Path) -> None:
    file.write_text('profiles = { old = { model = "/m" } }\n')
    with pytest.raises(ActionError, match="without touching the rest"):
        profile_file.save(file, "new", NEW)
    assert file.read_text() == 'profiles = { old = { model = "/m" } }\n'
    profile_file.save(file, "old", Profile(model="/n"))
    assert read(file, "old") == Profile(model="/n")


@pytest.mark.parametrize("broken", [b"theme = ", b"\xff", b"[profiles]\nold = 1\n[profiles]\n"])
def test_a_broken_file_is_left_alone(file: Path, broken: bytes) -> None:
    file.write_bytes(broken)
    with pytest.raises(ActionError, match=r"config\.toml"):
        profile_file.save(file, "new", NEW)
    assert file.read_bytes() == broken


def test_what_is_no_table_is_refused(file: Path) -> None:
    file.write_text("[profiles]\nold = 1\n")
    with pytest.raises(ActionError):
        profile_file.save(file, "old", NEW)
    assert file.read_text() == "[profiles]\nold = 1\n"


@pytest.mark.parametrize("name", ["", "../x", "a.b]\n[keys", "a b"])
def test_an_odd_name_is_refused(file: Path, name: str) -> None:
    with pytest.raises(ActionError):
        profile_file.save(file, name, NEW)
    assert file.read_text() == MINE


def test_a_name_with_a_dot_is_one_name(file: Path) -> None:
    profile_file.save(file, "qwen3.5", NEW)
    assert read(file, "qwen3.5") == NEW


def test_a_directory_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ActionError, match="file"):
        profile_file.save(tmp_path / "file" / "config.toml", "new", NEW)


def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ActionError, match="No space left"):
        profile_file.save(file, "new", NEW)
    assert file.read_text() == MINE and len(list(file.parent.iterdir())) == 1


values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
some = st.builds(
    Profile,
    description=values,
    model=values,
    env=st.dictionaries(st.from_regex(r"[A-Z_.]{1,8}", fullmatch=True), values, max_size=3),
    flags=st.dictionaries(st.sampled_from(["np", "c", "t"]), st.integers(1, 99)),
    extra=st.one_of(st.from_regex(r"[-a-z é]{1,9}", fullmatch=True), st.lists(values, max_size=3).map(tuple)),
    port=st.one_of(st.none(), st.integers(1, 65535)),
)
names = st.sampled_from(["old", "last", "new", "é.x"])


@given(st.lists(st.tuples(names, some), min_size=1, max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, saved: list[tuple[str, Profile]]) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(MINE)
    rest = without_profiles(MINE)
    for name, profile in saved:
        profile_file.save(path, name, profile)
        assert read(path, name) == profile
    assert without_profiles(path.read_text()) == rest
    kept = [
        line for line in MINE.splitlines() if line.startswith(("#", "theme", "[keys", "quit", "[profiles."))
    ]
    lines = path.read_text().splitlines()
    assert [line for line in kept if line not in lines and not line.startswith("[profiles.old.env]")] == []


def without_profiles(text: str) -> dict[str, Any]:
    return {key: value for key, value in tomllib.loads(text).items() if key != "profiles"}
