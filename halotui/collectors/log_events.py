"""What in a llama-server's log is worth a person's attention: one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from halotui.collectors.log_line import Line
from halotui.collectors.log_time import Timeline
from halotui.model import ServerEvent, Severity
from halotui.safe import clean

FOLD_SECONDS = 10.0  # of one kind, at most one event in so long
LONGEST_DETAIL = 500  # characters
MOST_WAITING = 1000  # events that nobody has taken yet

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL


@dataclass(slots=True)
class Row:
    """``words`` are ours, with the pattern's numbers in them."""

    kind: str
    severity: Severity
    needle: bytes
    pattern: re.Pattern[bytes]
    words: str
    quotes: bool = True  # the server's own line goes with it; False: it may hold what a user wrote
    ends: bool = False  # the server is gone


@dataclass(slots=True)
class _Said:
    """Of one kind: when an event was last made, and how many lines were folded since."""

    at: float | None = None  # by the log's clock, else by stamps
    folded: int = 0
    total: int = 0


class Events:
    """``seen`` gathers events for whoever takes them."""

    def __init__(self, timeline: Timeline) -> None:
        self.seen: list[ServerEvent] = []
        self._timeline = timeline
        self._said: dict[str, _Said] = {}
        self._cause: tuple[str, str] | None = None  # of a load that is about to fail: our words, its line

    def forget(self) -> None:
        """A new server writes."""
        self._said.clear()
        self._cause = None

    def feed(self, line: Line) -> Row | None:
        """Take a line; the row that it is an event of."""
        text = line.text
        for needle, pattern, words in CAUSES:
            if needle in text and (found := pattern.search(text)):
                if words or not self._cause:
                    self._cause = (words.format(*map(_group, found.groups())), clean(text, LONGEST_DETAIL))
                break
        for row in ROWS:
            if row.needle in text and (found := row.pattern.search(text)):
                words = row.words.format(*map(_group, found.groups()))
                detail = clean(text, LONGEST_DETAIL) if row.quotes else None
                if row.kind == "load-failed" and self._cause:
                    why, detail = self._cause
                    words, self._cause = f"{words}: {why}" if why else words, None
                self._tell(row, words, detail, line)
                return row
        return None

    def _tell(self, row: Row, words: str, detail: str | None, line: Line) -> None:
        said = self._said.setdefault(row.kind, _Said())
        said.total += 1
        at = line.clock if line.clock is not None else line.stamp
        if said.at is not None and at is not None:
            again = 0 <= at - said.at < FOLD_SECONDS
        else:  # no clock: the first, the tenth, the hundredth
            again = said.total > 1 and str(said.total).strip("0") != "1"
        if again or len(self.seen) >= MOST_WAITING:
            said.folded += 1
            return
        if said.folded:
            words = f"{words} ({said.folded + 1} times)"
        said.at, said.folded = at, 0
        slot = _SLOT.search(line.text)
        task = slot[2] if slot else (found[1] if (found := _TASK.search(line.text)) else None)
        self.seen.append(
            ServerEvent(
                kind=row.kind,
                severity=row.severity,
                text=words,
                detail=detail,
                time=self._timeline.wall(line),
                slot=int(slot[1]) if slot else None,
                task=int(task) if task else None,
            )
        )


def _group(said: bytes | None) -> str:
    return clean(said or b"", 80)


_N = rb"(\d{1,12})"
_FLAG = rb"(--?[a-zA-Z][\w-]{0,40})"
_SLOT = re.compile(rb"slot +\S+ +id +(\d{1,6}) \| task (\d{1,15}) \|")
_TASK = re.compile(rb"task id = (\d{1,15})")


def _row(
    kind: str,
    severity: Severity,
    needle: bytes,
    pattern: bytes,
    words: str,
    *,
    quotes: bool = True,
    ends: bool = False,
) -> Row:
    return Row(kind, severity, needle, re.compile(pattern, re.S), words, quotes, ends)


def _cause(needle: bytes, pattern: bytes, words: str) -> tuple[bytes, re.Pattern[bytes], str]:
    return needle, re.compile(pattern), words


