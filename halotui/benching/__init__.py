"""Benchmarks: commands around which is captured, suites of them, their tables and comparisons."""
