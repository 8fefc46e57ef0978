"""What would change is told part by part, in halotui's words, and without a secret."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from halotui.actions import Change
from halotui.servers import diff
from halotui.servers.launch import Launch, Runner
from halotui.servers.vocabulary import parse
from halotui.servers.wish import Wish

WORDS = ("-m", "/m/a.gguf", "-np", "1", "-c", "4096", "--no-mmap", "--lora", "x.gguf")


@dataclass(frozen=True)
class Runs:
    """As much of ``Running`` as is compared."""

    runner: Runner = Runner.PLAIN
    binary: tuple[str, ...] = ("/opt/vulkan/llama-server",)
    arguments: tuple[str, ...] = WORDS
    env: dict[str, str] = field(default_factory=lambda: {"HOME": "/home/u", "RADV_PERFTEST": "nogttspill"})
    image: str = ""
    container: str = ""
    unit: str = ""
    facts: Any = field(default_factory=lambda: SimpleNamespace(backend="vulkan"))


def side(runs: Runs) -> diff.Side:
    return diff.of_running(runs)  # type: ignore[arg-type]


def wished(runs: Runs, *arguments: str, **other: Any) -> diff.Side:
    wish = Wish(
        name="new",
        runner=other.get("runner", runs.runner),
        binary=other.get("binary", runs.binary),
        image=other.get("image", ""),
        unit=other.get("unit", ""),
        backend=other.get("backend", "vulkan"),
        words=parse(arguments),
        env=other.get("env", runs.env),
        url="http://127.0.0.1:8080",
    )
    launch = Launch(name="new", argv=(*wish.binary, *arguments), env=wish.env, url=wish.url)
    return diff.of_wish(wish, arguments, launch)


def test_nothing_changes_when_all_is_the_same() -> None:
    assert diff.changes(side(Runs()), wished(Runs(), *WORDS)) == ()


def test_nothing_to_compare_with() -> None:
    assert diff.changes(None, side(Runs())) == diff.changes(side(Runs()), None) == ()


def test_one_flag_is_one_line() -> None:
    after = wished(Runs(), *WORDS[:3], "4", *WORDS[4:])
    assert diff.changes(side(Runs()), after) == (Change(part="flag", name="np", before="1", after="4"),)


def test_the_same_setting_in_another_spelling_is_no_change() -> None:
    after = wished(
        Runs(), "-m", "/m/a.gguf", "--parallel", "1", "-c", "4096", "-lm", "none", "--lora", "x.gguf"
    )
    assert diff.changes(side(Runs()), after) == ()


def test_flags_that_come_and_go() -> None:
    after = wished(Runs(), *WORDS[:-2], "-ctk", "q8_0", "--odd")
    assert diff.changes(side(Runs()), after) == (
        Change(part="flag", name="--lora", before="x.gguf"),
        Change(part="flag", name="ctk", after="q8_0"),
        Change(part="flag", name="--odd", after="on"),
    )


def test_a_flag_that_stands_twice_keeps_both_values() -> None:
    after = wished(Runs(), *WORDS, "--lora", "y.gguf")
    assert diff.changes(side(Runs()), after) == (
        Change(part="flag", name="--lora", before="x.gguf", after="x.gguf, y.gguf"),
    )


def test_how_comes_first_and_then_flags_and_environment() -> None:
    after = wished(
        Runs(),
        *WORDS[:3],
        "2",
        *WORDS[4:],
        binary=("/opt/rocm/llama-server",),
        backend="rocm",
        env={"HOME": "/home/u", "ROCBLAS_USE_HIPBLASLT": "1", "HALOTUI_LAUNCH": "x"},
    )
    assert diff.changes(side(Runs()), after) == (
        Change(part="how", name="binary", before="/opt/vulkan/llama-server", after="/opt/rocm/llama-server"),
        Change(part="how", name="backend", before="vulkan", after="rocm"),
        Change(part="flag", name="np", before="1", after="2"),
        Change(part="env", name="RADV_PERFTEST", before="nogttspill"),
        Change(part="env", name="ROCBLAS_USE_HIPBLASLT", after="1"),
    )


def test_into_a_container_only_what_is_set_for_a_server_is_compared() -> None:
    after = wished(
        Runs(), *WORDS, runner=Runner.PODMAN, image="img", env={"HSA_ENABLE_SDMA": "0", "MY_OWN": "1"}
    )
    told = diff.changes(side(Runs()), after)
    assert [(change.part, change.name) for change in told] == [
        ("how", "runner"),
        ("how", "image"),
        ("env", "HSA_ENABLE_SDMA"),
        ("env", "MY_OWN"),
        ("env", "RADV_PERFTEST"),
    ]


def test_of_a_unit_nothing_is_claimed_that_it_does_not_tell() -> None:
    after = wished(Runs(), runner=Runner.SYSTEMD, unit="llama.service", binary=(), env={})
    assert [change.name for change in diff.changes(side(Runs()), after)] == ["runner", "unit"]


def test_from_the_books() -> None:
    env = {"HOME": "/home/u", "RADV_PERFTEST": "nogttspill", "HALOTUI_PROFILE": "x"}
    argv = ("/opt/vulkan/llama-server", *WORDS[:3], "8", *WORDS[4:])
    back = diff.of_launch(Launch(name="as it was", argv=argv, env=env, url="http://127.0.0.1:8080"))
    assert diff.changes(side(Runs()), back) == (Change(part="flag", name="np", before="1", after="8"),)


SECRET = "s3cr3t-of-mine"


def test_a_secret_that_changes_is_told_and_not_shown() -> None:
    before = Runs(env={"LLAMA_API_KEY": SECRET})
    after = wished(before, *WORDS, env={"LLAMA_API_KEY": f"{SECRET}2"})
    told = diff.changes(side(before), after)
    assert [change.name for change in told] == ["LLAMA_API_KEY"]
    assert SECRET not in repr(told)


def test_a_secret_in_a_flag_is_not_shown() -> None:
    before = Runs(arguments=(*WORDS, "--some-token", SECRET, "--hook", f"https://u:{SECRET}@host/"))
    told = diff.changes(side(before), wished(Runs(), *WORDS))
    assert len(told) == 2
    assert SECRET not in repr(told)
    assert SECRET not in repr(side(before))
    assert SECRET not in " ".join(diff.shown(before.arguments))


def test_what_a_terminal_would_obey_is_gone() -> None:
    before = Runs(arguments=(*WORDS, "--odd", "\x1b[2Jx"), env={"A": "\x1b]0;t\x07y"})
    told = diff.changes(side(before), wished(replace(before, env={}), *WORDS))
    assert [change.before for change in told] == ["x", "y"]


NAMES = st.sampled_from(["-np", "-c", "--odd", "-ctk", "--lora"])
VALUES = st.sampled_from(["1", "2", "q8_0", "x.gguf"])
FLAGS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(lambda pairs: tuple(w for p in pairs for w in p))


@given(FLAGS, FLAGS)
def test_there_and_back_is_the_same_reversed(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    a, b = side(Runs(arguments=one)), side(Runs(arguments=other))
    there = {(c.name, c.before, c.after) for c in diff.changes(a, b)}
    back = {(c.name, c.after, c.before) for c in diff.changes(b, a)}
    assert there == back
    assert not diff.changes(a, a)
    assert all(change.before != change.after for change in diff.changes(a, b))
