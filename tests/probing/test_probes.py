"""The probes on the real server: what they find where all is well, and where it is not."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from binaries import Brood, binary
from builders import server as about
from halotui.actions import Verdict
from halotui.baselines.setups import setup_of
from halotui.demo.model import FIRST_WORD, SLOW, WORDS, write_model, write_preset
from halotui.ledger import Baseline, Baselines, Key, Metric, Observation
from halotui.model import Server, ServerFacts
from halotui.probing import Aim, Report
from halotui.probing.cache import Cache
from halotui.probing.probe import Probe
from halotui.probing.slots import Slots
from halotui.probing.spec import Spec
from halotui.probing.speed import Speed
from running import Crowd, busy

START = Callable[..., Any]
DRAFTS = {"speculative": True, "spec_type": "draft-simple"}


def silent(_: float, __: str) -> None:
    """Nobody looks on."""


async def tried(probe: Probe, server: Any, seconds: float = 60.0) -> Report:
    await probe.carry_out(server.url, None, seconds)
    return probe.report()


# --- spec


async def test_speculation_that_goes_on_survives(server: Any) -> None:
    said: list[tuple[float, str]] = []
    probe = Spec(Aim(about(server.url, **DRAFTS)), lambda ratio, words: said.append((ratio, words)))
    report = await tried(probe, server)
    assert report.verdict is Verdict.OK and report.headline.startswith("survives: request 1 drafted ")
    assert "no decode speed without speculation" in report.headline and report.notes == ()
    assert [row["request"] for row in report.rows] == [*range(1, 11)]
    for row in report.rows:
        assert row["acceptance_ratio"] == 1.0 and float(row["coverage_ratio"] or 0) > 0.5
        assert row["generated_tokens"] == 200
    (result,) = report.results
    assert (result.test, len(result.samples), result.draft_acceptance_ratio) == ("spec", 10, 1.0)
    assert [ratio for ratio, _ in said] == sorted(ratio for ratio, _ in said)
    assert said[-1] == (0.9, "request 10/10")


async def test_drafts_that_stop_after_the_first_request_decay(start_server: START) -> None:
    """The server drafts what repeats itself; from the second request on nothing does, as with #19231."""
    words = WORDS[:12]
    phrase = " ".join(f'" {word}"' for word in words)
    bias = [[FIRST_WORD + WORDS.index(word), 50] for word in words]
    refrain = {"grammar": f"root ::= ({phrase})+", "logit_bias": bias, "ignore_eos": True}
    free = {"temperature": 0.9, "repeat_penalty": 1.5}

    def changed(number: int) -> dict[str, Any]:
        return refrain if number == 1 else free

    with start_server("-np", "1", "-c", "2048", "--spec-type", "ngram-simple") as server:
        aim = Aim(about(server.url, speculative=True, spec_type="ngram-simple"))
        with between(server, changed) as way:
            report = await tried(Spec(aim, silent, requests=5), way)
    assert report.verdict is Verdict.FAIL
    assert report.headline.startswith("decays: request 1 drafted ")
    assert report.headline.endswith("the last 4 0 % (#19231)")
    assert float(report.rows[0]["coverage_ratio"] or 0) > 0.3 and report.rows[-1]["coverage_ratio"] == 0


async def test_a_draft_model_that_is_not_used_and_none_at_all(start_server: START, models: Path) -> None:
    draft = models / "draft-good.gguf"
    with start_server("-np", "1", "-c", "2048", "-md", draft) as server:
        there = about(server.url, speculative=False, draft_model=str(draft))
        report = await tried(Spec(Aim(there), silent), server)
        assert report.verdict is Verdict.FAIL and len(report.rows) == 2  # enough
        assert "never drafts: draft model draft-good.gguf, and 0 tokens" in report.headline
        without = Spec(Aim(about(server.url, speculative=False)), silent)
        assert without.plan == ""  # nothing is sent
        assert without.report().headline == "no speculation here: nothing to probe"
        assert without.report().verdict is Verdict.OK and without.report().results == ()


async def test_whether_it_pays_is_told_by_what_is_usual_without(server: Any) -> None:
    there = about(server.url, **DRAFTS, model_path="/m/tiny.gguf", facts=ServerFacts())
    plain = about(server.url, model_path="/m/tiny.gguf", facts=ServerFacts())
    for usual, verdict, words in ((1.0, Verdict.OK, "pays: "), (1e6, Verdict.FAIL, "does not pay: ")):
        known = Baselines([baseline(plain, Metric.DECODE, usual)])
        report = await tried(Spec(Aim(there, baselines=known), silent, requests=2), server)
        assert report.verdict is verdict and words in report.headline


