"""Prometheus alert rules of what our own rules declare: contrib/prometheus/halotui.rules.yml.

A finding has been held by its rule before it is exported, and ends below the rule's clear level: an alert
only has to pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator

from halotui.rules import ALL, Rule

JOB = "halotui"  # the scrape's job_name

_HEAD = """\
# Made by `halotui export --alert-rules` from what each rule declares: do not edit it, change the rule.
# The severity of an alert is that of the finding: info, warning or critical. Labels: host, subject, id.
groups:
"""
_AWAY = (
    (
        "HalotuiDown",
        f'up{{job="{JOB}"}} == 0',
        "{{ $labels.instance }}: no exporter answers",
        "halotui export has ended, or the box or the way to it is down. See: systemctl --user status "
        f"halotui-export. The job of the scrape is expected to be called {JOB}.",
    ),
    (
        "HalotuiStale",
        "halotui_up == 0",
        "{{ $labels.host }}: no frames",
        "The exporter answers and has no frame of this box: its SSH connection is lost or refused "
        "(halotui_link_state), or the box does not answer any more.",
    ),
)


def alert_rules() -> str:
    """The whole file."""
    return (
        _HEAD
        + "\n".join((*_group("halotui-boxes", _away()), *_group("halotui-findings", map(_alert, ALL))))
        + "\n"
    )


def name(rule: Rule) -> str:
    """``gtt-pressure`` is HalotuiGttPressure."""
    return "Halotui" + "".join(part.capitalize() for part in rule.id.split("-"))


def _group(name: str, alerts: Iterator[list[str]]) -> Iterator[str]:
    yield f"  - name: {name}"
    yield "    rules:"
    for alert in alerts:
        yield f"      - alert: {alert[0]}"
        yield from (f"        {line}" for line in alert[1:])


def _away() -> Iterator[list[str]]:
    for called, expression, summary, why in _AWAY:
        yield [
            called,
            f"expr: {_text(expression)}",
            "for: 2m",
            "labels:",
            "  severity: critical",
            "annotations:",
            f"  summary: {_text(summary)}",
            f"  description: {_text(why)}",
        ]


def _alert(rule: Rule) -> list[str]:
    expression = f'halotui_finding{{id="{rule.id}"}} == 1'
    title = "{{ $labels.host }}: " + _plain(rule.title) + "{{ with $labels.subject }} ({{ . }}){{ end }}"
    return [
        name(rule),
        f"expr: {_text(expression)}",
        "for: 0s",
        "annotations:",
        f"  summary: {_text(title)}",
        f"  description: {_text(_plain(rule.why))}",
        f"  fix: {_text(_plain(rule.fix))}",
        *([f"  reference: {_text(_plain(rule.reference))}"] if rule.reference else []),
    ]


def _text(words: str) -> str:
    """A string of YAML."""
    return "'" + words.replace("'", "''") + "'"


def _plain(words: str) -> str:
    """Words that are no template."""
    return words.replace("{{", '{{ "{{" }}')
