"""What a metric is called: the rows of the field table in Prometheus's words and base units.

``halotui_<owner>_<key>``; percent become a ratio, watt-hours joules, a counter ends in ``_total``. A row that
is not exported stands in ``LEFT_OUT`` or is text: text is a label of its owner's ``_info``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from halotui.fields import FIELDS, Field

PREFIX = "halotui_"
OWNERS = ("gpu", "memory", "account", "system", "energy", "server", "facts", "slot")
JOULES = 3600.0  # a watt-hour

# Where the field's own key would not do: a unit inside the name, or what Prometheus reads as a counter.
_CALLED = {
    "energy.seconds": "energy_watched_seconds",
    "energy.watt_hours": "energy_joules",
    "system.load_1m": "system_load1",
    "server.slots_total": "server_slots",
    "facts.layers_total": "server_layers",
}
_FACTORS = {"percent": 0.01, "watt-hours": JOULES}
_COUNTERS = frozenset(
    (
        "energy.seconds",
        "energy.watt_hours",
        "energy.tokens",
        "system.oom_kills",
        "server.draft_gained_tokens",
    )
)
_FACTS = frozenset(  # those that an alert or a chart could want; the rest stays as it is while a server runs
    (
        "context_tokens",
        "layers_offloaded",
        "layers_total",
        "graph_splits",
        "load_seconds",
        "model_bytes",
        "token_bytes",
        "active_parameters",
    )
)
_SLOTS = frozenset(
    ("used_tokens", "used_ratio", "generation_tokens_per_second", "prompt_tokens_per_second", "still_seconds")
)
LEFT_OUT = frozenset(
    (
        "server.pid",  # another one with each start: a new series each
        "server.draft_gain_error_ratio",
        "server.last_generation_tokens_per_second",  # the histograms of all requests say more
        "server.last_prompt_tokens_per_second",
        "account.installed_bytes",
    )
)
_ONLY = {"facts": _FACTS, "slot": _SLOTS}
_AS = {"facts": "server"}  # owner -> how its metrics begin
_MORE = {"percent": " As a ratio: 1 is 100 %.", "watt-hours": " In joules."}


@dataclass(frozen=True)
class Metric:
    """One family. ``name`` is without the endings that its type brings."""

    name: str
    help: str
    type: str = "gauge"  # | counter | info | histogram


@dataclass(frozen=True)
class Row:
    """One number of a struct of ``model``."""

    key: str
    metric: Metric
    factor: float = 1.0


def _row(field: Field) -> Row:
    name = _CALLED.get(field.id) or f"{_AS.get(field.owner, field.owner)}_{field.key}"
    if field.unit == "percent":
        name = name.replace("_percent", "_ratio")
    metric = Metric(
        PREFIX + name,
        " ".join((field.help + _MORE.get(field.unit, "")).split()),
        "counter" if field.id in _COUNTERS else "gauge",
    )
    return Row(field.key, metric, _FACTORS.get(field.unit, 1.0))


def _rows(fields: Iterable[Field]) -> Mapping[str, tuple[Row, ...]]:
    rows: dict[str, list[Row]] = {owner: [] for owner in OWNERS}
    for field in fields:
        only = _ONLY.get(field.owner)
        wanted = field.owner in rows and field.unit not in ("text", "time") and field.id not in LEFT_OUT
        if wanted and (only is None or field.key in only):
            rows[field.owner].append(_row(field))
    return {owner: tuple(its) for owner, its in rows.items()}


ROWS = _rows(FIELDS)  # by owner

# Yes or no: 1 or 0.
FLAGS: Mapping[str, tuple[Row, ...]] = {
    "gpu": (
        Row("asleep", Metric(PREFIX + "gpu_asleep", "Whether the kernel has suspended it.")),
        Row(
            "busy_doubtful",
            Metric(PREFIX + "gpu_busy_doubtful", "Whether it says 100 % busy while nobody on the box works."),
        ),
    ),
    "server": (
        Row("speculative", Metric(PREFIX + "server_speculative", "Whether speculation really came up.")),
        Row(
            "kv_unified",
            Metric(PREFIX + "server_kv_unified", "Whether all slots share one KV pool."),
        ),
    ),
}

# Text, as labels of one series that is always 1: attribute -> label. Joined to others by host and server.
LABELS: Mapping[str, Mapping[str, str]] = {
    "gpu": {"name": "name", "source": "source", "performance_level": "performance_level"},
    "server": {
        "model": "model",
        "draft_model": "draft_model",
        "build": "build",
        "backend": "backend",
        "engine": "engine",
        "spec_type": "speculation",
        "unit": "unit",
        "container": "container",
        "behind": "behind",
    },
    "facts": {
        "model_type": "quantisation",
        "architecture": "architecture",
        "cache_type_k": "cache_type_k",
        "cache_type_v": "cache_type_v",
        "flash_attention": "flash_attention",
    },
    "platform": {
        key: key
        for key in (
            "product",
            "bios",
            "cpu",
            "distribution",
            "kernel",
            "firmware",
            "mes",
            "mesa",
            "rocm",
            "power_mode",
            "governor",
        )
    },
}


def _own(name: str, help: str, type: str = "gauge") -> Metric:
    return Metric(PREFIX + name, help, type)


# What the exporter says of itself and of the way to a box.
BUILD = _own("build", "The exporter: halotui's version.", "info")
UP = _own("up", "1 while the box gives frames; 0 when the last is too old: its other series are gone then.")
AGE = _own("frame_age_seconds", "Time since the last frame of the box, from which all its numbers are.")
INTERVAL = _own("frame_interval_seconds", "Time between two frames, as it was asked for.")
FRAMES = _own("frames", "Frames made since the exporter started. A scrape makes none.", "counter")
LINK = _own("link_state", "The SSH connection to a far box: 1 for the state it is in.")
ROUND_TRIP = _own("link_round_trip_seconds", "Of the last batch of reads over the SSH connection.")
AHEAD = _own("link_clock_ahead_seconds", "How far its wall clock is before ours; put right in its frames.")
# What a frame says besides numbers of the field table.
GPU = _own("gpu", "The GPU; its id is its PCI slot.", "info")
PLATFORM = _own("platform", "Hardware and software of the box.", "info")
SERVER = _own("server", "What serves, and with what. Join by host and server.", "info")
HELD = _own("gpu_held_by", "What keeps a GPU at work below its top clock: 1 for what does. cpu is no fault.")
THROTTLE = _own(
    "gpu_throttle_steps_per_second",
    "Steps of the power firmware's limiter counters, whose unit nobody documents.",
)
STATE = _own("server_state", "1 for the state that the server is in.")
SERVER_UP = _own("server_up", "0: the server refuses connections, or answers as none does.")
PHASES = _own("server_slots_in_phase", "Slots that are idle, read a prompt, or decode.")
MODELS = _own("server_models", "Models that a router, llama-swap, Ollama or their like offers, by state.")
HOLDER = {
    "gtt_bytes": _own("process_gtt_bytes", "GTT of the processes of one name."),
    "vram_bytes": _own("process_vram_bytes", "VRAM of the processes of one name."),
    "rss_bytes": _own("process_rss_bytes", "RAM of the processes of one name; GTT is no part of it."),
}
FINDING = _own("finding", "1 while the rule of that id fires for the subject: a server's URL or a GPU.")
FINDINGS = _own("findings", "Findings that fire, by severity.")
SILENCED = _own("findings_silenced", "Rules that would fire and that the user silenced.")
SOURCE_UP = _own(
    "source_up",
    "1: it answers or has nothing to say, 0: it hangs, fails or is denied. Absent: not there.",
)
SOURCE_AGE = _own("source_age_seconds", "Time since the source's last success.")
SOURCE_TIME = _own("source_duration_seconds", "What the source's last success took.")
# What is counted frame by frame.
KERNEL = _own("kernel_events", "Lines of the kernel's log that are worth attention, by kind.", "counter")
EVENTS = _own("server_events", "Lines of the server's log that are worth attention, by kind.", "counter")
REQUESTS = _own(
    "requests",
    "Requests that ended since the exporter started, by their end; unknown: nobody told how.",
    "counter",
)
TOKENS = {
    "prompt_tokens": _own("request_prompt_tokens", "Prompt tokens computed, by ended requests.", "counter"),
    "cached_tokens": _own(
        "request_cached_tokens", "Prompt tokens that slots still had, likewise.", "counter"
    ),
    "generation_tokens": _own("request_generation_tokens", "Tokens generated, likewise.", "counter"),
    "draft_tokens": _own("request_draft_tokens", "Tokens drafted, likewise.", "counter"),
    "draft_accepted_tokens": _own(
        "request_draft_accepted_tokens", "Drafted tokens accepted, likewise.", "counter"
    ),
}
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
BUCKETS: Mapping[str, tuple[Metric, tuple[float, ...]]] = {
    "ttft_seconds": (
        _own("request_ttft_seconds", "From the start of the slot's work to the first token.", "histogram"),
        _SECONDS,
    ),
    "wall_seconds": (
        _own("request_wall_seconds", "From the start of the slot's work to the end.", "histogram"),
        _SECONDS,
    ),
    "generation_tokens_per_second": (
        _own("request_generation_tokens_per_second", "Decode speed of a request.", "histogram"),
        (2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 200.0),
    ),
    "prompt_tokens_per_second": (
        _own("request_prompt_tokens_per_second", "Prefill speed of a request.", "histogram"),
        (10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 500.0, 750.0, 1000.0, 2000.0, 5000.0),
    ),
}
