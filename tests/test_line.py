"""``halotui line``: a frame for a status bar, whatever stands in it, and what it costs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from builders import URL, frame, gpu, server
from fake_server import FakeServer
from halotui import fields
from halotui.exporters.line import cells, line
from halotui.exporters.line_values import TemplateError, check, filled, worst
from halotui.model import Finding, Frame, Request, ServerFacts, ServerState, Severity, Slot, SlotPhase
from halotui.recording.latest import FOLDER, latest
from halotui.recording.recorder import FOLDER as FLIGHT
from halotui.recording.recorder import FlightRecorder
from running import HALOTUI, environment, run


def finding(id: str = "gtt-pressure", severity: Severity = Severity.WARNING) -> Finding:
    return Finding(id=id, severity=severity, title=f"{id} it is", evidence="a < b", why="w", fix="f")


def busy(now: float = 0, model: str = "/m/Qwen3-30B.gguf", **more: object) -> Frame:
    one = server(
        state=ServerState.BUSY,
        model=model,
        generation_tokens_per_second=52.7,
        slots_busy=1,
        slots_total=4,
        slots=(Slot(id=0, phase=SlotPhase.IDLE), Slot(id=1, phase=SlotPhase.DECODE)),
        requests=(Request(source="log", task=7),),
        facts=ServerFacts(layers_total=49),
    )
    given = {"servers": [one], "gpus": [gpu(socket_power_watts=92.4)], "findings": [finding()], **more}
    return frame(now, **given)  # type: ignore[arg-type]


def test_what_a_bar_wants_to_know() -> None:
    assert line([("", busy())]) == "Qwen3-30B 52.7 t/s 1/4 GTT 50 % 92 W ▲ gtt-pressure"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"state": ServerState.BUSY, "prompt_tokens_per_second": 812.0, "model": "m"}, "m ↑812 t/s"),
        ({"state": ServerState.IDLE, "model": "m"}, "m idle"),
        ({"state": ServerState.SLEEPING, "model": "m", "slots_busy": 0}, "m sleeping"),
        ({"state": ServerState.DOWN}, "–"),
    ],
)
def test_a_server_as_it_stands(parts: dict[str, object], said: str) -> None:
    state = parts.pop("state")
    assert line([("", frame(servers=[server(URL, state, **parts)]))]) == said  # type: ignore[arg-type]


def test_a_box_without_a_server_or_without_anything() -> None:
    assert line([("", frame(gpus=[gpu()]))]) == "GTT 50 %"
    assert line([("", frame())]) == "–" == line([("", None)])
    assert worst(frame()) == worst(None) == "unreachable" and worst(frame(gpus=[gpu()])) == "ok"
    assert line([("halo1", busy(findings=())), ("halo2", None)]).endswith("92 W | halo2 –")


def test_the_worst_finding_is_told_and_how_many_more() -> None:
    found = [finding("a"), finding("b", Severity.CRITICAL), finding("c", Severity.INFO)]
    assert line([("", busy(findings=found))]).endswith("✗ b +2")


def test_what_matters_least_goes_first() -> None:
    shown = [line([("", busy())], width=width) for width in (80, 45, 30, 24, 8, 3)]
    assert all(cells(text) <= width for text, width in zip(shown, (80, 45, 30, 24, 8, 3), strict=True))
    assert shown[1] == "Qwen3-30B 52.7 t/s GTT 50 % ▲ gtt-pressure"
    assert shown[2:4] == ["52.7 t/s ▲ gtt-pressure", "52.7 t/s ▲ gtt-pressure"]
    assert shown[4:] == ["52.7 t/s", "52…"]
    assert cells(line([("", busy(model="模型" * 40, findings=(), gpus=()))], width=11)) <= 11


def test_tmux_takes_no_orders_from_a_name() -> None:
    said = line([("", busy(model="a#[fg=red]#(reboot)"))], "tmux")
    assert "a##[fg=red]##(reboot)" in said
    assert said.endswith("#[fg=yellow]▲ gtt-pressure#[default]")


def test_polybar_takes_no_orders_from_a_name() -> None:
    evil = "%{A1:reboot:}x%{A}"
    assert "%{A" not in line([("", busy(model=evil))], "polybar")
    assert line([("", busy(model=evil))], "{model} #") == "% {A1:reboot:}x% {A} #"


def test_waybar_gets_markup_that_is_none() -> None:
    said = json.loads(line([("", busy(model="<b>&x"))], "waybar"))
    assert said["text"].startswith("&lt;b&gt;&amp;x 52.7 t/s")
    assert said["class"] == said["alt"] == "warning" and said["percentage"] == 50
    assert "gtt-pressure it is: a &lt; b" in said["tooltip"] and "<" not in said["tooltip"]
    nothing = json.loads(line([("", None)], "waybar"))
    assert nothing["text"] == "–" and nothing["class"] == "unreachable"


def test_a_template_has_every_field() -> None:
    for field in fields.FIELDS:
        check(f"{{{field.id}}}")
        assert filled(f"<{{{field.id}}}>", busy()).count("<") == 1
    now = busy()
    template = "{host}: {server.generation_tokens_per_second} {gpu.gtt_used_bytes} {slot.id} {request.task}"
    assert filled(template, now) == "halo: 52.7 t/s 60.0 GiB 1 7"
    assert filled("{severity} {findings} {{}}", now) == "warning 1 {}"
    assert filled("{facts.layers_total} {server.pid}", now) == "49 –"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{server.generation_token_per_second}", "server.generation_tokens_per_second"),
        ("{zzz}", "words are host, model"),
        ("{}", "no field ''"),
        ("{model:>10}", "takes no format"),
        ("{model!r}", "takes no format"),
        ("{model", "expected '}'"),
    ],
)
def test_a_template_that_is_none(template: str, told: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check(template)
    assert told in str(caught.value) and "\n" not in str(caught.value)


# --- the last frame of a cockpit that runs


def recorded(folder: Path, *frames: Frame) -> FlightRecorder:
    recorder = FlightRecorder(folder, 64)
    for one in frames:
        recorder.take(one)
    deadline = time.monotonic() + 10
    while latest(folder, 0) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return recorder


def test_the_latest_frame_of_a_recorder(tmp_path: Path) -> None:
    now = time.time()
    recorder = recorded(tmp_path, *(busy(now - 100 + second) for second in range(100)))
    deadline = time.monotonic() + 10
    while (found := latest(tmp_path, now - 5)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found is not None and found.time == now - 1 and found.servers[0].slots_busy == 1
    assert latest(tmp_path, now) is None  # too old
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b"\xf5\xc3\x1f\x8dB torn")  # half a block at its end
    assert (again := latest(tmp_path, now - 5)) is not None and again.time == now - 1
    recorder.close(5)
    assert latest(tmp_path, 0) is None  # nobody writes there now
    assert latest(tmp_path / "none", 0) is None


def test_a_running_cockpit_saves_the_look(tmp_path: Path) -> None:
    assert FOLDER == FLIGHT
    folder = tmp_path / "halotui" / FLIGHT
    recorder = recorded(folder, busy(time.time(), model="from-the-recorder"))
    try:
        done = run("line", XDG_STATE_HOME=str(tmp_path))
        assert done.stdout == "from-the-recorder 52.7 t/s 1/4 GTT 50 % 92 W ▲ gtt-pressure\n"
        assert run("line", "--exit-code", XDG_STATE_HOME=str(tmp_path)).returncode == 1
        other = run("line", "-i", 0.25, "--url", "127.0.0.1:1", XDG_STATE_HOME=str(tmp_path))
        assert "from-the-recorder" not in other.stdout  # who names a server wants that one
    finally:
        recorder.close(5)


# --- the command


def test_once(tmp_path: Path) -> None:
    with FakeServer() as fake:
        given = ("-i", 0.25, "--sysfs", tmp_path, "--procfs", tmp_path)
        done = run("line", "--url", fake.url, *given)
        assert (done.stdout, done.returncode) == ("fake idle 0/1\n", 0), done.stderr
        down = run("line", "--url", "127.0.0.1:1", *given, "--exit-code")
        assert (down.stdout.strip(), down.returncode) == ("–", 3)
    assert run("line", "--format", "{server.mod}").returncode == 2
    assert run("line", "--width", -1).returncode == 2


def test_a_line_a_frame(tmp_path: Path) -> None:
    with FakeServer() as fake:
        child = subprocess.Popen(
            [*HALOTUI, "line", "-f", "-i", "0.25", "--url", fake.url, "--format", "waybar"],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        try:
            seen = [json.loads(child.stdout.readline()) for _ in range(4)]
            assert "fake" in seen[-1]["text"] and {one["class"] for one in seen} <= {"ok", "info", "warning"}
            child.send_signal(signal.SIGINT)
            assert child.wait(10) == 130
        finally:
            child.kill()
            child.wait()


def test_the_bar_has_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with FakeServer() as fake:
        child = subprocess.Popen(
            [*HALOTUI, "line", "-f", "-i", "0.25", "--url", fake.url], env=environment(), stdout=writer
        )
        os.close(writer)
        assert os.read(reader, 4)
        os.close(reader)
        assert child.wait(15) == 0


def test_the_help_names_the_words_that_there_are() -> None:
    from halotui.exporters.line_values import WORDS

    text = run("line", "--help").stdout
    assert re.sub(r"\s+", " ", text).find(f"the words {', '.join(WORDS)}.") > 0
