"""The real llama.cpp server as a process of its own, out of the xllamacpp wheel's public API.

It takes those of llama-server's flags that the demo and the tests use (``flags``), and it runs on old wheels
too, whose parameters have other names: so it imports nothing but xllamacpp and the standard library.

Environment: ``HALOTUI_DEMO_BOX=PID:TICKS`` is the box it belongs to and ends with, whoever started it;
``HALOTUI_DEMO_LOAD_SECONDS`` is how long it pretends to read its weights, unless the box itself started it;
``HALOTUI_DEMO_FAULT`` is a fault of its build.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from halotui.demo.flags import HELP, BadArgument, Value, parse
from halotui.demo.life import BOX, STOP_SECONDS, belong_to, die_with_parent, started_by

FAULT, LOAD_SECONDS = "HALOTUI_DEMO_FAULT", "HALOTUI_DEMO_LOAD_SECONDS"
PR_SET_NAME = 15
STOP = (signal.SIGINT, signal.SIGTERM)
LOAD_MODES = {"dio": "direct-io", "mmap+mlock": "mmap-mlock"}  # the wheel's names
LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'

# Flag -> where the value goes: the first of these that this wheel has.
_DRAFT, _OLD_DRAFT = "speculative.draft", "speculative"
PLACES = {
    "model": ("model.path",),
    "host": ("hostnames", "hostname"),
    "port": ("port",),
    "api-prefix": ("api_prefix",),
    "parallel": ("n_parallel",),
    "kv-unified": ("kv_unified",),
    "ctx-size": ("n_ctx",),
    "batch-size": ("n_batch",),
    "ubatch-size": ("n_ubatch",),
    "threads": ("cpuparams.n_threads",),
    "threads-batch": ("cpuparams_batch.n_threads",),
    "threads-draft": (f"{_DRAFT}.cpuparams.n_threads", f"{_OLD_DRAFT}.cpuparams.n_threads"),
    "threads-http": ("n_threads_http",),
    "n-gpu-layers": ("n_gpu_layers",),
    "n-gpu-layers-draft": (f"{_DRAFT}.n_gpu_layers",),
    "flash-attn": ("flash_attn_type",),
    "load-mode": ("load_mode",),
    "cache-type-k": ("cache_type_k",),
    "cache-type-v": ("cache_type_v",),
    "cache-type-k-draft": (f"{_DRAFT}.cache_type_k",),
    "cache-type-v-draft": (f"{_DRAFT}.cache_type_v",),
    "alias": ("model_alias",),
    "api-key": ("api_keys",),
    "metrics": ("endpoint_metrics",),
    "slots": ("endpoint_slots",),
    "jinja": ("use_jinja",),
    "model-draft": (f"{_DRAFT}.mparams.path", f"{_OLD_DRAFT}.mparams_dft.path"),
    "spec-type": ("speculative.types",),  # old wheels: a draft model is enough
    "spec-draft-n-max": (f"{_DRAFT}.n_max", f"{_OLD_DRAFT}.n_max"),
    "spec-draft-n-min": (f"{_DRAFT}.n_min", f"{_OLD_DRAFT}.n_min"),
    "draft-p-min": (f"{_DRAFT}.p_min", f"{_OLD_DRAFT}.p_min"),
    "spec-ngram-simple-size-n": ("speculative.ngram_simple.size_n",),
    "spec-ngram-simple-size-m": ("speculative.ngram_simple.size_m",),
    "sleep-idle-seconds": ("sleep_idle_seconds",),
    "cache-ram": ("cache_ram_mib",),
    "sse-ping-interval": ("sse_ping_interval",),
    "log-verbosity": ("verbosity",),
}


def parameters(wheel: Any, said: Mapping[str, Value]) -> Any:
    """The wheel's CommonParams for these options."""
    options = dict(said)
    parallel, unified = int(options["parallel"]), options.get("kv-unified")
    # llama.cpp #17989: an explicit -np 1 was taken for the default
    forgets = os.environ.get(FAULT) == "np-slots" and "model-draft" not in options
    if parallel < 0 or (forgets and parallel == 1 and not unified):
        options |= {"parallel": 4, "kv-unified": True if unified is None or forgets else unified}
    kv = lambda name: _members(wheel.ggml_type, [name])[0]  # noqa: E731
    converted: dict[str, Callable[[Any], Any]] = {
        "spec-type": lambda names: _members(wheel.common_speculative_type, names.split(",")),
        "load-mode": lambda name: _members(wheel.llama_load_mode, [LOAD_MODES.get(name, name)])[0],
        "flash-attn": lambda name: wheel.llama_flash_attn_type(("auto", "off", "on").index(name) - 1),
        **dict.fromkeys(("cache-type-k", "cache-type-v", "cache-type-k-draft", "cache-type-v-draft"), kv),
    }
    params = wheel.CommonParams()
    for option, places in PLACES.items():
        if (value := options.get(option)) is not None:
            convert = converted.get(option)
            _put(params, places, convert(value) if convert and _has(params, places) else value)
    return params


