"""Rules for people and pipes: one whole as text or as an object, and all of them as docs/rules.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import fill
from typing import Any

from halotui.format import duration
from halotui.model import Patch, Severity
from halotui.rules import ALL, Rule
from halotui.rules.tuning import AS_SHIPPED, HOLD, Tuning

_WIDTH = 100
_LABEL = 11  # of a line of text
_SAID = 24  # of a setting of config.toml, before what it means


def text(rule: Rule, tuning: Tuning = AS_SHIPPED, silent: str = "") -> str:
    """All of one rule, with the lines of config.toml as they are in force. ``silent``: until when it is."""
    head = f"{rule.id}  {rule.severity}" + (f"  {silent}" if silent else "")
    blocks = (f"{_told(label, words)}" for label, words in _facts(rule) if words)
    return "\n".join((head, f"  {rule.title}", "", *blocks, "", *_settings(rule, tuning)))


def _facts(rule: Rule) -> Iterator[tuple[str, str]]:
    yield "looks at", rule.window
    yield "clears", rule.clears
    yield "evidence", rule.evidence
    yield "why", rule.why
    yield "fix", rule.fix
    yield "one key", cure(rule)
    yield "freezes", "what is usual is not learned meanwhile" if rule.freezes else ""
    yield "reads", ", ".join(rule.needs)
    yield "tested by", str(rule.proof)
    yield "reference", rule.reference or ""


def _told(label: str, words: str) -> str:
    first = f"  {label:{_LABEL}}"
    return fill(
        words,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _settings(rule: Rule, tuning: Tuning) -> Iterator[str]:
    """The table of config.toml, each line with what it means and, where it is another, what was shipped."""
    yield "in config.toml:"
    yield f"  [rules.{rule.id}]"
    values = tuning.of(rule)
    for level in rule.levels:
        other = f" (shipped: {level.value:g})" if values[level.name] != level.value else ""
        yield f"  {f'{level.name} = {values[level.name]:g}':{_SAID}}  # {level.help}{other}"
    hold = tuning.hold(rule)
    other = f" (shipped: {rule.hold_seconds:g})" if hold != rule.hold_seconds else ""
    yield f"  {f'{HOLD} = {hold:g}':{_SAID}}  # how long it must last before it is told{other}"


def cure(rule: Rule) -> str:
    """What the relaunch key offers."""
    if rule.patch is not None:
        return f"relaunch {changed(rule.patch)}"
    return "relaunch with what the case calls for, where that is known" if rule.may_patch else ""


def changed(patch: Patch) -> str:
    given = [f"{name}={str(value).lower()}" for name, value in patch.items() if value is not None]
    gone = [name for name, value in patch.items() if value is None]
    parts = (f"with {', '.join(given)}" if given else "", f"without {', '.join(gone)}" if gone else "")
    return " and ".join(filter(None, parts))


def moved(rule: Rule, tuning: Tuning) -> list[str]:
    """What the user set otherwise: ``warning 0.9``."""
    values = tuning.of(rule)
    out = [
        f"{level.name} {values[level.name]:g}" for level in rule.levels if values[level.name] != level.value
    ]
    return out + ([f"hold {tuning.hold(rule):g} s"] if tuning.hold(rule) != rule.hold_seconds else [])


def as_object(rule: Rule, tuning: Tuning = AS_SHIPPED) -> dict[str, Any]:
    """For JSON."""
    values = tuning.of(rule)
    return {
        "id": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "hold_seconds": tuning.hold(rule),
        "window": rule.window,
        "clears": rule.clears,
        "levels": [
            {
                "name": level.name,
                "value": values[level.name],
                "shipped": level.value,
                "least": level.least,
                "most": level.most if level.most != float("inf") else None,
                "help": level.help,
            }
            for level in rule.levels
        ],
        "evidence": rule.evidence,
        "why": rule.why,
        "fix": rule.fix,
        "reference": rule.reference,
        "patch": rule.patch,
        "may_patch": rule.may_patch or rule.patch is not None,
        "needs": rule.needs,
        "fields": rule.marks,
        "freezes": rule.freezes,
        "proof": rule.proof,
    }


_INTRO = """\
# What halotui looks for

Made by `halotui rules --markdown` from what each rule declares: do not edit it, change the rule.

A rule reads frames, the history of the last quarter of an hour, and what is usual on this box. It asks no
server, and changes nothing. On the screen `e` explains a finding; `halotui rules ID` prints one rule;
`halotui check` runs them over a box, a recording or a log.

## How an alarm stands

| state | meaning |
| --- | --- |
| undefined | what it needs is not known: nothing is said. An alarm that fired stays for a minute, then goes |
| ok | nothing is wrong |
| pending | something is, but not yet for as long as the rule holds it |
| firing | it is a finding: it fires once, stays with new numbers, and ends below its clear level |
| resolved | it fired until less than a minute ago; it can fire again |

While a rule that *freezes* is pending or fires, and for a minute after it, halotui learns nothing of what is
usual for the servers it concerns.

## To tune and to silence

```sh
halotui rules silence np-slots --for 8h     # of this rule; without --for until it is taken back
halotui rules silence np-slots --subject http://127.0.0.1:8080
halotui rules hear np-slots                 # take that back
halotui rules log --since 7d                # what fired when, silenced or not
```

For good, and with thresholds of your own, in `config.toml`:

```toml
[rules]
silence = ["np-slots"]

[rules.gtt-pressure]
warning = 0.9
hold_seconds = 10
```

A level that is not set keeps its distance from one that is, where it would be on the wrong side of it: above,
`clear` becomes 0.87.

## All of them

What each is tested with: a **real server** of llama.cpp that does it, a **demo box** with its files, logs and
processes, lines and readings **recorded** on other people's boxes, or frames **made** by hand.
"""


def markdown() -> str:
    """docs/rules.md, whatever this user has set; without a final newline."""
    lines = [_INTRO, *_table(("rule", "severity", "finds", "tested by"), map(_row, ALL))]
    for severity in reversed(Severity):
        rules = [rule for rule in ALL if rule.severity is severity]
        if rules:
            lines += ["", f"## {str(severity).capitalize()}"]
        for rule in rules:
            lines += ["", *_section(rule)]
    return "\n".join(lines)


def _row(rule: Rule) -> tuple[str, ...]:
    return f"[{rule.id}](#{rule.id})", str(rule.severity), rule.title, str(rule.proof)


def _section(rule: Rule) -> Iterator[str]:
    yield f"### {rule.id}"
    yield ""
    yield f"{_plain(rule.title)}. {_plain(rule.why)}"
    yield ""
    yield f"**Fix:** {_plain(rule.fix)}" + (f" **One key:** {_plain(cure(rule))}." if cure(rule) else "")
    yield ""
    hold = duration(rule.hold_seconds) if rule.hold_seconds else "none"
    yield f"- looks at: {_plain(rule.window)}; hold: {hold}" + ("; freezes" if rule.freezes else "")
    yield f"- clears: {_plain(rule.clears)}"
    yield f"- evidence: `{rule.evidence}`"
    yield f"- reads: {', '.join(f'`{need}`' for need in rule.needs)}"
    if rule.reference:
        yield f"- reference: <{rule.reference}>"
    if rule.levels:
        yield ""
        yield from _table(
            ("level", "shipped", "what it is"),
            ((f"`{level.name}`", f"{level.value:g}", level.help) for level in rule.levels),
        )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(words: str) -> str:
    """Words that Markdown would not read as its own."""
    return words.replace("*", r"\*").replace("|", r"\|").replace("<", "&lt;")
