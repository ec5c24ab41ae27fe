"""How fast it is. `python -m benchmarks` (or `make bench`) runs everything here and prints one table.

A module of benchmarks has `figures(*, quick: bool) -> Iterator[Figure]` and is named in `__main__`. Run alone
(`python -m benchmarks.machine`) it prints its own part of the table.
"""
