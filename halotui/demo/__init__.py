"""A demo box on any machine: the real server, simulated sensors, faults on demand."""

# Each by the rule that it raises, and no other; ``demo.faults`` makes them.
FAULTS = (
    "np-slots",
    "spec-decay",
    "spec-unused",
    "kv-asymmetric",
    "context-exceeded",
    "server-down",
    "gtt-pressure",
    "thermal",
    "kernel-old",
    "fw-bad",
    "oom-kill",
    "gpu-fault",
    "source-stale",
)


class BoxError(Exception):
    """The box could not be started; the text is its last word."""
