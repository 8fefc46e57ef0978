"""The engines whose processes we know, and what a process of one other than llama.cpp tells of itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from halotui.collectors import llama_process
from halotui.collectors.llama_process import a_port, in_url
from halotui.hosts import Host, Process
from halotui.hosts.procfs import runs_script
from halotui.model import ServerProcess
from halotui.safe import clean


class Engine(NamedTuple):
    """How a server of an engine is told from its clients, and where it says that it listens.

    An address may be ``HOST``, ``:PORT``, ``HOST:PORT`` or a URL; flags are tried before variables.
    """

    name: str
    ports: tuple[int, ...]  # where nobody says: now, and in older versions
    verbs: tuple[str, ...] = ()  # one of them stands in the command line of a server
    not_with: tuple[str, ...] = ()  # none of these does
    address: tuple[str, ...] = ()  # flags and variables
    port: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    certificate: tuple[str, ...] = ()
    scheme: str = "http"


_LLAMA = Engine("llama.cpp", (llama_process.DEFAULT_PORT, llama_process.NEWER_PORT))
_RPC = Engine("rpc-server", (50052,), address=("-H", "--host"), port=("-p", "--port"), scheme="rpc")
_VLLM = Engine(
    "vllm",
    (8000,),
    ("serve", "vllm.entrypoints"),
    address=("--host",),
    port=("--port",),
    key=("--api-key", "VLLM_API_KEY"),
    model=("--served-model-name", "--model"),
    certificate=("--ssl-certfile",),
)
_LEMONADE = Engine(
    "lemonade",
    (13305, 8000),
    address=("--host", "LEMONADE_HOST"),
    port=("--port", "LEMONADE_PORT"),
    key=("LEMONADE_API_KEY",),
)
_LM_STUDIO = Engine("lmstudio", (1234,), not_with=("--type",))
# Start of a process's name -> its engine.
ENGINES = {
    llama_process.NAME: _LLAMA,
    "llama-swap": Engine(
        "llama-swap", (8080, 8443), address=("-listen", "--listen"), certificate=("-tls-cert-file",)
    ),
    "rpc-server": _RPC,
    "ggml-rpc-server": _RPC,
    "ollama": Engine("ollama", (11434,), ("serve", "start"), address=("OLLAMA_HOST",)),
    "vllm": _VLLM,
    "lemond": _LEMONADE,
    "lemonade-router": _LEMONADE,
    "lemonade-server": _LEMONADE._replace(verbs=("serve", "run")),
    "llmster": _LM_STUDIO,
    "lm-studio": _LM_STUDIO,
}
SCRIPTS = ("vllm", "lemonade-server", "lemonade-server-dev")  # that a Python may run
_LM_STUDIO_SETTINGS = ".lmstudio/.internal/http-server-config.json"


def engine_of(process: Process) -> Engine | None:
    """None: no server of an engine that we know, but perhaps a client, or a part of one."""
    names = [process.name]
    if process.name.startswith("python"):
        names = [script for script in SCRIPTS if runs_script(process.argv, (script,))]
    for name in names:
        for start, engine in ENGINES.items():
            if name.startswith(start[:15]):
                return engine if _serves(engine, process.argv) else None
    return None


def facts(host: Host, process: Process, engine: Engine) -> ServerProcess:
    """What is left out is not known. A server that is switched off has ``unreachable``."""
    said = dict(_said(process))

    def first(names: Collection[str]) -> str:
        return next((said[name] for name in names if said.get(name)), "")

    where, port = _split(first(engine.address))
    port = a_port(first(engine.port)) or port
    off = ""
    if engine is _LM_STUDIO:
        port, off = _lm_studio(host, process)
    scheme = "https" if first(engine.certificate) else engine.scheme
    port = _listens(process.ports, port, engine.ports)
    models = [said[name] for name in engine.model if name in said]
    return ServerProcess(
        pid=process.pid,
        name=clean(process.name),
        engine=engine.name,
        started_time=process.started_time,
        url=f"{scheme}://{where}:{port}",
        unreachable=off or None,
        alias=clean(models[0], 200) if models else _served(process, engine),
        api_key=first(engine.key) or None,
    )


def _serves(engine: Engine, argv: Collection[str]) -> bool:
    words = list(argv)[1:]
    if any(word == ban or word.startswith(f"{ban}=") for word in words for ban in engine.not_with):
        return False
    return not engine.verbs or any(
        word == verb or word.startswith(f"{verb}.") for word in words[:6] for verb in engine.verbs
    )


def _said(process: Process) -> Iterator[tuple[str, str]]:
    """Variables and flags, each with its value."""
    yield from process.environ.items()
    for word, following in pairwise((*process.argv, "")):
        name, sign, value = word.partition("=")
        if name.startswith("-"):
            yield name, value if sign else following


def _served(process: Process, engine: Engine) -> str | None:
    """vLLM's model may follow its verb: ``vllm serve MODEL``."""
    for word, following in pairwise(process.argv) if engine is _VLLM else ():
        if word == "serve" and not following.startswith("-"):
            return clean(following, 200) or None
    return None


def _split(address: str) -> tuple[str, int | None]:
    """Host, as in a URL, and port of an address."""
    host, port = address.strip(), None
    with suppress(ValueError):
        parts = urlsplit(host if "://" in host else f"//{host}")
        host, port = parts.hostname or "", parts.port
    return in_url(host) or in_url(""), port or None


def _listens(ports: Collection[int], said: int | None, usual: tuple[int, ...]) -> int:
    """The port that it listens on, as far as that can be known."""
    wanted = [said] if said else list(usual)
    return next((port for port in (*wanted, *ports) if port in ports), wanted[0])


def _lm_studio(host: Host, process: Process) -> tuple[int | None, str]:
    """The port of its settings. It listens on others too, and its server may be switched off."""
    port = None
    with suppress(OSError, msgspec.DecodeError, TypeError, AttributeError):
        settings: Any = msgspec.json.decode(
            host.read(Path(process.environ.get("HOME", ""), _LM_STUDIO_SETTINGS))
        )
        port = a_port(str(settings.get("port")))
    usual = port or _LM_STUDIO.ports[0]
    off = bool(process.ports) and usual not in process.ports
    return usual, "its server is switched off: lms server start" if off else ""
