"""The settings of a llama-server: one row each, with its spellings from llama.cpp b4748 (2025-02) to b11549
(2026-10). Which of them a binary takes, its ``--help`` says: see ``dialect``.
"""

from __future__ import annotations

from msgspec import Struct

from halotui.actions import Value
from halotui.collectors import llama_process

ON = {"on": True, "true": True, "1": True, "enabled": True, "yes": True}
OFF = {"off": False, "false": False, "0": False, "disabled": False, "no": False}
UNSAID = ("", "none", "default")
KV_TYPES = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0", "f32")
SPEC_TYPES = ("none", "draft-simple", "draft-mtp", "draft-eagle3", "ngram-simple", "ngram-mod")


def text_of(value: Value) -> str:
    """As it stands on a command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


class Form(Struct, frozen=True):
    """One way to say a setting: spellings that mean the same, and those of the environment.

    ``bare`` is what it says without a value; ``texts`` are the only values it can say, where they differ
    from the setting's own.
    """

    flags: tuple[str, ...]
    env: tuple[str, ...] = ()
    bare: Value | None = None
    texts: dict[str, Value] | None = None

    def write(self, value: Value) -> str | None:
        """The value's word; "" where there is none. None: this form cannot say it."""
        if self.bare is not None:
            return "" if value == self.bare and type(value) is type(self.bare) else None
        if self.texts is None:
            return text_of(value)
        return next((text for text, meant in self.texts.items() if meant == value), None)


class Setting(Struct, frozen=True, kw_only=True):
    """``choices`` of a text or a number are proposals beside what else may stand there; of a choice, all."""

    name: str
    label: str
    help: str
    kind: type[str] | type[int] | type[float] | type[bool] = str
    choices: tuple[str, ...] = ()
    closed: bool = False  # nothing but the choices
    forms: tuple[Form, ...]
    silent: tuple[Value, ...] = ()  # what a build does that has no flag for it

    @property
    def spellings(self) -> tuple[str, ...]:
        return tuple(flag for form in self.forms for flag in form.flags)

    @property
    def env(self) -> tuple[str, ...]:
        return tuple(name for form in self.forms for name in form.env)

    def read(self, text: str) -> Value | None:
        """None: it cannot mean that."""
        if self.kind is bool or self.closed:
            meant = {**ON, **OFF}.get(text.lower())
            if self.kind is bool:
                return meant
            text = text.lower() if meant is None else "on" if meant else "off"
            return text if text in self.choices else None
        try:
            return self.kind(text)
        except ValueError:
            return text if text in self.choices else None


def _as(field: str) -> tuple[Form, ...]:
    """The spellings by which the collector knows a running server's setting."""
    return tuple(
        Form(flag.flags, flag.env, flag.parse(flag.bare) if flag.bare is not None else None)
        for flag in llama_process.FLAGS
        if flag.field == field
    )


def _flags(spellings: str, *env: str) -> tuple[Form, ...]:
    return (Form(tuple(spellings.split()), env),)


def _switch(on: str, off: str, *env: str) -> tuple[Form, ...]:
    """With a flag for either; ``off`` may have none."""
    forms = (Form(tuple(on.split()), env, True), Form(tuple(off.split()), (), False))
    return tuple(form for form in forms if form.flags)


def _setting(name: str, label: str, help: str, forms: tuple[Form, ...], **more: object) -> Setting:
    return Setting(name=name, label=label, help=help, forms=forms, **more)  # type: ignore[arg-type]


