"""Where figures come from: commit, machine, versions and the hash of the code that measured them."""

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
    """The commit of the code that runs, with `-dirty` if files have changed since; None outside of a repository."""
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
    """The machine in words, without its name or owner."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = {1: "one CPU core", 2: "two CPU cores", 4: "four CPU cores", 8: "eight CPU cores"}
    return words.get(cores, f"{cores} CPU cores") + (" and a GPU" if torch.cuda.is_available() else "")


def versions(packages: Sequence[str] = ("torch", "transformers")) -> dict[str, str]:
    """Versions of Python, of this package and of others."""
    found = {"tgdfer": tgdfer.__version__, "python": platform.python_version()}
    return found | {package: version(package) for package in packages}


def code_hash(*modules: ModuleType) -> str:
    """Hash of the source of modules. It is part of the key of a row, so changed code means new figures."""
    return hashlib.sha256("".join(map(inspect.getsource, modules)).encode()).hexdigest()
