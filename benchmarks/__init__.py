"""The project's own measurements: each folder or file is one benchmark, run from the repository.

Nothing here is part of the wheel.
"""
