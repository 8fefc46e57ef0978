"""llama-server's log, line by line: finished requests, prompts under way, facts of the start.

Three eras are read: bare lines with timing blocks of several lines (to about b9125), one line per figure
behind ``M.SS.mmm.uuu L`` (from b9181), and the latter as JSON (``--log-jsonl``). Function names differ by
build and are cut to 12 characters, so only what follows them is keyed on. Colours, a router's ``[port]``
and a journal's own prefix do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from halotui.collectors.log_follow import GAP
from halotui.model import End, LogFacts, LogLine, Request
from halotui.safe import clean

MOST_SLOTS = 256  # a real server has a handful; a hostile log names as many as it likes
MOST_CHILDREN = 64


class Progress(msgspec.Struct, frozen=True):
    """A prompt under way: ``tokens`` in the slot so far, ``ratio`` of the whole prompt, 0 to 1."""

    slot: int
    task: int
    tokens: int
    ratio: float


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: its harmless text, the request it ended, the port when a router's child wrote it."""

    line: LogLine
    request: Request | None = None
    child: int | None = None


@dataclass(slots=True)
class _Task:
    """What the log said so far of one task."""

    slot: int
    id: int
    prompt: tuple[int, float | None] | None = None  # tokens, tokens per second
    generation: tuple[int, float | None] | None = None
    draft: tuple[int, int] | None = None  # accepted, drafted
    progress: Progress | None = None


