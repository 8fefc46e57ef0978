"""The lines of a block that say something, found without looking at each.

``bytes.find`` runs at gigabytes a second, a pattern or a loop over lines at a hundredth of that. So a block
is searched for the words that any line of interest has, one pass a word, and only lines around a hit are
cut out. At ``-lv 5`` nearly all is debug: those lines hold prompts and no figures, and are thrown out first.
"""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 256 << 10  # bytes at a time: what is split stays in the cache, and memory flat

# Every line that a table of log_tasks, log_facts, log_drafts or log_events is about has one of these. Few, as
# each costs a pass; long and rare, as ``find`` leaps further then, and each hit is a line to be parsed.
ANCHORS = (
    # requests
    b"| processing task",
    b"stop processing: n_",
    b"progress =",
    b" | \n",  # "print_timing: id 0 | task 1 | " of old builds: a block follows
    b"eval time =",
    b"draft ",
    b"done, n_",
    b", tg = ",
    b"#gen drafts =",
    b"cancel task, id_task",
    # facts
    b"initializing",
    b"build",
    b"verbosity = ",
    b"n_threads = ",
    b"n_parallel = ",
    b"load_backend: ",
    b"evice",  # devices found, used and lost
    b"ggml_vulkan: ",
    b" MiB free)",
    b"loading ",
    b"_info: arch ",
    b"layers to GPU",
    b"llama_context: ",
    b" buffer size = ",
    b", V (",
    b"Flash Attention ",
    b"reserve: graph",
    b" speculative ",
    b"prompt cache is ",
    b"new slot, n_ctx",
    b"model loaded",
    b"sleeping state",
    # events
    b"error",
    b"failed",
    b"exceed",
    b"emory",  # too little of it; what a prompt reuses of it; what --log-jsonl says of it
    b"xception",
    b"hipBLASLt",
    b"terminate called",
    b".cpp:",
    b".c:",
    b"Segmentation fault",
    b"bind HTTP",
    b"nauthorized: ",
    b"context shift",
    b"gguf_init_from",
    b"Context size has",
    b"cleaning up before",
    # others
    b"spawning server",
    b"exited with status",
    b"halotui: log skipped: ",
)


def telling(block: bytes) -> Iterator[bytes]:
    """Lines that hold an anchor, without their newline, in order. The same for any split at line ends."""
    for piece in _pieces(block):
        quiet = _without_debug(piece)
        starts: set[int] = set()
        for anchor in ANCHORS:
            at = quiet.find(anchor)
            while at >= 0:
                starts.add(quiet.rfind(b"\n", 0, at) + 1)
                end = quiet.find(b"\n", at)
                if end < 0:
                    break
                at = quiet.find(anchor, end)
        for start in sorted(starts):
            end = quiet.find(b"\n", start)
            line = quiet[start : end if end >= 0 else len(quiet)]
            if b" D " not in line[12:19]:
                yield line


def _pieces(block: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + PIECE) + 1 or len(block)
        yield block[start:end] if end - start < len(block) else block
        start = end


def _without_debug(piece: bytes) -> bytes:
    """``M.SS.mmm.uuu D `` has its letter at column 13, or up to four later after ten minutes and more.

    Where the first one has it. Others, past the tenth minute of a piece, go when they are found to tell.
    """
    at = piece.find(b" D ")
    if at < 0:
        return piece
    column = at - piece.rfind(b"\n", 0, at) - 1
    if not 12 <= column <= 16:
        column = 12
    past = column + 3
    return b"\n".join([line for line in piece.split(b"\n") if line[column:past] != b" D "])


def newest(block: bytes, most: int) -> list[bytes]:
    """The last lines, without their newline; empty ones do not count, up to half of them."""
    if most <= 0:
        return []
    lines = block.rsplit(b"\n", 2 * most + 1)
    return [line for line in (lines[1:] if len(lines) > 2 * most + 1 else lines) if line][-most:]