# --- slots


async def test_as_many_slots_as_asked_for(server: Any) -> None:
    report = await tried(Slots(Aim(about(server.url, slots_asked=2, slots_total=2)), silent), server)
    assert (report.verdict, report.headline) == (Verdict.OK, "2 slots, 2 ran at once; as asked")
    assert {row["what"]: row["slots"] for row in report.rows[:3]} == {
        "asked for": 2,
        "there are": 2,
        "ran at once": 2,
    }
    await at_rest(server)  # none is answered to its end


async def test_four_slots_where_one_was_asked_for(start_server: START) -> None:
    with start_server("-np", "1", "-c", "4096", env={"HALOTUI_DEMO_FAULT": "np-slots"}) as server:
        there = about(server.url, slots_asked=1, slots_total=4, kv_unified=True, kv_cache_bytes=1 << 20)
        report = await tried(Slots(Aim(there), silent), server)
    assert report.verdict is Verdict.FAIL
    assert report.headline == "asked for 1 slot, it has 4 slots, 4 ran at once (#17989)"
    assert report.notes[0].startswith("KV cache 1.00 MiB, 4,096 tokens of context shared by all slots")
    assert report.results[0].settings == {"asked": "1", "slots": "4", "at once": "4"}


# --- speed


async def test_speed_at_two_depths_beside_usual_and_ceiling(start_server: START, tmp_path: Path) -> None:
    model = write_model(tmp_path / "long.gguf", layers=1, context=4096)
    with start_server("-m", model, "-np", "1", "-c", "2048") as server:
        there = about(
            server.url,
            model_path=str(model),
            facts=ServerFacts(),
            decode_ceiling_tokens_per_second=1e6,
        )
        known = Baselines([baseline(there, Metric.DECODE, 1.0)])
        report = await tried(Speed(Aim(there, baselines=known), silent, depths=(0, 1024, 4096)), server)
    names = ["pp512", "tg128", "pp512 @ d1024", "tg128 @ d1024"]
    assert [row["test"] for row in report.rows] == names == [result.test for result in report.results]
    assert report.notes == ("depth 4,096 left out: it takes 4,617 tokens, a slot has 2,048",)
    assert report.verdict is Verdict.OK
    for row, result in zip(report.rows, report.results, strict=True):
        assert row["repeats"] == 3 == len(result.samples) and result.spread is not None
        decodes = str(row["test"]).startswith("tg")
        assert (row["of_usual_ratio"] is not None) == (row["of_ceiling_ratio"] is not None) == decodes
    assert (report.results[3].depth_tokens, report.results[3].generation_tokens) == (1024, 128)


async def test_slower_than_usual_and_too_little_time(start_server: START, tmp_path: Path) -> None:
    model = write_preset(tmp_path / "slow.gguf", SLOW)
    with start_server("-m", model, "-np", "1", "-c", "8192", "-b", "128") as server:
        there = about(server.url, model_path=str(model), facts=ServerFacts())
        known = Baselines([baseline(there, Metric.DECODE, 1e6)])
        probe = Speed(Aim(there, baselines=known), silent, depths=(0, 4096))
        report = await tried(probe, server, 3.0)
    assert report.seconds < 3.5
    assert any(note.startswith(("depth 4,096 left out", "3 s were not enough")) for note in report.notes)
    if report.rows:  # a machine that is very busy measures nothing in that time
        assert report.verdict is Verdict.FAIL and "slower than usual: tg" in report.headline


# --- cache


async def test_a_prompt_is_reused_and_lost(start_server: START, models: Path, tmp_path: Path) -> None:
    flags = ("-np", "1", "-c", "4096")
    with start_server(*flags) as server:
        report = await tried(Cache(Aim(about(server.url, slots_total=1)), silent), server)
    assert report.verdict is Verdict.OK
    assert report.headline.startswith("reused: whole, with another tail, and after 1 other prompt, TTFT ")
    first, again, tail, other, back = report.rows
    assert [row["computed_tokens"] for row in (first, again)] == [1024, 1]
    assert 768 <= int(tail["cached_tokens"] or 0) < 800  # the tails may begin alike
    assert int(other["cached_tokens"] or 0) <= 1
    assert back["computed_tokens"] == 1

    with start_server(*flags, "--cache-ram", "0") as server:
        facts = ServerFacts(prompt_cache_bytes=0)
        report = await tried(Cache(Aim(about(server.url, slots_total=1, facts=facts)), silent), server)
        assert report.verdict is Verdict.OK and report.headline.endswith("(--cache-ram is 0)")

    with Brood(tmp_path, models) as brood:
        deaf = brood.start(binary(tmp_path / "bin"), *flags, "--no-cache-prompt").wait_ready()
        report = await tried(Cache(Aim(about(deaf.url, slots_total=1)), silent), deaf)
    assert report.verdict is Verdict.FAIL
    assert report.headline.startswith("lost: the same prompt again, 1024 of 1024 tokens are computed")