@dataclass(slots=True)
class ServerLog:
    """What the log told of one server since its last start. Bounded, however long the log.

    ``speculative`` stays ``None`` until a line proves either: at default verbosity newer builds only say
    that a draft model loads, and they load it without using it when ``--spec-type`` is missing.
    """

    facts: LogFacts = field(default_factory=LogFacts)
    speculative: bool | None = None
    _tasks: dict[int, _Task] = field(default_factory=dict)  # by slot: it runs one task at a time
    _block: _Task | None = None  # the task that bare timing lines belong to
    _asleep: bool = False
    _contexts: int = 0  # built so far: the first is the target model's
    _drafting: bool = False  # what loads now is the draft model
    _ranks: dict[str, int] = field(default_factory=dict)  # how strong the evidence for a fact is

    @property
    def prompts(self) -> tuple[Progress, ...]:
        """Prompts under way, one per slot at most.

        Newer builds write these only after 3 s of prompt and do not say when it is done, so one may stay
        until the task has generated for 3 s: the phase itself is for /slots to tell.
        """
        return tuple(t.progress for t in self._tasks.values() if t.progress)

    def feed(self, text: str) -> Request | None:
        """Take one harmless line; return the request that it ended. Never raises."""
        if "| task " in text and (said := _SLOT.search(text)) and said[2] != "-1":
            return self._slot_line(int(said[1]), int(said[2]), said[3])
        for needle, pattern, handlers in _SERVER_LINES:
            if needle in text and (found := pattern.search(text)):
                for handler in handlers:
                    handler(self, found)
                break
        return None

    def gap(self) -> None:
        """Lines are missing here: what was half read will not be completed."""
        self._tasks.clear()
        self._block = None

    def _slot_line(self, slot: int, task_id: int, rest: str) -> Request | None:
        task, before = self._tasks.get(slot), None
        if task is None or task.id != task_id:
            before = self._finish(slot)  # no release was seen
            if len(self._tasks) >= MOST_SLOTS:
                del self._tasks[next(iter(self._tasks))]
            task = self._tasks[slot] = _Task(slot, task_id)
        self._block = None if rest else task
        if "stop processing" in rest:
            stop = _STOP.search(rest)
            return self._finish(slot, int(stop[1]), stop[2] == "1") if stop else self._finish(slot)
        for needle, pattern, handler in _TASK_LINES:
            if needle in rest and (found := pattern.search(rest)):
                handler(self, task, found)
                break
        return before

    def _finish(self, slot: int, tokens: int | None = None, truncated: bool | None = None) -> Request | None:
        """Close the slot's task. One without timings (cancelled, an embedding) makes no request."""
        task = self._tasks.pop(slot, None)
        self._block = None
        if task is None or not (task.prompt or task.generation):
            return None
        accepted, drafted = task.draft or ((0, 0) if self.speculative else (None, None))
        prompt, generation = task.prompt or (None, None), task.generation or (None, None)
        return Request(
            source="log",
            slot=slot,
            task=task.id,
            prompt_tokens=prompt[0],
            prompt_tokens_per_second=prompt[1],
            generation_tokens=generation[0],
            generation_tokens_per_second=generation[1],
            draft_tokens=drafted,
            draft_accepted_tokens=accepted,
            context_tokens=tokens,
            end=End.TRUNCATED if truncated else End.DONE,
        )

    # Lines of a task.

    def _timing(self, task: _Task, found: re.Match[str]) -> None:
        tokens, rate = int(found[2]), float(found[3]) if found[3] else None
        if found[1]:
            task.prompt = (tokens, rate if tokens else None)
        else:  # the first token comes with the prompt: alone it took no time
            task.generation = (tokens, rate if tokens > 1 else None)

    def _drafted(self, task: _Task, found: re.Match[str]) -> None:
        task.draft = (int(found[1]), int(found[2]))
        self.speculative = True

    def _progress(self, task: _Task, found: re.Match[str]) -> None:
        task.progress = Progress(task.slot, task.id, int(found[1]), min(float(found[2]), 1.0))

    def _prompt_done(self, task: _Task, _: re.Match[str]) -> None:
        task.progress = None

    def _block_timing(self, found: re.Match[str]) -> None:
        if self._block:
            self._timing(self._block, found)

    def _block_drafted(self, found: re.Match[str]) -> None:
        if self._block:
            self._drafted(self._block, found)

    # Lines of a start.

    def _fresh(self, _: re.Match[str]) -> None:
        """A server's first lines: what one before it said, if it got as far as loading, is over."""
        if self.facts.model_loaded is not None:
            self.gap()
            self._ranks.clear()
            self.facts, self.speculative, self._asleep = LogFacts(), None, False

    def _learn(self, found: re.Match[str]) -> None:
        """Groups are named after the facts they tell."""
        self.facts = replace(self.facts, **{k: _value(v) for k, v in found.groupdict().items() if v})

    def _build(self, found: re.Match[str]) -> None:
        self.facts = replace(self.facts, build=f"b{found[1]}-{found[2]}")  # as /props calls it

    def _loading(self, found: re.Match[str]) -> None:
        if not self._asleep:  # to wake, the same server loads its model again
            self._fresh(found)
        self._asleep = False
        self.facts = replace(self.facts, model_loaded=False, draft_loaded=None, draft_failed=None)
        self._forget_contexts(found)

    def _forget_contexts(self, _: re.Match[str]) -> None:
        self._contexts, self._drafting = 0, False
        self.facts = replace(self.facts, kv_cache_bytes=None)

    def _loaded(self, _: re.Match[str]) -> None:
        draft = True if self._drafting and not self.facts.draft_failed else self.facts.draft_loaded
        self.facts = replace(self.facts, model_loaded=True, draft_loaded=draft)

    def _sleeping(self, _: re.Match[str]) -> None:
        self._asleep = True
        self.facts = replace(self.facts, model_loaded=False)

    def _loading_draft(self, _: re.Match[str]) -> None:
        self._drafting = True
        self.facts = replace(self.facts, draft_loaded=False)

    def _draft_failed(self, found: re.Match[str]) -> None:
        self.speculative = False
        self.facts = replace(self.facts, draft_loaded=False, draft_failed=found[0])

    def _speculation_on(self, _: re.Match[str]) -> None:
        self.speculative = True

    def _speculation_off(self, _: re.Match[str]) -> None:
        self.speculative = False

    # Lines that the draft model repeats.

    def _context(self, _: re.Match[str]) -> None:
        self._contexts += 1

    def _of_target(self) -> bool:
        return not self._drafting and self._contexts <= 1

    def _context_fact(self, found: re.Match[str]) -> None:
        if self._of_target():
            self._learn(found)

    def _kv_buffer(self, found: re.Match[str]) -> None:
        if self._of_target():
            size = (self.facts.kv_cache_bytes or 0) + round(float(found[1]) * 2**20)
            self.facts = replace(self.facts, kv_cache_bytes=size)

    def _weights(self, found: re.Match[str]) -> None:
        if self._of_target() and float(found[2]):
            host = found[1].startswith("CPU") or found[1].endswith("_Host")  # a few always stay there
            self._runs_on(*((4, "cpu") if host else (5, found[1])))

    def _runs_on(self, rank: int, backend: str | None, device: str | None = None) -> None:
        """Weigh evidence: where the weights lie 5 or 4, the device chosen 3, found 2, a library loaded 1.

        "offloaded n/m layers to GPU" counts for nothing: it is printed without a GPU as well.
        """
        known = _BACKENDS.get((backend or "").rstrip("0123456789").lower())
        for key, value in (("backend", known), ("device", device)):
            if value and rank > self._ranks.get(key, 0):
                self._ranks[key] = rank
                self.facts = replace(self.facts, **{key: value})


