"""``halotui requests`` against the timings of the replies: counts exactly, rates to the log's last digit.

Four builds over a year and three ways of logging; what is sent and how it ends is the same for all.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from binaries import Brood, Server, binary
from halotui import exits
from halotui.commands.request_table import KEYS
from halotui.demo.model import TINY, write_preset
from running import HALOTUI, PATIENCE, environment, run

VERSIONS = ("0.2.14", "2026.4.8672.1", "2026.9.11063", "2026.10.11549")
LAST = VERSIONS[-1]  # the one that is installed
OLD = VERSIONS[:2]  # a draft model drafts as soon as it is named
KEY = "sk-halotui-requests-4711"
NEW_DRAFT = ("--spec-type", "draft-simple", "--spec-draft-n-max", "4")
OLD_DRAFT = ("--draft-max", "4", "--draft-p-min", "0")
BANDS = {"draft-good": (0.99, 1.0), "draft-mid": (0.25, 0.85), "draft-bad": (0.0, 0.2)}

Reply = dict[str, Any]


@pytest.fixture(scope="module")
def drafts(models: Path) -> Path:
    write_preset(models / "draft-bad.gguf", TINY, noise=0.3)
    return models


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheels: Callable[[str], Path]) -> Callable[[str], Path]:
    """llama-server of a version."""

    def make(version: str) -> Path:
        return binary(tmp_path_factory.mktemp("bin") / version, None if version == LAST else wheels(version))

    return make


def draft(version: str, drafts: Path, name: str) -> tuple[object, ...]:
    return "-md", drafts / f"{name}.gguf", *(OLD_DRAFT if version in OLD else NEW_DRAFT)


# --- what is sent


def post(server: Server, path: str = "/completion", **body: Any) -> Reply:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(
        server.url + path, json.dumps({"temperature": 0, **body}).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.loads(answer.read())["timings"])


def hang_up(server: Server) -> None:
    """A stream that is left as soon as it has begun."""
    with_stream(server).close()
    deadline = time.monotonic() + PATIENCE
    while any(slot["is_processing"] for slot in server.get_json("/slots")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def with_stream(server: Server) -> HTTPConnection:
    """Returns once its first token is there."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    body = {"prompt": "The old oak", "n_predict": 400, "stream": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", "/completion", json.dumps(body), headers)
    assert connection.getresponse().readline()
    return connection


def conversation(server: Server) -> list[Reply]:
    """Cached and not, short and long, alone and side by side."""
    replies = [
        post(server, prompt="The old oak", n_predict=64),
        post(server, prompt="The old oak stands by", n_predict=64),
        post(server, prompt="salt", n_predict=1),
        post(server, prompt="slow tide " * 20, n_predict=24),
        post(
            server,
            "/v1/chat/completions",
            messages=[{"role": "user", "content": "a song of the sea"}],
            max_tokens=40,
        ),
    ]
    with ThreadPoolExecutor(4) as pool:
        words = ("amber", "river and tree", "grey fish in the grey sea", "sun")
        many = [pool.submit(post, server, prompt=word, n_predict=30 + at) for at, word in enumerate(words)]
        return replies + [one.result() for one in many]


# --- what is told


def told(*args: object, **env: str) -> dict[str, Any]:
    done = run("requests", "--json", *args, **env)
    assert done.returncode == exits.OK, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    for request in answer["requests"]:
        assert set(KEYS) <= set(request)
    assert KEY not in done.stdout + done.stderr
    return answer


def two(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:.2f}"


def by_server(reply: Reply) -> tuple[Any, ...]:
    """A reply's figures as the log prints them. A single token comes with the prompt: it has no speed."""
    return (
        reply["prompt_n"],
        two(reply["prompt_per_second"]),
        reply["predicted_n"],
        two(reply["predicted_per_second"]) if reply["predicted_n"] > 1 else None,
        reply.get("draft_n") or None,
        reply["draft_n_accepted"] if reply.get("draft_n") else None,
    )


def by_halotui(request: dict[str, Any]) -> tuple[Any, ...]:
    drafted = request["draft_tokens"] or None
    return (
        request["prompt_tokens"],
        two(request["prompt_tokens_per_second"]),
        request["generation_tokens"],
        two(request["generation_tokens_per_second"]),
        drafted,
        request["draft_accepted_tokens"] if drafted else None,
    )


