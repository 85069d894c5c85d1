"""Benchmarks: each prints a table with ratios to a peer measured in the same run, and writes JSON to ``results``."""
