"""Facts merged from five sources: the first that knows is believed, and named."""

from __future__ import annotations

from typing import Any

import pytest

from halotui.collectors.llama_log import LogParser
from halotui.model import Buffer, LogFacts, ModelMeta, Props, ServerProcess, SlotReading
from halotui.sampler.facts import HIDDEN, MISSED, UNFOLLOWED, FactBook, Known, merge


def process(**more: Any) -> ServerProcess:
    return ServerProcess(pid=1, url="http://127.0.0.1:8080", **{"model_path": "/m/a.gguf", **more})


def slots(count: int = 1, context: int | None = 4096, **more: Any) -> tuple[SlotReading, ...]:
    return tuple(SlotReading(id=n, context_tokens=context, **more) for n in range(count))


def known(
    asked: ServerProcess | None = None,
    props: Props | None = None,
    meta: ModelMeta | None = None,
    seen: tuple[SlotReading, ...] = (),
    log: LogFacts | None = None,
) -> Known:
    return merge(asked, props, meta, seen, log)


def test_the_first_source_is_believed_and_named() -> None:
    told = known(
        process(draft_model="d.gguf", threads=8, batch_tokens=512, backend="rocm", spec_type="draft-simple"),
        Props(total_slots=4, model="alias", build="b1-abc"),
        ModelMeta(parameters=7, type="Q4_K - Medium", bytes=99),
        slots(4, spec_type="ngram-mod"),
        LogFacts(build="b2-def", backend="vulkan", slots_total=3, threads=16, kv_cache_bytes=5, parameters=6),
    )
    assert told.server == {
        "model": "alias",
        "model_path": "/m/a.gguf",
        "draft_model": "d.gguf",
        "build": "b1-abc",
        "backend": "vulkan",
        "slots_total": 4,
        "slot_context_tokens": 4096,
        "kv_cache_bytes": 5,
        "kv_unified": True,
        "spec_type": "ngram-mod",
        "kv_capacity_tokens": 4096,
    }
    assert (told.facts.threads, told.facts.batch_tokens, told.facts.parameters) == (16, 512, 6)
    assert (told.facts.model_type, told.facts.model_bytes) == ("Q4_K - Medium", 99)
    names = {key: told.provenance[key] for key in ("build", "backend", "spec_type", "batch_tokens")}
    assert names == {
        "build": "/props",
        "backend": "log",
        "spec_type": "/slots",
        "batch_tokens": "command line",
    }
    assert told.provenance["model_type"] == "/v1/models"
    assert set(told.provenance) <= {*told.server, *told.facts.__struct_fields__}


@pytest.mark.parametrize(
    ("asked", "count", "context", "trained", "unified", "source"),
    [
        ({"context_tokens": 8192}, 4, 8192, None, True, "/slots"),
        ({"context_tokens": 8192}, 4, 2048, 32768, False, "/slots"),
        ({"context_tokens": 3000}, 3, 1024, 32768, False, "/slots"),  # rounded up to 256
        (
            {"context_tokens": 131072},
            4,
            32768,
            32768,
            None,
            None,
        ),  # as much as it was trained for, either way
        ({"context_tokens": 131072}, 4, 32768, None, None, None),
        ({"context_tokens": 8192, "slots_asked": 4}, 4, 2048, None, False, "command line"),
        ({}, 4, 4096, None, True, "command line"),  # nobody asked for four: they share
        ({"slots_asked": 1}, 4, 4096, None, True, "command line"),  # llama.cpp #17989
        ({"slots_asked": 2}, 3, 4096, None, None, None),
        ({"kv_unified": False}, 4, 4096, None, False, "command line"),
        ({}, 1, 4096, None, None, None),
    ],
)
def test_unified_or_split(
    asked: dict[str, Any],
    count: int,
    context: int,
    trained: int | None,
    unified: bool | None,
    source: str | None,
) -> None:
    meta = ModelMeta(context_trained_tokens=trained)
    # what -np means is left out where -c is to tell
    told = known(
        process(**{"slots_asked": 9, **asked} if "context_tokens" in asked else asked),
        Props(total_slots=count),
        meta,
        slots(count, context),
    )
    assert told.server.get("kv_unified") is unified
    assert told.provenance.get("kv_unified") == source


