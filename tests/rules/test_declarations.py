"""What each rule declares is there, and true of the registry; docs/rules.md is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from halotui import model
from halotui.exporters.rules import markdown
from halotui.fields import BY_ID
from halotui.rules import ALL, RANK, Rule
from halotui.safe import clean
from rules import fits, pattern

DOCS = Path(__file__).parents[2] / "docs/rules.md"
# What Strix Halo boxes are known to suffer from.
# fmt: off
CATALOGUE = {
    "graph-splits", "kv-asymmetric", "glm-vulkan", "slow-load", "gtt-pressure", "vram-trap", "gpu-hang",
    "hipblaslt-fallback", "blas-off", "moe-batch", "cpu-fallback", "draft-vocab", "hybrid-spec",
    "power-shared", "thermal", "fw-bad", "kernel-old", "iommu", "gtt-size", "hsa-override",
    "stacked-patches", "tg-regressed", "pp-regressed", "spec-harmful", "spec-decay", "spec-unused",
    "np-slots", "server-abort",
}
# fmt: on
STRUCTS = {
    name.lower(): struct for name, struct in vars(model).items() if hasattr(struct, "__struct_fields__")
}


def test_the_catalogue_is_covered() -> None:
    assert not CATALOGUE - {rule.id for rule in ALL}


def test_ids_are_unique_and_the_order_is_stable() -> None:
    assert len({rule.id for rule in ALL}) == len(ALL)
    assert list(ALL) == sorted(ALL, key=lambda rule: (RANK[rule.severity], rule.id))
    assert not {"silence", "hear", "log", "rule-error"} & {rule.id for rule in ALL}  # words of the command


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.id)
def test_a_rule_declares_all(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert 0 < len(rule.title) < 60 and not rule.title.endswith(".")
    assert rule.window and rule.clears and rule.evidence and rule.proof
    for words in (rule.title, rule.window, rule.clears, rule.evidence, rule.why, rule.fix):
        assert clean(words) == words and "\n" not in words
    assert rule.why.endswith(".") and rule.fix.endswith("."), "a sentence"
    assert rule.hold_seconds >= 0
    assert rule.reference is None or rule.reference.startswith("https://")
    assert pattern(rule.evidence)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.id)
def test_it_reads_and_marks_what_exists(rule: Rule) -> None:
    assert rule.needs
    for need in rule.needs:
        owner, _, key = need.partition(".")
        assert key in STRUCTS[owner].__struct_fields__, need
    for mark in rule.marks:
        assert mark in BY_ID, mark


@pytest.mark.parametrize("rule", [rule for rule in ALL if rule.levels], ids=lambda rule: rule.id)
def test_its_levels_are_in_bounds_and_in_order(rule: Rule) -> None:
    seen: dict[str, float] = {}
    for level in rule.levels:
        assert re.fullmatch(r"[a-z0-9_]+", level.name) and level.name != "hold_seconds"
        assert level.help and level.least <= level.value <= level.most
        assert level.name not in seen
        assert not level.above or seen[level.above] <= level.value, "the lowest of a chain comes first"
        seen[level.name] = level.value


def test_templates() -> None:
    template = "GTT {used} of {total}[, swap {swap}[ ({why})]]"
    for evidence in ("GTT 1 of 2", "GTT 1 of 2, swap 3", "GTT 1 of 2, swap 3 (x)"):
        assert fits(template, evidence)
    for evidence in ("GTT of 2", "GTT 1 of ", "GTT 1 of 2\n", "gtt 1 of 2", "RAM 1; GTT 1 of 2"):
        assert not fits(template, evidence)


def test_the_documentation_is_what_the_rules_declare() -> None:
    again = "docs/rules.md is old: halotui rules --markdown > docs/rules.md"
    assert DOCS.is_file() and DOCS.read_text() == markdown() + "\n", again
