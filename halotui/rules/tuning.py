"""What a user set otherwise than it is shipped: thresholds, holds, and what shall be silent for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from halotui.rules import Rule


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
