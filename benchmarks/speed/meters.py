"""How the speed benchmark measures time and memory."""

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

# Makes the allocator of a process return every large tensor to the system at once, so that its resident memory is what
# it uses and not what its allocator keeps in reserve.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}


def in_turns(ways: Mapping[Any, Callable[[], Any]], repetitions: int, device: torch.device) -> dict[Any, list[float]]:
    """Times several ways in turns (A B A B), so that other load on the machine affects them equally.

    Args:
        ways: functions to time, by name.
        repetitions: number of rounds that count, after one that does not.
        device: device that they run on.

    Returns:
        Seconds of every round, by name.
    """
    for way in ways.values():
        way()
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            _wait(device)
            start = time.perf_counter()
            way()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> float:
    """MiB in use now: resident memory of this process, or allocated memory of the GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return dict(_resident()).get("VmRSS", peak_memory(device))


def peak_memory(device: torch.device) -> float:
    """The highest number of MiB in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    # getrusage is not used on Linux, where a process starts with the peak of its parent.
    return dict(_resident()).get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def _resident() -> Iterator[tuple[str, float]]:
    """Memory of this process in MiB, as Linux reports it."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if match := re.fullmatch(r"(VmHWM|VmRSS):\s+(\d+) kB", line):
            yield match[1], int(match[2]) / 1024
