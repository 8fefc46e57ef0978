"""llama-server's command line, as far as the demo and the tests use it: its own help text is the table.

Standard library only, as the server that is started with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = str | int | float | bool

HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-tb,   --threads-batch N                number of threads to use during batch and prompt processing (default:
                                        same as --threads)
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
-b,    --batch-size N                   logical maximum batch size (default: 2048)
                                        (env: LLAMA_ARG_BATCH)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
                                        (env: LLAMA_ARG_UBATCH)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
                                        (env: LLAMA_ARG_FLASH_ATTN)
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1
                                        (default: f16)
                                        (env: LLAMA_ARG_CACHE_TYPE_K)
-ctv,  --cache-type-v TYPE              KV cache data type for V
                                        allowed values: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1
                                        (default: f16)
                                        (env: LLAMA_ARG_CACHE_TYPE_V)
-lm,   --load-mode MODE                 model loading mode (default: auto)
                                        - auto: mmap, unless a device does not support it
                                        - none: no special loading mode
                                        - mmap: memory-map model
                                        - mlock: force system to keep model in RAM
                                        - mmap+mlock: memory-map model and force system to keep it in RAM
                                        - dio: use DirectIO if available
                                        (env: LLAMA_ARG_LOAD_MODE)
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading (none = don't
                                        offload)
                                        (env: LLAMA_ARG_DEVICE)
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM, either an exact number,
                                        'auto', or 'all' (default: auto)
                                        (env: LLAMA_ARG_N_GPU_LAYERS)
-m,    --model FNAME                    model path to load
                                        (env: LLAMA_ARG_MODEL)
--log-file FNAME                        Log to file
                                        (env: LLAMA_ARG_LOG_FILE)
-lv,   --verbosity, --log-verbosity N   Set the verbosity threshold. Messages with a higher verbosity will be
                                        ignored (default: 3)
                                        (env: LLAMA_ARG_LOG_VERBOSITY)

----- speculative params -----

--spec-draft-type-k, -ctkd, --cache-type-k-draft TYPE
                                        KV cache data type for K for the draft model
                                        allowed values: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1
                                        (default: f16)
                                        (env: LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K)
--spec-draft-type-v, -ctvd, --cache-type-v-draft TYPE
                                        KV cache data type for V for the draft model
                                        allowed values: f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1
                                        (default: f16)
                                        (env: LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V)
--spec-draft-threads, -td, --threads-draft N
                                        number of threads to use during generation (default: same as
                                        --threads)
--spec-draft-n-max N                    number of tokens to draft for speculative decoding (default: 3)
                                        (env: LLAMA_ARG_SPEC_DRAFT_N_MAX)
--spec-draft-n-min N                    minimum number of draft tokens to use for speculative decoding
                                        (default: 0)
                                        (env: LLAMA_ARG_SPEC_DRAFT_N_MIN)
--spec-draft-p-min, --draft-p-min P     minimum speculative decoding probability (greedy) (default: 0.00)
                                        (env: LLAMA_ARG_SPEC_DRAFT_P_MIN)
--spec-draft-ngl, -ngld, --gpu-layers-draft, --n-gpu-layers-draft N
                                        max. number of draft model layers to store in VRAM, either an exact
                                        number, 'auto', or 'all' (default: auto)
                                        (env: LLAMA_ARG_N_GPU_LAYERS_DRAFT)
--spec-draft-model, -md, --model-draft FNAME
                                        draft model for speculative decoding (default: unused)
                                        (env: LLAMA_ARG_SPEC_DRAFT_MODEL)
--spec-type none,draft-simple,ngram-simple,ngram-map-k,ngram-map-k4v,ngram-mod,ngram-cache
                                        comma-separated list of types of speculative decoding to use (default:
                                        none)
                                        (env: LLAMA_ARG_SPEC_TYPE)
--spec-ngram-simple-size-n N            ngram size N for ngram-simple speculative decoding, length of lookup
                                        n-gram (default: 12)
--spec-ngram-simple-size-m N            ngram size M for ngram-simple speculative decoding, length of draft
                                        m-gram (default: 48)

----- server-specific params -----

-cram, --cache-ram N                    set the maximum cache size in MiB (default: 8192, -1 - no limit, 0 -
                                        disable)
                                        (env: LLAMA_ARG_CACHE_RAM)
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer shared across all sequences (default:
                                        enabled if number of slots is auto)
                                        (env: LLAMA_ARG_KV_UNIFIED)
-np,   --parallel N                     number of server slots (default: -1, -1 = auto)
                                        (env: LLAMA_ARG_N_PARALLEL)
-a,    --alias STRING                   set model name aliases, comma-separated (to be used by API)
                                        (env: LLAMA_ARG_ALIAS)
--host HOST                             IP address to listen on (default: 127.0.0.1)
                                        (env: LLAMA_ARG_HOST)
--port PORT                             port to listen, 0: any free one, told in the log (default: 8080)
                                        (env: LLAMA_ARG_PORT)
--api-prefix PREFIX                     prefix path the server serves from, without the trailing slash
                                        (env: LLAMA_ARG_API_PREFIX)
--api-key KEY                           API key to use for authentication (default: none)
                                        (env: LLAMA_API_KEY)
--sse-ping-interval N                   server SSE ping interval in seconds, also how long a stop may wait for
                                        a stream (default: 1)
                                        (env: LLAMA_ARG_SSE_PING_INTERVAL)
--threads-http N                        number of threads used to process HTTP requests (default: -1)
                                        (env: LLAMA_ARG_THREADS_HTTP)
--metrics                               enable prometheus compatible metrics endpoint (default: disabled)
                                        (env: LLAMA_ARG_ENDPOINT_METRICS)
--slots, --no-slots                     expose slots monitoring endpoint (default: enabled)
                                        (env: LLAMA_ARG_ENDPOINT_SLOTS)
--jinja, --no-jinja                     whether to use jinja template engine for chat (default: enabled)
                                        (env: LLAMA_ARG_JINJA)
--sleep-idle-seconds SECONDS            number of seconds of idleness after which the server will sleep
                                        (default: -1; -1 = disabled)
                                        (env: LLAMA_ARG_SLEEP_IDLE_SECONDS)
--die-with-parent {pipe,thread}         stop when stdin ends; thread: and be killed when the thread that
                                        started this ends
"""
REMOVED = {  # in v0.5.0, with what it says
    **dict.fromkeys(
        ("--draft", "--draft-n", "--draft-max"), "use --spec-draft-n-max or --spec-ngram-mod-n-max"
    ),
    **dict.fromkeys(("--draft-min", "--draft-n-min"), "use --spec-draft-n-min or --spec-ngram-mod-n-min"),
}
DEFAULTS: dict[str, Value] = {"host": "127.0.0.1", "port": 8080, "parallel": -1, "sse-ping-interval": 1}
LAYERS = {"auto": -1, "all": -2}
ON, OFF = ("on", "enabled", "true", "1"), ("off", "disabled", "false", "0")
TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"
CHOICES = {  # by name
    "load-mode": "auto none mmap mlock mmap+mlock dio",
    "device": "none",  # there is no other here
    "die-with-parent": "pipe thread",
    **dict.fromkeys(("cache-type-k", "cache-type-v", "cache-type-k-draft", "cache-type-v-draft"), TYPES),
}
_HEAD = re.compile(r"((?:--?[a-z][\w-]*,? *)+)(\S+)?")
_ENV = re.compile(r"\(env: (\w+)\)")


