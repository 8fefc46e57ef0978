"""The vocabulary: readings of one source, the Frame that unites them, findings.

Every struct is frozen. Unknown is ``None`` and is left out of the JSON; a key carries its base unit
(``_bytes``, ``_hertz``, ``_watts``, ``_celsius``, ``_percent``, ``_seconds``, ``_ratio``). There is no
logic here: what the numbers mean lives in ``rules``, how they are named in ``fields``.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

SCHEMA_VERSION = 1
Patch = dict[str, str | int | float | bool | None]  # setting -> its new value; None takes it away
GPU_SOURCE = "gpu"  # ids of the sources that every frame has
MEMORY_SOURCE = "memory"
PROCESS_SOURCE = "processes"


class SourceState(StrEnum):
    """How a source stands. Only ``OK`` carries a value."""

    OK = "ok"
    NO_DATA = "no_data"  # the source is there and has nothing to say: not a failure
    ABSENT = "absent"  # not on this machine
    DENIED = "denied"  # there, and not ours to read
    STALE = "stale"  # answered before, late now
    HUNG = "hung"  # a read that does not come back
    FAILED = "failed"  # answered nonsense, or an error


class Unavailable(Exception):
    """A collector's way to say why it has no reading, and what the user can do about it."""

    def __init__(self, state: SourceState, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.hint = hint


class ServerState(StrEnum):
    """What a llama-server is doing, as far as one may know without disturbing it."""

    DOWN = "down"  # connection refused
    LOADING = "loading"  # 503 from every endpoint
    LOCKED = "locked"  # 401: it wants an API key
    SLEEPING = "sleeping"  # the model is unloaded until a request comes
    IDLE = "idle"
    BUSY = "busy"
    WAITING = "waiting"  # no answer yet: older builds answer between two prompt batches only
    FAILED = "failed"  # it answers, but not as a llama-server does


class SlotPhase(StrEnum):
    IDLE = "idle"
    PROMPT = "prompt"
    DECODE = "decode"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Gpu(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One GPU at one instant. Memory pools are the kernel's: VRAM is the BIOS carve-out, GTT is RAM."""

    id: str  # PCI slot, as 0000:c5:00.0
    source: str  # the collector that read it: sysfs, amdgpu_top, amdsmi
    name: str | None = None
    gtt_used_bytes: int | None = None
    gtt_total_bytes: int | None = None
    vram_used_bytes: int | None = None
    vram_total_bytes: int | None = None
    busy_percent: float | None = None
    sclk_hertz: int | None = None
    sclk_limit_hertz: int | None = None  # what the firmware allows now (current_gfx_maxfreq)
    mclk_hertz: int | None = None
    fclk_hertz: int | None = None
    socket_power_watts: float | None = None  # CPU + GPU + the rest of the package
    gfx_power_watts: float | None = None
    temperature_celsius: float | None = None
    performance_level: str | None = None  # power_dpm_force_performance_level


class Memory(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """System memory as ``free`` counts it."""

    total_bytes: int
    used_bytes: int | None = None
    available_bytes: int | None = None
    free_bytes: int | None = None
    cache_bytes: int | None = None  # buffers + page cache + reclaimable slab
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None


class ServerProcess(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the process of a llama-server tells: its command line and environment.

    ``api_key`` is for the poller alone; nothing that is drawn, logged or recorded may carry this struct.
    """

    pid: int
    url: str  # http://host:port to ask, loopback where it listens everywhere
    started_time: float | None = None  # Unix seconds
    name: str = "llama-server"
    slots_asked: int | None = None  # -np; None when the user left it to the server
    context_tokens: int | None = None
    kv_unified: bool | None = None
    model_path: str | None = None
    alias: str | None = None
    draft_model: str | None = None
    spec_type: str | None = None
    sleep_idle_seconds: int | None = None
    metrics: bool | None = None
    log_path: str | None = None
    backend: str | None = None  # as far as the binary or environment tells: vulkan, rocm, cpu
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    api_key: str | None = None

    def __repr__(self) -> str:
        """Without the key: a traceback may print it."""
        return f"ServerProcess(pid={self.pid}, url={self.url!r})"


class Props(Struct, frozen=True, kw_only=True):
    """``GET /props``: the facts that do not change while the server runs, and whether it sleeps."""

    total_slots: int | None = None
    model: str | None = None  # alias or file name
    model_path: str | None = None
    build: str | None = None
    context_tokens: int | None = None
    is_sleeping: bool | None = None  # None: a build that cannot sleep
    slots_endpoint: bool | None = None
    metrics_endpoint: bool | None = None


class SlotReading(Struct, frozen=True, kw_only=True):
    """One entry of ``GET /slots``: raw counts, no rate."""

    id: int
    task: int | None = None
    processing: bool = False
    context_tokens: int | None = None
    speculative: bool | None = None
    decoded: int | None = None  # tokens generated by this task
    remaining: int | None = None  # n_remain; None when without limit
    tokens: int | None = None  # n_prompt_tokens: tokens now in the slot (newer builds)
    prompt_processed: int | None = None
    prompt_cached: int | None = None


class Metrics(Struct, frozen=True, kw_only=True):
    """``GET /metrics``: counters since the server started, and two live gauges.

    The ``*_tokens_seconds`` gauges are left alone: their window differs by build and by scraper.
    """

    prompt_tokens_total: float | None = None
    prompt_seconds_total: float | None = None
    generation_tokens_total: float | None = None
    generation_seconds_total: float | None = None
    decode_calls_total: float | None = None
    draft_tokens_total: float | None = None
    draft_accepted_total: float | None = None
    requests_processing: float | None = None
    requests_deferred: float | None = None


class Request(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One finished request, from the log by task id, or summed from counters (``slot`` unknown)."""

    source: str  # log | metrics
    slot: int | None = None
    task: int | None = None
    prompt_tokens: int | None = None  # computed, cached ones not counted
    prompt_tokens_per_second: float | None = None
    generation_tokens: int | None = None
    generation_tokens_per_second: float | None = None
    draft_tokens: int | None = None  # drafted; 0 when speculation is on and nothing was drafted
    draft_accepted_tokens: int | None = None
    context_tokens: int | None = None  # tokens in the slot when it ended
    truncated: bool | None = None


class LogFacts(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the log told about the server since it started."""

    build: str | None = None
    backend: str | None = None  # vulkan | rocm | cuda | cpu, from device and buffer lines
    device: str | None = None
    slots_total: int | None = None
    slot_context_tokens: int | None = None
    kv_unified: bool | None = None
    kv_cache_bytes: int | None = None  # of the target model, all devices
    model_loaded: bool | None = None
    draft_loaded: bool | None = None
    draft_failed: str | None = None  # the error line that turned speculation off


class LogLine(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line made harmless: no control or escape characters, bounded length."""

    text: str
    level: str = "info"  # info | warning | error | debug


class Slot(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One slot at one instant, rates included."""

    id: int
    phase: SlotPhase
    task: int | None = None
    context_tokens: int | None = None  # its limit
    used_tokens: int | None = None  # tokens it holds
    used_ratio: float | None = None
    prompt_processed_tokens: int | None = None
    prompt_cached_tokens: int | None = None
    prompt_progress_ratio: float | None = None  # from the log's progress lines
    generated_tokens: int | None = None
    remaining_tokens: int | None = None
    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    speculative: bool | None = None
    draft_acceptance_ratio: float | None = None  # of this slot's last finished request
    draft_coverage_ratio: float | None = None
    elapsed_seconds: float | None = None  # since we saw the task start: ± one poll


class Server(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One llama-server at one instant."""

    url: str
    state: ServerState
    reason: str | None = None  # why it is in that state, when that needs a word
    pid: int | None = None
    model: str | None = None
    model_path: str | None = None
    draft_model: str | None = None
    build: str | None = None
    backend: str | None = None
    uptime_seconds: float | None = None
    waiting_seconds: float | None = None  # how long the request in flight has had no answer
    slots_total: int | None = None
    slots_asked: int | None = None
    slots_busy: int | None = None
    slot_context_tokens: int | None = None
    kv_unified: bool | None = None
    kv_cache_bytes: int | None = None
    speculative: bool | None = None
    spec_type: str | None = None
    requests_deferred: int | None = None
    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    last_generation_tokens_per_second: float | None = None  # of the last finished request
    last_prompt_tokens_per_second: float | None = None
    draft_acceptance_ratio: float | None = None  # over the last finished requests
    draft_coverage_ratio: float | None = None
    log_path: str | None = None
    slots: tuple[Slot, ...] = ()
    requests: tuple[Request, ...] = ()  # finished since the frame before
    log: tuple[LogLine, ...] = ()  # written since the frame before


class Source(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How one collector stands: the answer to "why is there no number?"."""

    id: str  # gpu, memory, processes, "server URL", "log URL", "/slots URL", "/metrics URL"
    state: SourceState
    name: str | None = None  # which source won: sysfs, amdgpu_top, psutil, /slots
    age_seconds: float | None = None  # since its last success
    duration_seconds: float | None = None  # of its last success
    reason: str | None = None
    hint: str | None = None  # what to do to get it


class Finding(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something that is wrong, said with numbers."""

    id: str
    severity: Severity
    title: str  # one line
    evidence: str  # the numbers
    why: str
    fix: str
    subject: str = ""  # the server's URL or the GPU it is about
    since_time: float | None = None  # Unix seconds
    reference: str | None = None
    fields: tuple[str, ...] = ()  # ids of the numbers that it is about
    patch: Patch | None = None  # settings that a relaunch would change to cure it


class Frame(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything known about one host at one instant: the only currency."""

    schema_version: int
    time: float  # Unix seconds
    host: str
    gpus: tuple[Gpu, ...]
    memory: Memory | None = None
    servers: tuple[Server, ...]
    findings: tuple[Finding, ...]
    sources: tuple[Source, ...]
