"""What a user set otherwise than it is shipped: thresholds, holds, and what shall be silent for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import inf, isfinite
from typing import Any

from msgspec import Struct

from halotui.rules import ALL, Level, Rule
from halotui.strict import Wrong

SILENCE, HOLD = "silence", "hold_seconds"  # what [rules] knows beside a rule's id and its levels
LONGEST = 86400.0  # seconds that an alarm may be held


class Tuning(Struct, frozen=True, kw_only=True):
    """By rule id. Checked against the rules where it is read: here every name is one there is."""

    levels: Mapping[str, Mapping[str, float]] = {}  # rule -> level -> value
    holds: Mapping[str, float] = {}  # rule -> seconds
    silent: frozenset[str] = frozenset()

    def of(self, rule: Rule) -> Mapping[str, float]:
        """The rule's levels, as they are to be used."""
        return {level.name: level.value for level in rule.levels} | dict(self.levels.get(rule.id, {}))

    def hold(self, rule: Rule) -> float:
        return self.holds.get(rule.id, rule.hold_seconds)


AS_SHIPPED = Tuning()


def read(table: Mapping[str, Any]) -> Tuning:
    """``[rules]`` of config.toml. Raises Wrong, with the steps from the file's root."""
    rules = {rule.id: rule for rule in ALL}
    levels: dict[str, Mapping[str, float]] = {}
    holds: dict[str, float] = {}
    for id_, said in table.items():
        if id_ == SILENCE:
            continue
        if id_ not in rules:
            raise Wrong(("rules", id_), no_rule(id_))
        if not isinstance(said, dict):
            raise Wrong(("rules", id_), f"Expected a table like [rules.{id_}]")
        values = {name: _value(rules[id_], name, value) for name, value in said.items()}
        if HOLD in values:
            holds[id_] = values.pop(HOLD)
        if values:
            levels[id_] = _in_order(rules[id_], values)
    return Tuning(levels=levels, holds=holds, silent=_silent(table.get(SILENCE, []), rules))


def no_rule(id_: str) -> str:
    """And which one was meant, perhaps."""
    near = get_close_matches(id_, [rule.id for rule in ALL], 1)
    return f"no such rule; did you mean {near[0]}?" if near else "no such rule; halotui rules lists them"


def _silent(said: Any, rules: Mapping[str, Rule]) -> frozenset[str]:
    if not isinstance(said, list) or not all(isinstance(id_, str) for id_ in said):
        raise Wrong(("rules", SILENCE), 'Expected rules by id, as ["np-slots"]')
    for id_ in said:
        if id_ not in rules:
            raise Wrong(("rules", SILENCE), f"{id_}: {no_rule(id_)}")
    return frozenset(said)


def _value(rule: Rule, name: str, said: Any) -> float:
    bounds = {HOLD: (0.0, LONGEST)} | {level.name: (level.least, level.most) for level in rule.levels}
    steps = ("rules", rule.id, name)
    if name not in bounds:
        raise Wrong(steps, f"no such threshold, but {', '.join(sorted(bounds))}")
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        raise Wrong(steps, f"Expected a number, got {said!r}"[:80])
    least, most = bounds[name]
    try:
        value = float(said)
    except OverflowError:  # a whole number may have any length
        value = inf
    if not least <= value <= most or value == inf:
        wanted = f"between {least:g} and {most:g}" if isfinite(most) else f"at least {least:g}, and finite"
        raise Wrong(steps, f"{value:g} is not {wanted}")
    return value


def _in_order(rule: Rule, said: Mapping[str, float]) -> dict[str, float]:
    """What was said, and the levels that have to go along: one that was not said keeps its distance from
    those that it would be on the wrong side of."""
    levels = {level.name: level for level in rule.levels}
    below = {name: list(_below(level, levels)) for name, level in levels.items()}
    now: dict[str, float] = {}
    for name, level in levels.items():  # the lowest of a chain is declared first
        lower = [one for one in below[name] if one.name in said]
        upper = [one for one in rule.levels if level in below[one.name] and one.name in said]
        if name in said:
            for one in lower:
                if said[one.name] > said[name]:
                    what = f"{said[name]:g} is below {one.name}, which is {said[one.name]:g}"
                    raise Wrong(("rules", rule.id, name), what)
            now[name] = said[name]
            continue
        floor = max([level.least, *(now[one.name] for one in below[name])])
        roof = min((said[one.name] for one in upper), default=level.most)
        wrong = [one for one in lower if said[one.name] > level.value]
        wrong += [one for one in upper if said[one.name] < level.value]
        kept = said[wrong[0].name] + level.value - wrong[0].value if wrong else level.value
        now[name] = round(max(floor, min(kept, roof)), 6)
    return {name: value for name, value in now.items() if name in said or value != levels[name].value}


def _below(level: Level, levels: Mapping[str, Level]) -> Iterator[Level]:
    """Those that it may not be below, down to the last."""
    while level.above:
        level = levels[level.above]
        yield level
