"""The items of a suite: their keys, their order, and what is left of them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from halotui.benching import suite_course as course
from halotui.benching.suite_file import Row, Server, Suite, Trial
from halotui.runs import Kind, Result, Run, Status

ROWS = tuple(Row(label=label, profile=label.lower()) for label in ("CPU", "Vulkan", "HIP"))
SUITE = Suite(name="s", run=ROWS, test=(Trial(pp=512, tg=128), Trial(pp=8192, tg=8192)))


def ran(item: course.Item, status: Status, at: float = 1.0, id_: int = 1) -> Run:
    return Run(kind=item.kind, status=status, item=item.key, started_time=at, id=id_)


def test_every_row_with_every_test() -> None:
    items = course.items(SUITE)
    assert [item.name for item in items][:3] == [
        "CPU · pp512 tg128",
        "CPU · pp8192 tg8192",
        "Vulkan · pp512 tg128",
    ]
    assert len({item.key for item in items}) == 6


def test_the_matrix_makes_rows() -> None:
    suite = replace(
        SUITE, run=ROWS[:1], test=SUITE.test[:1], matrix={"ctk": ("f16", "q8_0"), "ub": (256, 512)}
    )
    items = course.items(suite)
    assert [item.label for item in items] == [
        f"CPU, ctk {kind}, ub {size}" for kind in ("f16", "q8_0") for size in (256, 512)
    ]
    assert items[-1].settings == {"ctk": "q8_0", "ctv": "q8_0", "ub": 512}


def test_v_is_as_it_is_said() -> None:
    row = Row(label="a", flags={"ctv": "f16"})
    [item] = course.items(replace(SUITE, run=(row,), test=SUITE.test[:1], matrix={"ctk": "q8_0"}))
    assert item.settings == {"ctv": "f16", "ctk": "q8_0"}
    [item] = course.items(
        replace(SUITE, run=ROWS[:1], test=SUITE.test[:1], matrix={"ctk": "q8_0", "ctv": "q4_0"})
    )
    assert item.settings == {"ctk": "q8_0", "ctv": "q4_0"}


def test_speculation_makes_rows_of_a_server() -> None:
    server = Server(workloads=("chat",), speculation=("none", "draft-simple"))
    items = course.items(replace(SUITE, run=ROWS[1:2], test=(), server=server))
    assert [(item.label, item.kind, item.title) for item in items] == [
        ("Vulkan", Kind.SERVER, "chat"),
        ("Vulkan + draft-simple", Kind.SERVER, "chat"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other.gguf"},
        {"bench": "/other/llama-bench"},
        {"run": (replace(ROWS[0], env={"A": "1"}),)},
        {"run": (replace(ROWS[0], flags={"fa": "on"}),)},
        {"run": (replace(ROWS[0], extra=("--no-host", "1")),)},
        {"test": (Trial(pp=513, tg=128),)},
    ],
)
def test_what_is_measured_makes_the_key(changed: dict[str, Any]) -> None:
    one = replace(SUITE, run=ROWS[:1], test=SUITE.test[:1])
    [before], [after] = course.items(one), course.items(replace(one, **changed))
    assert before.key != after.key
    assert after.key.replace(".", "").replace("-", "").isalnum()  # it names a file


def test_how_carefully_does_not_make_the_key() -> None:
    changed = replace(SUITE, repeats=9, hz=5, seed=3, cooldown_celsius=50, order="as written")
    assert [item.key for item in course.items(changed)] == [item.key for item in course.items(SUITE)]


def test_the_order_is_the_seeds() -> None:
    items = course.items(SUITE)
    one = course.ordered(items, SUITE, 1)
    assert one == course.ordered(items[::-1], SUITE, 1)
    assert sorted(one, key=items.index) == items
    assert any(course.ordered(items, SUITE, seed) != one for seed in range(2, 6))
    assert course.ordered(items, replace(SUITE, order="as written"), 1) == items


def test_the_order_outlives_a_changed_suite() -> None:
    items = course.items(SUITE)
    less = [item for item in items if item.label != "HIP"]
    order = course.ordered(items, SUITE, 7)
    assert course.ordered(less, SUITE, 7) == [item for item in order if item in less]


@pytest.mark.parametrize("seed", [0, 42, -3])
def test_the_series_keeps_the_seed(seed: int) -> None:
    series = course.fresh_series(seed)
    assert course.seed_of(series) == seed
    assert series != course.fresh_series(seed)


def test_patterns() -> None:
    items = course.items(SUITE)
    assert {item.label for item in course.matching(items, ["vul*"])} == {"Vulkan"}
    assert {item.title for item in course.matching(items, ["pp512*"])} == {"pp512 tg128"}
    assert len(course.matching(items, ["HIP · pp512*", "cpu"])) == 3
    assert course.matching(items, []) == items


def test_what_is_left() -> None:
    items = course.items(SUITE)
    statuses = (Status.OK, Status.FAILED, Status.HUNG, Status.LOST, Status.INTERRUPTED)
    done = course.latest([ran(item, status) for item, status in zip(items, statuses, strict=False)])
    assert course.left(items, done, retry=False) == items[3:]
    assert course.left(items, done, retry=True) == items[1:]


def test_the_last_run_that_counts() -> None:
    [item, *_] = course.items(SUITE)
    failed, cut_off, good = (
        ran(item, Status.FAILED, 1),
        ran(item, Status.INTERRUPTED, 2),
        ran(item, Status.OK, 3),
    )
    assert course.latest([cut_off, failed])[item.key] is failed
    assert course.latest([good, cut_off, failed])[item.key] is good
    assert course.latest([ran(item, Status.LOST, 5), cut_off])[item.key].status is Status.LOST


def test_the_pace_is_that_of_the_same_tests_or_by_weight() -> None:
    short, long, other = course.items(SUITE)[:3]
    pace = course.Pace()
    assert pace.seconds([long]) is None
    pace.took(short, 10.0)
    assert pace.seconds([other]) == 10.0 and other.title == short.title
    assert pace.seconds([long]) == pytest.approx(10.0 * long.weight / short.weight)
    pace.took(long, 30.0)
    pace.took(other, 20.0)
    assert pace.seconds([short, long]) == pytest.approx(10.0 + 30.0)  # each its own
    new = replace(short, key="another row")
    assert pace.seconds([new]) == pytest.approx(15.0)  # as those with the same tests


def test_other_repeats_take_another_time() -> None:
    [item, *_] = course.items(SUITE)
    result = Result(test="pp512", samples=(1.0, 1.0, 1.0))
    run = replace(ran(item, Status.OK), results=(result,))
    assert course.again(item, replace(SUITE, repeats=7), run) == 2.0
    assert course.again(item, replace(SUITE, repeats=3), run) == 1.0
    assert course.again(item, SUITE, ran(item, Status.OK)) == 1.0  # not told
