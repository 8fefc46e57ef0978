"""What the command line and environment of a llama-server tell: all that its HTTP endpoints leave out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from halotui.collectors import environment
from halotui.hosts import Host, Process
from halotui.model import ServerProcess
from halotui.safe import clean

NAME = "llama-server"
DEFAULT_PORT = 8080
NEWER_PORT = 9931  # the default of builds from autumn 2026 on
MOST_PEERS = 32
EVERYTHING = 2**31 - 1  # the verbosity that -v stands for
ON = ("1", "true", "on", "enabled")
THREE = {"on": ON, "off": ("0", "false", "off", "disabled"), "auto": ("auto", "-1")}
# They listen for somebody else, on this box or another.
FORWARDERS = (
    "docker-proxy",
    "rootlessport",
    "pasta",
    "passt",  # the same program, by its other name
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


def a_port(text: str) -> int | None:
    port = _whole(text)
    return port if port is not None and port < 65536 else None


def _number(text: str) -> int | None:
    """Zero says something here; a negative one leaves it to the server, or sets no limit."""
    return 0 if text.strip() == "0" else _whole(text)


def _mebibytes(text: str) -> int | None:
    count = _number(text)
    return None if count is None else count << 20


def _peers(text: str) -> tuple[str, ...]:
    return tuple(peer for word in text.split(",")[:MOST_PEERS] if (peer := clean(word.strip())))


def _on(text: str) -> bool:
    return text.lower() in ON


def _three(text: str) -> str | None:
    """Older builds take no value; newer ones take all of these."""
    word = text.lower()
    return next((name for name, words in THREE.items() if word in words), None)


def _off(_: str) -> bool:
    return False


_MAPS = {"none": False, "dio": False, "mlock": False, "mmap": True, "mmap+mlock": True}


def maps(mode: str) -> bool | None:
    """Whether a --load-mode maps the weights; auto leaves it to the build."""
    return _MAPS.get(mode.lower())


class Flag(NamedTuple):
    """One setting: its spellings in all builds, and those of its environment variable."""

    field: str
    flags: tuple[str, ...]
    env: tuple[str, ...] = ()
    parse: Callable[[str], Any] = str
    bare: str | None = None  # of a switch: what it stands for
    values: tuple[str, ...] = ()  # that may follow a switch all the same


FLAGS = (
    Flag("host", ("--host",), ("LLAMA_ARG_HOST",)),
    Flag("port", ("--port",), ("LLAMA_ARG_PORT",), a_port),
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
    Flag(
        "flash_attention",
        ("-fa", "--flash-attn"),
        ("LLAMA_ARG_FLASH_ATTN",),
        _three,
        "on",
        tuple(word for words in THREE.values() for word in words),
    ),
    Flag("batch_tokens", ("-b", "--batch-size"), ("LLAMA_ARG_BATCH",), _whole),
    Flag("ubatch_tokens", ("-ub", "--ubatch-size"), ("LLAMA_ARG_UBATCH",), _whole),
    Flag("threads", ("-t", "--threads"), ("LLAMA_ARG_THREADS",), _whole),
    Flag("mmap", ("--mmap",), ("LLAMA_ARG_MMAP",), _on, "on"),
    Flag("mmap", ("--no-mmap",), ("LLAMA_ARG_NO_MMAP",), _off, "on"),
    Flag("mmap", ("-dio", "--direct-io"), (), _off, "on"),  # past the page cache: it comes before --mmap
    Flag("mmap", ("-lm", "--load-mode"), ("LLAMA_ARG_LOAD_MODE",), maps),
    Flag("layers_asked", ("-ngl", "--gpu-layers", "--n-gpu-layers"), ("LLAMA_ARG_N_GPU_LAYERS",)),
    Flag("prompt_cache_bytes", ("-cram", "--cache-ram"), ("LLAMA_ARG_CACHE_RAM",), _mebibytes),
    Flag(
        "verbosity",
        ("-lv", "--verbosity", "--log-verbosity"),
        ("LLAMA_LOG_VERBOSITY", "LLAMA_ARG_LOG_VERBOSITY"),
        _number,
    ),
)
# Facts that no form sets: a relaunch carries them along as they stand.
MORE = (
    Flag("verbosity", ("-v", "--verbose", "--log-verbose"), (), _whole, str(EVERYTHING)),
    Flag("rpc_peers", ("--rpc",), ("LLAMA_ARG_RPC",), _peers),
    Flag("log_jsonl", ("--log-jsonl",), ("LLAMA_ARG_LOG_JSONL",), _on, "on"),
    Flag("log_jsonl", ("--no-log-jsonl",), (), _off, "on"),
    Flag(
        "repository",
        ("-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo"),
        ("LLAMA_ARG_HF_REPO", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_DOCKER_REPO"),
    ),
    Flag(
        "catalogue",
        ("--models-dir", "--models-preset"),
        ("LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET"),
    ),
)
_BY_FLAG = {spelling: flag for flag in (*FLAGS, *MORE) for spelling in flag.flags}
_TEXTS = (
    *("model_path", "alias", "draft_model", "spec_type", "cache_type_k", "cache_type_v", "layers_asked"),
)
_AS_THEY_ARE = (
    *("slots_asked", "context_tokens", "kv_unified", "sleep_idle_seconds", "metrics", "flash_attention"),
    *("batch_tokens", "ubatch_tokens", "threads", "prompt_cache_bytes", "rpc_peers", "verbosity"),
    "mmap",
)
_A_MODEL = re.compile(r"--(?!spec-)[\w.-]+-default")  # --gpt-oss-20b-default and its like name one

_BINARY = re.compile(r"llama-server[\w-]*")
_HOST = re.compile(r"[\w.-]+", re.ASCII)
_EVERYWHERE = ("0.0.0.0", "::", "*", "")
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
    ports = {url: port for url in urls if (port := port_here(url, host.name))}
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
    launcher, _ = split(process.argv)
    told = said(process)
    facts: dict[str, Any] = {field: clean(told[field]) or None for field in _TEXTS if field in told}
    facts |= {field: told[field] for field in _AS_THEY_ARE if field in told}
    return ServerProcess(
        pid=process.pid,
        name=clean(process.name),
        started_time=process.started_time,
        url=_url(told, process),
        router=_is_router(told, process),
        stderr_to=process.stderr_to,
        log_path=absolute(told.get("log_path") or process.stderr, process.cwd),
        backend=_backend(told.get("device"), launcher, process.environ),
        device_asked=clean(told.get("device") or "", 120) or None,
        environment=environment.told(process.environ),
        api_key=(told.get("api_key") or "").split(",")[0] or None,
        **facts,
    )


def said(process: Process) -> dict[str, Any]:
    """Field of a flag -> what command line and environment say; raw text where it is one."""
    return _environment(process.environ) | dict(_command_line(split(process.argv)[1]))


def absolute(path: str | None, cwd: str | None) -> str | None:
    """None where it is unknown or would have to be altered to be shown."""
    if not path:
        return None
    whole = PurePath(cwd or "", path)
    return str(whole) if whole.is_absolute() and clean(str(whole)) == str(whole) else None


def split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What launches, and the server's own arguments: after its binary, or from the first flag on."""
    for at, word in enumerate(argv, 1):
        if _is_binary(word):
            return argv[:at], argv[at:]
    first = next((at for at, word in enumerate(argv) if word.startswith("-")), len(argv))
    if argv[first : first + 1] == ("-m",) and PurePath(argv[0]).name.startswith("python"):
        first += 2  # the module to run is not a model
    return argv[:first], argv[first:]


