"""suite.toml: read strictly, each error with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from halotui.benching import suite_file
from halotui.benching.suite_file import TomlError, read, seconds

GOOD = """\
name = "backends"
model = "/models/llama-2-7b.Q4_0.gguf"
repeats = 3
timeout = "1h"
[[run]]
label = "Vulkan"
profile = "vulkan"
flags = { fa = "on", ngl = 99 }
[[run]]
profile = "rocm"
extra = "--no-host 1"
[[test]]
pp = [512]
tg = 128
depth = [0, 4096]
[matrix]
ctk = ["f16", "q8_0"]
"""
PROFILES = {"vulkan": None, "rocm": None}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my suite.toml"
    file.write_text(text)
    return file


def test_a_whole_one(tmp_path: Path) -> None:
    suite = read(written(tmp_path, GOOD), PROFILES)
    assert suite.name == "backends" and suite.timeout_seconds == 3600
    assert [suite_file.label_of(row) for row in suite.run] == ["Vulkan", "rocm"]
    assert suite.run[1].extra_words == ("--no-host", "1")
    assert suite_file.combinations(suite) == [{"ctk": "f16"}, {"ctk": "q8_0"}]


def test_what_hangs_ends_some_day(tmp_path: Path) -> None:
    assert read(written(tmp_path, GOOD.replace('timeout = "1h"', "")), PROFILES).timeout_seconds == 6 * 3600


def test_its_name_is_the_files(tmp_path: Path) -> None:
    assert read(written(tmp_path, GOOD.replace('name = "backends"', "")), PROFILES).name == "my-suite"


@pytest.mark.parametrize(
    ("line", "put", "told"),
    [
        (3, "repeat = 3", "3: repeat: no such key"),
        (3, "repeats = 0", "3: repeats: 0 is not between 1 and 1000"),
        (3, 'repeats = "x"', "3: repeats: Expected `int`, got `str`"),
        (4, 'timeout = "soon"', "4: timeout: 'soon' is no length of time"),
        (4, 'order = "random"', "4: order: 'random' is none of shuffled, as written"),
        (4, "hz = 1000", "4: hz: 1000 is not between 1 and 100"),
        (4, "x = [", ":"),
        (6, 'colour = "red"', "6: run.1.colour: no such key"),
        (7, 'profile = "vulcan"', "7: run.1.profile: no profile vulcan; there are vulkan, rocm"),
        (8, 'flags = { flash = "on" }', "8: run.1.flags.flash: no such setting"),
        (8, 'flags = { fa = "maybe" }', "8: run.1.flags.fa: fa=maybe: not one of on, off, auto"),
        (8, "flags = { port = 1 }", "8: run.1.flags.port: is no flag here"),
        (8, "flags = { np = 2 }", "8: run.1.flags.np: a llama-bench has no such flag"),
        (11, "extra = '\"open'", "11: run.2.extra: no closing quotation"),
        (11, "bench = 7", "11: run.2.bench: Expected `str`, got `int`"),
        (13, "pp = [0]", "13: test.1.pp: 0 is not between 1"),
        (14, "tg = [1.5]", "14: test.1.tg"),
        (15, 'pg = "512"', "15: test.1.pg: '512' is no pair"),
        (17, "ctk = []", "17: matrix.ctk: an empty list"),
        (17, "port = [1]", "17: matrix.port: is no flag here"),
        (17, "cktk = ['f16']", "17: matrix.cktk: no such setting"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, line: int, put: str, told: str) -> None:
    lines = GOOD.splitlines()
    lines[line - 1] = put
    file = written(tmp_path, "\n".join(lines))
    with pytest.raises(TomlError) as caught:
        read(file, PROFILES)
    assert str(caught.value).startswith(f"{file}:{told.partition(':')[0]}")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no row"),
        ('[[run]]\nlabel = "a"\n', "nothing to measure"),
        ('[[run]]\nlabel = "a"\n[[test]]\ndepth = 5\n', "3: test.1.pp: a test needs pp, tg or pg"),
        (
            '[[run]]\nlabel="a"\n[[run]]\nlabel="a"\n[[test]]\npp=1\n',
            "3: run.2: a second row with the label a",
        ),
        ('[[run]]\nlabel="a"\n[server]\n', "1: run.1: a row of a suite with a [server] needs a profile"),
        (
            '[[run]]\nprofile="rocm"\n[server]\nworkloads=["chat","sing"]\n',
            "4: server.workloads: there is no sing",
        ),
        ('[[run]]\nprofile="rocm"\n[server]\nrepeats=0\n', "4: server.repeats: 0 is not"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TomlError, match=r".*") as caught:
        read(written(tmp_path, text), PROFILES)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TomlError, match=r"none\.toml: No such file"):
        read(tmp_path / "none.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TomlError, match="not UTF-8"):
        read(tmp_path / "binary.toml", {})


@pytest.mark.parametrize(
    ("said", "value"), [("90s", 90), ("5m", 300), ("1.5h", 5400), (60, 60), ("0.5", 0.5)]
)
def test_times(said: str | float, value: float) -> None:
    assert seconds(said) == value


@pytest.mark.parametrize("said", ["", "0", "-1", "1w", "1e9", "nan", "99d"])
def test_no_times(said: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        seconds(said)
