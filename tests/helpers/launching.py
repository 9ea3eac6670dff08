"""Starting Python in several processes, as users do with `torchrun` and `accelerate launch`."""

import os
import signal
import subprocess
import sys

import pytest

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "bf16"]


def run(*arguments, seconds=240, fails=False, **environment):
    """Runs Python; a run that hangs fails, and none of its processes is left.

    Returns:
        What it prints, and where it `fails` also what it complains about.
    """
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"hangs: {process.communicate()[1][-2000:]}")
    if fails:
        assert process.returncode != 0
        return out, err
    assert process.returncode == 0, err[-4000:]
    return out
