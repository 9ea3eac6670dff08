"""Measures time and memory for the speed benchmark."""

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

# Makes the allocator return every large tensor to the system immediately. The resident memory of a process is then the
# memory that it uses, without the reserve of the allocator.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}


def time_alternately(
    functions: Mapping[Any, Callable[[], Any]], repetitions: int, device: torch.device
) -> dict[Any, list[float]]:
    """Times several functions alternately (A B A B), so that other load on the machine affects them equally.

    Args:
        functions (`Mapping[Any, Callable[[], Any]]`): Functions to time, by name.
        repetitions (`int`): Number of rounds after a warm-up round.
        device (`torch.device`): Device on which the functions run.

    Returns:
        `dict[Any, list[float]]`: Duration of every round in seconds, by name.
    """
    for function in functions.values():
        function()
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            _synchronise(device)
            start = time.perf_counter()
            function()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> float:
    """Returns the memory in use in MiB: resident memory of this process, or allocated memory of the GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return dict(_resident()).get("VmRSS", peak_memory(device))


def peak_memory(device: torch.device) -> float:
    """Returns the highest memory in use so far, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    # On Linux, getrusage is not used, because a process inherits the peak of its parent.
    return dict(_resident()).get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def _resident() -> Iterator[tuple[str, float]]:
    """Yields the resident memory of this process (VmRSS) and its peak (VmHWM) in MiB, as reported by Linux."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if match := re.fullmatch(r"(VmHWM|VmRSS):\s+(\d+) kB", line):
            yield match[1], int(match[2]) / 1024
