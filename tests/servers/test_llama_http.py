"""LlamaHttp against the real server; against raw sockets for what a healthy one never says."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from halotui.collectors.http_tls import HttpxWire
from halotui.collectors.llama_http import (
    HttpKind,
    HttpProblem,
    LlamaHttp,
    parse_metrics,
    parse_props,
    parse_slots,
)
from raw_server import answer, answering, raw

QUESTIONS = ("health", "props", "slots", "metrics")
UNSUPPORTED = '{"error":{"code":501,"message":"This server does not support metrics endpoint.","type":"x"}}'


async def ask(url: str, question: str, **known: Any) -> Any:
    async with aclosing(LlamaHttp(url, **known)) as http:
        return await getattr(http, question)()


async def kinds(url: str, **known: Any) -> set[HttpKind]:
    """How the endpoints that need a model refuse."""
    async with aclosing(LlamaHttp(url, **known)) as http:
        found = set()
        for question in QUESTIONS[1:]:
            with pytest.raises(HttpProblem) as caught:
                await getattr(http, question)()
            assert caught.value.reason.isprintable() and len(caught.value.reason) < 100
            found.add(caught.value.kind)
        return found


# The real server


async def test_it_answers(server: Any) -> None:
    async with aclosing(LlamaHttp(server.url)) as http:
        await http.health()
        props = await http.props()
        slots = await http.slots()
        metrics = await http.metrics()
        meta = await http.meta()
    truth = server.get_json("/props")
    told = server.get_json("/v1/models")["data"][0]["meta"]
    assert (meta.parameters, meta.bytes, meta.type) == (told["n_params"], told["size"], told["ftype"])
    assert meta.context_trained_tokens == told["n_ctx_train"]
    assert (props.total_slots, props.context_tokens, props.is_sleeping) == (2, 2048, False)
    assert (props.slots_endpoint, props.metrics_endpoint) == (True, True)
    assert props.model == "tiny.gguf"
    assert (props.model_path, props.build) == (truth["model_path"], truth["build_info"])
    assert [slot.id for slot in slots] == [0, 1]
    assert all(slot.context_tokens == 2048 and slot.speculative for slot in slots)
    assert metrics.requests_processing == 0 and metrics.decode_calls_total is not None


async def test_a_request_is_seen_while_it_runs_and_counted_when_it_ends(server: Any) -> None:
    async with aclosing(LlamaHttp(server.url)) as http:
        before = await http.metrics()
        asking = asyncio.create_task(asyncio.to_thread(server.complete, "one two three", 600))
        seen = []
        while not asking.done():
            seen += [slot for slot in await http.slots() if slot.processing]
            await asyncio.sleep(0.01)
        after = await http.metrics()
        idle = await http.slots()
    reply = asking.result()
    decoded = [slot.decoded for slot in seen if slot.decoded is not None]
    assert decoded and decoded == sorted(decoded) and decoded[-1] <= 600
    for slot in seen:
        assert slot.decoded is None or slot.remaining is None or slot.decoded + slot.remaining == 600
    assert len({slot.task for slot in seen}) == 1
    assert {slot.spec_type for slot in seen} == {"draft-simple"}
    assert not any(slot.processing for slot in idle)
    used = next(slot for slot in idle if slot.task == seen[0].task)
    assert used.tokens and used.tokens >= 600
    timings = reply["timings"]
    for field, grown in (
        ("generation_tokens_total", timings["predicted_n"]),
        ("prompt_tokens_total", timings["prompt_n"]),
        ("draft_tokens_total", timings["draft_n"]),
        ("draft_accepted_total", timings["draft_n_accepted"]),
        ("cached_tokens_total", timings["cache_n"]),
    ):
        assert getattr(after, field) - getattr(before, field) == grown
    assert sum(after.draft_accepted_per_position) == after.draft_accepted_total
    assert after.draft_steps_total and after.draft_steps_total >= after.draft_accepted_per_position[0]


async def test_one_connection_is_kept(server: Any) -> None:
    accepted = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        upstream = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))
        finally:
            upstream[1].close()
            await upstream[1].wait_closed()

    async with raw(relay) as url, aclosing(LlamaHttp(url)) as http:
        await asyncio.gather(*(http.slots() for _ in range(8)), *(http.metrics() for _ in range(8)))
        assert accepted == 1
        for _ in range(150):  # the server closes after a hundred
            await http.props()
        assert accepted == 2


@pytest.mark.slow
async def test_the_server_closes_an_idle_connection(server: Any) -> None:
    async with aclosing(LlamaHttp(server.url)) as http:
        await http.slots()
        await asyncio.sleep(5.5)
        assert await http.slots()


async def test_endpoints_that_are_off(start_server: Callable[..., Any]) -> None:
    with start_server("--no-slots") as server:
        for question in ("slots", "metrics"):
            with pytest.raises(HttpProblem) as caught:
                await ask(server.url, question)
            assert caught.value.kind is HttpKind.OFF
        props = await ask(server.url, "props")
        assert (props.slots_endpoint, props.metrics_endpoint) == (False, False)


async def test_a_key(start_server: Callable[..., Any]) -> None:
    with start_server("--api-key", "s3cret", "--metrics", "-a", "qwen") as server:
        await ask(server.url, "health")
        assert await kinds(server.url) == await kinds(server.url, api_key="wrong") == {HttpKind.LOCKED}
        assert (await ask(server.url, "props", api_key="s3cret")).model == "qwen"
        assert await ask(server.url, "slots", api_key="s3cret")
        await ask(server.url, "metrics", api_key="s3cret")


@pytest.mark.parametrize("key", ["line\nbreak", "nul\0", "schlüssel", "\udcff"])
async def test_a_key_is_never_told(server: Any, key: str) -> None:
    http = LlamaHttp(server.url, key)
    try:
        await http.props()
    except HttpProblem as problem:
        assert problem.__cause__ is None and problem.__suppress_context__
        assert key not in repr(problem) + problem.reason
    assert key not in repr(http)
    await http.aclose()


async def test_a_server_that_stops_is_down(start_server: Callable[..., Any]) -> None:
    with start_server("--metrics") as server:
        async with aclosing(LlamaHttp(server.url)) as http:
            await http.metrics()
            server.stop()
            with pytest.raises(HttpProblem) as caught:
                await http.metrics()
    assert caught.value.kind is HttpKind.REFUSED
    assert caught.value.reason == "Connection refused"


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with answering(200, '{"status":"ok"}', unix=tmp_path / "llama.sock"):
        await ask(f"unix:{tmp_path}/llama.sock", "health")
    with pytest.raises(HttpProblem) as caught:
        await ask(f"unix:{tmp_path}/absent.sock", "health")
    assert caught.value.kind is HttpKind.REFUSED


async def test_our_metrics_are_prometheus_clients(server: Any) -> None:
    server.complete("The old oak", 40)  # before the first draft that is accepted, no position is told
    text = server.get("/metrics").decode()
    samples = {
        (sample.name, tuple(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert ("llamacpp:spec_decode_num_accepted_tokens_per_pos_total", ("position",)) in samples
    metrics = parse_metrics(text.encode())
    for name, field in (
        ("prompt_tokens_total", "prompt_tokens_total"),
        ("prompt_seconds_total", "prompt_seconds_total"),
        ("tokens_predicted_total", "generation_tokens_total"),
        ("tokens_predicted_seconds_total", "generation_seconds_total"),
        ("n_decode_total", "decode_calls_total"),
        ("spec_decode_num_draft_tokens_total", "draft_tokens_total"),
        ("spec_decode_num_accepted_tokens_total", "draft_accepted_total"),
        ("spec_decode_num_drafts_total", "draft_steps_total"),
        ("prompt_tokens_cached_total", "cached_tokens_total"),
        ("requests_processing", "requests_processing"),
        ("requests_deferred", "requests_deferred"),
    ):
        assert getattr(metrics, field) == samples["llamacpp:" + name, ()]


# What only a socket of our own will say


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            503,
            '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',
            HttpKind.LOADING,
        ),
        (503, "upstream is away", HttpKind.FAILED),
        (501, UNSUPPORTED, HttpKind.OFF),
        (401, "", HttpKind.LOCKED),
        (400, '{"error":{"message":"model name is missing from the request"}}', HttpKind.ROUTER),
        (400, '{"error":{"message":"model is not loaded"}}', HttpKind.FAILED),
        (404, '{"error":{"message":"File Not Found"}}', HttpKind.FAILED),
        (500, "\x1b[31moops", HttpKind.FAILED),
        (200, "", HttpKind.FAILED),
        (200, "<html>hello</html>", HttpKind.FAILED),
        (200, "null", HttpKind.FAILED),
        (200, "[1]", HttpKind.FAILED),
        (200, '{"total_slots": "many"}', HttpKind.FAILED),
        (200, b"\xff\xfe", HttpKind.FAILED),
        pytest.param(200, "[" * 500_000, HttpKind.FAILED, id="deep list"),
        pytest.param(200, '{"x":' * 500_000, HttpKind.FAILED, id="deep object"),
    ],
)
async def test_refusals(status: int, body: str | bytes, kind: HttpKind) -> None:
    async with answering(status, body) as url:
        assert await kinds(url) == {kind}


async def test_a_redirect_is_not_followed(server: Any) -> None:
    async with answering(302, "", f"Location: {server.url}/props") as url:
        assert await kinds(url, api_key="k") == {HttpKind.FAILED}


async def test_what_we_send() -> None:
    heads = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head.decode())
            writer.write(answer(200, "[]", "Set-Cookie: a=b"))

    async with raw(handler) as url, aclosing(LlamaHttp(url + "/prefix/?model=x#y", "k")) as http:
        await http.slots()
        await http.slots()
    lines = heads[1].lower().splitlines()
    assert heads[0] == heads[1]
    assert lines[0] == "get /prefix/slots http/1.1"
    assert "accept-encoding: identity" in lines and "authorization: bearer k" in lines
    assert "cookie" not in heads[1].lower()


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 200 X\r\n\r\n", "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_body_without_end(head: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode())
        while True:
            writer.write((b"10000\r\n" if "chunked" in head else b"") + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with raw(handler) as url:
        assert await kinds(url) == {HttpKind.FAILED}


@pytest.mark.parametrize(
    "words", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{}"]
)
async def test_broken_http(words: bytes) -> None:
    asked = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(words)

    async with raw(handler) as url:
        with pytest.raises(HttpProblem) as caught:
            await ask(url, "props")
        assert caught.value.kind is HttpKind.FAILED
    assert asked == 1  # a first request is not repeated


async def test_a_connection_closed_under_a_request_is_tried_once_more() -> None:
    asked = 0

    async def closes_before_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(answer(200, "[]"))
        await reader.readuntil(b"\r\n\r\n")  # takes the second request to the grave
        asked += 1

    async with raw(closes_before_second) as url, aclosing(LlamaHttp(url)) as http:
        for _ in range(3):
            assert await http.slots() == ()
        assert asked == 5


async def test_an_answer_that_is_late_is_not_asked_for_again() -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.readuntil(b"\r\n\r\n"):
            asked += 1
            if asked == 1:
                writer.write(answer(200, "[]"))

    async with raw(silent) as url, aclosing(LlamaHttp(url)) as http:
        await http.slots()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(http.slots(), 0.3)
        assert asked == 2


async def test_a_broken_handshake_is_not_down() -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400, "plain HTTP"))

    async with raw(no_tls) as url:
        assert await kinds(url.replace("http:", "https:")) == {HttpKind.FAILED}


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody knows."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    made = ("-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x", "-keyout", "key", "-out", "cert")
    subprocess.run(["openssl", "req", *made], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


async def test_a_certificate_is_checked_unless_it_is_our_own_box(tls: ssl.SSLContext) -> None:
    async with answering(200, "[]", tls=tls) as url:
        url = url.replace("http:", "https:")
        assert await ask(url, "slots") == ()
        assert await kinds(url, wire=HttpxWire(url, verify=True)) == {HttpKind.FAILED}


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "http://", "ftp://h", "http://h:99999", "http://h:0", "http://h:x", "unix:\ud800"),
        *("http://a b/", "http://a..\u00e9/", "http://u:secret@h/", "http://[::g]/", "http://h/\ud800"),
        *("https://", "https://h:0", "https://a b/"),
    ],
)
async def test_not_a_url(url: str) -> None:
    assert await kinds(url) == {HttpKind.FAILED}


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for host in ("http://127.0.0.1", "http://localhost", "https://127.0.0.1"):
        assert await kinds(f"{host}:{port}") == {HttpKind.REFUSED}


# Formats of other builds


def test_slots_of_other_builds() -> None:
    old = '{"id":0,"n_ctx":2048,"is_processing":true,"id_task":-1,"next_token":{"n_remain":-1,"n_decoded":5}}'
    [slot] = parse_slots(f"[{old}]".encode())
    assert (slot.task, slot.decoded, slot.remaining, slot.tokens) == (None, 5, None, None)
    assert slot.speculative is None
    [slot] = parse_slots(b'[{"id":3,"is_processing":false,"next_token":[],"params":{"a":[{}]}}]')
    assert slot.id == 3 and slot.decoded is None
    [slot] = parse_slots(
        b'[{"id":3,"is_processing":true,"next_token":[{"n_decoded":7}],"n_prompt_tokens":9}]'
    )
    assert (slot.decoded, slot.tokens) == (7, 9)


@pytest.mark.parametrize(
    ("params", "kinds"),
    [
        ({"speculative.types": "none,draft-simple,ngram-mod"}, "draft-simple,ngram-mod"),
        ({"speculative.types": "none"}, None),
        ({"speculative.type": "ngram-map-k", "speculative.n_max": 8}, "ngram-map-k"),
        ({"speculative.types": ["none"], "speculative.type": 7}, None),
        ({"speculative.types": "\x1b[31m" + "x" * 300}, "x" * 200),
        ({}, None),
        (None, None),
    ],
)
def test_kinds_of_speculation(params: Any, kinds: str | None) -> None:
    (slot,) = parse_slots(json.dumps([{"id": 0, "is_processing": True, "params": params}]).encode())
    assert slot.spec_type == kinds


def test_accepted_by_position() -> None:
    line = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total{%s} %s\n"
    said = (
        ('position="0"', 9),
        ('position="2"', 4),
        ('a="b", position="3"', "NaN"),
        ('position="x"', 1),
        ("", 5),
    )
    text = "llamacpp:n_decode_total 1\n" + "".join(line % pair for pair in said)
    assert parse_metrics(text.encode()).draft_accepted_per_position == (9, 0, 4)
    assert parse_metrics(b"llamacpp:n_decode_total 1\n").draft_accepted_per_position == ()


@pytest.mark.parametrize(
    "body", ['[{"id":0}]', '[{"id":"0","is_processing":true}]', "{}", "[null]", '[{"id":1e99}]']
)
def test_slots_that_are_none(body: str) -> None:
    with pytest.raises(HttpProblem, match="JSON"):
        parse_slots(body.encode())


def test_props_of_other_builds() -> None:
    path = "/models/a.gguf"
    assert parse_props(b"{}").model is None
    assert parse_props(json.dumps({"model_path": path}).encode()).model == "a.gguf"
    assert parse_props(json.dumps({"model_path": path, "model_alias": path}).encode()).model == "a.gguf"
    assert parse_props(json.dumps({"model_path": path, "model_alias": "org/a"}).encode()).model == "org/a"
    assert parse_props(b'{"model_alias":"\\u001b[2Ja\\u202eb"}').model == "ab"
    assert parse_props(b'{"default_generation_settings":{"params":null,"n_ctx":0}}').context_tokens == 0
    with pytest.raises(HttpProblem) as caught:
        parse_props(b'{"role":"router","model_path":"none"}')
    assert caught.value.kind is HttpKind.ROUTER


def test_metrics_of_other_builds() -> None:
    text = (
        "# HELP llamacpp:prompt_tokens_total 1\n"
        "llamacpp:prompt_tokens_total 1.00204e+06\n"
        "llamacpp:prompt_seconds_total NaN\n"
        "llamacpp:tokens_predicted_seconds_total +Inf\n"
        "llamacpp:n_decode_total what\n"
        "llamacpp:tokens_predicted_total_more 9\n"
        'llamacpp:requests_processing{model="a } b",path="\\"x"} 1 1718848336\n'
        'llamacpp:requests_processing{model="c"} 2\n'
        'llamacpp:requests_deferred{model="c"} 2\n'
        "llamacpp:requests_deferred 3\n"
        "llamacpp:spec_decode_num_accepted_tokens_total 30\n"
        'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 20\n'
        "llamacpp:draft_tokens_total 40\r\n"
    )
    metrics = parse_metrics(text.encode())
    assert metrics.prompt_tokens_total == 1002040
    assert metrics.prompt_seconds_total is metrics.generation_seconds_total is None
    assert metrics.decode_calls_total is metrics.generation_tokens_total is None
    assert (metrics.requests_processing, metrics.requests_deferred) == (3, 3)
    assert (metrics.draft_tokens_total, metrics.draft_accepted_total) == (40, 30)


JUNK = st.one_of(
    st.binary(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "is_processing", "next_token", "n_decoded", "n_ctx", "role", "model_alias"]
                ),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
    st.lists(
        st.sampled_from(
            [b"llamacpp:", b"n_decode_total", b"requests_deferred", b"{", b"}", b'"', b"\\", b" ", b"1"]
        )
        | st.binary(max_size=3),
        max_size=12,
    ).map(b"".join),
)


@pytest.mark.parametrize("parse", [parse_slots, parse_props, parse_metrics])
@given(body=JUNK)
def test_a_parser_raises_nothing_else(parse: Callable[[bytes], Any], body: bytes) -> None:
    with suppress(HttpProblem):
        parse(body)


@given(st.floats(allow_nan=False), st.sampled_from(["%r", "%g", "%e"]))
def test_numbers_are_read_as_prometheus_client_reads_them(number: float, form: str) -> None:
    line = f"llamacpp:n_decode_total {form % number}\n"
    [family] = text_string_to_metric_families(line)
    value = family.samples[0].value
    assert parse_metrics(line.encode()).decode_calls_total == (value if math.isfinite(value) else None)


def test_a_hostile_line_costs_no_time() -> None:
    started = time.process_time()
    with pytest.raises(HttpProblem):
        parse_metrics(b"llamacpp:n_decode_total{" + b'"\\' * 1_000_000)
    with pytest.raises(HttpProblem):
        parse_metrics(b"llamacpp:n_decode_total{\n" * 150_000)
    assert time.process_time() - started < 2