def check(answer: dict[str, Any], replies: list[Reply]) -> None:
    """Every number of every reply, and nothing else."""
    done = [request for request in answer["requests"] if request["end"] in ("done", "truncated")]
    assert sorted(map(by_halotui, done), key=str) == sorted(map(by_server, replies), key=str)
    for request in done:
        reply = next(reply for reply in replies if by_server(reply) == by_halotui(request))
        assert request["cached_tokens"] in (None, reply["cache_n"])
        if request["draft_tokens"]:
            coverage = reply["draft_n"] / reply["predicted_n"]
            assert request["draft_coverage_ratio"] == pytest.approx(coverage, abs=6e-6)
        assert isinstance(request["slot"], int) and isinstance(request["task"], int)
    assert len({request["task"] for request in answer["requests"]}) == len(answer["requests"])
    assert answer["figures"]["count"] == len(answer["requests"])


def untimed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What does not depend on knowing when the server started, nor whose the log is."""
    extra = ("server", "started_time", "ended_time")
    return [{k: v for k, v in request.items() if k not in extra} for request in answer["requests"]]


def check_drafts(answer: dict[str, Any], name: str) -> None:
    known = [request for request in answer["requests"] if request["draft_tokens"]]
    drafted, accepted = (sum(r[key] for r in known) for key in ("draft_tokens", "draft_accepted_tokens"))
    low, high = BANDS[name]
    assert drafted > 50 and low <= accepted / drafted <= high


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_agrees_with_the_replies(
    version: str, program: Callable[[str], Path], drafts: Path, brood: Brood, tmp_path: Path
) -> None:
    """Four slots that share their context, a key, and all the ways in which a request ends."""
    log = tmp_path / "server.log"
    flags = ("-np", "4", "-kvu", "-c", "512", "--api-key", KEY, "--log-file", log)
    server = brood.start(program(version), *flags, *draft(version, drafts, "draft-mid"), log=tmp_path / "err")
    server.wait_ready()
    replies = conversation(server)
    replies.append(post(server, prompt="fill it to its end", n_predict=2000))
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(server, prompt="much too long " * 200, n_predict=4)
    hang_up(server)
    offline = told("--log", log)
    check(offline, replies)
    check_drafts(offline, "draft-mid")
    ends = [request["end"] for request in offline["requests"]]
    assert (ends.count("cancelled"), ends.count("error"), ends.count("truncated")) == (1, 1, 1)
    live = told("--url", server.url)
    assert untimed(live) == untimed(offline)
    text = run("requests", "--log", log).stdout
    for reply in replies:
        assert f" {reply['prompt_per_second']:.2f} " in text
    stream = with_stream(server)
    server.process.kill()
    server.wait()
    stream.close()
    assert told("--log", log) == offline  # the one that was killed has no end


@pytest.mark.parametrize("version", VERSIONS)
def test_one_slot_and_another_way_to_log(
    version: str, program: Callable[[str], Path], drafts: Path, brood: Brood
) -> None:
    """A draft that is always right, logged in colours to stderr; one that never is, as JSON lines."""
    server = brood.start(
        program(version), "-np", "1", "--log-colors", "on", *draft(version, drafts, "draft-good")
    ).wait_ready()
    replies = conversation(server)
    live = told("--url", server.url)  # its stderr is a file
    check(live, replies)
    check_drafts(live, "draft-good")
    with server.log_path.open("rb") as pipe:
        done = subprocess.run(
            [*HALOTUI, "requests", "--log", "-", "--json"],
            env=environment(),
            stdin=pipe,
            capture_output=True,
            timeout=PATIENCE,
        )
    assert untimed(json.loads(done.stdout)) == untimed(live)
    jsonl = ("--log-jsonl",) if version == LAST else ()
    server = brood.start(program(version), "-np", "1", *jsonl, *draft(version, drafts, "draft-bad"))
    replies = conversation(server.wait_ready())
    server.stop()
    offline = told("--log", server.log_path)
    check(offline, replies)
    check_drafts(offline, "draft-bad")
    assert {request["end"] for request in offline["requests"]} == {"done"}
