"""``halotui rules``: what is looked for, silenced, and what fired when. Data on stdout, talk on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from halotui import config, exits, times
from halotui.benching.tables import Table, render
from halotui.commands import keeping
from halotui.exits import UsageError
from halotui.exporters import rules as exported
from halotui.format import DASH, duration
from halotui.ledger import Incident, Silence
from halotui.rules import ALL, Rule
from halotui.rules.tuning import Tuning
from halotui.runs import StoreError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.ledger import Ledger

Said = Mapping[str, Any]
_Verb = Callable[[Sequence[str], Said, "Settings"], int]
_LOG_SECONDS = 86400.0
_LIMIT = 1000  # lines of the log
_ONLY = {"length": ("--for", ("silence",)), "subject": ("--subject", ("silence", "hear"))} | {
    "since": ("--since", ("log",)),
    "markdown": ("--markdown", ("",)),
}
_RULES = {rule.id: rule for rule in ALL}


async def run(said: Said, settings: Settings) -> int:
    """The exit code. Raises UsageError."""
    first, *words = said.get("words") or [""]
    verb = first if first in _VERBS else ""
    for name, (flag, verbs) in _ONLY.items():
        if name in said and (verb not in verbs or (name == "markdown" and first)):
            raise UsageError(f"rules: {flag} is of {' and '.join(verbs).strip() or 'all rules alone'}")
    if settings.readonly and verb in ("silence", "hear"):
        raise UsageError("read-only: nothing is written")
    try:
        if verb:
            return _VERBS[verb](words, said, settings)
        one = _rule(first) if first else None
        if words:
            raise UsageError(f"rules: one at a time, not '{clean(words[0], 40)}' as well")
        return _tell(one, said, settings)
    except StoreError as error:
        _talk(keeping.told(error))
        return exits.FAILURE


def _tell(one: Rule | None, said: Said, settings: Settings) -> int:
    """One rule, or all."""
    if said.get("markdown"):
        print(exported.markdown(), flush=True)
        return exits.OK
    tuning = config.tuning(settings)
    rules = ALL if one is None else (one,)
    silences = _silences(said, settings)
    if said.get("json"):
        objects = [exported.as_object(rule, tuning) | _silent(rule, tuning, silences) for rule in rules]
        print(render(Table((), []), "json", objects[0] if one else objects), flush=True)
    elif one:
        words = ", ".join(_silent_words(one, tuning, silences))
        print("\n".join(map(clean, exported.text(one, tuning, words).split("\n"))), flush=True)
    else:
        rows = [_row(rule, tuning, silences) for rule in rules]
        head = ("id", "severity", "hold", "finds", "set here")
        print(render(Table(head, rows, left=5), "table"), flush=True)
    return exits.OK


def _row(rule: Rule, tuning: Tuning, silences: Sequence[Silence]) -> tuple[str, ...]:
    hold = tuning.hold(rule)
    here = [*_silent_words(rule, tuning, silences), *exported.moved(rule, tuning)]
    return rule.id, str(rule.severity), duration(hold) if hold else "", rule.title, ", ".join(here)


def _silent(rule: Rule, tuning: Tuning, silences: Sequence[Silence]) -> dict[str, Any]:
    own = [silence for silence in silences if silence.id == rule.id]
    return {"muted": rule.id in tuning.silent, "silences": own}


def _silent_words(rule: Rule, tuning: Tuning, silences: Sequence[Silence]) -> list[str]:
    words = ["silent for good"] if rule.id in tuning.silent else []
    return words + [f"silent {_until(silence)}" for silence in silences if silence.id == rule.id]


def _until(silence: Silence) -> str:
    of = f"of {silence.subject} " if silence.subject else ""
    end = silence.until_time
    return of + ("until it is heard again" if end is None else f"until {times.stamp(end)}")


def _silences(said: Said, settings: Settings) -> Sequence[Silence]:
    """A store that cannot be read costs the marks alone."""
    try:
        ledger = _open(said, settings, readonly=True)
        try:
            return ledger.silences()
        finally:
            ledger.close()
    except StoreError as error:
        _talk(f"what is silenced is not known: {keeping.told(error)}")
        return ()


def _silence(words: Sequence[str], said: Said, settings: Settings) -> int:
    rule = _one("silence", words)
    length = keeping.seconds(said["length"]) if "length" in said else None
    until = None if length is None else time.time() + length
    silence = Silence(id=rule.id, subject=clean(said.get("subject", "")), until_time=until)
    ledger = _open(said, settings)
    try:
        ledger.silence(silence)
    finally:
        ledger.close()
    if said.get("json"):
        print(render(Table((), []), "json", silence), flush=True)
    _talk(f"{rule.id} is silent {_until(silence)}")
    return exits.OK


def _hear(words: Sequence[str], said: Said, settings: Settings) -> int:
    """Without a subject: all that was silenced of the rule."""
    rule = _one("hear", words)
    ledger = _open(said, settings)
    try:
        own = [silence for silence in ledger.silences() if silence.id == rule.id]
        if "subject" in said:
            own = [silence for silence in own if silence.subject == clean(said["subject"])]
        gone = [silence for silence in own if ledger.hear(silence.id, silence.subject)]
    finally:
        ledger.close()
    if said.get("json"):
        print(render(Table((), []), "json", gone), flush=True)
    if rule.id in config.tuning(settings).silent:
        _talk(f"{rule.id} is still silent for good: config.toml, [rules] silence")
    elif gone:
        _talk(f"{rule.id} is heard again")
    else:
        _talk(f"{rule.id} was not silent")
    return exits.OK if gone else exits.FAILURE


def _log(words: Sequence[str], said: Said, settings: Settings) -> int:
    if words:
        raise UsageError(f"rules log takes no '{clean(words[0], 40)}'; --since 7d goes back in time")
    now = time.time()
    since = keeping.moment(said["since"], now) if "since" in said else now - _LOG_SECONDS
    ledger = _open(said, settings, readonly=True)
    try:
        found = ledger.incidents(since, now, _LIMIT)
    finally:
        ledger.close()
    if said.get("json"):
        print(render(Table((), []), "json", found), flush=True)
    elif found:
        head = ("when", "lasted", "severity", "rule", "about", "what")
        print(render(Table(head, list(map(_line, found)), left=6), "table"), flush=True)
    if not found:
        _talk(f"nothing fired since {times.stamp(since)}, as far as halotui was there to see it")
    elif len(found) == _LIMIT:
        _talk(f"these are the newest {_LIMIT}")
    return exits.OK


def _line(incident: Incident) -> tuple[str, ...]:
    end = incident.until_time
    lasted = DASH if end is None else duration(end - incident.since_time)
    when = times.stamp(incident.since_time)
    return when, lasted, incident.severity, incident.id, incident.subject, incident.title


def _one(verb: str, words: Sequence[str]) -> Rule:
    if len(words) != 1:
        raise UsageError(f"rules {verb}: which rule? one id" + (" at a time" if words else ""))
    return _rule(words[0])


def _rule(id_: str) -> Rule:
    if id_ in _RULES:
        return _RULES[id_]
    near = get_close_matches(id_, [*_RULES, *_VERBS], 1)
    raise UsageError(
        f"there is no rule '{clean(id_, 40)}'"
        + (f"; did you mean {near[0]}?" if near else "; halotui rules lists them")
    )


def _open(said: Said, settings: Settings, *, readonly: bool = False) -> Ledger:
    """Raises StoreError. Imports sqlite3 only now."""
    from halotui.store.ledger import open_ledger

    return open_ledger(keeping.store_path(said, settings), readonly=readonly)


def _talk(text: str) -> None:
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)


_VERBS: Mapping[str, _Verb] = {
    "silence": _silence,
    "hear": _hear,
    "log": _log,
}