_LOAD_MODE = ("-lm", "--load-mode")
SETTINGS = (
    _setting("model", "model", "path of the weights", _as("model_path")),
    _setting("alias", "alias", "name that clients see", _as("alias")),
    _setting("host", "host", "address to listen on", _as("host")),
    _setting("port", "port", "TCP port", _as("port"), kind=int),
    _setting("api-prefix", "API prefix", "path in front of every route", _as("api_prefix")),
    _setting(
        "np", "slots", "requests at a time; -1: auto", _as("slots_asked"), kind=int, choices=("1", "2", "4")
    ),
    _setting(
        "c", "context", "tokens, for all slots together; 0: the model's own", _as("context_tokens"), kind=int
    ),
    _setting(
        "kvu", "unified KV", "slots share the whole context", _as("kv_unified"), kind=bool, silent=(False,)
    ),
    _setting("b", "batch", "tokens a logical batch", _flags("-b --batch-size", "LLAMA_ARG_BATCH"), kind=int),
    _setting(
        "ub",
        "micro-batch",
        "tokens a physical batch",
        _flags("-ub --ubatch-size", "LLAMA_ARG_UBATCH"),
        kind=int,
    ),
    _setting(
        "ngl",
        "GPU layers",
        "layers on the GPU; 99: all",
        _flags("-ngl --gpu-layers --n-gpu-layers", "LLAMA_ARG_N_GPU_LAYERS"),
        kind=int,
        choices=("99", "auto", "all"),
    ),
    _setting("device", "device", "devices to use; none: the CPU", _as("device"), choices=("none",)),
    _setting(
        "fa",
        "flash attn",
        "on, off or auto",
        (
            Form(("-fa", "--flash-attn"), ("LLAMA_ARG_FLASH_ATTN",)),
            Form(("-fa", "--flash-attn"), (), "on"),  # up to autumn 2025
        ),
        choices=("on", "off", "auto"),
        closed=True,
        silent=("off", "auto"),
    ),
    _setting("ctk", "K cache", "type of the K cache", _as("cache_type_k"), choices=KV_TYPES),
    _setting("ctv", "V cache", "type of the V cache", _as("cache_type_v"), choices=KV_TYPES),
    _setting(
        "mmap",
        "mmap",
        "map the weights into memory; slow to load on ROCm",
        (
            *_switch("--mmap", "--no-mmap", "LLAMA_ARG_MMAP"),
            Form((), ("LLAMA_ARG_NO_MMAP",), False),
            Form(_LOAD_MODE, ("LLAMA_ARG_LOAD_MODE",), None, {"none": False, "mmap": True}),
        ),
        kind=bool,
        silent=(True,),
    ),
    _setting(
        "mlock",
        "mlock",
        "keep the weights from being swapped out",
        _switch("--mlock", "", "LLAMA_ARG_MLOCK"),
        kind=bool,
        silent=(False,),
    ),
    _setting(
        "dio",
        "direct I/O",
        "read the weights past the page cache",
        (
            *_switch("-dio --direct-io", "-ndio --no-direct-io", "LLAMA_ARG_DIO"),
            Form((), ("LLAMA_ARG_NO_DIO",), False),
            Form(_LOAD_MODE, ("LLAMA_ARG_LOAD_MODE",), None, {"dio": True}),
        ),
        kind=bool,
        silent=(False,),
    ),
    _setting(
        "lm",
        "load mode",
        "how the weights are read, all in one",
        (Form(_LOAD_MODE, ("LLAMA_ARG_LOAD_MODE",)),),
        choices=("auto", "none", "mmap", "mlock", "mmap+mlock", "dio"),
        closed=True,
        silent=("auto",),
    ),
    _setting(
        "spec",
        "speculation",
        "kind of draft; several with commas",
        _as("spec_type"),
        choices=SPEC_TYPES,
        silent=("none",),
    ),
    _setting("draft", "draft model", "path of its weights", _as("draft_model")),
    _setting(
        "draft-hf",
        "draft repository",
        "a draft model by name",
        _flags(
            "-hfd -hfrd --hf-repo-draft --spec-draft-hf", "LLAMA_ARG_HFD_REPO", "LLAMA_ARG_SPEC_DRAFT_HF_REPO"
        ),
    ),
    _setting(
        "draft-max",
        "draft max",
        "tokens a draft",
        _flags(
            "--spec-draft-n-max --draft-max --draft --draft-n",
            "LLAMA_ARG_SPEC_DRAFT_N_MAX",
            "LLAMA_ARG_DRAFT_MAX",
        ),
        kind=int,
    ),
    _setting(
        "draft-min",
        "draft min",
        "tokens; a shorter draft is not used",
        _flags(
            "--spec-draft-n-min --draft-min --draft-n-min",
            "LLAMA_ARG_SPEC_DRAFT_N_MIN",
            "LLAMA_ARG_DRAFT_MIN",
        ),
        kind=int,
    ),
    _setting(
        "draft-p-min",
        "draft p-min",
        "least probability of a drafted token, 0 to 1",
        _flags("--draft-p-min --spec-draft-p-min", "LLAMA_ARG_SPEC_DRAFT_P_MIN", "LLAMA_ARG_DRAFT_P_MIN"),
        kind=float,
    ),
    _setting(
        "ngld",
        "draft layers",
        "layers of the draft model on the GPU",
        _flags(
            "-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl", "LLAMA_ARG_N_GPU_LAYERS_DRAFT"
        ),
        kind=int,
        choices=("99", "auto", "all"),
    ),
    _setting(
        "devd",
        "draft device",
        "devices for the draft model",
        _flags("-devd --device-draft --spec-draft-device"),
        choices=("none",),
    ),
    _setting(
        "ctkd",
        "draft K cache",
        "type of the draft's K cache",
        _flags(
            "-ctkd --cache-type-k-draft --spec-draft-type-k",
            "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K",
            "LLAMA_ARG_CACHE_TYPE_K_DRAFT",
        ),
        choices=KV_TYPES,
    ),
    _setting(
        "ctvd",
        "draft V cache",
        "type of the draft's V cache",
        _flags(
            "-ctvd --cache-type-v-draft --spec-draft-type-v",
            "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V",
            "LLAMA_ARG_CACHE_TYPE_V_DRAFT",
        ),
        choices=KV_TYPES,
    ),
    _setting("cd", "draft context", "tokens; older builds only", _flags("-cd --ctx-size-draft"), kind=int),
    _setting(
        "cram",
        "cache RAM",
        "MiB of prompts kept in RAM; 0: none, -1: no limit",
        _flags("-cram --cache-ram", "LLAMA_ARG_CACHE_RAM"),
        kind=int,
    ),
    _setting("t", "threads", "CPU threads", _flags("-t --threads", "LLAMA_ARG_THREADS"), kind=int),
    _setting(
        "td",
        "draft threads",
        "CPU threads of the draft",
        _flags("-td --threads-draft --spec-draft-threads"),
        kind=int,
    ),
    _setting(
        "lv",
        "verbosity",
        "3: usual, 4: buffers and graph too",
        _flags("-lv --verbosity --log-verbosity", "LLAMA_ARG_LOG_VERBOSITY", "LLAMA_LOG_VERBOSITY"),
        kind=int,
    ),
    _setting("log-file", "log file", "path; emptied at the start", _as("log_path")),
    _setting("metrics", "metrics", "serve GET /metrics", _as("metrics"), kind=bool, silent=(False,)),
    _setting(
        "slots",
        "slots shown",
        "serve GET /slots",
        (
            *_switch("--slots", "--no-slots", "LLAMA_ARG_ENDPOINT_SLOTS"),
            Form((), ("LLAMA_ARG_NO_ENDPOINT_SLOTS",), False),
        ),
        kind=bool,
        silent=(True,),
    ),
    _setting(
        "sleep",
        "sleep",
        "idle seconds until the model is unloaded; -1: never",
        _as("sleep_idle_seconds"),
        kind=int,
    ),
    _setting(
        "jinja",
        "jinja",
        "the model's own chat template",
        _switch("--jinja", "--no-jinja", "LLAMA_ARG_JINJA"),
        kind=bool,
        silent=(False,),
    ),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
# What a user changes to see what it does, in the order of the form.
FORM = (
    *("np", "c", "kvu", "ctk", "ctv", "fa", "b", "ub", "ngl", "mmap"),
    *("spec", "draft", "draft-max", "draft-min", "draft-p-min", "ngld", "cram", "lv"),
)
