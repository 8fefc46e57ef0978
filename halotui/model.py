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
SYSTEM_SOURCE = "system"
HOLDER_SOURCE = "holders"
PLATFORM_SOURCE = "platform"
KERNEL_SOURCE = "kernel log"
PROCESS_SOURCE = "processes"
# What a frame has one of, by its key there, and the source that it is as old as.
SOLE = {"memory": MEMORY_SOURCE, "account": MEMORY_SOURCE, "system": SYSTEM_SOURCE, "energy": GPU_SOURCE}


class SourceState(StrEnum):
    """How a source stands. Only ``OK`` carries a value."""

    OK = "ok"
    NO_DATA = "no_data"  # the source is there and has nothing to say: not a failure
    ABSENT = "absent"  # not on this machine
    DENIED = "denied"  # there, and not ours to read
    STALE = "stale"  # answered before, late now
    HUNG = "hung"  # a read that does not come back
    FAILED = "failed"  # answered nonsense, or an error
    UNUSED = "unused"  # not asked: another one answers, or nobody wants it


NO_FORWARDING = "the sshd there forwards no connection to it"  # reason of a server behind one that may not


class LinkState(StrEnum):
    """How the connection to a far box stands."""

    CONNECTING = "connecting"  # the first login, or one after a loss
    UP = "up"
    LOST = "lost"  # it was up; it is tried again by itself
    REFUSED = "refused"  # a person has to do something: a key, a password, a changed host key


class Link(Struct, frozen=True, kw_only=True):
    """The connection to a far box, as it stands now. A box without one is the box we run on."""

    state: LinkState
    since_time: float  # Unix seconds, of our clock
    reason: str | None = None  # of LOST and REFUSED: ssh's own words, made harmless
    hint: str | None = None  # what to do about it
    retry_time: float | None = None  # Unix seconds: the next try
    round_trip_seconds: float | None = None  # of the last batch
    ahead_seconds: float | None = None  # its wall clock before ours; put right in what we show


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


class ModelState(StrEnum):
    """A model that a router, Ollama or their like serves."""

    UNLOADED = "unloaded"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    LOADED = "loaded"
    SLEEPING = "sleeping"
    FAILED = "failed"


class End(StrEnum):
    """How a request came to its end."""

    DONE = "done"
    CANCELLED = "cancelled"  # the client went away
    TRUNCATED = "truncated"  # the context was shifted, or was full
    ERROR = "error"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class HeldBy(StrEnum):
    """What keeps a GPU at work below the clock it could have."""

    POWER = "power"  # the limit of the package: SPL, fPPT, sPPT
    HEAT = "heat"
    PROCHOT = "prochot"  # the board called for a halt
    CPU = "cpu"  # power sharing: the CPU takes the package's watts. Not a fault


