"""[rules] of config.toml: what is accepted, and what moves along."""

from __future__ import annotations

from typing import Any

import pytest

from builders import Watch, gpu
from halotui.rules import ALL
from halotui.rules.tuning import AS_SHIPPED, read
from halotui.strict import Wrong
from rules.usual import Box, baseline, same

SHIPPED = {level.name: level.value for rule in ALL if rule.id == "gtt-pressure" for level in rule.levels}


def test_nothing_said_is_as_shipped() -> None:
    assert read({}) == AS_SHIPPED == read({"gtt-pressure": {}})


def test_a_hold_of_ones_own_for_a_rule_that_hears_of_requests_alone() -> None:
    box = Box(baseline(48.0), tuning=read({"tg-regressed": {"hold_seconds": 20}}))
    assert "tg-regressed" not in box.serve(same(30.0))
    assert "tg-regressed" in box.look(box.now + 20)


def test_levels_holds_and_silence() -> None:
    tuning = read(
        {"silence": ["np-slots"], "gtt-pressure": {"warning": 0.96, "hold_seconds": 10}, "np-slots": {}}
    )
    assert tuning.silent == {"np-slots"} and tuning.holds == {"gtt-pressure": 10.0}
    assert tuning.levels == {"gtt-pressure": {"warning": 0.96}}
    rule = next(rule for rule in ALL if rule.id == "gtt-pressure")
    assert tuning.of(rule) == SHIPPED | {"warning": 0.96} and tuning.hold(rule) == 10


@pytest.mark.parametrize(
    ("table", "steps", "words"),
    [
        ({"gtt-presure": {}}, ("gtt-presure",), "did you mean gtt-pressure?"),
        ({"xyzzy": {}}, ("xyzzy",), "halotui rules lists them"),
        ({"gtt-pressure": 0.9}, ("gtt-pressure",), "Expected a table"),
        ({"gtt-pressure": {"warn": 0.9}}, ("gtt-pressure", "warn"), "no such threshold, but clear"),
        ({"gtt-pressure": {"warning": 95}}, ("gtt-pressure", "warning"), "95 is not between 0 and 1"),
        ({"gtt-pressure": {"warning": -1}}, ("gtt-pressure", "warning"), "not between"),
        ({"gtt-pressure": {"warning": float("nan")}}, ("gtt-pressure", "warning"), "nan is not between"),
        ({"gtt-pressure": {"warning": True}}, ("gtt-pressure", "warning"), "Expected a number"),
        ({"gtt-pressure": {"warning": "0.9"}}, ("gtt-pressure", "warning"), "Expected a number"),
        ({"gtt-pressure": {"hold_seconds": -1}}, ("gtt-pressure", "hold_seconds"), "between 0 and 86400"),
        ({"oom-kill": {"window_seconds": float("inf")}}, ("oom-kill", "window_seconds"), "at least 1"),
        ({"oom-kill": {"window_seconds": 10**400}}, ("oom-kill", "window_seconds"), "inf is not at least 1"),
        ({"silence": "np-slots"}, ("silence",), "Expected rules by id"),
        ({"silence": [1]}, ("silence",), "Expected rules by id"),
        ({"silence": ["np-slot"]}, ("silence",), "np-slot: no such rule; did you mean np-slots?"),
        (
            {"gtt-pressure": {"warning": 0.9, "critical": 0.8}},
            ("gtt-pressure", "critical"),
            "0.8 is below warning, which is 0.9",
        ),
        (
            {"gtt-pressure": {"clear": 0.9, "critical": 0.8}},
            ("gtt-pressure", "critical"),
            "0.8 is below clear, which is 0.9",
        ),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], steps: tuple[str, ...], words: str) -> None:
    with pytest.raises(Wrong) as wrong:
        read(table)
    assert wrong.value.steps == ("rules", *steps) and words in wrong.value.what
    assert "\n" not in wrong.value.what


@pytest.mark.parametrize(
    ("said", "moved"),
    [
        ({"warning": 0.93}, {}),
        ({"warning": 0.9}, {"clear": 0.87}),
        ({"warning": 0.99}, {"critical": 1.0}),
        ({"critical": 0.5}, {"warning": 0.47, "clear": 0.44}),
        ({"clear": 0.97}, {"warning": 1.0, "critical": 1.0}),
        ({"clear": 0.96, "critical": 0.97}, {"warning": 0.97}),
        ({"clear": 0.0}, {}),
        ({"critical": 0.0}, {"warning": 0.0, "clear": 0.0}),
        ({"ram_warning": 0.5}, {"ram_clear": 0.48}),
    ],
)
def test_a_level_that_was_not_said_goes_along(said: dict[str, float], moved: dict[str, float]) -> None:
    levels = read({"gtt-pressure": said}).levels["gtt-pressure"]
    assert levels == said | moved
    now = SHIPPED | dict(levels)
    assert now["clear"] <= now["warning"] <= now["critical"]


def test_a_rule_fires_where_the_user_wants_it() -> None:
    rules = [rule for rule in ALL if rule.id == "gtt-pressure"]
    watch = Watch(*rules, tuning=read({"gtt-pressure": {"warning": 0.5, "hold_seconds": 0}}))
    for time, share, fires in ((0, 0.49, 0), (1, 0.51, 1), (2, 0.48, 1), (3, 0.46, 0)):
        assert bool(watch.see(time, gpus=[gpu(gtt=120 * share)])) == bool(fires), time
