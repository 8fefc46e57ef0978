"""The real llama.cpp server as a process of its own, out of the xllamacpp wheel's public API.

It takes those of llama-server's flags that the demo and the tests use, and it runs on old wheels too,
whose parameters have other names: so it imports nothing but xllamacpp and the standard library.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FAULT = "HALOTUI_DEMO_FAULT"
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
STOP = (signal.SIGINT, signal.SIGTERM)

# Flag -> where the value goes: the first of these that this wheel has.
PLACES = {
    "model": ("model.path",),
    "host": ("hostnames", "hostname"),
    "port": ("port",),
    "parallel": ("n_parallel",),
    "kv_unified": ("kv_unified",),
    "ctx_size": ("n_ctx",),
    "batch_size": ("n_batch",),
    "ubatch_size": ("n_ubatch",),
    "threads": ("cpuparams.n_threads",),
    "threads_draft": ("speculative.draft.cpuparams.n_threads", "speculative.cpuparams.n_threads"),
    "threads_http": ("n_threads_http",),
    "gpu_layers": ("n_gpu_layers",),
    "flash_attn": ("flash_attn_type",),
    "cache_type_k": ("cache_type_k",),
    "cache_type_v": ("cache_type_v",),
    "alias": ("model_alias",),
    "api_key": ("api_keys",),
    "metrics": ("endpoint_metrics",),
    "slots": ("endpoint_slots",),
    "model_draft": ("speculative.draft.mparams.path", "speculative.mparams_dft.path"),
    "spec_type": ("speculative.types",),  # old wheels: a draft model is enough
    "spec_draft_n_max": ("speculative.draft.n_max", "speculative.n_max"),
    "spec_draft_n_min": ("speculative.draft.n_min", "speculative.n_min"),
    "spec_draft_p_min": ("speculative.draft.p_min", "speculative.p_min"),
    "spec_ngram_simple_size_n": ("speculative.ngram_simple.size_n",),
    "spec_ngram_simple_size_m": ("speculative.ngram_simple.size_m",),
    "sleep_idle_seconds": ("sleep_idle_seconds",),
    "cache_ram": ("cache_ram_mib",),
    "sse_ping_interval": ("sse_ping_interval",),
    "verbosity": ("verbosity",),
}


def arguments() -> argparse.ArgumentParser:
    """llama-server's own spellings. A flag that is not given stays ``None``: the wheel's default."""
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("-m", "--model", required=True)
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080, help="0: any free one, told in the log")
    add("-np", "--parallel", type=int, default=-1)
    add("-kvu", "--kv-unified", action="store_true", default=None)
    add("-no-kvu", "--no-kv-unified", dest="kv_unified", action="store_false")
    add("-c", "--ctx-size", type=int)
    add("-b", "--batch-size", type=int)
    add("-ub", "--ubatch-size", type=int)
    add("-t", "--threads", type=int)
    add("-td", "--threads-draft", "--spec-draft-threads", type=int)
    add("--threads-http", type=int)
    add("-ngl", "--gpu-layers", type=int)
    add("-fa", "--flash-attn", choices=("on", "off", "auto"))
    add("-ctk", "--cache-type-k")
    add("-ctv", "--cache-type-v")
    add("-cram", "--cache-ram", type=int)
    add("-a", "--alias")
    add("--api-key")
    add("--metrics", action="store_true", default=None)
    add("--slots", action=switch)
    add("-md", "--model-draft", "--spec-draft-model")
    add("--spec-type")
    add("--spec-draft-n-max", type=int)
    add("--spec-draft-n-min", type=int)
    add("--spec-draft-p-min", type=float)
    add("--spec-ngram-simple-size-n", type=int)
    add("--spec-ngram-simple-size-m", type=int)
    add("--sleep-idle-seconds", type=int)
    add("--sse-ping-interval", type=int, default=1, help="also how long a stop may wait for a stream")
    add("-lv", "--verbosity", type=int)
    add("--log-file", help="takes stderr's place")
    add(
        "--die-with-parent",
        choices=("pipe", "thread"),
        help="stop when stdin ends; thread: and be killed when the thread that started this ends",
    )
    return parser


def parameters(wheel: Any, options: dict[str, Any]) -> Any:
    """The wheel's CommonParams for these options."""
    if options["parallel"] < 0:  # llama-server's own meaning of "not told"
        unified = options["kv_unified"]
        options |= {"parallel": 4, "kv_unified": True if unified is None else unified}
    if os.environ.get(FAULT) == "np-slots":  # llama.cpp #17989: an explicit -np 1 was taken for the default
        options |= {"parallel": 4, "kv_unified": True}
    converted: dict[str, Callable[[Any], Any]] = {
        "spec_type": lambda names: _members(wheel.common_speculative_type, names.split(",")),
        "cache_type_k": lambda name: _members(wheel.ggml_type, [name])[0],
        "cache_type_v": lambda name: _members(wheel.ggml_type, [name])[0],
        "flash_attn": lambda name: wheel.llama_flash_attn_type(("auto", "off", "on").index(name) - 1),
    }
    params = wheel.CommonParams()
    for option, places in PLACES.items():
        if (value := options[option]) is not None:
            convert = converted.get(option)
            _put(params, places, convert(value) if convert and _has(params, places) else value)
    return params


def _members(enum: Iterable[Any], names: Iterable[str]) -> list[Any]:
    """Members whose name ends as asked: ``draft-simple`` is COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE."""
    endings = [f"_TYPE_{name}".upper().replace("-", "_") for name in names]
    found = [[member for member in enum if member.name.upper().endswith(ending)] for ending in endings]
    if not all(found):
        raise ValueError(f"not known here: {', '.join(names)}")
    return [members[0] for members in found]


def _has(params: Any, places: Sequence[str]) -> bool:
    return any(_reach(params, place) is not None for place in places)


def _reach(params: Any, place: str) -> tuple[Any, str] | None:
    """The object and attribute a dotted path ends at, if this wheel has it."""
    *path, last = place.split(".")
    for name in path:
        params = getattr(params, name, None)
    return (params, last) if hasattr(params, last) else None


def _put(params: Any, places: Sequence[str], value: Any) -> None:
    for place in places:
        if reached := _reach(params, place):
            owner, name = reached
            kind = type(getattr(owner, name))
            setattr(owner, name, kind([value]) if kind in (list, set) and type(value) is not kind else value)
            return


def _watch_stdin() -> None:
    """A pipe ends with whoever holds its other end, however that one died."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(arguments().parse_args(argv))
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NAME, b"llama-server")  # so that it is found as one
    if options["die_with_parent"] == "thread":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also reaches a stopped process
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before a native thread could take them
    try:
        import xllamacpp
    except ImportError:
        print("the demo's llama-server is not installed: pip install halotui[demo]", file=sys.stderr)
        return 2
    if options["log_file"]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        os.dup2(os.open(options["log_file"], flags, 0o600), 2)
    if options["die_with_parent"]:
        threading.Thread(target=_watch_stdin, daemon=True).start()
    try:
        server = xllamacpp.Server(parameters(xllamacpp, options))  # returns when the model is served
    except (RuntimeError, ValueError) as error:
        print(f"llama-server: {error}", file=sys.stderr)
        return 1
    signal.sigwait(STOP)
    signal.alarm(3)  # a stop may be lost, or wait for a stream
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
