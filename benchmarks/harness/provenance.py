"""Provenance of figures: commit, machine, package versions, and the hash of the code that measured them."""

import hashlib
import inspect
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch

import tgdfer


def commit() -> str | None:
    """Returns the commit of the running code, with `-dirty` if files have changed. None outside a repository."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # A copy of this folder inside another repository does not belong to the commits of that repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        command = [*git, "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


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
