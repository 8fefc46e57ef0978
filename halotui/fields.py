"""One row per measured quantity. Labels, units, JSON keys, help and the explain pop-up all come from here.

A row's ``key`` is the attribute of the struct named by ``owner`` in ``model``: there is no second list
of names. ``chart`` says that history keeps the quantity.
"""

from __future__ import annotations

from msgspec import Struct


class Field(Struct, frozen=True):
    owner: str  # gpu | memory | process | throttle | server | slot
    key: str  # attribute of the owner's struct, and JSON key
    label: str  # on screen
    unit: (
        str  # base unit: bytes, hertz, watts, celsius, percent, ratio, seconds, tokens, tokens/s, count, text
    )
    help: str
    source: str  # where the number comes from
    formula: str = ""
    chart: bool = False

    @property
    def id(self) -> str:
        return f"{self.owner}.{self.key}"


_SYSFS = "the GPU source: sysfs, amdgpu_top or amdsmi (which one won stands below)"
_GM = "gpu_metrics by default (a binary table of the power firmware, averaged over about a second)"
_SLOTS = "GET /slots of llama-server"
_METRICS = "GET /metrics of llama-server (needs --metrics)"
_PROPS = "GET /props of llama-server"
_LOG = "the log of llama-server"
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
)

BY_ID: dict[str, Field] = {field.id: field for field in FIELDS}
CHARTED: tuple[Field, ...] = tuple(field for field in FIELDS if field.chart)
