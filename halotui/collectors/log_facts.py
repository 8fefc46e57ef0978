"""Facts of a llama-server's start, as its log tells them: once a load, and again when it wakes.

The draft model repeats the lines of the target, and a dry run ("fitting params") may say them before: they
are told apart by their order. Sizes are MiB with two decimals, as printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from halotui.collectors.llama_process import maps
from halotui.collectors.log_drafts import Speculation
from halotui.collectors.log_line import Line
from halotui.collectors.log_memory import MIB, Row, added, breakdown, found_also, on_host
from halotui.collectors.log_time import seconds_between
from halotui.model import Buffer, Device, LogFacts
from halotui.safe import clean

MOST_BREAKDOWNS = 4  # of memory, of one load
REFUSED = "the server says that the vocabularies are not compatible"
TRANSLATED = "the server says that the vocabularies are not compatible, and translates each draft by its text"


class Facts:
    """``told`` is what is known of the last start. ``begun`` is called where a server's first lines come."""

    def __init__(self, speculation: Speculation, begun: Callable[[Line], None]) -> None:
        self.told = LogFacts()
        self._speculation = speculation
        self._begun = begun
        self._asleep = False
        self._contexts = 0  # built so far: the first is the target model's
        self._drafting = False  # what loads now is the draft model
        self._loading: Line | None = None
        self._gpu = "ROCm"  # or CUDA: what "Device N" lines are about
        self._breakdowns: list[list[Row]] = []
        self._ranks: dict[str, int] = {}  # how strong the evidence for a fact is

    def forget(self) -> None:
        """A new server writes: what one before it said is over."""
        self._ranks.clear()
        self._breakdowns.clear()
        self._asleep, self._loading = False, None
        self._contexts, self._drafting = 0, False
        self.told = LogFacts()
        self._speculation.forget()

    def gap(self) -> None:
        """Lines are missing: how long a load took cannot be told."""
        self._loading = None

    def feed(self, line: Line) -> None:
        """Take a line. Never raises."""
        if line.json:
            self._breakdown(line.json)
        for needle, pattern, handlers in _ROWS:
            if needle in line.text and (found := pattern.search(line.text)):
                for handler in handlers:
                    handler(self, found, line)
                break

    def _know(self, **facts: Any) -> None:
        self.told = replace(self.told, **facts)

    # First lines.

    def _begin(self, _: re.Match[bytes], line: Line) -> None:
        self._begun(line)

    def _fresh(self, _: re.Match[bytes], line: Line) -> None:
        if self.told.model_loaded is not None:  # one before it got as far as loading
            self._begun(line)

    def _learn(self, found: re.Match[bytes], line: Line) -> None:
        """Groups are named after the facts they tell."""
        self._know(**{name: _value(said) for name, said in found.groupdict().items() if said})

    def _learn_once(self, found: re.Match[bytes], line: Line) -> None:
        """Only what is not known: the draft model says it again."""
        said = {name: _value(said) for name, said in found.groupdict().items() if said}
        self._know(**{name: value for name, value in said.items() if getattr(self.told, name) is None})

    def _build(self, found: re.Match[bytes], line: Line) -> None:
        self._know(build=f"b{_text(found[1])}-{_text(found[2])}")  # as /props calls it

    # The load.

    def _load(self, found: re.Match[bytes], line: Line) -> None:
        if not self._asleep:  # to wake, the same server loads its model again
            self._fresh(found, line)
        self._asleep = False
        self._loading = line
        self._breakdowns.clear()
        self._speculation_types(())
        self._know(model_loaded=False, draft_loaded=None, draft_failed=None, draft_mismatch=None)
        self._forget_contexts(found, line)

    def _forget_contexts(self, _: re.Match[bytes], line: Line) -> None:
        self._contexts, self._drafting = 0, False
        self._know(kv_cache_bytes=None, buffers=(), kv_cells=None, kv_layers=None, kv_sliding=None)

    def _loaded(self, found: re.Match[bytes], line: Line) -> None:
        draft = True if self._drafting and not self.told.draft_failed else self.told.draft_loaded
        self._know(model_loaded=True, draft_loaded=draft)
        self._use_breakdowns()
        buffers = self.told.buffers
        if buffers:
            self._know(hides_memory=False)
        elif self._loading is not None and (line.clock is not None or self.told.verbosity is not None):
            self._know(hides_memory=True)  # all of the load was read, and this build can keep it to itself
        weights = [b.device for b in buffers if b.kind == "model" and not b.draft]
        if weights and all(on_host(device) for device in weights) and self.told.layers_total is not None:
            self._know(layers_offloaded=0)  # the log says "to GPU" without one, too

    def _ready(self, found: re.Match[bytes], line: Line) -> None:
        self._loaded(found, line)
        self._know(load_seconds=seconds_between(self._loading, line))
        self._loading = None

    def _sleep(self, _: re.Match[bytes], line: Line) -> None:
        self._asleep = True
        self._know(model_loaded=False)

    def _load_draft(self, found: re.Match[bytes], line: Line) -> None:
        self._drafting = True
        self._know(draft_loaded=False)
        if found.groups() and found[1]:
            self._know(draft_model=clean(found[1]))

    def _draft_failed(self, found: re.Match[bytes], line: Line) -> None:
        self._speculation.on = False
        self._know(draft_loaded=False, draft_failed=clean(found[0]))

    def _other_vocabulary(self, found: re.Match[bytes], line: Line) -> None:
        self._know(draft_mismatch=TRANSLATED if b"translated" in found[0] else REFUSED)

    def _speculates(self, _: re.Match[bytes], line: Line) -> None:
        self._speculation.on = True

    def _speculates_so(self, found: re.Match[bytes], line: Line) -> None:
        self._speculation.on = True
        types = (self.told.spec_type or "").split(",") if self.told.spec_type else []
        self._speculation_types((*types, _text(found[1])))

    def _speculation_types(self, types: tuple[str, ...]) -> None:
        self._know(spec_type=",".join(list(dict.fromkeys(types))[:16]) or None)

    def _speculates_not(self, _: re.Match[bytes], line: Line) -> None:
        self._speculation.on = False

    def _prompt_cache(self, found: re.Match[bytes], line: Line) -> None:
        if found[1] or found[2]:
            self._know(prompt_cache_bytes=int(found[1]) * MIB if found[1] else 0)

    # Lines that the draft model repeats.

    def _of_target(self) -> bool:
        return not self._drafting and self._contexts <= 1

    def _context(self, _: re.Match[bytes], line: Line) -> None:
        self._contexts += 1

    def _of_context(self, found: re.Match[bytes], line: Line) -> None:
        if self._of_target():
            self._learn(found, line)

    def _load_mode(self, found: re.Match[bytes], line: Line) -> None:
        if self._of_target():
            self._know(mmap=maps(_text(found[2])) if found[2] else found[1] == b"true")

    def _asked_attention(self, found: re.Match[bytes], line: Line) -> None:
        if self._of_target():
            self._know(flash_attention=_ATTENTION.get(found[1]))

    def _attention(self, found: re.Match[bytes], line: Line) -> None:
        if self._of_target():
            self._know(flash_attention=_ATTENTION[found[1]])

    def _offloaded(self, found: re.Match[bytes], line: Line) -> None:
        if self._of_target():
            self._know(layers_offloaded=int(found[1]), layers_total=int(found[2]))

    def _cache(self, found: re.Match[bytes], line: Line) -> None:
        """A model with sliding windows has two: the larger has room for the whole context."""
        if not self._of_target():
            return
        if found[1]:
            cells, before = int(found[1]), self.told.kv_cells
            if before is not None and cells != before:
                self._know(kv_sliding=True)
            self._know(kv_cells=max(before or 0, cells), kv_layers=(self.told.kv_layers or 0) + int(found[2]))
        self._know(cache_type_k=_text(found[3]), cache_type_v=_text(found[4]))

    def _buffer(self, found: re.Match[bytes], line: Line) -> None:
        """Weights and caches add up; compute and output are reserved anew, so their last word counts."""
        device, kind = clean(found[1], 60), _KINDS[found[2]]
        draft = not self._of_target()
        if draft and self.told.model_loaded and self._loading is None:
            return  # reserved at work: of the target or of the draft, it does not say
        size = round(float(found[3]) * MIB)
        self._add(Buffer(device=device, kind=kind, bytes=size, draft=draft), sums=kind in _SUMMED)
        if not draft and kind == "model" and size:
            self._runs_on(*((4, "cpu") if on_host(device) else (5, device)))

    def _add(self, new: Buffer, sums: bool) -> None:
        buffers = added(self.told.buffers, new, sums)
        caches = [b.bytes for b in buffers if b.kind == "kv" and not b.draft]
        self._know(buffers=buffers, kv_cache_bytes=sum(caches) if caches else None)

    # Memory as --log-jsonl tells it at any verbosity, in whole MiB.

    def _breakdown(self, said: bytes) -> None:
        rows = breakdown(said)
        if rows is not None and self._loading is not None:
            self._breakdowns = [*self._breakdowns, rows][-MOST_BREAKDOWNS:]

    def _use_breakdowns(self) -> None:
        """The last of the target; with a draft model the first of two is the target's. Else nobody knows."""
        if self.told.buffers or not self._breakdowns:
            return
        target, draft = self._breakdowns[-1:], self._breakdowns[:0]
        if self._drafting:
            if len(self._breakdowns) > 2:
                return
            target, draft = self._breakdowns[:1], self._breakdowns[1:]
        for rows, of_draft in ((target, False), (draft, True)):
            for row in rows[0] if rows else []:
                for buffer in row.buffers(of_draft):
                    self._add(buffer, sums=True)
                if device := row.device():
                    self._know(devices=found_also(self.told.devices, device))
                if row.model > 0 and not of_draft:
                    self._runs_on(*((5, clean(row.name)) if row.kind == "device" else (4, "cpu")))

    # What it computes on.

    def _devices(self, found: re.Match[bytes], line: Line) -> None:
        """``found N ROCm devices``."""
        self._gpu = _text(found["backend"])

    def _device(self, found: re.Match[bytes], line: Line) -> None:
        said = found.groupdict()
        number, total, free = said.get("number"), said.get("total"), said.get("free")
        kind = "Vulkan" if b"ggml_vulkan" in line.text else self._gpu
        device = Device(
            id=_text(said["backend"]) if said.get("backend") else f"{kind}{_text(number or b'')}",
            name=clean(said["device"], 120),
            total_bytes=int(total) * MIB if total else None,
            free_bytes=int(free) * MIB if free else None,
        )
        self._know(devices=found_also(self.told.devices, device))

    def _runs_on(self, rank: int, backend: str | None, device: str | None = None) -> None:
        """Weigh evidence: where the weights lie 5 or 4, the device chosen 3, found 2, a library loaded 1."""
        known = _BACKENDS.get((backend or "").rstrip("0123456789").lower())
        for key, value in (("backend", known), ("device", device)):
            if value and rank > self._ranks.get(key, 0):
                self._ranks[key] = rank
                self._know(**{key: value})


