"""Samples at 20 Hz: what memory, power and clocks did while something ran, for less than 0.5 % of a core."""
