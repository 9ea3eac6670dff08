"""The benchmarks of the project. Each folder or file is one benchmark, which is run from the repository.

The benchmarks are not part of the wheel.
"""
