"""Runs commands in processes of their own and measures their processor time and peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgdfer.training.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Spent:
    """What a command took.

    Attributes:
        cpu: seconds of processor time, of all its threads and of the processes that it started and waited for.
        wall: seconds that passed.
        peak: most memory that one process held, in MB.
    """

    cpu: float
    wall: float
    peak: float


def spend(command: Sequence[str], threads: int, extra: Mapping[str, str] | None = None) -> Spent:
    """Runs a command without network on so many threads.

    Raises:
        UserError: it fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"} | dict(extra or {})
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=ROOT)
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            last = (said.read().decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise UserError(f"{command[0]} ends with code {child.returncode} ({last[-300:]}).")
    unit = 1 if sys.platform == "darwin" else 1024
    return Spent(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * unit / 1e6)
