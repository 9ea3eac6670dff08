"""Provenance of figures: machine, package versions, and the hash of the code that measured them."""

import hashlib
import inspect
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

import torch

import tgdfer


def machine() -> str:
    """Describes the machine by its CPU cores and GPU, without its name or owner."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = {1: "one CPU core", 2: "two CPU cores", 4: "four CPU cores", 8: "eight CPU cores"}
    return names.get(cores, f"{cores} CPU cores") + (" and a GPU" if torch.cuda.is_available() else "")


def versions(packages: Sequence[str] = ("torch", "transformers")) -> dict[str, str]:
    """Returns the versions of this package, of Python and of other packages."""
    own = {"tgdfer": tgdfer.__version__, "python": platform.python_version()}
    return own | {package: version(package) for package in packages}


def code_hash(*modules: ModuleType) -> str:
    """Returns a hash of the source code of modules.

    It is part of the config of a row, so a row is measured again if the code has changed.
    """
    return hashlib.sha256("".join(map(inspect.getsource, modules)).encode()).hexdigest()
