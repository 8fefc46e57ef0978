"""What can go wrong on a demo box: one row a fault, named after the rule that it raises."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from halotui.demo import kernel_words
from halotui.demo.kernel_words import Words
from halotui.demo.machine import DEVICE

AFTER = 3.0  # seconds that a box is well before

NGRAMS = ("--spec-ngram-simple-size-n", "6", "--spec-ngram-simple-size-m", "8")


@dataclass(frozen=True)
class Fault:
    """How the box differs from a healthy one. What is not said is as ever.

    Of the server: ``flags`` in its profile (None takes one away), ``drafts`` with a model, ``build``: the
    faults that are its own. Of its users: ``decays``, they stop asking for what can be drafted; ``too_long``,
    one asks for more than fits. Of the box: ``files`` below its root, memory ``pressure``, ``hot``.
    After AFTER seconds: what the kernel says, with the server's pid; ``signal`` to the server; whether the
    GPU's files ``hang``.
    """

    flags: Mapping[str, str | int | None] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    drafts: bool = True
    build: bool = False
    decays: bool = False
    too_long: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    pressure: bool = False
    hot: bool = False
    kernel: Callable[[int], tuple[Words, ...]] | None = None
    signal: signal.Signals | None = None
    hang: bool = False


NONE = Fault()
# llama.cpp's own speculation without a draft model finds nothing to draft where a text does not repeat.
_NGRAM: Mapping[str, str | int | None] = {"draft-max": None, "spec": "ngram-simple"}

TABLE: Mapping[str | None, Fault] = {
    None: NONE,
    # the builds with this fault had it only without speculation
    "np-slots": Fault(flags={"draft-max": None, "spec": None, "np": 1}, drafts=False, build=True),
    "spec-decay": Fault(flags=_NGRAM, extra=NGRAMS, drafts=False, decays=True),
    "spec-unused": Fault(flags={"spec": None}),
    "kv-asymmetric": Fault(flags={"ctk": "q8_0"}),
    "context-exceeded": Fault(too_long=True),
    "server-down": Fault(signal=signal.SIGKILL),
    "gtt-pressure": Fault(pressure=True),
    "thermal": Fault(hot=True),
    "kernel-old": Fault(files={"procfs/sys/kernel/osrelease": "6.14.0-29-generic\n"}),
    "fw-bad": Fault(files={f"{DEVICE}/fw_version/mes_fw_version": "0x00000083\n"}),
    "oom-kill": Fault(kernel=lambda pid: kernel_words.OUT_OF_MEMORY),
    "gpu-fault": Fault(kernel=kernel_words.hang, signal=signal.SIGSTOP, hang=True),
    "source-stale": Fault(hang=True),
}
