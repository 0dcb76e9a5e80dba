"""Benchmarks of the spine: `make bench`. How to read them: benchmarks/README.md."""