def test_the_log_knows_best_whether_it_is_unified() -> None:
    told = known(process(context_tokens=8192), seen=slots(4, 8192), log=LogFacts(kv_unified=False))
    assert told.server["kv_unified"] is False and told.provenance["kv_unified"] == "log"


def test_flash_attention_is_what_came_of_it() -> None:
    for said, asked, expected, source in (
        ("on", "auto", "on", "log"),
        ("auto", "on", "on", "command line"),
        ("auto", None, "auto", "log"),
        (None, "off", "off", "command line"),
    ):
        told = known(process(flash_attention=asked), log=LogFacts(flash_attention=said))
        assert (told.facts.flash_attention, told.provenance["flash_attention"]) == (expected, source)


def test_types_that_nobody_asked_for_are_the_default() -> None:
    told = known(process(cache_type_k="q8_0"))
    assert (told.facts.cache_type_k, told.facts.cache_type_v) == ("q8_0", "f16")
    assert told.provenance["cache_type_v"] == "llama.cpp's default"
    assert known(process(model_path=None)).facts.cache_type_v is None  # its command line was not seen


def test_nothing_is_known_of_nobody() -> None:
    told = known()
    assert told.server == {} and told.provenance == {} and told.hidden == UNFOLLOWED


def test_why_memory_is_hidden() -> None:
    assert known(log=LogFacts(hides_memory=True, model_loaded=True)).hidden == HIDDEN
    assert known(log=LogFacts()).hidden == MISSED
    assert known(log=LogFacts(model_loaded=False)).hidden is None  # it is still to come
    buffers = (Buffer(device="CPU", kind="model", bytes=1),)
    assert known(log=LogFacts(hides_memory=True, buffers=buffers)).hidden is None
    assert "-lv 4" in HIDDEN and "--log-file" in UNFOLLOWED


def test_it_merges_when_something_has_changed() -> None:
    book, asked, seen = FactBook(), process(), slots(2)
    first = book.know(asked, None, None, seen, None)
    assert book.know(asked, None, None, slots(2, task=7, processing=True), None) is first
    again = book.know(asked, None, None, slots(2, spec_type="ngram-mod"), None)
    assert again is not first and again.server["spec_type"] == "ngram-mod"
    assert book.know(asked, Props(build="b1"), None, seen, None).server["build"] == "b1"
    assert "build" not in book.know(asked, None, None, seen, None).server


SLIDES = b"""\
0.00.000.100 I srv    load_model: loading model 'gemma.gguf'
0.00.000.200 I llama_context: constructing llama_context
0.00.000.210 I llama_context: n_ctx                 = 4096
0.00.000.220 I llama_context: kv_unified            = true
0.00.000.300 I llama_kv_cache:        CPU KV buffer size =    16.00 MiB
0.00.000.310 I llama_kv_cache: size =   16.00 MiB (  4096 cells,   4 layers,  4/4 seqs), \
K (f16): 8.00 MiB, V (f16): 8.00 MiB
"""
WINDOW = b"""\
0.00.000.320 I llama_kv_cache:        CPU KV buffer size =    15.00 MiB
0.00.000.330 I llama_kv_cache: size =   15.00 MiB (   768 cells,  20 layers,  4/4 seqs), \
K (f16): 7.50 MiB, V (f16): 7.50 MiB
"""
READY = b"""\
0.00.000.400 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 4096, kv_unified = 'true'
0.00.000.410 I srv  llama_server: model loaded
"""


def test_of_a_sliding_window_no_token_has_a_size() -> None:
    for cache, each in ((b"", 4096.0), (WINDOW, None)):
        parser = LogParser()
        parser.feed(SLIDES + cache + READY)
        told = known(log=parser.server.facts)
        assert told.server["kv_capacity_tokens"] == 4096 and told.server.get("kv_token_bytes") == each


def test_that_no_variable_is_set_is_known_too() -> None:
    for said in ((), ("HSA_XNACK=1",)):
        told = known(process(environment=said, mmap=False, layers_asked="99"))
        assert told.facts.environment == said and told.provenance["environment"] == "environment"
        assert (told.facts.mmap, told.facts.layers_asked) == (False, "99")
    told = known(process(), log=LogFacts(mmap=True, architecture="llama"))
    assert told.facts.environment is None and "environment" not in told.provenance
    assert (told.facts.mmap, told.facts.architecture) == (True, "llama")