def _value(text: str) -> int | bool | str:
    return text == "true" if text in ("true", "false") else int(text) if text.isdigit() else text


_Handler = Callable[[ServerLog, re.Match[str]], None]


def _evidence(rank: int) -> _Handler:
    def weigh(server: ServerLog, found: re.Match[str]) -> None:
        said = found.groupdict()
        server._runs_on(rank, said.get("backend"), said.get("device"))

    return weigh


_BACKENDS = {"vulkan": "vulkan", "rocm": "rocm", "hip": "rocm", "cuda": "cuda", "cpu": "cpu"}

_N = r" *(\d{1,15})"
_F = r" *(\d{1,15}(?:\.\d{1,9})?)"
_SLOT = re.compile(r"slot +\S+ +id +(\d{1,6}) \| task (-1|\d{1,15}) \| ?(.*)", re.A)
_STOP = re.compile(rf"n_(?:tokens|past) ={_N}, truncated = (\d)", re.A)
_TIMING = re.compile(rf"(prompt )?eval time = *[\d.]+ ms /{_N} tokens(?: \(.*,{_F} tokens per second)?", re.A)
_DRAFT = re.compile(rf"draft acceptance(?: rate)? = \S+ \({_N} accepted /{_N} generated", re.A)
_SLOTS = r"(?P<slots_total>\d{1,9})"
_CTX = r"(?P<slot_context_tokens>\d{1,9})"
_UNIFIED = r"kv_unified *= '?(?P<kv_unified>true|false)"

# What a line must hold, its pattern, what to do. The cheap test comes first; the first row to match wins.

_TASK_LINES: tuple[tuple[str, re.Pattern[str], Callable[[ServerLog, _Task, re.Match[str]], None]], ...] = (
    ("eval time =", _TIMING, ServerLog._timing),
    ("draft acceptance", _DRAFT, ServerLog._drafted),
    ("progress =", re.compile(rf"n_(?:past|tokens) ={_N},.* progress ={_F}", re.A), ServerLog._progress),
    ("done", re.compile(r"prompt (?:processing )?done"), ServerLog._prompt_done),
    ("n_", re.compile(r"n_(?:gen|decoded) ="), ServerLog._prompt_done),
)


def _row(needle: str, pattern: str, *handlers: _Handler) -> tuple[str, re.Pattern[str], tuple[_Handler, ...]]:
    return needle, re.compile(pattern, re.A), handlers


