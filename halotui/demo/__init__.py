"""A demo box on any machine: the real server, simulated sensors, faults on demand."""

FAULTS = ("np-slots", "spec-decay", "gtt-pressure", "hang")