# --- what holds for all


async def test_others_at_work_are_waited_for_and_named(start_server: START) -> None:
    with start_server("-np", "2", "-c", "65536") as server, Crowd(server) as crowd:
        crowd.hold()
        await asyncio.to_thread(busy, server)
        report = await tried(Speed(Aim(about(server.url)), silent, depths=(0,)), server, 4)
    assert "1 other request was running: not comparable" in report.notes and report.rows


async def test_beside_others_nothing_is_as_usual_and_nothing_is_wrong(start_server: START) -> None:
    """What others hold is at work, too; what they slow down is no slowness."""
    with start_server("-np", "3", "-c", "98304") as server, Crowd(server) as crowd:
        crowd.hold()
        await asyncio.to_thread(busy, server)
        report = await tried(Slots(Aim(about(server.url, slots_asked=3, slots_total=3)), silent), server, 4)
        assert (report.verdict, report.headline) == (Verdict.OK, "3 slots, 3 ran at once; as asked")
        there = about(server.url, model_path="/m/tiny.gguf", facts=ServerFacts())
        known = Baselines([baseline(there, Metric.DECODE, 1e6)])
        report = await tried(Speed(Aim(there, baselines=known), silent, depths=(0,)), server, 4)
    assert report.verdict is Verdict.UNKNOWN and "while others were served" in report.headline


async def test_a_server_without_chat_is_told_so(server: Any) -> None:
    with between(server, lambda _: {}, closed="/v1/chat/completions") as way:
        report = await tried(Spec(Aim(about(server.url, **DRAFTS)), silent), way)
    assert (report.verdict, report.headline) == (Verdict.UNKNOWN, "it has no /v1/chat/completions")


async def test_slots_of_a_server_that_goes(start_server: START) -> None:
    with start_server("-np", "1", "-c", "2048") as server:
        probe = Slots(Aim(about(server.url)), lambda _, words: "at once" in words and server.process.kill())
        report = await tried(probe, server)
    assert report.verdict is Verdict.UNKNOWN
    assert "it ended early: " in report.headline or report.headline == "no connection"


async def test_it_ends_with_what_was_measured_when_the_server_does(start_server: START) -> None:
    with start_server("-np", "1", "-c", "2048") as server:
        there = about(server.url, **DRAFTS)
        probe = Spec(Aim(there), lambda _, words: "3/10" in words and server.process.kill())
        report = await tried(probe, server)
    assert len(report.rows) == 2 and report.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
    assert "it ended early: " in report.headline
    report = await tried(Cache(Aim(about(server.url)), silent), server)
    assert (report.verdict, report.headline, report.rows) == (Verdict.UNKNOWN, "no connection", ())


# --- what they stand on


def baseline(server: Server, metric: Metric, value: float) -> Baseline:
    """Seen a few times, alone, at the head of the context."""
    setup = setup_of(server)
    assert setup is not None
    seen = tuple(Observation(time=float(at), value=value) for at in range(8))
    key = Key(setup=setup, metric=metric, depth="0-2K", streams="1")
    return Baseline(key=key, count=8, first_time=0, last_time=7, observations=seen)


async def at_rest(server: Any) -> None:
    """Within five seconds."""
    for _ in range(50):
        slots = await asyncio.to_thread(server.get_json, "/slots")
        if not any(slot["is_processing"] for slot in slots):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it still works on it")


@contextmanager
def between(server: Any, changed: Callable[[int], dict[str, Any]], closed: str = "") -> Iterator[Any]:
    """A way to the server that adds to the body of each question, by its number; ``closed``: a path it has
    not."""
    posted = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(server.get(self.path))

        def do_POST(self) -> None:
            nonlocal posted
            posted += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent = json.dumps({**body, **changed(posted)}).encode()
            if self.path == closed:
                self._answer(b"{}", 404)
                return
            question = urllib.request.Request(
                server.url + self.path, sent, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(question, timeout=30) as answer:
                self._answer(answer.read())

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.url = f"http://127.0.0.1:{http.server_port}"  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield http
    finally:
        http.shutdown()
        http.server_close()
