"""Settings and tests in the flags of the llama-bench at hand: a real one's help, and an older form."""

from __future__ import annotations

from typing import Any

import pytest
from stand_in_bench import NEW_HELP, OLD_HELP

from halotui.benching import suite_argv
from halotui.benching.suite_argv import Unsayable
from halotui.benching.suite_file import Trial

NEW, OLD = suite_argv.parse_help(NEW_HELP), suite_argv.parse_help(OLD_HELP)
# Between the two: its own flag for direct I/O, flash attention as a number.
MIDDLE = suite_argv.parse_help(
    OLD_HELP.replace("  -ts,", "  -dio, --direct-io <0|1>  (default: 0)\n  -d, --n-depth <n>  \n  -ts,")
)


def test_the_help_is_read() -> None:
    assert NEW.flags["-fa"].choices == ("on", "off", "auto")
    assert OLD.flags["-fa"].choices == ("0", "1")
    assert NEW.flags["--progress"].arity == 0 and "--progress" not in OLD.flags
    assert NEW.flags["--delay"].arity == NEW.flags["-ot"].arity == NEW.flags["--override-tensor"].arity == 1
    assert OLD.flags["-oe"].arity == 1  # one blank before what it says


@pytest.mark.parametrize("text", ["", "hello", "  -m, --model FNAME\n  --port PORT\n"])
def test_other_programs_are_none(text: str) -> None:
    assert not suite_argv.parse_help(text).flags


@pytest.mark.parametrize(
    ("said", "new", "old"),
    [
        ({"fa": "on"}, "-fa on", "-fa 1"),
        ({"fa": "off"}, "-fa off", "-fa 0"),
        ({"ngl": 99}, "-ngl 99", "-ngl 99"),
        ({"ngl": "all"}, "-ngl 99", "-ngl 99"),
        ({"ngl": "auto"}, "", ""),
        ({"mmap": False}, "-lm none", "-mmp 0"),
        ({"mmap": True}, "-lm mmap", "-mmp 1"),
        ({"mmap": False, "mlock": True}, "-lm mlock", None),
        ({"dio": True}, "-lm dio", None),
        ({"dio": False}, "-lm mmap", ""),
        ({"ctk": "q8_0", "ctv": "q8_0"}, "-ctk q8_0 -ctv q8_0", "-ctk q8_0 -ctv q8_0"),
        ({"device": "Vulkan0,Vulkan1"}, "-dev Vulkan0/Vulkan1", None),
        ({"fa": "auto"}, "-fa auto", None),
    ],
)
def test_settings(said: dict[str, Any], new: str, old: str | None) -> None:
    assert suite_argv.settings(said, NEW, strict=True) == tuple(new.split())
    if old is None:
        with pytest.raises(Unsayable, match="has no flag for"):
            suite_argv.settings(said, OLD, strict=True)
        assert not set(suite_argv.settings(said, OLD, strict=False)) & {"-dev", "-lm", "-dio", "-fa"}
    else:
        assert suite_argv.settings(said, OLD, strict=True) == tuple(old.split())


def test_in_between() -> None:
    assert suite_argv.settings({"mmap": False, "dio": True}, MIDDLE, strict=True) == (
        "-mmp",
        "0",
        "-dio",
        "1",
    )


def test_what_only_a_server_has_is_left_out_of_a_profile() -> None:
    said: dict[str, Any] = {"np": 2, "c": 4096, "spec": "ngram-mod", "ub": 256}
    assert suite_argv.settings(said, NEW, strict=False) == ("-ub", "256")


def test_free_flags_of_a_profile() -> None:
    words = (
        "--no-host",
        "-ncmoe",
        "4",
        "-ts",
        "3,1",
        "--cors",
        "x",
        "-m",
        "other.gguf",
        "-sm",
        "row",
        "-C",
        "0,1",
    )
    assert suite_argv.free(words, NEW) == ("-ncmoe", "4", "-ts", "3/1", "-sm", "row")
    assert suite_argv.free(words, OLD) == ("-ts", "3/1", "-sm", "row")


@pytest.mark.parametrize(
    ("test", "told", "name"),
    [
        (Trial(pp=512, tg=128), "-p 512 -n 128", "pp512 tg128"),
        (Trial(pp=(512, 1024)), "-p 512,1024 -n 0", "pp512 pp1024"),
        (Trial(tg=128, depth=(0, 4096)), "-p 0 -n 128 -d 0,4096", "tg128 @ d0,4096"),
        (Trial(pg="512,128"), "-p 0 -n 0 -pg 512,128", "pp512+tg128"),
        (Trial(tg=8, depth=0), "-p 0 -n 8", "tg8"),
    ],
)
def test_tests(test: Trial, told: str, name: str) -> None:
    assert suite_argv.tests(test, NEW) == tuple(told.split())
    assert suite_argv.name_of(test) == name


def test_depth_needs_a_build_that_has_it() -> None:
    assert suite_argv.tests(Trial(pp=1, depth=5), MIDDLE)[-2:] == ("-d", "5")
    with pytest.raises(Unsayable, match="too old"):
        suite_argv.tests(Trial(pp=1, depth=5), OLD)


def test_how_it_is_run() -> None:
    assert suite_argv.how(NEW, repeats=3, warmup=False) == (
        "-r",
        "3",
        "-o",
        "jsonl",
        "--progress",
        "--no-warmup",
    )
    assert suite_argv.how(OLD, repeats=5, warmup=False) == ("-r", "5", "-o", "json")


def test_longer_tests_weigh_more() -> None:
    short, long = Trial(pp=512, tg=128), Trial(pp=8192, tg=8192)
    assert suite_argv.weight(long, 5) > 10 * suite_argv.weight(short, 5)
    assert suite_argv.weight(Trial(pp=512, depth=(0, 4096)), 5) > 2 * suite_argv.weight(Trial(pp=512), 5)