# Why a load fails: said before the line that ends it. The last one counts.
CAUSES = (
    _cause(
        b"unknown model architecture",
        rb"unknown model architecture: '([\w.-]{1,40})'",
        "this build does not know {}",
    ),
    _cause(b"failed to open GGUF", rb"No such file", "the model file is not there"),
    _cause(b"failed to open GGUF", rb"Permission denied", "the model file may not be read"),
    _cause(b"failed to open GGUF", rb"", "the model file cannot be opened"),
    _cause(b"invalid magic characters", rb"", "the file is no GGUF model"),
    _cause(b"only supports up to version", rb"", "its GGUF version is newer than this build"),
    _cause(b"not within the file bounds", rb"", "the model file is incomplete"),
    _cause(b"missing tensor", rb"", "the model file lacks a tensor"),
    _cause(b"insufficient memory", rb"attempted to allocate +" + _N, "no memory for {} MB"),
    _cause(b"cudaMalloc failed", rb"allocating " + _N + rb"(?:\.\d+)? MiB", "no GPU memory for {} MiB"),
    _cause(b"Device memory allocation", rb"", "no GPU memory"),
    _cause(b"OfDeviceMemory", rb"", "no GPU memory"),
    _cause(b"to allocate buffer for kv cache", rb"", "no memory for the KV cache"),
    _cause(b"failed to load draft model", rb"", "the draft model cannot be loaded"),
    _cause(b"failed to load multimodal", rb"", "the multimodal projector cannot be loaded"),
    _cause(b"error loading model: ", rb"", ""),  # without words of ours, unless others came before
)