def _members(enum: Iterable[Any], names: Iterable[str]) -> list[Any]:
    """Members whose name ends as asked: ``draft-simple`` is COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE."""
    words = [name.upper().replace("-", "_") for name in names]
    endings = [(f"_TYPE_{word}", f"_MODE_{word}") for word in words]
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


def _pretend_to_load(said: Mapping[str, Value], seconds: float) -> int | None:
    """Hold the port and answer 503, as a server that reads its weights; the exit code, if it ends here."""
    host, port = str(said["host"]), int(said["port"])
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            _complain(f"couldn't bind HTTP server socket, hostname: {host}, port: {port}")
            return 1
        listener.listen()
        threading.Thread(target=_answer_503, args=(listener,), daemon=True).start()
        try:
            return 0 if signal.sigtimedwait(STOP, seconds) else None
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread


def _answer_503(listener: socket.socket) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with suppress(OSError):
        while True:
            caller = listener.accept()[0]
            with closing(caller), suppress(OSError):
                caller.settimeout(1)
                caller.recv(65536)
                caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(LOADING) + LOADING)


def _complain(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        build = version("xllamacpp").rpartition(".")[2]
    except PackageNotFoundError:
        build = "0"
    return f"version: 0.6.0-dev (build {build}, commit demo)"


def main(argv: Sequence[str] | None = None) -> int:
    try:
        said = parse(sys.argv[1:] if argv is None else argv, os.environ)
    except BadArgument as error:
        _complain(str(error))
        return 1
    if "usage" in said:
        print(HELP, end="")
        return 0
    if "version" in said:
        _complain(_version())
        return 0
    if "model" not in said:
        _complain("error: -m is missing: the demo's llama-server is no router")
        return 1
    return _serve(said)


def _serve(said: Mapping[str, Value]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"llama-server")  # so that it is found as one
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before a native thread could take them
    try:
        import xllamacpp
    except ImportError:
        _complain("the demo's llama-server is not installed: pip install halotui[demo]")
        return 2
    if log := said.get("log-file"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        os.dup2(os.open(str(log), flags, 0o600), 2)
    die_with_parent(said.get("die-with-parent"))
    box = os.environ.get(BOX, "")
    if box and not belong_to(box):
        _complain("the demo box has gone")
        return 1
    seconds = float(os.environ.get(LOAD_SECONDS) or 0)
    # the one that the box starts was there before anybody looked
    if seconds and not started_by(box) and said["port"] and Path(str(said["model"])).exists():
        code = _pretend_to_load(said, seconds)
        if code is not None:
            return code
    # a box's model is mostly a hole, which a map of it would fill with pages
    loaded = {**said, "load-mode": "none"} if box else said
    try:
        params = parameters(xllamacpp, loaded)
        if box and not _has(params, PLACES["load-mode"]):
            raise ValueError("this xllamacpp is too old for a demo box")
        server = xllamacpp.Server(params)  # returns when the model is served
    except (RuntimeError, ValueError) as error:
        _complain(f"llama-server: {error}")
        return 1
    signal.sigwait(STOP)
    signal.alarm(STOP_SECONDS)
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
