"""Benchmarks: what to run is data (suites.py), what came out is rows (results/), tables are made from rows."""
