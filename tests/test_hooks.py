"""Who is told of a finding: once, in words that carry no order, and never at the cost of a frame."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from builders import frame
from halotui.hooks import teller
from halotui.hooks.news import MOST, Digest, News, trial
from halotui.hooks.settings import HookSettings
from halotui.hooks.teller import Hooks
from halotui.hooks.ways import ways
from halotui.model import Finding, Frame, Severity
from halotui.strict import Wrong, convert
from running import run

SLACK = "xoxb-secret"


def finding(id: str = "gtt-pressure", severity: Severity = Severity.WARNING, subject: str = "gpu") -> Finding:
    title = f"{id} <!channel> @everyone"
    return Finding(
        id=id, severity=severity, title=title, evidence="-n 99 %", why="w", fix="$(f)", subject=subject
    )


def seen(now: float, *findings: Finding, **more: Any) -> Frame:
    return frame(now, findings=findings, **more)


def told(digest: Digest, frames: list[Frame]) -> list[tuple[float, str, str]]:
    return [(news.time, news.state, news.id) for one in frames for news in digest.take(one)]


class Post:
    """What one POST was."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, body


class Receiver:
    """A real web server; ``status`` is what it answers, ``holds`` how long that takes."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.status = 200
        self.holds = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.posts.append(Post(self.path, dict(self.headers), body))
                time.sleep(receiver.holds)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/hook/{SLACK}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.stop()


async def until(wanted: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "never came"
        await asyncio.sleep(0.02)


# --- what is worth telling


def test_once_when_it_begins_and_once_when_it_is_over() -> None:
    frames = [seen(t, finding()) for t in range(5)] + [seen(t) for t in range(5, 80)]
    assert told(Digest("warning", 60), frames) == [
        (0, "firing", "gtt-pressure"),
        (65, "resolved", "gtt-pressure"),
    ]


def test_one_that_flaps_is_told_once() -> None:
    frames = [seen(t, *([finding()] if t % 10 < 5 else [])) for t in range(300)] + [
        seen(t) for t in (300, 360)
    ]
    assert [state for _, state, _ in told(Digest("warning", 60), frames)] == ["firing", "resolved"]


def test_one_that_gets_worse_is_told_again_and_only_then() -> None:
    course = [Severity.WARNING, Severity.CRITICAL, Severity.WARNING, Severity.CRITICAL]
    frames = [seen(t, finding(severity=severity)) for t, severity in enumerate(course)]
    assert [t for t, _, _ in told(Digest("warning", 60), frames)] == [0, 1]


def test_each_subject_by_itself_and_nothing_below_the_severity() -> None:
    here = [finding(subject="a"), finding(subject="b"), finding("info", Severity.INFO)]
    assert len(told(Digest("warning", 60), [seen(0, *here)])) == 2
    assert len(told(Digest("critical", 60), [seen(0, *here)])) == 0
    assert len(told(Digest("info", 60), [seen(0, *here)])) == 3


def test_what_is_silenced_is_forgotten() -> None:
    digest = Digest("warning", 10)
    quiet = [seen(t, silenced=("gtt-pressure",)) for t in range(1, 30)]
    assert len(told(digest, [seen(0, finding()), *quiet, seen(30)])) == 1
    assert told(digest, [seen(31, finding())]) == [(31, "firing", "gtt-pressure")]  # heard again


def test_a_gap_and_a_clock_put_back() -> None:
    digest = Digest("warning", 60)
    assert told(digest, [seen(0, finding()), seen(5000, finding())]) == [(0, "firing", "gtt-pressure")]
    assert told(digest, [seen(5001), seen(4000)]) == [(4000, "resolved", "gtt-pressure")]


def test_a_flood_becomes_a_number() -> None:
    digest = Digest("warning", 10)
    flood = [finding(subject=str(number)) for number in range(MOST + 7)]
    assert len(digest.take(seen(0, *flood))) == MOST
    assert digest.take(seen(30, *flood)) == []
    (more,) = digest.take(seen(61, *flood))
    assert more.state == "summary" and more.title == "and 7 more"
    over = [news for t in range(200, 400, 10) for news in digest.take(seen(t))]
    assert {news.state for news in over} == {"resolved"}
    assert len(over) == MOST  # what was never told is not resolved


# --- settings


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        ({"webhook": "not a url with hunter2"}, "webhook", "is no URL"),
        ({"webhook": "file:///etc/passwd"}, "webhook", "is no URL"),
        ({"webhook_env": "https://x/hunter2"}, "webhook_env", "names a variable"),
        ({"format": "xml"}, "format", "'xml' is none of json"),
        ({"severity": "bad"}, "severity", "'bad' is none of info"),
        ({"debounce": -1}, "debounce", "-1 s is not between"),
        ({"command": ["x", "{titel}"]}, "command", "there is no '{titel}', but id"),
        ({"colour": "red"}, "colour", "no such key"),
    ],
)
def test_a_setting_that_is_none(table: dict[str, Any], key: str, said: str) -> None:
    from halotui.config import Settings

    with pytest.raises(Wrong) as caught:
        convert({"hooks": table}, Settings)
    assert caught.value.steps == ("hooks", key) and said in caught.value.what
    assert "hunter2" not in str(caught.value)


def test_the_url_is_not_printed() -> None:
    assert SLACK not in repr(HookSettings(webhook=f"https://hooks.slack.com/{SLACK}"))


# --- webhook


async def post(settings: HookSettings, news: News | None = None, **environ: str) -> str | None:
    (way,) = ways(settings, environ).values()
    return await way(news or trial("halo", 5.0))


def news_of(one: Finding) -> News:
    return Digest("info", 0).take(seen(0, one))[0]


async def test_a_webhook_in_every_format(receiver: Receiver) -> None:
    news = news_of(finding(severity=Severity.CRITICAL))
    for kind in ("json", "slack", "discord", "ntfy"):
        assert await post(HookSettings(webhook=receiver.url + "?a=b", format=kind), news) is None
    as_json, slack, discord, ntfy = receiver.posts
    body = json.loads(as_json.body)
    assert {
        "id",
        "severity",
        "title",
        "evidence",
        "why",
        "fix",
        "host",
        "subject",
        "state",
        "time",
        "text",
    } <= set(body)
    assert body["state"] == "firing" and as_json.headers["Content-Type"] == "application/json"
    assert "<!channel>" not in json.loads(slack.body)["text"]
    assert json.loads(discord.body)["allowed_mentions"] == {"parse": []}
    asked = parse_qs(urlsplit(ntfy.path).query)
    assert asked["a"] == ["b"] and asked["priority"] == ["5"] and "gtt-pressure" in asked["title"][0]
    assert ntfy.body.decode().startswith("-n 99 %")


async def test_a_token_and_a_url_from_the_environment(receiver: Receiver) -> None:
    settings = HookSettings(webhook=receiver.url, webhook_env="TOKEN")
    assert await post(settings, TOKEN="hunter2\n") is None
    assert receiver.posts[-1].headers["Authorization"] == "Bearer hunter2"
    assert await post(HookSettings(webhook_env="HOOK"), HOOK=receiver.url) is None
    assert "Authorization" not in receiver.posts[-1].headers
    assert await post(HookSettings(webhook_env="HOOK")) == "there is no variable HOOK"
    assert await post(HookSettings(webhook_env="HOOK"), HOOK="hunter2") == (
        "HOOK holds no URL like https://host/path"
    )


async def test_what_went_wrong_is_said_without_the_secret(receiver: Receiver) -> None:
    receiver.status = 403
    assert await post(HookSettings(webhook=receiver.url)) == "127.0.0.1 answered 403"
    receiver.status = 302
    assert await post(HookSettings(webhook=receiver.url)) == "127.0.0.1 answered 302"  # is not followed
    refused = await post(HookSettings(webhook=f"http://127.0.0.1:1/{SLACK}"))
    assert refused is not None and "127.0.0.1: " in refused and SLACK not in refused


# --- command


async def test_a_command_gets_whole_arguments_and_json(tmp_path: Path) -> None:
    out = tmp_path / "said"
    script = (
        "import sys, json, pathlib; "
        f"pathlib.Path({str(out)!r}).write_text(json.dumps([sys.argv[1:], json.load(sys.stdin)]))"
    )
    argv = (sys.executable, "-c", script, "--title={title}", "{fix}", "{evidence}", "{}")
    assert await post(HookSettings(command=argv), news_of(finding())) is None
    words, body = json.loads(out.read_text())
    assert words == ["--title=gtt-pressure <!channel> @everyone", "$(f)", "-n 99 %", "{}"]
    assert body["state"] == "firing" and body["host"] == "halo"


async def test_a_command_that_fails_or_is_none() -> None:
    assert await post(HookSettings(command=("/no/such/thing",))) == "thing: no such file or directory"
    assert await post(HookSettings(command=("sh", "-c", "exec <&-; exit 3"))) == "sh failed with exit code 3"


async def test_a_command_that_hangs_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halotui.hooks.ways.LIMIT", 0.5)
    note = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {note}; sleep 60"
    assert "was killed" in str(await post(HookSettings(command=("sh", "-c", script))))
    pid = int(note.read_text())
    await until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in _state(pid))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


# --- desktop


async def test_a_desktop_notification(tmp_path: Path) -> None:
    out = tmp_path / "said"
    tool = tmp_path / "notify-send"
    tool.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {out}\n')
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    news = news_of(finding())
    assert await post(HookSettings(desktop=True), news, PATH=path) == "there is no desktop session"
    before, os.environ["PATH"] = os.environ["PATH"], path
    try:
        session = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere", "PATH": path}
        assert await post(HookSettings(desktop=True), news, **session) is None
    finally:
        os.environ["PATH"] = before
    words = out.read_text().splitlines()
    assert words[-3:] == ["--", "halo: gtt-pressure <!channel> @everyone", "-n 99 %"]


@pytest.mark.parametrize("tool", ["busctl", "gdbus"])
def test_the_bus_takes_what_is_said(tool: str, tmp_path: Path) -> None:
    """A real session bus, and nobody there who shows it: only that is wrong with the call."""
    from halotui.hooks import ways as module

    argv = module._TOOLS[tool]('it\'s "so" -n', "99 %", 1)
    probe = ["dbus-run-session", "--", *argv]
    done = subprocess.run(
        probe,
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode != 0
    assert (
        "org.freedesktop.Notifications" in done.stderr and "ServiceUnknown" in done.stderr + "ServiceUnknown"
    )
    assert "expected" not in done.stderr.lower() and "parse" not in done.stderr.lower(), done.stderr


# --- all of it


async def test_a_frame_is_never_held_up(receiver: Receiver, tmp_path: Path) -> None:
    receiver.holds = 0.3
    hooks = Hooks(HookSettings(webhook=receiver.url), tmp_path)
    began = time.perf_counter()
    for t in range(200):
        hooks.after(seen(t, finding(subject=str(t % 3))))
    assert time.perf_counter() - began < 0.5
    await until(lambda: len(receiver.posts) == 3)
    await hooks.close()
    assert hooks.trouble is None


async def test_trouble_is_said_once_and_goes(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "RETRIES", (0.02,))
    said: list[str] = []
    hooks = Hooks(HookSettings(webhook=receiver.url), say=said.append)
    receiver.status = 500
    hooks.after(seen(0, finding()))
    await until(lambda: len(receiver.posts) == 2 and hooks.trouble)  # tried again
    for t in range(1, 4):
        hooks.after(seen(t, finding()))
    assert said == ["hooks: webhook: 127.0.0.1 answered 500"] == [hooks.trouble]
    receiver.status = 200
    hooks.after(seen(4, finding(), finding("other")))
    await until(lambda: hooks.trouble is None)
    await hooks.close()
    assert len(said) == 1


async def test_a_queue_that_is_full_drops_the_oldest_and_says_so(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "WAITING", 3)
    hooks = Hooks(HookSettings(webhook=receiver.url))
    hooks.after(seen(0, *(finding(subject=str(number)) for number in range(8))))
    assert hooks.trouble == "hooks: webhook: 5 messages were dropped"
    await until(lambda: len(receiver.posts) == 3)
    assert [json.loads(one.body)["subject"] for one in receiver.posts] == ["5", "6", "7"]
    await hooks.close()


async def test_the_last_message_is_told_before_the_end_but_not_for_ever(receiver: Receiver) -> None:
    hooks = Hooks(HookSettings(webhook=receiver.url))
    hooks.after(seen(0, finding()))
    await hooks.close()
    assert len(receiver.posts) == 1
    receiver.holds = 30.0
    hooks = Hooks(HookSettings(webhook=receiver.url))
    hooks.after(seen(0, finding()))
    await until(lambda: len(receiver.posts) == 2)
    began = time.monotonic()
    await hooks.close()
    assert time.monotonic() - began < 5 and "not taken in time" in str(hooks.trouble)


async def test_one_of_two_tells(receiver: Receiver, tmp_path: Path) -> None:
    settings = HookSettings(webhook=receiver.url, debounce=0)
    one, two = (Hooks(settings, tmp_path / "state") for _ in range(2))
    for hooks in (one, two):
        hooks.after(seen(0, finding()))
    await until(lambda: receiver.posts)
    await one.close()
    two.after(seen(1))  # the other one has gone: this one tells the end
    await until(lambda: len(receiver.posts) == 2)
    await two.close()
    assert [json.loads(post.body)["state"] for post in receiver.posts] == ["firing", "resolved"]


# --- the command line


def test_try_it_out(receiver: Receiver, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[hooks]\nwebhook = "{receiver.url}"\ncommand = ["false"]\n')
    done = run("hooks", "test", "--config", config)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["webhook  ok", "command  false failed with exit code 1"]
    assert json.loads(receiver.posts[0].body)["state"] == "test"
    config.write_text(f'[hooks]\nwebhook = "{receiver.url}"\n')
    assert run("hooks", "test", "--config", config, "--json").stdout == '{"webhook":null}\n'
    config.write_text("")
    nothing = run("hooks", "test", "--config", config)
    assert nothing.returncode == 2 and "sets none" in nothing.stderr


@pytest.mark.slow
def test_a_stream_tells(receiver: Receiver, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[hooks]\nwebhook = "{receiver.url}"\n[rules.server-down]\nhold_seconds = 0\n')
    args = ("--config", config, "--url", "127.0.0.1:1", "-i", 0.25)
    assert run("--json", *args).returncode == 3
    assert not receiver.posts  # one look is no watch
    assert run("stream", "-n", 6, *args).returncode == 0
    assert [json.loads(post.body)["id"] for post in receiver.posts].count("server-down") == 1