class BadArgument(Exception):
    """What llama-server would say of it."""


@dataclass(frozen=True)
class Flag:
    """One entry of the help. ``name`` is its last spelling that turns it on, without dashes."""

    name: str
    spellings: tuple[str, ...]
    takes: str  # the value's name; empty: a switch
    env: str

    def value(self, spelling: str, text: str | None) -> Value:
        """Of this flag, said so. Raises ValueError."""
        if not self.takes:
            return not spelling.startswith(("-no-", "--no-")) and (text is None or text not in OFF)
        if text is None:
            raise ValueError("expected value for argument")
        if self.name == "flash-attn" and text in (*ON, *OFF, "auto"):
            return "on" if text in ON else "off" if text in OFF else text
        if self._knows(text):
            if self.takes in ("N", "SECONDS", "PORT"):
                return LAYERS[text] if "layers" in self.name and text in LAYERS else _whole(text)
            if self.name != "flash-attn":
                return float(text) if self.takes == "P" else text
        raise ValueError(f"invalid value: {text}")

    def _knows(self, text: str) -> bool:
        if self.name == "spec-type":
            return set(text.split(",")) <= set(self.takes.split(","))
        return text in CHOICES[self.name].split() if self.name in CHOICES else True


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("stoi") from None  # its own words


def table() -> Iterator[Flag]:
    """The help's entries."""
    for entry in re.split(r"^(?=-[-a-z])(?!-----)", HELP, flags=re.MULTILINE)[1:]:
        head = re.split(r"(?<![, ]) {2,}|\n", entry)[0]  # up to its description
        if found := _HEAD.fullmatch(head):
            spellings = tuple(found[1].replace(",", " ").split())
            said = [word for word in spellings if not word.startswith(("-no-", "--no-"))]
            env = _ENV.search(entry)
            yield Flag(said[-1].lstrip("-"), spellings, found[2] or "", env[1] if env else "")


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Value]:
    """What is said, by name: the defaults, over them the environment, over it the command line.

    ``help`` and ``version`` end the parsing, as they do there. Raises BadArgument.
    """
    flags = list(table())
    by_spelling = {spelling: flag for flag in flags for spelling in flag.spellings}
    said = dict(DEFAULTS)
    for flag in flags:
        if flag.env in environ:
            _put(said, flag, flag.spellings[0], environ[flag.env])
    words = iter(arguments)
    for word in words:
        name = word.replace("_", "-") if word.startswith("--") else word
        if name in REMOVED:
            reason = f"the argument has been removed. {REMOVED[name]}"
            raise BadArgument(f'error while handling argument "{word}": {reason}')
        if name not in by_spelling:
            raise BadArgument(f"error: invalid argument: {word}")
        flag = by_spelling[name]
        _put(said, flag, name, next(words, None) if flag.takes else None)
        if flag.name in ("usage", "version"):
            break
    return said


def _put(said: dict[str, Value], flag: Flag, spelling: str, text: str | None) -> None:
    try:
        said[flag.name] = flag.value(spelling, text)
    except ValueError as error:
        raise BadArgument(f'error while handling argument "{spelling}": {error}') from None
