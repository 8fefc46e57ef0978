"""What the command line and environment of a llama-server tell: all that its HTTP endpoints leave out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from halotui.hosts import Host, Process
from halotui.model import ServerProcess
from halotui.safe import clean

NAME = "llama-server"
DEFAULT_PORT = 8080
# They listen for somebody else, on this box or another.
FORWARDERS = (
    "docker-proxy",
    "rootlessport",
    "pasta",
    "slirp4netns",
    "ssh",
    "socat",
    "nginx",
    "caddy",
    "haproxy",
)


def _whole(text: str) -> int | None:
    """A count. Zero and negative ones leave it to the server; past 2**53 it is nonsense."""
    try:
        count = int(text)
    except ValueError:
        return None
    return count if 0 < count <= 2**53 else None


def _on(text: str) -> bool:
    return text.lower() in ("1", "true", "on", "enabled")


def _off(_: str) -> bool:
    return False


class Flag(NamedTuple):
    """One setting: its spellings in all builds, and those of its environment variable."""

    field: str
    flags: tuple[str, ...]
    env: tuple[str, ...] = ()
    parse: Callable[[str], Any] = str
    bare: str | None = None  # of a switch: what it stands for


FLAGS = (
    Flag("host", ("--host",), ("LLAMA_ARG_HOST",)),
    Flag("port", ("--port",), ("LLAMA_ARG_PORT",), _whole),
    Flag("api_prefix", ("--api-prefix",), ("LLAMA_ARG_API_PREFIX",)),
    Flag("certificate", ("--ssl-cert-file",), ("LLAMA_ARG_SSL_CERT_FILE",)),
    Flag("api_key", ("--api-key",), ("LLAMA_API_KEY",)),
    Flag("device", ("-dev", "--device"), ("LLAMA_ARG_DEVICE",)),
    Flag("slots_asked", ("-np", "--parallel"), ("LLAMA_ARG_N_PARALLEL",), _whole),
    Flag("context_tokens", ("-c", "--ctx-size"), ("LLAMA_ARG_CTX_SIZE",), _whole),
    Flag("kv_unified", ("-kvu", "--kv-unified"), ("LLAMA_ARG_KV_UNIFIED",), _on, "on"),
    Flag("kv_unified", ("-no-kvu", "--no-kv-unified"), ("LLAMA_ARG_NO_KV_UNIFIED",), _off, "on"),
    Flag("model_path", ("-m", "--model"), ("LLAMA_ARG_MODEL",)),
    Flag("alias", ("-a", "--alias"), ("LLAMA_ARG_ALIAS",)),
    Flag(
        "draft_model",
        ("-md", "--model-draft", "--spec-draft-model"),
        ("LLAMA_ARG_MODEL_DRAFT", "LLAMA_ARG_SPEC_DRAFT_MODEL"),
    ),
    Flag("spec_type", ("--spec-type",), ("LLAMA_ARG_SPEC_TYPE",)),
    Flag("spec_type", ("--spec-default",), bare="ngram-mod"),
    Flag("sleep_idle_seconds", ("--sleep-idle-seconds",), ("LLAMA_ARG_SLEEP_IDLE_SECONDS",), _whole),
    Flag("metrics", ("--metrics",), ("LLAMA_ARG_ENDPOINT_METRICS",), _on, "on"),
    Flag("log_path", ("--log-file",), ("LLAMA_LOG_FILE", "LLAMA_ARG_LOG_FILE")),
    Flag("cache_type_k", ("-ctk", "--cache-type-k"), ("LLAMA_ARG_CACHE_TYPE_K",)),
    Flag("cache_type_v", ("-ctv", "--cache-type-v"), ("LLAMA_ARG_CACHE_TYPE_V",)),
)
_BY_FLAG = {spelling: flag for flag in FLAGS for spelling in flag.flags}
_TEXTS = ("model_path", "alias", "draft_model", "spec_type", "cache_type_k", "cache_type_v")
_AS_THEY_ARE = ("slots_asked", "context_tokens", "kv_unified", "sleep_idle_seconds", "metrics")

_BINARY = re.compile(r"llama-server[\w-]*")
_HOST = re.compile(r"[\w.:%-]+", re.ASCII)
_EVERYWHERE = ("0.0.0.0", "::", "*")
_BACKENDS = {
    "vulkan": re.compile(r"vulkan|radv|amdvlk", re.I),
    "rocm": re.compile(r"rocm|(?<![a-z])hip", re.I),
    "cuda": re.compile(r"cuda", re.I),
    "cpu": re.compile(r"(?<![a-z])cpu(?![a-z])", re.I),
}
# Only what is set for this server: HSA_*, RADV_* or a library path often stand in a whole login's profile.
_ENV_PLACES = ("GGML_BACKEND_PATH", "CONTAINER_ID")
_ENV_NAMES = {
    "vulkan": ("GGML_VK_",),
    "rocm": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ROCBLAS_USE_HIPBLASLT"),
}


def find(host: Host, urls: Sequence[str]) -> list[ServerProcess]:
    """The llama-servers of this box; with ``urls``, the processes that answer there, as asked, whatever
    they are called. A URL of another machine, or of a process that is not ours to look into, gives none.
    """
    if not urls:
        return [launch_facts(process) for process in host.processes((NAME,), ())]
    ports = {url: port for url in urls if (port := _port_here(url, host.name))}
    processes = host.processes((NAME,), tuple(set(ports.values()))) if ports else []
    served: dict[int, Process] = {}
    for process in sorted(processes, key=lambda process: not process.name.startswith(NAME)):
        if not process.name.startswith(FORWARDERS):
            served = dict.fromkeys(process.ports, process) | served
    return [replace(launch_facts(served[port]), url=url) for url, port in ports.items() if port in served]


def launch_facts(process: Process) -> ServerProcess:
    """What was asked of the server, which need not be what it does. Unsaid and nonsensical is None.

    ``url`` holds the port it really listens on where that is known; a server on a Unix socket has
    ``unix:/path``. ``api_key`` is the first of several; one from a key file stays unknown.
    """
    launcher, arguments = split(process.argv)
    said = _environment(process.environ) | dict(_command_line(arguments))
    facts: dict[str, Any] = {field: clean(said[field]) or None for field in _TEXTS if field in said}
    facts |= {field: said[field] for field in _AS_THEY_ARE if field in said}
    return ServerProcess(
        pid=process.pid,
        name=clean(process.name),
        started_time=process.started_time,
        url=_url(said, process),
        log_path=_log_path(said.get("log_path") or process.stderr, process.cwd),
        backend=_backend(said.get("device"), launcher, process.environ),
        api_key=(said.get("api_key") or "").split(",")[0] or None,
        **facts,
    )


def split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What launches, and the server's own arguments: after its binary, or from the first flag on."""
    for at, word in enumerate(argv, 1):
        if _BINARY.fullmatch(PurePath(word).name):
            return argv[:at], argv[at:]
    first = next((at for at, word in enumerate(argv) if word.startswith("-")), len(argv))
    if argv[first : first + 1] == ("-m",) and PurePath(argv[0]).name.startswith("python"):
        first += 2  # the module to run is not a model
    return argv[:first], argv[first:]


