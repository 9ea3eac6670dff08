"""The Slurm script of the documentation, with stand-ins for the commands of Slurm and for the launcher."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from typer.main import get_command

from tgdfer.command_line import app

SCRIPT = Path(__file__).parents[2] / "docs" / "guides" / "slurm_folds.sh"
# Two machines, of which the first one runs the script.
STAND_INS = {
    "scontrol": "echo machine-a; echo machine-b",
    "srun": 'for node in 0 1; do SLURM_NODEID=$node "$@"; done',
    "accelerate": f'{sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@" >> "$FOUND"',
}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("is_continued", [False, True])
def test_each_machine_launches_a_fold_with_options_that_there_are(tmp_path, is_continued):
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    if is_continued:
        (tmp_path / "out" / "fold_3").mkdir(parents=True)
        (tmp_path / "out" / "fold_3" / "config.yaml").touch()
    slurm = {"SLURM_JOB_NODELIST": "machine-[a-b]", "SLURM_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}
    slurm |= {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "32"}
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FOUND": str(tmp_path / "found"), "DATA": "a folder/DFEW"}
    subprocess.run(["bash", SCRIPT], check=True, env=os.environ | slurm | own | {"OUTPUT": str(tmp_path / "out")})
    launched = [json.loads(line) for line in (tmp_path / "found").read_text().splitlines()]
    assert len(launched) == 2
    for machine, words in enumerate(launched):
        launch, ours = launch_command_parser().parse_known_args(words[1:])[0], words[words.index("tgdfer") + 1 :]
        assert words[0] == "launch" and launch.multi_gpu and launch.module and launch.training_script == "tgdfer"
        assert (launch.num_machines, launch.num_processes, launch.machine_rank) == (2, 8, machine)
        assert (launch.main_process_ip, launch.main_process_port) == ("machine-a", 24714)
        command = get_command(app).commands[ours[0]]  # type: ignore[attr-defined]
        given = command.make_context("train", ours[1:]).params
        assert (given["recipe"], given["backbone"], given["folds"]) == ("dfew", "vit-b-16", "3")
        assert (given["data_root"], given["output"]) == ("a folder/DFEW", str(tmp_path / "out"))
        assert given["resume"] == (True if is_continued else None)
        # As many clips in an update as in the recipe.
        assert given["batch_size"] * given["gradient_accumulation"] * launch.num_processes == 48
