"""A demo box on any machine: the real server, simulated sensors, faults on demand."""

FAULTS = ("np-slots", "spec-decay", "gtt-pressure", "hang")


class BoxError(Exception):
    """The box could not be started; the text is its last word."""
