"""The benchmarks of the project, which are run from the repository and are not part of the wheel.

Each folder or file is one benchmark, except `harness`, which they share, and `results`, which has their figures.
"""