def _value(said: bytes) -> int | bool | str:
    if said in (b"true", b"false"):
        return said == b"true"
    return int(said) if said.isdigit() and said.isascii() else clean(said)


def _text(said: bytes) -> str:
    return clean(said, 80)


_Handler = Callable[[Facts, re.Match[bytes], Line], None]


def _evidence(rank: int) -> _Handler:
    def weigh(facts: Facts, found: re.Match[bytes], line: Line) -> None:
        said = found.groupdict()
        backend, device = said.get("backend"), said.get("device")
        if backend != b"CPU":
            facts._runs_on(rank, _text(backend) if backend else None, clean(device, 120) if device else None)

    return weigh


_BACKENDS = {"vulkan": "vulkan", "rocm": "rocm", "hip": "rocm", "cuda": "cuda", "cpu": "cpu"}
_KINDS = {b"model": "model", b"KV": "kv", b"RS": "recurrent", b"compute": "compute", b"output": "output"}
_SUMMED = ("model", "kv", "recurrent")
_ATTENTION = {b"enabled": "on", b"disabled": "off", b"auto": "auto", b"1": "on", b"0": "off"}

_N = rb" *(\d{1,12})"
_FREE = rb"(?P<free>\d{1,9}) MiB free"
_SLOTS = rb"(?P<slots_total>\d{1,9})"
_CTX = rb"(?P<slot_context_tokens>\d{1,9})"
_UNIFIED = rb"kv_unified *= '?(?P<kv_unified>true|false)"
_CONTEXT = rb"(?:llama_context|llama_init_from_model): "