def _is_binary(word: str) -> bool:
    return _BINARY.fullmatch(PurePath(word).name) is not None


def _command_line(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    words = iter(enumerate(arguments, 1))
    for after, word in words:
        name, sign, value = word.partition("=")
        flag = _BY_FLAG.get(name.replace("_", "-") if name.startswith("--") else name)
        if flag is None:
            if _A_MODEL.fullmatch(word):
                yield "repository", word
            continue
        if not sign:
            follows = flag.bare is None or "".join(arguments[after : after + 1]).lower() in flag.values
            value = next(words, (0, ""))[1] if follows else flag.bare or ""
        yield flag.field, flag.parse(value)


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    flags = (*FLAGS, *MORE)
    return {flag.field: flag.parse(environ[name]) for flag in flags for name in flag.env if name in environ}


def _is_router(told: Mapping[str, Any], process: Process) -> bool | None:
    """Started without a model, to serve many. None: the environment, not ours to read, may name one, or it is
    another program, which may have one all the same."""
    if told.get("model_path") or told.get("repository"):
        return False
    launcher, _ = split(process.argv)
    ours = process.name.startswith(NAME) or bool(launcher and _is_binary(launcher[-1]))
    return True if told.get("catalogue") or (ours and process.argv and process.environ) else None


def _url(said: Mapping[str, Any], process: Process) -> str:
    hosts = [host.strip() for host in (said.get("host") or "127.0.0.1").split(",")]
    sockets = [host for host in hosts if host.endswith(".sock")]
    addresses = [host for host in hosts if host not in sockets and in_url(host)]
    if sockets and not addresses and not process.ports:
        return f"unix:{clean(str(PurePath(process.cwd or '', sockets[0])))}"
    host = in_url(addresses[0]) if addresses else "127.0.0.1"
    port = said.get("port") or DEFAULT_PORT
    if process.ports and port not in process.ports:
        port = process.ports[0]
    scheme = "https" if said.get("certificate") else "http"
    prefix = quote(clean(said.get("api_prefix") or "").strip("/"))
    return f"{scheme}://{host}:{port}" + (f"/{prefix}" if prefix else "")


def in_url(host: str) -> str:
    """An address to bind to, as it stands in a URL of this box; empty: it is none."""
    if host in _EVERYWHERE:
        return "127.0.0.1"
    if ":" not in host:
        return host if _HOST.fullmatch(host) else ""
    try:
        return f"[{IPv6Address(host.partition('%')[0])}]"
    except ValueError:
        return ""


def port_here(url: str, name: str) -> int | None:
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
