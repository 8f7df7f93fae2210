"""Benchmarks: ratios against a peer, measured side by side in one run. `make bench DATA=folder` writes docs/benchmarks.md."""
