"""Whether a model fits: what it will take, item by item, against the room that there will be.

Measured against llama.cpp b11549 at ``-lv 4``: the KV cache is exact for plain attention. Where the header
leaves something open (sliding windows, recurrent layers, a context that the server may shrink) an item has
a ``least`` below its ``bytes``: refusing goes by the one, warning by the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from halotui.actions import Value, Verdict
from halotui.format import size
from halotui.gguf.model_file import Header, per_layer
from halotui.kv import ELEMENT

BLOCK = 32  # elements, of every quantised type among ELEMENT
LEAST_CONTEXT = 4096  # tokens: what --fit never goes below, and what older builds took unasked
STEP = 256  # tokens: contexts are rounded up to it
AUTO_SLOTS = 4  # of newer builds, with a unified cache
# every nth layer sees all, as llama.cpp sets it for those whose header says no pattern
WINDOW_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4}
HYBRID_INTERVAL = 4  # of Qwen3-Next and its kin, whose header need not say it
MARGIN = 1.02  # what an estimate may be wrong by before it refuses
GPU_BACKENDS = ("vulkan", "rocm", None)  # whose memory we see; None: not known, may be none
NEAR = 0.95  # of the room: from here on it is tight


class Layout(Struct, frozen=True, kw_only=True):
    """How a context is laid out, as asked."""

    context: int | None = None  # tokens of all slots; None: the server chooses
    slots: int | None = None
    unified: bool | None = None
    ubatch: int = 512
    flash: bool = True
    k: str = "f16"
    v: str = "f16"
    full_windows: bool = False  # --swa-full


class Item(Struct, frozen=True, kw_only=True):
    """One thing that takes memory."""

    name: str
    bytes: int
    least: int


class Need(Struct, frozen=True, kw_only=True):
    """What a server will take, as far as its files tell."""

    items: tuple[Item, ...]
    context: int | None = None  # tokens that it was reckoned with

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    @property
    def least(self) -> int:
        """Weights and caches alone, each at its smallest."""
        return sum(item.least for item in self.items)

    @property
    def weights(self) -> int:
        return sum(item.bytes for item in self.items if item.name in WEIGHTS)

    def __str__(self) -> str:
        return " + ".join(f"{item.name} {size(item.bytes)}" for item in self.items if item.bytes)


WEIGHTS = ("weights", "draft weights", "projector")


class Room(Struct, frozen=True, kw_only=True):
    """Memory once the old server has left; unknown is None."""

    ram_bytes: int | None = None  # available
    gtt_bytes: int | None = None
    vram_bytes: int | None = None
    held_bytes: int | None = None  # of it, by the old one
    others: bool = False  # GPUs of other makers are here, whose memory is not counted


def layout(values: Mapping[str, Value], *, draft: bool = False) -> Layout:
    """Of a command line's settings; ``draft``: of the draft model, whose context goes by the target's."""
    k, v = ("ctkd", "ctvd") if draft else ("ctk", "ctv")
    unified = values.get("kvu")
    return Layout(
        context=_count(values.get("c")),
        slots=_count(values.get("np")),
        unified=unified if isinstance(unified, bool) else None,
        ubatch=_count(values.get("ub")) or 512,
        flash=str(values.get("fa", "auto")).lower() not in ("off", "false", "0"),
        k=str(values.get(k, "f16")).lower(),
        v=str(values.get(v, "f16")).lower(),
        full_windows=values.get("swa-full") is True,
    )


def need(
    model: Header,
    asked: Layout,
    draft: Header | None = None,
    draft_asked: Layout | None = None,
    projector_bytes: int = 0,
) -> Need:
    """What the two models will take together. Pure."""
    items = [_weights("weights", model), *_context("", model, asked, asked)]
    if draft is not None:
        # of one slot in older builds, of all in newer ones
        whole = draft_asked or Layout()
        slots = max(1, asked.slots or AUTO_SLOTS)
        single = Layout(context=asked.context and asked.context // slots, slots=1, k=whole.k, v=whole.v)
        items += [_weights("draft weights", draft), *_context("draft ", draft, whole, single)]
    if projector_bytes:
        items.append(Item(name="projector", bytes=projector_bytes, least=projector_bytes))
    return Need(items=tuple(items), context=asked.context or model.context)


def kv_bytes(model: Header, asked: Layout) -> tuple[int, int] | None:
    """The KV cache: at least, at most. None when its shape or the type of its elements is unknown."""
    k, v = ELEMENT.get(asked.k), ELEMENT.get(asked.v)
    most_tokens = asked.context or model.context
    if k is None or v is None or not model.layers or not most_tokens:
        return None
    least_tokens = asked.context or min(most_tokens, LEAST_CONTEXT)
    least = most = 0.0
    surely, nowhere = _cached(model), _bare(model)
    for layer in range(model.layers):
        shape = _shape(model, layer)
        if shape is None:
            return None
        heads, key, value = shape
        slides = _slides(model, layer) and not asked.full_windows
        if layer not in nowhere:
            full = cells(most_tokens, asked)
            most += heads * (key * k + value * v) * (min(full, _window(model, asked)) if slides else full)
        if layer in surely:
            fewest = cells(least_tokens, asked)
            if slides is not False and not asked.full_windows:
                fewest = min(fewest, _round(model.window or 0))
            least += heads * (key * k + (0 if model.latent else value * v)) * fewest
    return round(least), round(most)


def undivided(model: Header, asked: Layout) -> str | None:
    """Which cache cannot be cut into the blocks of its type; None: neither, or the heads are not known."""
    all_heads = max(_numbers(model.heads), default=0)
    own = (model.embedding or 0) // all_heads if all_heads else 0
    for name, kind, length in (
        ("K", asked.k, model.key_length or own),
        ("V", asked.v, model.value_length or own),
    ):
        if ELEMENT.get(kind, 2.0) < 2 and length % BLOCK:
            return f"{name} cache {kind} has blocks of {BLOCK}, which do not divide heads of {length}"
    return None


def cells(tokens: int, asked: Layout) -> int:
    """Of the whole cache: an explicit -np without -kvu gives each slot its share, rounded up."""
    slots = asked.slots or 1
    return _round(tokens) if asked.unified or slots == 1 else slots * _round(-(-tokens // slots))


def judge(
    wanted: Need, room: Room, *, backend: str | None, layers: str, mapped: bool
) -> tuple[Verdict, str, str]:
    """Verdict, detail and fix. ``layers`` on the GPU: ``all``, ``some`` or ``none``; ``mapped``: weights
    that are not on the GPU are read from the page cache, which can be taken back."""
    most, likely = _pools(room, backend, layers)
    if most is None or likely is None:
        return Verdict.UNKNOWN, f"{wanted} = {size(wanted.bytes)}; {_blind(room, backend)}", ""
    surely = wanted.least - (wanted.weights if mapped and layers != "all" else 0)
    after = f" once the old server has left ({size(room.held_bytes)})" if room.held_bytes else ""
    detail = f"{wanted} = {size(wanted.bytes)}, of {size(likely)} free{after}"
    if surely > most * MARGIN:
        return Verdict.FAIL, detail, FIX
    if wanted.bytes > likely * NEAR:
        return Verdict.WARN, detail, FIX
    return Verdict.OK, detail, ""


FIX = "Take a smaller -c, -ctk q8_0 -ctv q8_0, fewer slots, or a smaller model."


def _blind(room: Room, backend: str | None) -> str:
    """Why there is nothing to hold it against."""
    if room.ram_bytes is None:
        return "how much is free cannot be read"
    if backend not in GPU_BACKENDS:
        return f"the memory of a {backend} GPU is not seen"
    return "no AMD GPU here to hold it"


def _pools(room: Room, backend: str | None, layers: str) -> tuple[int | None, int | None]:
    """All that could be had, and what that backend is likely to get: GTT is RAM, so the smaller of the two
    counts, and ROCm takes either GTT or the carve-out."""
    vram = room.vram_bytes or 0
    if layers == "none" or backend == "cpu":
        return room.ram_bytes, room.ram_bytes
    if backend not in GPU_BACKENDS:
        return None, None
    if room.ram_bytes is None or (room.gtt_bytes is None and room.vram_bytes is None):
        return None, None
    shared = min(room.gtt_bytes or 0, room.ram_bytes)
    likely = max(shared, vram) if backend == "rocm" else shared + vram
    surely_there = layers == "all" and backend is not None  # a build without a GPU takes -ngl too
    return (shared if surely_there else room.ram_bytes) + vram, likely


def _weights(name: str, model: Header) -> Item:
    return Item(name=name, bytes=model.weights_bytes, least=model.weights_bytes)


def _context(prefix: str, model: Header, asked: Layout, least: Layout) -> list[Item]:
    cache, small = kv_bytes(model, asked), kv_bytes(model, least)
    items = []
    if cache and small:
        items.append(Item(name=f"{prefix}KV cache", bytes=cache[1], least=min(cache[0], small[0])))
    compute = compute_bytes(model, asked)
    if compute:
        items.append(Item(name=f"{prefix}compute", bytes=compute, least=0))
    return items


def compute_bytes(model: Header, asked: Layout) -> int:
    """The compute buffer, roughly: for a micro-batch the logits (older builds reserve them for every token),
    ten rows of activations, the mask, and without flash attention the scores of one layer."""
    tokens = cells(asked.context or model.context or LEAST_CONTEXT, asked)
    seen = tokens if asked.unified or not asked.slots else tokens // asked.slots
    heads = per_layer(model.heads, 0) or 0
    mask = 2 * seen if asked.flash else 4 * seen * (1 + heads)
    return asked.ubatch * (4 * (model.vocabulary.tokens or 0) + 4 * 10 * (model.embedding or 0) + mask)


def _shape(model: Header, layer: int) -> tuple[int, int, int] | None:
    """KV heads, and the lengths of a key and of a value, the larger where a window has its own."""
    heads = per_layer(model.kv_heads if model.kv_heads is not None else model.heads, layer)
    all_heads = per_layer(model.heads, layer) or max(_numbers(model.heads), default=0)
    own = (model.embedding or 0) // all_heads if all_heads else None
    key, value = model.key_length or own, model.value_length or own
    if heads is None or (heads and (key is None or value is None)):
        return None
    return heads, max(key or 0, model.key_length_swa or 0), max(value or 0, model.value_length_swa or 0)


def _cached(model: Header) -> frozenset[int]:
    """The layers that surely have a cache of their own."""
    last = (model.layers or 0) - model.predict_layers - model.shared_kv_layers
    sure = frozenset(range(max(0, last)))
    if model.attention_layers is not None:
        return sure & model.attention_layers
    if model.recurrent:
        every = model.attention_interval or HYBRID_INTERVAL
        return frozenset(layer for layer in sure if (layer + 1) % every == 0)
    return sure


def _bare(model: Header) -> frozenset[int]:
    """The layers of a hybrid that surely have none."""
    if not model.recurrent or model.attention_layers is None:
        return frozenset()
    return frozenset(range(model.layers or 0)) - model.attention_layers


def _slides(model: Header, layer: int) -> bool | None:
    """Whether a layer sees a window only; None: which ones do is in llama.cpp's code, and not known here."""
    if not model.window:
        return False
    pattern = model.window_pattern or WINDOW_PATTERNS.get(model.architecture)
    if isinstance(pattern, tuple):
        return pattern[layer] if layer < len(pattern) else None
    return None if pattern is None else layer % pattern < pattern - 1


def _window(model: Header, asked: Layout) -> int:
    """Cells of a sliding layer, all slots (llama-kv-cache-iswa.cpp)."""
    slots = asked.slots or AUTO_SLOTS
    window = model.window or 0
    if asked.unified or not asked.slots:
        return _round(window * slots + asked.ubatch)
    return slots * _round(window + asked.ubatch)


def _round(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _numbers(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _count(value: Value | None) -> int | None:
    """A number that stands for itself: zero and negative ones leave it to the server."""
    try:
        count = int(value) if value is not None and not isinstance(value, bool) else 0
    except (TypeError, ValueError):
        return None
    return count if 0 < count < 2**53 else None
