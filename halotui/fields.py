"""One row per measured quantity. Labels, units, JSON keys, help and the explain pop-up all come from here.

A row's ``key`` is the attribute of the struct named by ``owner`` in ``model``: there is no second list
of names. ``chart`` says that history keeps the quantity.
"""

from __future__ import annotations

from msgspec import Struct


class Field(Struct, frozen=True):
    owner: str  # gpu | memory | process | throttle | server | facts | slot | request | model
    key: str  # attribute of the owner's struct, and JSON key
    label: str  # on screen
    unit: (
        str  # base unit: bytes, hertz, watts, celsius, percent, ratio, seconds, tokens, tokens/s, count, text
    )
    help: str
    source: str  # where the number comes from
    formula: str = ""
    chart: bool = False
    fine: bool = False  # of seconds and tokens: fractions count

    @property
    def id(self) -> str:
        return f"{self.owner}.{self.key}"


_SYSFS = "the GPU source: sysfs, amdgpu_top or amdsmi (which one won stands below)"
_GM = "gpu_metrics by default (a binary table of the power firmware, averaged over about a second)"
_SLOTS = "GET /slots of llama-server"
_METRICS = "GET /metrics of llama-server (needs --metrics)"
_PROPS = "GET /props of llama-server"
_LOG = "the log of llama-server"
_LOG4 = "the log of llama-server (builds since May 2026 print it from -lv 4 on)"
_MODELS = "GET /v1/models of llama-server"
_REQUEST = _LOG + ", its timing lines by task; else the task's slot, watched to a poll (said as ±)"
_ARGV = "the command line and environment of the process"
_MEMINFO = "/proc/meminfo, through psutil, as free counts it"
_FDINFO = "/proc/PID/fdinfo of its DRM files, each client once (its own user or root may read it)"
_RESIDENCY = "the residency counters of gpu_metrics v3.0: how far they moved (unit not documented)"

