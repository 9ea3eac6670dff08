"""Runs commands in processes of their own and measures their processor time and peak memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgdfer.training.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# A process begins with the peak memory of the one that started it. A small one in between starts the command.
_LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.fork()
if not child:
    os.execvp(sys.argv[2], sys.argv[2:])
status, used = os.wait4(child, 0)[1:]
wall = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, wall, used.ru_maxrss], file)
"""


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
    """Runs a command without the Hub, on so many threads.

    Raises:
        UserError: it fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"} | dict(extra or {})
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "spent.json")
        launched = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(answer), *command]
        done = subprocess.run(
            launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, check=True
        )
        code, cpu, wall, peak = json.loads(answer.read_text(encoding="utf-8"))
    if code:
        last = (done.stdout.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"{command[0]} ends with code {code} ({last[-300:]}).")
    return Spent(cpu, wall, peak * (1 if sys.platform == "darwin" else 1024) / 1e6)
