"""``halotui rules`` as its user meets it: all, one, JSON, Markdown; silenced, heard, and what fired when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from halotui import exits
from halotui.cli import main
from halotui.ledger import Incident, Silence
from halotui.model import Severity
from halotui.rules import ALL
from halotui.store.ledger import open_ledger
from running import NOWHERE

URL = "http://127.0.0.1:8080"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Say = Callable[..., Done]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setenv("XDG_CONFIG_HOME", NOWHERE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(*words: str) -> Done:
        code = main(["rules", *words])
        return Done(code, *capsys.readouterr())

    return run


def store(tmp_path: Path) -> Path:
    return tmp_path / "halotui/store.sqlite"


def config(tmp_path: Path, text: str) -> tuple[str, str]:
    (tmp_path / "c.toml").write_text(text)
    return "--config", str(tmp_path / "c.toml")


def test_all_of_them(say: Say, tmp_path: Path) -> None:
    done = say()
    head, *lines = done.out.splitlines()
    assert (done.code, done.err) == (exits.OK, "")
    assert head.split() == ["id", "severity", "hold", "finds", "set", "here"]
    assert [line.split()[0] for line in lines] == [rule.id for rule in ALL]
    assert not store(tmp_path).exists()  # a look makes nothing


def test_what_the_user_changed_is_marked(say: Say, tmp_path: Path) -> None:
    said = "[rules]\nsilence = ['oom-kill']\n[rules.gtt-pressure]\nwarning = 0.9\nhold_seconds = 10\n"
    file = config(tmp_path, said)
    say("silence", "np-slots", "--subject", URL)
    ends = {line.split()[0]: line for line in say(*file).out.splitlines()}
    assert ends["gtt-pressure"].endswith("clear 0.87, warning 0.9, hold 10 s")
    assert ends["oom-kill"].endswith("  silent for good")
    assert ends["np-slots"].endswith(f"  silent of {URL} until it is heard again")
    one = say("gtt-pressure", *file).out
    assert "  warning = 0.9             # share of GTT in use (shipped: 0.95)\n" in one
    assert "hold_seconds = 10 " in one and "(shipped: 3)" in one
    told = {rule["id"]: rule for rule in json.loads(say("--json", *file).out)}
    assert told["gtt-pressure"]["hold_seconds"] == 10 and told["oom-kill"]["muted"]
    assert told["np-slots"]["silences"] == [{"id": "np-slots", "subject": URL}]
    levels = {level["name"]: level for level in told["gtt-pressure"]["levels"]}
    assert (levels["warning"]["value"], levels["warning"]["shipped"]) == (0.9, 0.95)
    assert say("--markdown", *file) == say("--markdown")  # as shipped


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.id)
def test_one_whole(say: Say, rule: Any) -> None:
    out = " ".join(say(rule.id).out.split())
    for words in (rule.id, rule.title, rule.clears, rule.evidence, rule.why, rule.fix, rule.reference or ""):
        assert " ".join(words.split()) in out
    assert f"[rules.{rule.id}]" in out
    assert ("one key" in out) == (rule.patch is not None or rule.may_patch)
    assert json.loads(say(rule.id, "--json").out)["id"] == rule.id


def test_the_cure_in_words(say: Say) -> None:
    assert "one key    relaunch without draft, spec\n" in say("spec-decay").out


def test_the_lines_it_names_are_valid_settings(say: Say, tmp_path: Path) -> None:
    for rule in ALL:
        lines = say(rule.id).out.partition("in config.toml:\n")[2]
        assert say(rule.id, *config(tmp_path, lines)).err == ""


def test_silence_and_hear(say: Say, tmp_path: Path) -> None:
    done = say("silence", "np-slots", "--for", "8h")
    assert done.code == exits.OK and done.out == "" and "np-slots is silent until 20" in done.err
    ledger = open_ledger(store(tmp_path), readonly=True)
    (silence,) = ledger.silences()
    ledger.close()
    assert silence.until_time == pytest.approx(time.time() + 8 * 3600, abs=60)
    assert "silent until 20" in say("np-slots").out.splitlines()[0]
    assert say("silence", "np-slots", "--subject", URL).code == exits.OK
    done = say("hear", "np-slots", "--subject", "another")
    assert (done.code, done.err) == (exits.FAILURE, "halotui: np-slots was not silent\n")
    done = say("hear", "np-slots", "--json")
    assert done.code == exits.OK and "np-slots is heard again" in done.err
    assert [gone.get("subject", "") for gone in json.loads(done.out)] == ["", URL]
    assert say("hear", "np-slots").code == exits.FAILURE


def test_the_config_silences_for_good(say: Say, tmp_path: Path) -> None:
    file = config(tmp_path, "[rules]\nsilence = ['np-slots']\n")
    done = say("hear", "np-slots", *file)
    assert done.code == exits.FAILURE and "config.toml" in done.err


def test_what_fired_when(say: Say, tmp_path: Path) -> None:
    assert "nothing fired since" in say("log").err
    assert say("log", "--json").out == "[]\n"
    now = time.time()
    rows = (
        ("gtt-pressure", Severity.CRITICAL, now - 3600, now - 3480),
        ("np-slots", Severity.WARNING, now - 5 * 86400, None),
    )
    open_ledger(store(tmp_path)).close()
    ledger = open_ledger(store(tmp_path))
    for id_, severity, since, until in rows:
        one = Incident(
            id=id_,
            subject="\x1b[31mred",
            severity=severity,
            title="What \x1b]0;x\x07 it is",
            evidence="e",
            since_time=since,
            until_time=until,
        )
        ledger.began(one)
        if until is not None:
            ledger.ended(one)
    ledger.close()
    head, *lines = say("log").out.splitlines()
    assert head.split() == ["when", "lasted", "severity", "rule", "about", "what"] and len(lines) == 1
    assert "  2 min   critical  gtt-pressure  " in lines[0] and "\x1b" not in lines[0]
    lines = say("log", "--since", "7d").out.splitlines()[1:]
    assert [line.split()[4] for line in lines if "–" in line] == ["np-slots"] and len(lines) == 2
    told = json.loads(say("log", "--since", "7d", "--json").out)
    assert [one["id"] for one in told] == ["gtt-pressure", "np-slots"] and "until_time" not in told[1]


@pytest.mark.parametrize(
    ("words", "trouble"),
    [
        (["np-slot"], "there is no rule 'np-slot'; did you mean np-slots?"),
        (["oom-kill", "np-slots"], "one at a time, not 'np-slots' as well"),
        (["slience", "np-slots"], "there is no rule 'slience'; did you mean silence?"),
        (["xyzzy\x1b[31m"], "there is no rule 'xyzzy'; halotui rules lists them"),
        (["silence"], "which rule? one id"),
        (["silence", "np-slots", "gtt-pressure"], "one id at a time"),
        (["silence", "np-slot"], "did you mean np-slots?"),
        (["silence", "np-slots", "--for", "soon"], "no length of time"),
        (["hear", "np-slots", "--for", "1h"], "--for is of silence"),
        (["np-slots", "--subject", "x"], "--subject is of silence and hear"),
        (["log", "np-slots"], "rules log takes no 'np-slots'"),
        (["log", "--since", "yore"], "no time like 7d"),
        (["--since", "1d"], "--since is of log"),
        (["np-slots", "--markdown"], "--markdown is of all rules alone"),
        (["log", "--markdown"], "--markdown is of all rules alone"),
    ],
)
def test_one_line_and_exit_code_2(say: Say, words: list[str], trouble: str) -> None:
    done = say(*words)
    assert (done.code, done.out) == (exits.USAGE, "") and trouble in done.err
    assert done.err.startswith("halotui: ") and done.err.count("\n") == 1 and "\x1b" not in done.err


def test_readonly_writes_nothing(say: Say, tmp_path: Path) -> None:
    file = config(tmp_path, "readonly = true\n")
    for verb in ("silence", "hear"):
        done = say(verb, "np-slots", *file)
        assert done.code == exits.USAGE and "read-only" in done.err
    assert say("log", *file).code == exits.OK and not store(tmp_path).exists()


def test_a_store_that_cannot_be_read(say: Say, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database" * 100)
    done = say("--store", str(broken))
    assert done.code == exits.OK and "np-slots" in done.out and "is not known" in done.err
    for words in (["log"], ["silence", "np-slots"], ["hear", "np-slots"]):
        done = say(*words, "--store", str(broken))
        assert done.code == exits.FAILURE and done.err.count("\n") == 1, words
    assert broken.read_bytes() == b"no database" * 100


def test_another_store(say: Say, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    assert say("silence", "np-slots", "--store", str(other)).code == exits.OK
    ledger = open_ledger(other, readonly=True)
    assert ledger.silences() == [Silence(id="np-slots")]
    ledger.close()
    assert not store(tmp_path).exists()