# The first row to match wins.
ROWS = (
    # the start
    _row(
        "load-failed",
        CRITICAL,
        b"exiting due to model loading",
        rb"",
        "the model could not be loaded",
        ends=True,
    ),
    _row(
        "port-in-use",
        CRITICAL,
        b"bind HTTP server socket",
        rb"couldn't bind HTTP server socket.* port: (\d{1,5})",
        "it could not take port {}: something else has it",
        ends=True,
    ),
    _row(
        "port-in-use",
        CRITICAL,
        b"bind HTTP server socket",
        rb"couldn't bind HTTP server socket",
        "it could not take its port: something else has it",
        ends=True,
    ),
    _row(
        "bad-flag",
        CRITICAL,
        b"error: invalid argument: ",
        rb"^error: invalid argument: " + _FLAG + rb"$",
        "it does not know the flag {}",
        ends=True,
    ),
    _row(
        "bad-flag",
        CRITICAL,
        b"error: invalid argument: ",
        rb"^error: invalid argument: ",  # a word on its own, or a key behind its flag
        "it does not know one of its flags",
        ends=True,
    ),
    _row(
        "bad-flag",
        CRITICAL,
        b"error while handling argument",
        rb'^error while handling argument "' + _FLAG + rb'": .*has been removed',
        "the flag {} is gone in this build",
        ends=True,
    ),
    _row(
        "bad-flag",
        CRITICAL,
        b"error while handling argument",
        rb'^error while handling argument "' + _FLAG + rb'"',
        "the flag {} has a value that it does not take",
        ends=True,
    ),
    _row(
        "draft-failed",
        WARNING,
        b"failed to ",
        rb"failed to (?:(?:load|create)(?: \w+)? (?:draft|speculator)|create MTP|initialize speculative)",
        "no speculation: the draft model cannot be used",
    ),
    _row(
        "template",
        WARNING,
        b"template parsing error",
        rb"chat template parsing error",
        "the model's chat template cannot be read",
        quotes=False,
    ),
    # the GPU
    _row("gpu-hang", CRITICAL, b"HW Exception by GPU", rb"", "the GPU hung", ends=True),
    _row(
        "gpu-hang",
        CRITICAL,
        b"Memory access fault by GPU",
        rb"",
        "the GPU met a memory fault",
        ends=True,
    ),
    _row("device-lost", CRITICAL, b"DeviceLost", rb"(?:Error|vk::)DeviceLost", "the GPU was lost", ends=True),
    _row("device-lost", CRITICAL, b"device lost on ", rb"ggml_vulkan: device lost on ", "the GPU was lost"),
    _row(
        "hipblaslt-fallback",
        WARNING,
        b"No hipBLASLt solution",
        rb"No hipBLASLt solution found",
        "hipBLASLt has no solution for a matrix: another library computes it",
    ),
    _row(
        "hipblaslt-fallback",
        WARNING,
        b"hipBlasLT failed",
        rb"hipBlasLT failed, falling back",
        "hipBLASLt failed: Tensile computes instead",
    ),
    _row(
        "hipblaslt-fallback",
        WARNING,
        b"nsupported architecture",
        rb"(?i:hipblaslt|rocblaslt).*unsupported architecture",
        "hipBLASLt does not know this GPU",
    ),
    # memory
    _row(
        "out-of-memory",
        CRITICAL,
        b"insufficient memory",
        rb"insufficient memory \(attempted to allocate +" + _N,
        "no memory for {} MB",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b"cudaMalloc failed",
        rb"allocating +" + _N + rb"(?:\.\d+)? MiB on device " + _N + rb": cudaMalloc failed",
        "no memory for {} MiB on GPU {}",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b"OfDeviceMemory",
        rb"ErrorOutOfDeviceMemory",
        "the GPU has no memory left",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b"Device memory allocation",
        rb"Device memory allocation of size " + _N + rb" failed",
        "the GPU has no memory for {} bytes",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b"failed to allocate",
        rb"failed to allocate (?:\S+ )?buffer of size " + _N,
        "no memory for {} bytes",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b" exceeds device ",
        rb"exceeds device (?:buffer size|memory allocation) limit",
        "a buffer is larger than the GPU allows",
    ),
    _row(
        "out-of-memory",
        CRITICAL,
        b"error: out of memory",
        rb"(?:ROCm|CUDA) error: out of memory",
        "the GPU has no memory left",
    ),
    _row("out-of-memory", CRITICAL, b"hipErrorOutOfMemory", rb"", "the GPU has no memory left"),
    _row("gpu-error", CRITICAL, b"ROCm error: ", rb"^ROCm error: ", "a call of ROCm failed"),
    _row("gpu-error", CRITICAL, b"CUDA error: ", rb"^CUDA error: ", "a call of CUDA failed"),
    # its end
    _row(
        "abort",
        CRITICAL,
        b": GGML_ASSERT(",
        rb"^(?:\S*/)?([\w.+-]{1,60}):(\d{1,6}): GGML_ASSERT\(",
        "llama.cpp aborted at {} line {}",
        ends=True,
    ),
    _row(
        "abort",
        CRITICAL,
        b" error",
        rb"^(?:\S*/)?([\w+-]{1,56}\.\w{1,4}):(\d{1,6}): (?:fatal|ROCm|CUDA) error",
        "llama.cpp aborted at {} line {}",
        ends=True,
    ),
    _row(
        "abort",
        CRITICAL,
        b".cpp:",
        rb"^(?:\S*/)?([\w+-]{1,56}\.cpp):(\d{1,6}): ",
        "llama.cpp aborted at {} line {}",
        ends=True,
    ),
    _row(
        "abort",
        CRITICAL,
        b".c:",
        rb"^(?:\S*/)?(ggml[\w-]{0,50}\.c):(\d{1,6}): ",
        "llama.cpp aborted at {} line {}",
        ends=True,
    ),
    _row(
        "abort",
        CRITICAL,
        b"Segmentation fault",
        rb"^(?:[\w./: -]{0,120} )?Segmentation fault(?: \(core dumped\))?",
        "it crashed: segmentation fault",
        ends=True,
    ),
    _row(
        "abort",
        CRITICAL,
        b"terminate called after",
        rb"^terminate called after throwing an instance of '([\w:]{1,60})",
        "an exception ended the server: {}",
        ends=True,
    ),
    # at work
    _row(
        "context-exceeded",
        WARNING,
        b"exceeds the available context",
        rb"request \(" + _N + rb" tokens\) exceeds the available context size \(" + _N + rb" tokens\)",
        "a prompt of {} tokens does not fit in {} of context",
    ),
    _row(
        "context-exceeded",
        WARNING,
        b"exceeds the available context",
        rb"",
        "a prompt does not fit in the context",
    ),
    _row(
        "kv-full",
        CRITICAL,
        b"Context size has been",
        rb"Context size has been exceeded",
        "the KV cache was full: every running request got an error",
    ),
    _row(
        "kv-tight",
        WARNING,
        b"free space in the KV",
        rb"failed to find free space in the KV cache",
        "the KV cache has no room for a whole batch",
    ),
    _row(
        "context-shift",
        INFO,
        b"context shift, n_keep",
        rb"slot context shift, n_keep = " + _N + rb".*n_discard = " + _N,
        "a full context was shifted: {1} tokens dropped, {0} kept",
    ),
    _row(
        "bad-key",
        WARNING,
        b"nauthorized: ",
        rb"[Uu]nauthorized: ",
        "a client came without the right API key",
    ),
    _row("compute-error", CRITICAL, b"Compute error", rb"Compute error\.", "the backend failed to compute"),
    _row(
        "request-error",
        WARNING,
        b"got exception: ",
        rb'got exception: .*"code":(\d{3})',
        "a request was refused with code {}",
        quotes=False,
    ),
    _row(
        "request-error",
        WARNING,
        b"got exception: ",
        rb"",
        "a request ended in an exception",
        quotes=False,
    ),
    _row("request-error", WARNING, b", error: ", rb"task id = \d{1,15}, error: ", "a request ended in error"),
    _row("stopped", INFO, b"cleaning up before", rb"cleaning up before exit", "asked to stop", quotes=False),
    # of a router
    _row(
        "model-failed",
        WARNING,
        b" exited with status ",
        rb"instance name=(\S.*) exited with status (-?[1-9]\d{0,5})",
        "the server of {} ended with status {}",
    ),
)
