"""Runs commands in child processes, and measures their CPU time and peak memory."""

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
# A new process inherits the peak memory of its parent. A small process in between therefore starts the command.
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
class ResourceUsage:
    """Resources that a command used.

    Attributes:
        cpu (`float`): CPU time in seconds, summed over all threads and over the child processes that the command
            waited for.
        wall (`float`): Wall-clock time in seconds.
        peak (`float`): Peak memory of its largest process, in MB.
    """

    cpu: float
    wall: float
    peak: float


def measure_command(command: Sequence[str], threads: int, extra: Mapping[str, str] | None = None) -> ResourceUsage:
    """Runs a command without access to the Hub, and measures it.

    Args:
        command (`Sequence[str]`): Program and arguments.
        threads (`int`): Number of threads that the libraries may use.
        extra (`Mapping[str, str]`, *optional*): Additional environment variables.

    Raises:
        UserError: If the command fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"} | dict(extra or {})
    with tempfile.TemporaryDirectory() as folder:
        usage_file = Path(folder, "usage.json")
        launched = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(usage_file), *command]
        done = subprocess.run(
            launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, check=True
        )
        code, cpu, wall, peak = json.loads(usage_file.read_text(encoding="utf-8"))
    if code:
        last = (done.stdout.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{command[0]} failed with exit code {code} ({last[-300:]}).")
    return ResourceUsage(cpu, wall, peak * (1 if sys.platform == "darwin" else 1024) / 1e6)