FIELDS: tuple[Field, ...] = (
    # --- gpu
    Field(
        "gpu",
        "gtt_used_bytes",
        "GTT",
        "bytes",
        "Ordinary RAM that the GPU driver has mapped for the GPU. Large models live here.",
        _SYSFS,
        chart=True,
    ),
    Field(
        "gpu",
        "gtt_total_bytes",
        "GTT total",
        "bytes",
        "The limit of GTT: ttm.pages_limit × 4 KiB, capped by newer kernels at the installed RAM.",
        _SYSFS,
    ),
    Field(
        "gpu",
        "vram_used_bytes",
        "VRAM",
        "bytes",
        "The BIOS carve-out in use. Many notes call this pool GART. A small one is always nearly full: "
        "that is no fault, the driver prefers GTT when GTT is larger.",
        _SYSFS,
        chart=True,
    ),
    Field("gpu", "vram_total_bytes", "VRAM total", "bytes", "The carve-out set in the BIOS.", _SYSFS),
    Field(
        "gpu",
        "busy_percent",
        "busy",
        "percent",
        "Share of time in which the graphics engine worked. Two idle ROCm clients can pin it at 100 %: "
        "believe it together with the GPU power.",
        _SYSFS,
        chart=True,
    ),
    Field("gpu", "sclk_hertz", "sclk", "hertz", "Shader clock, average.", _GM, chart=True),
    Field(
        "gpu",
        "sclk_limit_hertz",
        "limit",
        "hertz",
        "The highest shader clock the firmware allows at this moment. Below 2900 MHz under load the chip "
        "is being limited, by power or by heat.",
        _GM,
    ),
    Field("gpu", "mclk_hertz", "mclk", "hertz", "Memory clock. 1000 MHz is LPDDR5X-8000, 256 GB/s.", _GM),
    Field("gpu", "fclk_hertz", "fclk", "hertz", "Clock of the data fabric between CPU, GPU and memory.", _GM),
    Field(
        "gpu",
        "socket_power_watts",
        "socket",
        "watts",
        "Power of the whole package: CPU, GPU, NPU and the rest.",
        _GM + "; else hwmon power1",
        chart=True,
    ),
    Field(
        "gpu",
        "gfx_power_watts",
        "GPU power",
        "watts",
        "The GPU's share of the package power.",
        _GM,
        chart=True,
    ),
    Field(
        "gpu",
        "temperature_celsius",
        "temp",
        "celsius",
        "GPU temperature.",
        _GM + "; else hwmon temp1 (edge)",
        chart=True,
    ),
    Field(
        "gpu",
        "performance_level",
        "dpm",
        "text",
        "power_dpm_force_performance_level. 'high' holds the clocks up even when idle.",
        _SYSFS,
    ),
    # --- memory
    Field(
        "memory",
        "total_bytes",
        "RAM",
        "bytes",
        "Memory the kernel sees: installed less the carve-out.",
        _MEMINFO,
    ),
    Field(
        "memory",
        "used_bytes",
        "used",
        "bytes",
        "Memory in use. GTT is part of it, although no process shows it as its own.",
        _MEMINFO,
        "total - available",
        chart=True,
    ),
    Field(
        "memory",
        "available_bytes",
        "available",
        "bytes",
        "What a new program could take without swapping. The GPU's true headroom is the smaller of this "
        "and the free GTT.",
        _MEMINFO,
        chart=True,
    ),
    Field("memory", "free_bytes", "free", "bytes", "Memory nobody uses, not even as cache.", _MEMINFO),
    Field(
        "memory", "cache_bytes", "buff/cache", "bytes", "Buffers, page cache and reclaimable slab.", _MEMINFO
    ),
    Field("memory", "swap_total_bytes", "swap total", "bytes", "Swap space.", _MEMINFO),
    Field("memory", "swap_used_bytes", "swap", "bytes", "Swap in use.", _MEMINFO, chart=True),
    # --- process: those of a capture, and their descendants
    Field(
        "process",
        "rss_bytes",
        "process RSS",
        "bytes",
        "Memory that the measured processes have mapped and hold. GTT is not part of it. Pages that two of "
        "them share count twice.",
        "/proc/PID/statm, and VmHWM of /proc/PID/status for the peak of each",
        "Σ RSS",
    ),
    Field(
        "process",
        "gtt_bytes",
        "process GTT",
        "bytes",
        "GTT that the measured processes hold.",
        _FDINFO,
        "Σ over clients of drm-resident-gtt, else drm-memory-gtt",
    ),
    Field(
        "process",
        "vram_bytes",
        "process VRAM",
        "bytes",
        "VRAM that the measured processes hold.",
        _FDINFO,
        "Σ over clients of drm-resident-vram, else drm-memory-vram",
    ),
    # --- throttle: what limited a GPU during a capture
    Field("throttle", "spl", "SPL", "count", "Sustained power limit.", _RESIDENCY),
    Field("throttle", "fppt", "fPPT", "count", "Fast package power limit: that of milliseconds.", _RESIDENCY),
    Field("throttle", "sppt", "sPPT", "count", "Slow package power limit: that of minutes.", _RESIDENCY),
    Field("throttle", "prochot", "prochot", "count", "The board called for a halt: too hot.", _RESIDENCY),
    Field("throttle", "thm_core", "core", "count", "Temperature of the CPU cores.", _RESIDENCY),
    Field("throttle", "thm_gfx", "gfx", "count", "Temperature of the graphics engine.", _RESIDENCY),
    Field("throttle", "thm_soc", "soc", "count", "Temperature of the rest of the die.", _RESIDENCY),
    # --- server
    Field("server", "url", "server", "text", "Where the server is asked.", _ARGV + ", or --url"),
    Field("server", "pid", "pid", "count", "The server's process, when it runs on this box.", _ARGV),
    Field(
        "server",
        "state",
        "state",
        "text",
        "down: connection refused. loading: it answers 503. locked: it wants an API key. waiting: no answer "
        "yet, older builds answer only between two prompt batches. sleeping: the model is unloaded.",
        "the answers of llama-server",
    ),
    Field("server", "model", "model", "text", "The model's alias, or its file name.", _PROPS),
    Field("server", "draft_model", "draft model", "text", "The model that drafts for speculation.", _ARGV),
    Field("server", "build", "build", "text", "llama.cpp build and commit.", _PROPS),
    Field(
        "server",
        "backend",
        "backend",
        "text",
        "What computes: Vulkan, ROCm or CPU.",
        _LOG + " (device and buffer lines); else the path of the binary",
    ),
    Field("server", "uptime_seconds", "up", "seconds", "Age of the server's process.", "/proc/PID/stat"),
    Field("server", "slots_total", "slots", "count", "Slots the server really has.", _PROPS),
    Field(
        "server",
        "slots_asked",
        "slots asked",
        "count",
        "Slots asked for with -np. It should equal the slots the server has.",
        _ARGV,
    ),
    Field("server", "slots_busy", "busy slots", "count", "Slots at work.", _SLOTS, chart=True),
    Field(
        "server",
        "requests_deferred",
        "queue",
        "count",
        "Requests that wait for a free slot.",
        _METRICS,
        chart=True,
    ),
    Field(
        "server",
        "generation_tokens_per_second",
        "decode",
        "tokens/s",
        "Tokens generated per second, over all slots, since the poll before.",
        _SLOTS + "; what ended between two polls from the log, else from /metrics",
        "Σ over tasks Δn_decoded ÷ Δt",
        chart=True,
    ),
    Field(
        "server",
        "prompt_tokens_per_second",
        "prefill",
        "tokens/s",
        "Prompt tokens computed per second, over all slots, since the poll before. A prompt that takes less "
        "than a poll counts with its tokens, not with its peak speed: that stands beside it as 'last'.",
        _SLOTS + " (builds from b10068 on; older ones: the log's progress lines)",
        "Σ over tasks Δn_prompt_tokens_processed ÷ Δt",
        chart=True,
    ),
    Field(
        "server",
        "last_generation_tokens_per_second",
        "last request",
        "tokens/s",
        "Decode speed of the request that finished last, as the server measured it.",
        _LOG,
    ),
    Field(
        "server",
        "last_prompt_tokens_per_second",
        "last prompt",
        "tokens/s",
        "Prefill speed of the request that finished last, as the server measured it.",
        _LOG,
    ),
    Field(
        "server",
        "draft_acceptance_ratio",
        "accepted",
        "ratio",
        "Share of the drafted tokens that the model accepted, over the last requests. It can stand at 100 % "
        "while drafting has all but stopped: read it together with the coverage.",
        _LOG + ", by task; else the draft counters of /metrics",
        "Σ accepted ÷ Σ drafted, last 4 finished requests; without a log, at first all there were",
        chart=True,
    ),
    Field(
        "server",
        "draft_coverage_ratio",
        "coverage",
        "ratio",
        "Tokens drafted for each token generated, over the last requests. 0 means that speculation is on "
        "and does nothing.",
        _LOG + ", by task; else the draft counters of /metrics",
        "Σ drafted ÷ Σ generated, last 4 finished requests; without a log, at first all there were",
        chart=True,
    ),
    Field("server", "slot_context_tokens", "context", "tokens", "Context of one slot.", _SLOTS),
    Field(
        "server",
        "kv_cache_bytes",
        "KV cache",
        "bytes",
        "The target model's KV cache on all devices.",
        _LOG + " (newer builds print it from -lv 4 on)",
    ),
    Field("server", "log_path", "log", "text", "The log that is followed.", _ARGV + ", or --log"),
    Field(
        "server",
        "waiting_seconds",
        "waiting",
        "seconds",
        "How long the request in flight has had no answer. Builds before August 2026 answer only between two "
        "prompt batches.",
        "our own clock",
    ),
    Field(
        "server",
        "engine",
        "engine",
        "text",
        "llama.cpp, or what else serves models here, at the depth its own API allows.",
        "the process",
    ),
    Field(
        "server",
        "address",
        "address",
        "text",
        "Where it is asked, when that changes from start to start: the child of a router or of llama-swap.",
        "the process, or GET /models of the router",
    ),
    Field("server", "behind", "behind", "text", "The router or llama-swap that started it.", "its parent"),
    Field("server", "unit", "unit", "text", "The systemd unit it runs in.", "/proc/PID/cgroup"),
    Field("server", "container", "container", "text", "The container it runs in.", "/proc/PID/cgroup"),
    Field(
        "server",
        "kv_used_tokens",
        "KV used",
        "tokens",
        "Tokens that the slots hold, idle ones included: their prefix is kept for the next request.",
        _SLOTS + " (builds from b10068 on)",
        "Σ n_prompt_tokens over slots",
    ),
    Field(
        "server",
        "kv_capacity_tokens",
        "KV capacity",
        "tokens",
        "Tokens that the KV cache has room for: of one pool with unified KV, else of all slots together.",
        _LOG4 + "; else n_ctx",
        "unified: n_ctx; split: n_ctx per slot × slots",
    ),
    Field(
        "server",
        "kv_used_ratio",
        "KV",
        "ratio",
        "How full the KV cache is.",
        _SLOTS,
        "KV used ÷ KV capacity",
        chart=True,
    ),
    Field(
        "server",
        "kv_token_bytes",
        "KV per token",
        "bytes",
        "KV cache that one token takes, over all layers.",
        _LOG4,
        "KV cache ÷ KV capacity = Σ layers (n_embd_k × bytes of the K type + n_embd_v × bytes of the V type)",
    ),
    Field(
        "server",
        "draft_mean_tokens",
        "mean length",
        "tokens",
        "Tokens that one pass of the model gave, over the last requests. 1 is what it gives without "
        "speculation.",
        _LOG + ", by task; else the draft counters of /metrics",
        "generated ÷ (generated - accepted), last 4 finished requests",
        chart=True,
        fine=True,
    ),
    Field(
        "server",
        "draft_gained_tokens",
        "gained",
        "tokens",
        "Tokens that came out of drafts since the server started: so many passes of the model were saved.",
        _METRICS + "; else " + _LOG,
        "Σ accepted",
    ),
    Field(
        "server",
        "draft_accepted_per_position",
        "per position",
        "text",
        "Share of the drafts whose 1st, 2nd, 3rd ... token was accepted. Where it falls off, a longer draft "
        "is wasted work.",
        _METRICS + " (builds from v0.4.0 on)",
        "accepted at position ÷ drafts",
    ),
    Field(
        "server",
        "draft_gain_ratio",
        "net gain",
        "ratio",
        "Decode speed with speculation against an estimate of it without. Below 100 % speculation costs more "
        "than it brings.",
        "the finished requests of one stream at a time",
        "see the speculation section of the server view (6)",
        chart=True,
    ),
    Field("server", "draft_gain_error_ratio", "net gain ±", "ratio", "How far off that may be.", _LOG),
    Field(
        "server",
        "ttft_seconds",
        "TTFT",
        "seconds",
        "Time to the first token, median of the last finished requests: from the start of the slot's work. "
        "What a request waited in the queue comes on top, and is not in any source.",
        _LOG + ": launch to timing lines, less the eval time; without a clock: prompt eval time",
        chart=True,
        fine=True,
    ),
    Field(
        "server",
        "still_seconds",
        "still",
        "seconds",
        "There is work, the server says it is well, and no token, no prompt batch and no line of its log has "
        "come for so long.",
        _SLOTS + ", " + _LOG + " and /health",
    ),
    Field(
        "server",
        "spec_type",
        "speculation",
        "text",
        "The kind of speculation.",
        _SLOTS + ", else " + _ARGV,
    ),
    Field("server", "speculative", "speculating", "text", "Whether speculation really came up.", _SLOTS),
    Field(
        "server",
        "kv_unified",
        "unified KV",
        "text",
        "One KV pool for all slots, or a part for each.",
        _LOG + "; else " + _ARGV,
    ),
    # --- facts: what does not change while a server runs
    Field("facts", "context_tokens", "n_ctx", "tokens", "Context of all slots together.", _LOG4),
    Field("facts", "context_trained_tokens", "trained", "tokens", "What the model was trained for.", _MODELS),
    Field("facts", "layers_offloaded", "layers on GPU", "count", "Layers on the GPU.", _LOG4),
    Field("facts", "layers_total", "layers", "count", "Layers, with the output layer.", _LOG4),
    Field("facts", "kv_cells", "KV cells", "tokens", "Tokens that one KV buffer has room for.", _LOG4),
    Field("facts", "kv_layers", "KV layers", "count", "Layers that have a KV cache.", _LOG4),
    Field("facts", "cache_type_k", "K type", "text", "Type of the K cache.", _LOG4 + "; else " + _ARGV),
    Field("facts", "cache_type_v", "V type", "text", "Type of the V cache.", _LOG4 + "; else " + _ARGV),
    Field(
        "facts",
        "flash_attention",
        "flash attention",
        "text",
        "on or off; auto where only the wish is known.",
        _LOG4 + "; else " + _ARGV,
    ),
    Field("facts", "batch_tokens", "batch", "tokens", "-b: tokens of a logical batch.", _LOG4),
    Field("facts", "ubatch_tokens", "ubatch", "tokens", "-ub: tokens of a physical batch.", _LOG4),
    Field(
        "facts",
        "graph_splits",
        "graph splits",
        "count",
        "Parts the graph is cut into. One or two is right; dozens mean that it jumps between devices.",
        _LOG4,
    ),
    Field("facts", "graph_nodes", "graph nodes", "count", "Operations in the graph.", _LOG4),
    Field("facts", "threads", "threads", "count", "CPU threads that compute.", _LOG + "; else " + _ARGV),
    Field(
        "facts",
        "load_seconds",
        "load time",
        "seconds",
        "From the first line of the load to ready.",
        _LOG,
        fine=True,
    ),
    Field(
        "facts",
        "prompt_cache_bytes",
        "prompt cache",
        "bytes",
        "--cache-ram: RAM that prompts of idle slots may take.",
        _LOG4 + "; else " + _ARGV,
        fine=True,
    ),
    Field("facts", "rpc_peers", "RPC peers", "text", "rpc-servers that hold a part.", _ARGV),
    Field("facts", "verbosity", "log level", "count", "-lv of the server.", _LOG + "; else " + _ARGV),
    Field("facts", "parameters", "parameters", "count", "Of the model.", _MODELS),
    Field("facts", "model_bytes", "model size", "bytes", "The weights.", _MODELS + "; else " + _LOG4),
    Field("facts", "model_type", "quantisation", "text", "The weights' type.", _MODELS),
    # --- slot
    Field("slot", "id", "slot", "count", "The slot's number.", _SLOTS),
    Field("slot", "phase", "phase", "text", "idle, prompt (prefill) or decode.", _SLOTS),
    Field("slot", "task", "task", "count", "The request the slot works on, or worked on last.", _SLOTS),
    Field(
        "slot",
        "prompt_progress_ratio",
        "prompt",
        "ratio",
        "How much of the prompt is done. The total is known from the log alone; without it the count of "
        "computed tokens is shown.",
        _LOG + " (a line per batch once the prompt took 3 s)",
    ),
    Field(
        "slot",
        "prompt_processed_tokens",
        "prompt",
        "tokens",
        "Prompt tokens computed for this task; reused ones not counted.",
        _SLOTS + " (builds from b10068 on)",
    ),
    Field("slot", "generated_tokens", "tokens", "tokens", "Tokens generated by this task.", _SLOTS),
    Field("slot", "used_tokens", "ctx used", "tokens", "Tokens the slot holds: prompt and answer.", _SLOTS),
    Field(
        "slot",
        "used_ratio",
        "ctx",
        "ratio",
        "How full the slot's context is. With unified KV all slots share one pool of this size.",
        _SLOTS,
        "n_prompt_tokens ÷ n_ctx",
    ),
    Field(
        "slot",
        "generation_tokens_per_second",
        "t/s",
        "tokens/s",
        "Tokens this slot generated per second since the poll before.",
        _SLOTS,
        "Δn_decoded ÷ Δt of the same task",
    ),
    Field(
        "slot",
        "draft_acceptance_ratio",
        "draft",
        "ratio",
        "Accepted share of the drafted tokens in this slot's last finished request.",
        _LOG,
        "accepted ÷ drafted",
    ),
    Field(
        "slot",
        "draft_coverage_ratio",
        "cover",
        "ratio",
        "Tokens drafted for each token generated in this slot's last finished request.",
        _LOG,
        "drafted ÷ generated",
    ),
    Field(
        "slot",
        "elapsed_seconds",
        "elapsed",
        "seconds",
        "Time since the task was first seen: late by up to one poll.",
        _SLOTS,
    ),
    Field(
        "slot",
        "prompt_tokens_per_second",
        "prefill",
        "tokens/s",
        "Prompt tokens this slot computed per second in its last batch.",
        _SLOTS + " (builds from b10068 on)",
        "Δn_prompt_tokens_processed ÷ time since the batch before",
    ),
    Field(
        "slot",
        "prompt_cached_tokens",
        "cached",
        "tokens",
        "Prompt tokens reused from the slot's cache: they cost no time.",
        _SLOTS + " (builds from b10068 on)",
    ),
    Field("slot", "remaining_tokens", "left", "tokens", "Tokens the request may still generate.", _SLOTS),
    Field("slot", "context_tokens", "ctx limit", "tokens", "Context of this slot.", _SLOTS),
    Field(
        "slot",
        "phase_seconds",
        "in phase",
        "seconds",
        "Time since the phase was first seen: late by up to one poll.",
        _SLOTS,
    ),
    Field(
        "slot",
        "still_seconds",
        "still",
        "seconds",
        "It is at work and nothing of it has moved for so long.",
        _SLOTS,
    ),
    Field(
        "slot",
        "kv_ratio",
        "KV share",
        "ratio",
        "Its share of the tokens that all slots hold.",
        _SLOTS,
        "tokens of the slot ÷ Σ over slots",
    ),
    Field(
        "slot",
        "draft_mean_tokens",
        "mean length",
        "tokens",
        "Tokens that one pass of the model gave in this slot's last finished request.",
        _LOG,
        fine=True,
    ),
    # --- request
    Field("request", "slot", "slot", "count", "The slot that worked on it.", _REQUEST),
    Field("request", "task", "task", "count", "The server's number for it.", _REQUEST),
    Field("request", "prompt_tokens", "prompt", "tokens", "Prompt tokens computed.", _REQUEST),
    Field(
        "request",
        "cached_tokens",
        "cached",
        "tokens",
        "Prompt tokens that the slot still had: they cost no time.",
        _SLOTS + "; else " + _LOG,
        "tokens in the slot at the end - computed - generated + 1",
    ),
    Field(
        "request", "prompt_tokens_per_second", "prefill", "tokens/s", "Prompt tokens per second.", _REQUEST
    ),
    Field(
        "request",
        "prompt_seconds",
        "prompt time",
        "seconds",
        "Time that the prompt took.",
        _REQUEST,
        fine=True,
    ),
    Field(
        "request",
        "ttft_seconds",
        "TTFT",
        "seconds",
        "From the start of the slot's work to the first token. The wait in the queue comes on top.",
        _REQUEST,
        fine=True,
    ),
    Field(
        "request", "ttft_error_seconds", "TTFT ±", "seconds", "How far off that may be.", _REQUEST, fine=True
    ),
    Field("request", "generation_tokens", "generated", "tokens", "Tokens generated.", _REQUEST),
    Field("request", "generation_tokens_per_second", "decode", "tokens/s", "Tokens per second.", _REQUEST),
    Field(
        "request",
        "generation_seconds",
        "decode time",
        "seconds",
        "Time that the answer took.",
        _REQUEST,
        fine=True,
    ),
    Field("request", "draft_tokens", "drafted", "tokens", "Tokens drafted.", _LOG),
    Field("request", "draft_accepted_tokens", "accepted", "tokens", "Drafted tokens accepted.", _LOG),
    Field(
        "request",
        "draft_acceptance_ratio",
        "draft",
        "ratio",
        "Accepted share.",
        _LOG,
        "accepted ÷ drafted",
        fine=True,
    ),
    Field(
        "request",
        "draft_coverage_ratio",
        "cover",
        "ratio",
        "Tokens drafted for each token generated.",
        _LOG,
        "drafted ÷ generated",
        fine=True,
    ),
    Field(
        "request",
        "draft_mean_tokens",
        "mean length",
        "tokens",
        "Tokens that one pass of the model gave.",
        _LOG,
        fine=True,
    ),
    Field("request", "context_tokens", "depth", "tokens", "Tokens in the slot at the end.", _REQUEST),
    Field(
        "request",
        "end",
        "end",
        "text",
        "done; cancelled: the client went away; truncated: the context was shifted or full; error.",
        _LOG,
    ),
    Field("request", "reason", "reason", "text", "Of an error.", _LOG),
    Field("request", "started_time", "started", "time", "When its slot began.", _REQUEST),
    Field("request", "ended_time", "ended", "time", "When it ended.", _REQUEST),
    Field(
        "request", "wall_seconds", "wall", "seconds", "From the slot's start to the end.", _REQUEST, fine=True
    ),
    Field("request", "source", "source", "text", "log: the server's own figures; slots: watched.", "halotui"),
    # --- model
    Field("model", "id", "model", "text", "Its name.", "the API of what serves it"),
    Field("model", "state", "state", "text", "unloaded, loading, loaded, sleeping, failed.", "the same"),
    Field("model", "address", "address", "text", "Where its own server answers.", "the same"),
    Field("model", "bytes", "memory", "bytes", "All the memory it takes.", "the same"),
    Field("model", "gpu_bytes", "on GPU", "bytes", "Of which on the GPU.", "the same"),
    Field("model", "context_tokens", "context", "tokens", "Its context.", "the same"),
    Field("model", "expires_time", "until", "time", "It is unloaded then.", "the same"),
)

BY_ID: dict[str, Field] = {field.id: field for field in FIELDS}
CHARTED: tuple[Field, ...] = tuple(field for field in FIELDS if field.chart)
