"""A command line in halotui's words: nothing is lost, and a patch changes what it names and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.actions import ActionError, Value
from halotui.collectors import llama_process
from halotui.servers.vocabulary import BY_NAME, FORM, Word, convert, from_environment, parse, patched, values

some_words = st.lists(
    st.one_of(
        st.sampled_from([flag for row in BY_NAME.values() for flag in row.spellings]),
        st.sampled_from(
            ["--top-k", "--lora", "--verbose", "--swa-full", "on", "off", "-1", "4096", "q8_0", "-"]
        ),
        st.text(max_size=8),
    )
)


def test_settings_are_read_in_any_spelling() -> None:
    old = "--model a.gguf -np 2 --ctx_size 4096 -fa --no-mmap --mlock --draft 8"
    new = "-m a.gguf --parallel 2 -c 4096 -fa 1 -lm mlock --spec-draft-n-max 8"
    both = "--no-slots -no-kvu --jinja"
    expected = {
        "model": "a.gguf",
        "np": 2,
        "c": 4096,
        "fa": "on",
        "mmap": False,
        "mlock": True,
        "draft-max": 8,
    }
    expected |= {"slots": False, "kvu": False, "jinja": True}
    assert values(parse(f"{old} {both}".split())) == expected
    assert values(parse(f"{new} {both}".split())) == expected


def test_an_unknown_flag_takes_what_does_not_look_like_a_flag() -> None:
    words = parse(["--swa-full", "-np", "2", "--top-k", "40", "--keep", "-1", "stray"])
    assert [word.text for word in words] == [
        *[("--swa-full",), ("-np", "2"), ("--top-k", "40"), ("--keep", "-1"), ("stray",)]
    ]
    assert [word.setting for word in words] == [None, "np", None, None, None]


def test_a_value_that_is_none_is_kept_as_it_stands() -> None:
    (word,) = parse(["-c", "lots"])
    assert word == Word(None, None, ("-c", "lots"))
    assert values(parse(["-ngl", "all", "-fa", "auto", "-np", "-1"])) == {
        "ngl": "all",
        "fa": "auto",
        "np": -1,
    }


def test_the_last_one_wins() -> None:
    assert values(parse(["-np", "1", "--mmap", "-np", "4", "--no-mmap"])) == {"np": 4, "mmap": False}
    assert values(parse(["-lm", "mmap+mlock"])) == {"mmap": True, "mlock": True}
    assert values(parse(["-lm", "dio"])) == {"dio": True}
    assert values(parse(["-lm", "auto"])) == {"lm": "auto"}
    assert values(parse(["--no-mmap", "-ndio"])) == {"mmap": False, "dio": False}
    assert values(parse(["-lm", "dio", "-lm", "none"])) == {"mmap": False}


@given(some_words)
def test_nothing_is_lost(arguments: list[str]) -> None:
    words = parse(arguments)
    assert [word for said in words for word in said.text] == arguments
    assert patched(words, {}) == words
    assert patched(words, dict(values(words).items())) == words or "lm" in values(words)


@given(some_words, st.sampled_from(sorted(BY_NAME)))
def test_what_is_taken_away_is_gone(arguments: list[str], name: str) -> None:
    before = values(parse(arguments))
    left = values(patched(parse(arguments), {name: None}))
    assert name not in left
    if name not in ("draft", "lm"):
        assert left == {key: value for key, value in before.items() if key != name}


@pytest.mark.parametrize(
    ("arguments", "patch", "expected"),
    [
        ("-m a --parallel 1 -c 8", {"np": 4}, "-m a --parallel 4 -c 8"),
        ("-np 1 -c 8 -np 2", {"np": 4}, "-c 8 -np 4"),
        ("-np 1", {"np": 1}, "-np 1"),
        ("-c 8", {"ctk": "q4_0", "ctv": "q4_0"}, "-c 8 -ctk q4_0 -ctv q4_0"),
        ("-fa -c 8", {"fa": "off"}, "-fa off -c 8"),
        ("-c 8", {"fa": "on"}, "-c 8 -fa on"),
        ("--flash-attn off", {"fa": "on"}, "--flash-attn on"),
        ("--mmap", {"mmap": False}, "--no-mmap"),
        ("-lm none -c 8", {"mmap": True}, "-c 8 --mmap"),
        ("-lm dio", {"mmap": False}, "--no-mmap"),
        ("--no-mmap", {"mlock": True}, "--no-mmap --mlock"),
        ("--metrics -c 8", {"metrics": False}, "-c 8"),
        ("--no-slots", {"slots": None}, ""),
        ("-md d --draft-max 8 -ngld 99 --spec-type draft-simple -c 8", {"draft": None}, "-c 8"),
        ("-md d --spec-type draft-simple,ngram-mod", {"draft": None}, "--spec-type ngram-mod"),
        ("-md d --draft-max 8", {"draft": None, "draft-max": 16}, "--draft-max 16"),
    ],
)
def test_patched(arguments: str, patch: dict[str, Value | None], expected: str) -> None:
    said = [word for each in patched(parse(arguments.split()), patch) for word in each.text]
    assert " ".join(said) == expected


def test_a_patch_names_settings() -> None:
    with pytest.raises(ActionError, match="no setting nope"):
        patched((), {"nope": 1})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("np", "1", ("np", 1)),
        ("parallel", "4", ("np", 4)),
        ("--ctx-size", "4096", ("c", 4096)),
        ("ctx_size", "", ("c", None)),
        ("fa", "1", ("fa", "on")),
        ("flash-attn", "auto", ("fa", "auto")),
        ("mmap", "off", ("mmap", False)),
        ("no-mmap", "true", ("mmap", False)),
        ("no-kvu", "off", ("kvu", True)),
        ("metrics", "default", ("metrics", None)),
        ("draft", "none", ("draft", None)),
        ("spec", "none", ("spec", "none")),
        ("device", "none", ("device", "none")),
        ("ngl", "all", ("ngl", "all")),
        ("draft-p-min", "0.5", ("draft-p-min", 0.5)),
        ("spec-default", "on", ("spec", "ngram-mod")),
        ("load-mode", "none", ("mmap", False)),
        ("load-mode", "dio", ("dio", True)),
        ("lm", "dio", ("lm", "dio")),
    ],
)
def test_converted(name: str, text: str, expected: tuple[str, Value | None]) -> None:
    found = convert(name, text)
    assert found == expected
    assert type(found[1]) is type(expected[1])


@pytest.mark.parametrize(
    ("name", "text", "reason", "hint"),
    [
        ("paralel", "1", "no setting paralel", "did you mean parallel?"),
        ("port", "0", "port=0: not from 1 to 65535", ""),
        ("port", "99999", "port=99999: not from 1 to 65535", ""),
        ("threads-http", "4", "no setting threads-http", "other flags go into extra"),
        ("np", "many", "np=many: not a whole number", ""),
        ("ngl", "x", "ngl=x: not a whole number or auto or all", ""),
        ("fa", "maybe", "fa=maybe: not one of on, off, auto", ""),
        ("mmap", "perhaps", "mmap=perhaps: not on or off", ""),
    ],
)
def test_not_converted(name: str, text: str, reason: str, hint: str) -> None:
    with pytest.raises(ActionError) as caught:
        convert(name, text)
    assert (caught.value.reason, caught.value.hint) == (reason, hint)


def test_said_by_environment() -> None:
    environ = {
        "LLAMA_ARG_CTX_SIZE": "4096",
        "LLAMA_ARG_NO_MMAP": "",
        "LLAMA_ARG_FLASH_ATTN": "1",
        "HOME": "/",
    }
    environ |= {"LLAMA_ARG_ENDPOINT_METRICS": "1", "LLAMA_ARG_N_PARALLEL": "x"}
    assert from_environment(environ) == {"c": 4096, "mmap": False, "fa": "on", "metrics": True}
    assert from_environment({"LLAMA_ARG_LOAD_MODE": "mlock"}) == {"mmap": False, "mlock": True}


def test_the_table_is_whole() -> None:
    assert set(FORM) <= set(BY_NAME)
    assert all(row.spellings for row in BY_NAME.values())
    for flag in llama_process.FLAGS:  # one that the collector reads is a setting here, or a secret or a file
        if flag.field not in ("api_key", "certificate"):
            assert any(set(flag.flags) <= set(row.spellings) for row in BY_NAME.values()), flag


def test_a_key_is_not_in_a_repr() -> None:
    assert "hunter2" not in repr(parse(["--api-key", "hunter2"]))
