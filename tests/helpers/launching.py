"""Starting Python in several processes, as users do with `torchrun` and `accelerate launch`, and faster."""

import os
import signal
import subprocess
import sys

import pytest
from forked_python import ForkServer
from torch.distributed import TCPStore

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


def run_two(server: ForkServer, *arguments, seconds=240):
    """Runs Python in two processes of a group, as `torchrun` does, which need not import anything."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    # The launcher has the store, not the first process.
    group |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    environments = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    with server.start(*[[*map(str, arguments)]] * 2, environments=environments) as processes:
        for done in processes.wait(seconds):
            assert done.returncode == 0, done.stderr[-4000:]