class Gpu(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One GPU at one instant. Memory pools are the kernel's: VRAM is the BIOS carve-out, GTT is RAM.

    An APU's table of power and clocks is the whole package's: CPU cores and NPU stand here too.
    """

    id: str  # PCI slot, as 0000:c5:00.0
    source: str  # the collector that read it: sysfs, amdgpu_top, amdsmi
    provenance: dict[str, str] = {}  # a key of Gpu -> what told it: gpu_metrics, hwmon power1_input ...
    name: str | None = None
    integrated: bool | None = None  # an APU: its VRAM is carved out of the box's RAM, its GTT is RAM
    asleep: bool = False  # suspended by the kernel: nothing but its memory is read, that would wake it
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
    busy_doubtful: bool | None = None  # it says 100 %, and nobody on the box works
    media_busy_percent: float | None = None  # video engine
    sclk_top_hertz: int | None = None  # the highest there is: row 2 of pp_dpm_sclk
    held_by: HeldBy | None = None  # None: not held back, or not known
    throttle: dict[str, float] = {}  # limiter -> steps of its counter a second, since the frame before
    throttle_known: bool | None = None  # whether there are such counters
    soc_temperature_celsius: float | None = None  # rest of the die
    cpu_power_watts: float | None = None  # all cores
    cpu_hertz: int | None = None  # of the fastest core
    cpu_limit_hertz: int | None = None  # what the firmware allows the cores now
    npu_busy_percent: float | None = None  # mean of its columns
    npu_power_watts: float | None = None
    npu_hertz: int | None = None


class Memory(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """System memory as ``free`` counts it."""

    total_bytes: int
    used_bytes: int | None = None
    available_bytes: int | None = None
    free_bytes: int | None = None
    cache_bytes: int | None = None  # buffers + page cache + reclaimable slab
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None


class Account(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The box's memory, split so that the parts add up: carve-out + GTT + other RAM + free = total.

    GTT is RAM and counts in what the kernel calls used. Of an APU alone: a card's own memory is no part.
    """

    total_bytes: int  # RAM that the kernel sees + carve-out
    other_bytes: int  # programs, kernel, what cannot be freed of the cache; GTT too while that is not known
    free_bytes: int  # MemAvailable: what a program could take without swapping
    carve_out_bytes: int | None = None  # VRAM of the APU, all of it
    gtt_bytes: int | None = None  # in use
    installed_bytes: int | None = None  # by the memory modules; total + what firmware and kernel keep
    reserved_bytes: int | None = None  # installed - total
    headroom_bytes: int | None = None  # what a model could still take: min(GTT free, available)
    rocm_total_bytes: int | None = None  # the larger pool alone: GTT, unless the carve-out is larger
    rocm_free_bytes: int | None = None
    vulkan_total_bytes: int | None = None  # VRAM + GTT, as RADV offers it
    vulkan_free_bytes: int | None = None
    owned_gtt_bytes: int | None = None  # held by processes that we may see
    unowned_gtt_bytes: int | None = None  # the rest: the driver's own, of processes hidden from us, or leaked
    leaked_gtt_bytes: int | None = None  # the rest when every process was seen and it is more than a driver's


class System(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """CPU, disk and network of the box; rates since the look before."""

    cpu_busy_percent: float | None = None  # of all cores together
    cpus: int | None = None  # threads
    cpu_temperature_celsius: float | None = None  # Tctl
    load_1m: float | None = None
    memory_pressure_percent: float | None = None  # time in which some task waited for memory, 10 s average
    io_pressure_percent: float | None = None  # the same for disks
    swap_in_bytes_per_second: float | None = None
    swap_out_bytes_per_second: float | None = None
    oom_kills: int | None = None  # since boot
    disk: str | None = None  # the busiest one
    disk_busy_percent: float | None = None  # of that one
    disk_read_bytes_per_second: float | None = None  # of all disks
    disk_write_bytes_per_second: float | None = None
    network: str | None = None  # the busiest interface of a real network card
    network_receive_bytes_per_second: float | None = None  # of all such
    network_send_bytes_per_second: float | None = None


class Holder(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A process that holds GPU memory, serves a model, or takes much of the RAM."""

    pid: int
    name: str
    user: str | None = None
    gtt_bytes: int | None = None  # None: it has none, or that is not ours to see (``hidden``)
    vram_bytes: int | None = None
    rss_bytes: int | None = None  # GTT is no part of it
    cpu_percent: float | None = None  # of one core
    gpu_percent: float | None = None  # busiest engine; ROCm's work is not counted by the driver
    hidden: bool = False  # its GPU memory is its user's and root's to see
    url: str | None = None  # of the server that it is
    unit: str | None = None  # of systemd
    container: str | None = None
    started_time: float | None = None  # Unix seconds


class Energy(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the package took since halotui watches, and what a token cost. Time not watched is left out."""

    seconds: float  # watched
    watt_hours: float
    tokens: int  # generated meanwhile, by all servers of the box
    decode_joules_per_token: float | None = None  # the last minute's, while servers only decoded
    prefill_joules_per_token: float | None = None  # likewise, a prompt token


class KernelEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line of the kernel's log that is worth a person's attention."""

    kind: str  # a row of collectors.kernel_lines: gpu-reset, ring-timeout, page-fault, oom-kill ...
    severity: Severity
    text: str  # our words, and numbers
    detail: str | None = None  # the kernel's own line, harmless
    time: float | None = None  # Unix seconds
    process: str | None = None  # who was at it
    pid: int | None = None


class Platform(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The box itself. What cannot be read is None; what tells it stands in ``provenance``."""

    product: str | None = None  # vendor and model
    bios: str | None = None  # version and date
    cpu: str | None = None
    distribution: str | None = None
    kernel: str | None = None
    kernel_parameters: tuple[str, ...] = ()  # those that matter here: amd_iommu=off, ttm.pages_limit=…
    module_parameters: dict[str, str] = {}  # in force: ttm.pages_limit, amdgpu.cwsr_enable ...
    firmware: str | None = None  # version of the linux-firmware package
    mes: str | None = None  # microcode of the GPU's scheduler
    mesa: str | None = None
    rocm: str | None = None
    installed_bytes: int | None = None  # memory modules
    power_mode: str | None = None  # platform_profile
    power_modes: tuple[str, ...] = ()  # that there are
    governor: str | None = None
    npu: str | None = None  # its name and firmware
    images: tuple[str, ...] = ()  # of toolboxes and containers that run models
    provenance: dict[str, str] = {}  # a key of Platform -> the file or command


class LogPlace(Struct, frozen=True, kw_only=True):
    """Where a server's log goes: a table of ``collectors.log_sources`` knows how each kind is followed."""

    kind: str  # file | journal | container | stdin
    name: str  # the path | the unit | the container's name | "-"
    user: bool = False  # journal: a unit of the user's own systemd
    engine: str = ""  # container: podman | docker
    since_time: float | None = None  # Unix seconds: what is older is of another process


class ServerProcess(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the process of a server tells: its command line and environment, and where it runs.

    ``api_key`` is for the poller alone; nothing that is drawn, logged or recorded may carry this struct.
    """

    pid: int
    url: str  # what it is known by, and keeps when it restarts: see ``Server.url``
    address: str | None = None  # where it is asked, when that is elsewhere: http://host:port or unix:/path
    unreachable: str | None = None  # why it cannot be asked at all: a container without a published port
    engine: str = "llama.cpp"  # | llama-swap | rpc-server | ollama | vllm | lemonade | lmstudio
    behind: str | None = None  # the URL of the router or llama-swap that started it
    router: bool | None = None  # it was started without a model, to serve many; None: not known
    unit: str | None = None  # of systemd
    container: str | None = None  # its name, else the first 12 digits of its id
    own_network: bool = False  # a namespace of its own: its 127.0.0.1 is not ours
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
    log: LogPlace | None = None
    stderr_to: str = ""  # file | journal | pipe | tty | other; "": not ours to see
    log_path: str | None = None  # of a regular file, as the server names it
    backend: str | None = None  # as far as the binary or environment tells: vulkan, rocm, cpu
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attention: str | None = None  # on | off | auto
    batch_tokens: int | None = None
    ubatch_tokens: int | None = None
    threads: int | None = None
    prompt_cache_bytes: int | None = None  # --cache-ram
    rpc_peers: tuple[str, ...] = ()
    verbosity: int | None = None  # -lv
    mmap: bool | None = None  # whether the weights shall be mapped
    layers_asked: str | None = None  # -ngl as it stands
    device_asked: str | None = None  # -dev as it stands
    environment: tuple[str, ...] | None = None  # NAME=value, of those that matter; None: not ours to see
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
    spec_type: str | None = None  # as it runs, "none" left out: draft-simple, ngram-mod ...


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
    draft_steps_total: float | None = None  # times that something was drafted
    draft_accepted_per_position: tuple[float, ...] = ()  # accepted tokens, by place in the draft
    cached_tokens_total: float | None = None
    requests_processing: float | None = None
    requests_deferred: float | None = None


class ModelMeta(Struct, frozen=True, kw_only=True):
    """``GET /v1/models``: what the model is."""

    context_trained_tokens: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    type: str | None = None  # ftype, as Q4_K - Medium


class ServedModel(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One of the models that a server offers: of a router, llama-swap, Ollama, LM Studio."""

    id: str
    state: ModelState
    address: str | None = None  # where its own server answers, when it is loaded
    url: str | None = None  # of its own tab
    reason: str | None = None  # why it failed
    bytes: int | None = None  # of memory, all of it
    gpu_bytes: int | None = None
    context_tokens: int | None = None
    expires_time: float | None = None  # Unix seconds: unloaded then
    pid: int | None = None


class Request(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One finished request: from the log by task id, from watching its slot, or summed from counters."""

    source: str  # log: the server's own figures | slots: ours, to a poll | metrics: several in one
    slot: int | None = None
    task: int | None = None
    prompt_tokens: int | None = None  # computed, cached ones not counted
    cached_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    prompt_seconds: float | None = None
    ttft_seconds: float | None = None  # from its slot's start to its first token
    ttft_error_seconds: float | None = None  # ±
    generation_tokens: int | None = None
    generation_tokens_per_second: float | None = None
    generation_seconds: float | None = None
    draft_tokens: int | None = None  # drafted; 0 when speculation is on and nothing was drafted
    draft_accepted_tokens: int | None = None
    draft_acceptance_ratio: float | None = None  # accepted ÷ drafted
    draft_coverage_ratio: float | None = None  # drafted ÷ generated
    draft_mean_tokens: float | None = None  # tokens that one pass of the model gave, as the log says
    context_tokens: int | None = None  # tokens in the slot when it ended
    end: End | None = None
    reason: str | None = None  # of an error, in our words
    started_time: float | None = None  # Unix seconds
    ended_time: float | None = None
    wall_seconds: float | None = None  # from its slot's start to its end


class ServerEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something in a log that is worth a person's attention."""

    kind: str  # a row of collectors.log_events: load-failed, kv-full, context-exceeded, abort ...
    severity: Severity
    text: str  # our words, and numbers
    detail: str | None = None  # the server's own line, harmless
    time: float | None = None  # Unix seconds
    slot: int | None = None
    task: int | None = None


class Buffer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Memory that a server took, on one device."""

    device: str  # Vulkan0, ROCm0, CPU_Mapped, Vulkan_Host ...
    kind: str  # model | kv | recurrent | compute | output
    bytes: int
    draft: bool = False  # of the draft model


class Device(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What llama.cpp found to compute on."""

    id: str  # Vulkan0, ROCm0, CPU, RPC0 ...
    name: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None  # before the load


class ServerFacts(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What does not change while a server runs, beyond what ``Server`` itself holds."""

    devices: tuple[Device, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    layers_offloaded: int | None = None
    layers_total: int | None = None
    context_tokens: int | None = None  # of all slots together
    kv_cells: int | None = None  # tokens that the KV cache has room for
    kv_layers: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attention: str | None = None  # on | off | auto: asked for, and not known what came of it
    batch_tokens: int | None = None
    ubatch_tokens: int | None = None
    graph_splits: int | None = None
    graph_nodes: int | None = None
    threads: int | None = None
    load_seconds: float | None = None
    prompt_cache_bytes: int | None = None  # limit of --cache-ram
    rpc_peers: tuple[str, ...] = ()
    verbosity: int | None = None  # of the log
    context_trained_tokens: int | None = None
    parameters: int | None = None
    model_bytes: int | None = None
    model_type: str | None = None
    active_parameters: int | None = None  # that a token goes through: all of a dense model
    token_bytes: int | None = None  # of weights that a token reads; KV cache not counted
    experts: int | None = None
    experts_used: int | None = None  # by a token
    architecture: str | None = None  # general.architecture of the model: qwen3moe, llama ...
    mmap: bool | None = None  # whether the weights are mapped: --no-mmap, -lm
    layers_asked: str | None = None  # -ngl as it stands: 99, all, auto
    device_asked: str | None = None  # -dev as it stands; none: no GPU
    environment: tuple[str, ...] | None = None  # NAME=value, of those that matter; None: not ours to see
    draft_mismatch: str | None = None  # why the draft model's vocabulary does not fit


class LogFacts(ServerFacts, frozen=True, omit_defaults=True, kw_only=True):
    """What the log told about the server since it started."""

    build: str | None = None
    backend: str | None = None  # vulkan | rocm | cuda | cpu, from device and buffer lines
    device: str | None = None
    slots_total: int | None = None
    slot_context_tokens: int | None = None
    kv_unified: bool | None = None
    kv_cache_bytes: int | None = None  # of the target model, all devices
    kv_sliding: bool | None = None  # a part of it holds a sliding window alone, not the whole context
    spec_type: str | None = None
    draft_model: str | None = None
    model_loaded: bool | None = None
    draft_loaded: bool | None = None
    draft_failed: str | None = None  # the error line that turned speculation off
    hides_memory: bool | None = None  # a build and level that keep buffers and their like to themselves


class LogLine(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line made harmless: no control or escape characters, bounded length."""

    text: str
    level: str = "info"  # info | warning | error | debug
    time: float | None = None  # Unix seconds, to what the log's own clock tells


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
    draft_mean_tokens: float | None = None
    kv_ratio: float | None = None  # its share of what all slots hold together
    elapsed_seconds: float | None = None  # since we saw the task start: ± one poll
    phase_seconds: float | None = None  # since we saw the phase begin: ± one poll
    still_seconds: float | None = None  # at work, and nothing of it has moved for so long


class Server(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One llama-server at one instant."""

    url: str  # its identity: kept over restarts. A router's child is ROUTER?model=NAME
    state: ServerState
    engine: str = "llama.cpp"
    address: str | None = None  # where it is asked, when not at its url
    behind: str | None = None  # the URL of the router or llama-swap that started it
    unit: str | None = None  # of systemd
    container: str | None = None
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
    kv_used_tokens: int | None = None
    kv_capacity_tokens: int | None = None
    kv_used_ratio: float | None = None
    kv_token_bytes: float | None = None  # of KV cache that one token takes, all layers
    facts: ServerFacts | None = None
    provenance: dict[str, str] = {}  # a key of Server or ServerFacts -> log | /props | /slots | ...
    facts_hidden: str | None = None  # why memory facts are missing, when the log could tell them
    models: tuple[ServedModel, ...] = ()
    speculative: bool | None = None
    spec_type: str | None = None
    requests_deferred: int | None = None
    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    last_generation_tokens_per_second: float | None = None  # of the last finished request
    last_prompt_tokens_per_second: float | None = None
    draft_acceptance_ratio: float | None = None  # over the last finished requests
    draft_coverage_ratio: float | None = None
    draft_mean_tokens: float | None = None  # tokens a pass of the model gives, over the same
    draft_gained_tokens: int | None = None  # accepted since its start: passes of the model saved
    draft_accepted_per_position: tuple[float, ...] = ()  # share of drafts accepted at least so far
    draft_gain_ratio: float | None = None  # decode speed ÷ that without speculation, estimated
    draft_gain_error_ratio: float | None = None  # ±
    ttft_seconds: float | None = None  # median of the last finished requests
    decode_ceiling_tokens_per_second: float | None = None  # bandwidth ÷ weights that a token reads
    decode_bandwidth_ratio: float | None = None  # of the memory's peak; now, else of the last request
    prefill_ceiling_tokens_per_second: float | None = None
    prefill_compute_ratio: float | None = None  # of the GPU's peak; now, else of the last request
    load_bytes_per_second: float | None = None  # read from disk, while it loads
    still_seconds: float | None = None  # health ok, work to do, and nothing has moved for so long
    log_path: str | None = None  # or what it is followed by: "journal UNIT", "podman logs NAME"
    slots: tuple[Slot, ...] = ()
    requests: tuple[Request, ...] = ()  # finished since the frame before
    events: tuple[ServerEvent, ...] = ()  # since the frame before
    log: tuple[LogLine, ...] = ()  # written since the frame before


class Source(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How one collector stands: the answer to "why is there no number?"."""

    id: str  # gpu, memory, kernel log, processes, "server URL", "log URL", "/slots URL", "/metrics URL"
    state: SourceState
    since_time: float | None = None  # Unix seconds: in this state since then; None when ok
    name: str | None = None  # which source won: sysfs, amdgpu_top, psutil, /slots
    age_seconds: float | None = None  # since its last success
    duration_seconds: float | None = None  # of its last success
    reason: str | None = None
    hint: str | None = None  # what to do to get it


class Cause(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What may be behind a finding, by evidence: the likeliest comes first."""

    id: str  # deeper-context, more-streams, fewer-drafts, power-limited, heat, cpu-power, memory, swap ...
    text: str  # one sentence with its numbers
    proof: str  # what would prove it
    share: float | None = None  # of the fall that it explains, 0 to 1; None: cannot be reckoned


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
    causes: tuple[Cause, ...] = ()  # the likeliest first; where the rule can rank them


class Frame(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything known about one host at one instant: the only currency."""

    schema_version: int
    time: float  # Unix seconds
    host: str
    gpus: tuple[Gpu, ...]
    memory: Memory | None = None
    account: Account | None = None
    system: System | None = None
    energy: Energy | None = None
    holders: tuple[Holder, ...] = ()  # the largest first
    kernel: tuple[KernelEvent, ...] = ()  # since the frame before
    platform: Platform | None = None
    servers: tuple[Server, ...]
    findings: tuple[Finding, ...]
    silenced: tuple[str, ...] = ()  # ids of rules that fire, and that the user does not want to hear of
    sources: tuple[Source, ...]
