"""Measurements: speed, memory, scaling and survival; run with `python -m benchmarks.NAME`."""