def _command_line(arguments: Iterable[str]) -> Iterator[tuple[str, Any]]:
    words = iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        flag = _BY_FLAG.get(name.replace("_", "-") if name.startswith("--") else name)
        if flag is None:
            continue
        if not sign:
            value = next(words, "") if flag.bare is None else flag.bare
        yield flag.field, flag.parse(value)


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {flag.field: flag.parse(environ[name]) for flag in FLAGS for name in flag.env if name in environ}


def _log_path(path: str | None, cwd: str | None) -> str | None:
    """Absolute, and None where it is unknown or would have to be altered to be shown."""
    if not path:
        return None
    whole = PurePath(cwd or "", path)
    return str(whole) if whole.is_absolute() and clean(str(whole)) == str(whole) else None


def _url(said: Mapping[str, Any], process: Process) -> str:
    hosts = [host.strip() for host in (said.get("host") or "127.0.0.1").split(",")]
    sockets = [host for host in hosts if host.endswith(".sock")]
    addresses = [host for host in hosts if _HOST.fullmatch(host) and host not in sockets]
    if sockets and not addresses and not process.ports:
        return f"unix:{clean(str(PurePath(process.cwd or '', sockets[0])))}"
    host = addresses[0] if addresses and addresses[0] not in _EVERYWHERE else "127.0.0.1"
    port = said.get("port") or DEFAULT_PORT
    if process.ports and port not in process.ports:
        port = process.ports[0]
    scheme = "https" if said.get("certificate") else "http"
    prefix = quote(clean(said.get("api_prefix") or "").strip("/"))
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" + (f"/{prefix}" if prefix else "")


def _port_here(url: str, name: str) -> int | None:
    """The port of a URL of this box: loopback, every address, or its own name."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if host in ("localhost", name.lower(), name.lower().partition(".")[0]):
        return port
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return port if address.is_loopback or address.is_unspecified else None


def _backend(device: str | None, launcher: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """The first place that speaks of one backend alone: device, binary, directories, variables."""
    if device == "none":
        return "cpu"
    places = (device or "", " ".join(launcher), *(environ.get(name, "") for name in _ENV_PLACES))
    for place in places:
        named = [backend for backend, word in _BACKENDS.items() if word.search(place)]
        if len(named) == 1:
            return named[0]
    hinted = [
        backend for backend, starts in _ENV_NAMES.items() if any(name.startswith(starts) for name in environ)
    ]
    return hinted[0] if len(hinted) == 1 else None