def _row(
    needle: bytes, pattern: bytes, *handlers: _Handler
) -> tuple[bytes, re.Pattern[bytes], tuple[_Handler, ...]]:
    return needle, re.compile(pattern), handlers


_F = Facts
# What a line must hold, its pattern, what to do. The cheap test comes first; the first row to match wins.
_ROWS = (
    # first lines
    _row(b": initializing ...", rb": initializing \.\.\.\s*$", _F._begin),
    _row(b"build_info: ", rb"build_info: (?P<build>b\d\S{0,60})", _F._fresh, _F._learn),
    _row(b") with ", rb"\bbuild:? (\d{1,9}) \((\w{1,40})\) with ", _F._fresh, _F._build),
    _row(b"n_parallel = ", rb"n_parallel = .*" + _UNIFIED, _F._fresh, _F._learn),
    _row(b"verbosity = ", rb"verbosity = (?P<verbosity>\d)\b", _F._learn),
    _row(b"load_backend: ", rb"loaded (?P<backend>(?!CPU)\w+) backend", _F._fresh, _evidence(1)),
    _row(b"_init: found ", rb"found [1-9]\d* (?P<backend>\w+) devices", _F._fresh, _F._devices, _evidence(2)),
    _row(b"ggml_vulkan: Found ", rb"Found [1-9]\d* (?P<backend>Vulkan)", _F._fresh, _evidence(2)),
    _row(
        b"ggml_vulkan: ",
        rb"ggml_vulkan: (?P<number>\d{1,2}) = (?P<device>.+?) \(\S+\) \|",
        _F._device,
        _evidence(2),
    ),
    _row(
        b", VMM: ",
        rb"  Device (?P<number>\d{1,2}): (?P<device>.+?)(?: \(0x\w+\))?, VMM:"
        rb"(?:.*VRAM: (?P<total>\d{1,9}) MiB)?",
        _F._device,
        _evidence(2),
    ),
    _row(
        b" MiB free)",
        rb"  - (?P<backend>\w+) *: (?P<device>.+) \((?P<total>\d{1,9}) MiB, " + _FREE + rb"\)",
        _F._device,
        _evidence(2),
    ),
    _row(b"n_threads = ", rb"n_threads = (?P<threads>\d{1,4})\b", _F._learn_once),
    # the load
    _row(b"load_model: loading model", rb"", _F._load),
    _row(b"fitting params to free memory took", rb"", _F._forget_contexts),  # that was a dry run
    _row(
        b"using device ",
        rb"device (?P<backend>\w+) \((?P<device>.+?)\)(?: \([^()]*\))? - (?:" + _FREE + rb")?",
        _F._device,
        _evidence(3),
    ),
    _row(
        b"print_info: arch ",
        rb"^(?:llm_load_)?print_info: arch += (?P<architecture>[\w.-]{1,40})\s*$",
        _F._of_context,
    ),
    _row(
        b"loading model tensors",
        rb"\((?:mmap = (true|false)(?:, direct_io = false)?|load_mode = ([\w+]{1,12}))\)",
        _F._load_mode,
    ),
    _row(b"layers to GPU", rb"offloaded" + _N + rb"/" + _N + rb" layers to GPU", _F._offloaded),
    _row(
        b" buffer size = ",
        rb"^(?!clip|alloc_compute_meta).*?(\S{1,60}) +(model|KV|RS|compute|output) buffer size = *"
        rb"(\d{1,9}(?:\.\d{1,4})?) MiB",
        _F._buffer,
    ),
    _row(b"constructing llama_context", rb"", _F._context),
    _row(b": n_ctx  ", _CONTEXT + rb"n_ctx +=" + _N.replace(b"(", b"(?P<context_tokens>"), _F._of_context),
    _row(b": n_batch ", _CONTEXT + rb"n_batch +=" + _N.replace(b"(", b"(?P<batch_tokens>"), _F._of_context),
    _row(
        b": n_ubatch ", _CONTEXT + rb"n_ubatch +=" + _N.replace(b"(", b"(?P<ubatch_tokens>"), _F._of_context
    ),
    _row(b": flash_attn ", _CONTEXT + rb"flash_attn += *(auto|enabled|disabled|0|1)\b", _F._asked_attention),
    _row(b": kv_unified ", _CONTEXT + _UNIFIED, _F._of_context),
    _row(
        b", V (",
        rb"size = +[\d.]{1,15} MiB(?: \( *(\d{1,12}) cells, +(\d{1,6}) layers.*\))?, K \((\w{1,20})\).*,"
        rb" V \((\w{1,20})\)",
        _F._cache,
    ),
    _row(b"Flash Attention ", rb"Flash Attention (?:was auto, set to )?(enabled|disabled)", _F._attention),
    _row(
        b"graph: nodes = ",
        rb"nodes = *(?P<graph_nodes>\d{1,9}), splits = *(?P<graph_splits>\d{1,9})",
        _F._of_context,
    ),
    _row(b"graph nodes ", rb"graph nodes +=" + _N.replace(b"(", b"(?P<graph_nodes>"), _F._of_context),
    _row(b"graph splits = ", rb"graph splits =" + _N.replace(b"(", b"(?P<graph_splits>"), _F._of_context),
    _row(b"draft vocabs are not", rb"vocabs are not compatible.*", _F._other_vocabulary),
    _row(b"is not compatible with", rb"target model '.*tokens will be translated", _F._other_vocabulary),
    _row(b"loading draft model", rb"loading draft model(?: '(.*)')?", _F._load_draft),
    _row(b"MTP draft context", rb": creating MTP draft context", _F._load_draft),
    _row(
        b"failed to ",
        rb"failed to (?:(?:load|create)(?: \w+)? (?:draft|speculator)|create MTP|initialize speculative).*",
        _F._draft_failed,
    ),
    _row(
        b"adding speculative impl", rb"adding speculative implementation '([\w-]{1,40})'", _F._speculates_so
    ),
    _row(b"speculative decoding context", rb"context initialized", _F._speculates),
    _row(b"no implementations specified for spec", rb"", _F._speculates_not),
    _row(
        b"prompt cache is ",
        rb"prompt cache is (?:enabled, size limit:(?:" + _N + rb" MiB)?|(disabled))",
        _F._prompt_cache,
    ),
    _row(
        b"n_slots = ",
        rb"n_slots = " + _SLOTS + rb"(?:, n_ctx_slot = " + _CTX + rb", " + _UNIFIED + rb")?",
        _F._loaded,
        _F._learn,
    ),
    _row(b"new slot, n_ctx", rb"n_ctx(?:_slot)? = " + _CTX, _F._learn),
    _row(b"model loaded", rb": model loaded\s*$", _F._ready),
    _row(b"entering sleeping state", rb"", _F._sleep),
)
