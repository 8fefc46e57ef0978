"""Whether evidence reads as its rule declares."""

from __future__ import annotations

import re
from functools import cache

from halotui.rules import ALL

_PART = re.compile(r"\{[^{}]*\}|[\[\]]")
_AS = {"[": "(?:", "]": ")?"}


def matches(rule_id: str, evidence: str) -> bool:
    """Whether it fits the template of a rule in the registry."""
    template = next(rule.evidence for rule in ALL if rule.id == rule_id)
    return fits(template, evidence)


def fits(template: str, evidence: str) -> bool:
    """``{…}`` stands for one or more characters; what is in ``[…]`` may be missing, also within another."""
    return pattern(template).fullmatch(evidence) is not None


@cache
def pattern(template: str) -> re.Pattern[str]:
    """Raises re.error where its brackets do not pair."""
    out, at = "", 0
    for part in _PART.finditer(template):
        out += re.escape(template[at : part.start()]) + _AS.get(part[0], ".+?")
        at = part.end()
    return re.compile(out + re.escape(template[at:]))