_SERVER_LINES = (
    _row("eval time = ", rf"^(?!.*_perf_).*?{_TIMING.pattern}", ServerLog._block_timing),
    _row("draft acceptance", _DRAFT.pattern, ServerLog._block_drafted),
    # first lines
    _row(": initializing ...", r": initializing \.\.\.$", ServerLog._fresh),
    _row("build_info: ", r"build_info: (?P<build>b\d\S{0,60})", ServerLog._fresh, ServerLog._learn),
    _row(" with ", r"\bbuild:? (\d{1,9}) \((\w{1,40})\) with ", ServerLog._fresh, ServerLog._build),
    _row("n_parallel = ", rf"n_parallel = .*{_UNIFIED}", ServerLog._fresh, ServerLog._learn),
    _row("load_backend: ", r"loaded (?P<backend>(?!CPU)\w+) backend", ServerLog._fresh, _evidence(1)),
    _row("_init: found ", r"found [1-9]\d* (?P<backend>\w+) devices", ServerLog._fresh, _evidence(2)),
    _row("ggml_vulkan: Found", r"Found [1-9]\d* (?P<backend>Vulkan)", ServerLog._fresh, _evidence(2)),
    _row("ggml_vulkan: ", r"ggml_vulkan: \d+ = (?P<device>.+?) \(\S+\) \|", _evidence(2)),
    _row(" Device ", r"  Device \d+: (?P<device>.+?)(?: \(0x\w+\))?, VMM:", _evidence(2)),
    _row(
        "MiB free)", r"  - (?P<backend>(?!CPU)\w+) *: (?P<device>.+) \(\d+ MiB, \d+ MiB free\)", _evidence(2)
    ),
    # the load
    _row("load_model: loading model", r"", ServerLog._loading),
    _row("fitting params to free memory took", r"", ServerLog._forget_contexts),  # that was a dry run
    _row("using device ", r"device (?P<backend>\w+) \((?P<device>.+?)\)(?: \([^()]*\))? - ", _evidence(3)),
    _row("model buffer size", rf"(\S+) +model buffer size ={_F} MiB", ServerLog._weights),
    _row("constructing llama_context", r"", ServerLog._context),
    _row("llama_context: kv_unified", _UNIFIED, ServerLog._context_fact),
    _row("KV buffer size", rf"KV buffer size ={_F} MiB", ServerLog._kv_buffer),
    _row("loading draft model", r"", ServerLog._loading_draft),
    _row("MTP draft context", r": creating MTP draft context", ServerLog._loading_draft),
    _row(
        "failed to ",
        r"failed to (?:(?:load|create)(?: \w+)? (?:draft|speculator)|initialize speculative).*",
        ServerLog._draft_failed,
    ),
    _row("speculative decoding context", r"context initialized", ServerLog._speculation_on),
    _row("adding speculative impl", r"", ServerLog._speculation_on),
    _row("no implementations specified for spec", r"", ServerLog._speculation_off),
    _row(
        "n_slots = ",
        rf"n_slots = {_SLOTS}(?:, n_ctx_slot = {_CTX}, {_UNIFIED})?",
        ServerLog._loaded,
        ServerLog._learn,
    ),
    _row("new slot, n_ctx", rf"n_ctx(?:_slot)? = {_CTX}", ServerLog._learn),
    _row("model loaded", r": model loaded$", ServerLog._loaded),
    _row("entering sleeping state", r"", ServerLog._sleeping),
)


class LogParser:
    """Reads a log a line at a time. ``server`` is the one that writes it, ``children`` a router's by port."""

    def __init__(self) -> None:
        self.server = ServerLog()
        self.children: dict[int, ServerLog] = {}

    def feed(self, raw: bytes) -> Entry:
        """Take one line as the follower gives it. Never raises."""
        if b"\x1b[" in raw:  # the server's own colours, taken off the quick way
            raw = _COLOUR.sub(b"", raw)
        text, level, child = clean(raw), None, None
        if prefix := _PREFIX.match(text):
            child = int(prefix[1]) if prefix[1] else None
            level = _LEVELS.get(prefix[2])
            if text.startswith('{"', prefix.end()):
                text, level = _json_line(raw) or (text, "info")
        if raw.startswith(GAP):
            level = "warning"
            for log in (self.server, *self.children.values()):
                log.gap()
        request = self._log_of(child).feed(text)
        return Entry(LogLine(text=text, level=level or _guessed_level(text)), request, child)

    def _log_of(self, child: int | None) -> ServerLog:
        if child is None:
            return self.server
        if child not in self.children:
            if len(self.children) >= MOST_CHILDREN:
                del self.children[next(iter(self.children))]
            self.children[child] = ServerLog()
        return self.children[child]


class _JsonLine(msgspec.Struct):
    msg: str
    level: str = "info"


def _json_line(raw: bytes) -> tuple[str, str] | None:
    try:
        said = _JSON.decode(raw[raw.index(b"{") :])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None  # another type of line, or no JSON at all: shown as it is
    return clean(said.msg.strip().replace("\n", " ")), _LEVELS.get(said.level, "info")


def _guessed_level(text: str) -> str:
    low = text.lower()
    for level, words in _WORDS:
        for word in words:
            if word in low:
                return level
    return "info"


_JSON = msgspec.json.Decoder(_JsonLine)
_COLOUR = re.compile(rb"\x1b\[[0-9;]{0,16}m")
_PREFIX = re.compile(r"(?:\[(\d{1,5})\] )?(?:\d+\.\d\d\.\d{3}\.\d{3} )?(?:([IWED]) )?", re.A)
_LEVELS = {"I": "info", "W": "warning", "E": "error", "D": "debug"}
_LEVELS |= {"warn": "warning", "error": "error", "debug": "debug"}
_WORDS = (
    ("error", ("error", "failed", "couldn't", "insufficient memory", "device lost", "ggml_assert")),
    ("warning", ("warn", "not compatible", "cancel task", "context shift", "retrying with")),
)
