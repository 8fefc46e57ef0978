"""``halotui probe`` as its user runs it: which server, what it says, what it keeps, and how it is ended."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fake_server import FakeServer
from halotui.cli import main
from halotui.demo.model import write_model
from running import HALOTUI, busy, environment

START = Callable[..., Any]


class Done(NamedTuple):
    """One run, in this process."""

    code: int
    out: str
    said: list[str]  # lines of stderr


@pytest.fixture
def halotui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """``halotui(*words)`` with a home of its own."""
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LLAMA_API_KEY", raising=False)

    def run(*words: object) -> Done:
        try:
            code = main([*map(str, words)])
        except SystemExit as end:  # argparse
            code = int(str(end.code))
        out, said = capsys.readouterr()
        return Done(code, out, said.splitlines())

    return run


Run = Callable[..., Done]


def test_it_is_told_and_kept(server: Any, halotui: Run, tmp_path: Path) -> None:
    done = halotui("probe", "slots", "-u", server.url)
    assert done.code == 0, done.said
    assert done.out.splitlines()[-2:] == [
        "✓ slots: 2 slots, 2 ran at once; as asked",
        "  2,048 tokens of context for each slot",
    ]
    assert done.said[0].startswith("halotui: 3 requests at once") and "Ctrl-C ends it" in done.said[0]
    assert done.said[1:] == ["halotui: run stored as 1: halotui runs show 1"]

    told = json.loads(halotui("probe", "cache", "-u", server.url, "--json").out)
    assert (told["probe"], told["verdict"], told["run"], told["url"]) == ("cache", "ok", 2, server.url)
    assert told["rows"][1]["request"] == "again"
    halotui("probe", "cache", "-u", server.url, "--no-store")

    listed = json.loads(halotui("runs", "--kind", "probe", "--json").out)
    assert [(one["label"], one["kind"], one["status"]) for one in listed] == [
        ("probe cache", "probe", "ok"),
        ("probe slots", "probe", "ok"),
    ]
    shown = halotui("runs", "show", 1).out
    assert "kind     probe" in shown and "at once       2" in shown and "kernel" in shown
    assert halotui("compare", 1, 2).code == 0


def test_a_store_in_trouble_costs_a_word(server: Any, halotui: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_text("no database at all\n" * 400)
    done = halotui("probe", "spec", "-u", server.url, "--requests", 2, "--store", broken)
    assert done.code == 0 and "✓ spec: still drafts after 2 requests" in done.out
    assert any("nothing will be kept" in line for line in done.said)


def test_ctrl_c_shows_what_was_measured_and_frees_the_server(
    start_server: START, halotui: Run, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "slower.gguf", dim=256, layers=6)
    with start_server("-m", model, "-np", "1", "-c", "4096", "--spec-type", "ngram-simple") as server:
        process = subprocess.Popen(
            [*HALOTUI, "probe", "spec", "-u", server.url],
            env=environment(XDG_STATE_HOME=str(tmp_path / "home")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while server.log().count("stop processing") < 1:  # the first request has ended
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        busy(server)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        for _ in range(20):  # /slots, asked again and again, would keep it from seeing that we are gone
            if "cancel task" in server.log():
                break
            time.sleep(0.1)
        time.sleep(0.1)
        assert not any(slot["is_processing"] for slot in server.get_json("/slots"))
    assert process.returncode == 130
    assert "spec: interrupted: " in out and out.splitlines()[1].split()[0] == "1"
    assert json.loads(halotui("runs", "--json").out)[0]["status"] == "interrupted"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("spec", "-u", "http://127.0.0.1:9"), 3, "http://127.0.0.1:9: "),
        (("spec", "-u", "a:1", "-u", "b:2"), 2, "one server at a time"),
        (("cache", "--depths", "0"), 2, "--depths is for probe speed"),
        (("speed", "--depths", "0,far"), 2, "is not like 0,4096"),
        (("spec", "--requests", "1"), 2, "2 to 100"),
        (("spec", "--seconds", "nan"), 2, "is not above 0"),
    ],
)
def test_what_cannot_be_probed(words: tuple[str, ...], code: int, told: str, halotui: Run) -> None:
    done = halotui("probe", *words)
    assert (done.code, done.out, len(done.said)) == (code, "", 1) and told in done.said[0]


def test_a_router_and_one_that_loads(halotui: Run) -> None:
    with FakeServer() as fake:
        fake.answers["/props"] = (200, {"role": "router", "max_instances": 2})
        done = halotui("probe", "spec", "-u", fake.url)
        assert done.code == 2 and f"{fake.url} is a router: " in done.said[0]
        fake.answers["/props"] = (503, {"error": {"message": "Loading model", "code": 503}})
        done = halotui("probe", "spec", "-u", fake.url, "--seconds", 0.5)
        assert done.code == 3 and "waiting up to 0.5 s" in done.said[0]
        assert done.said[1].endswith("the model is being loaded")


def test_nothing_runs_here_or_too_much_does(
    server: Any, start_server: START, halotui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    done = halotui("probe", "spec", "--procfs", tmp_path / "empty")
    assert done.code == 3 and "no llama-server runs here" in done.said[0]
    with start_server("-np", "1", "-c", "512") as other:
        done = halotui("probe", "spec")
        assert done.code == 2 and server.url in done.said[0] and other.url in done.said[0]
    monkeypatch.setenv("HALOTUI_READONLY", "1")
    done = halotui("probe", "spec", "-u", server.url)
    assert done.code == 2 and "read-only" in done.said[0]


def test_a_key_is_found_where_the_server_has_it(start_server: START, halotui: Run) -> None:
    with start_server("-np", "1", "-c", "1024", "--api-key", "sesame") as server:
        done = halotui("probe", "slots", "-u", server.url, "--no-store")
        assert done.code == 0 and "sesame" not in f"{done}"
