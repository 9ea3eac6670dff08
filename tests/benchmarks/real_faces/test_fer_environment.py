"""The environment of `fer`. The network itself is run where it can be installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_faces import fer_environment
from benchmarks.real_faces.fer_environment import FerEnvironment
from tgdfer.training.errors import UserError

SCRIPT = """
import sys, numpy as np
with np.load(sys.argv[2], allow_pickle=False) as file:
    pictures = file["pictures"]
assert pictures.shape[1:] == (64, 64) and pictures.dtype == np.uint8
np.savez(sys.argv[3], scores=np.repeat(pictures.mean((1, 2))[:, None], 7, 1).astype(np.float32))
"""


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Commands of the environment, which are not run but for the script, in this interpreter."""
    commands: list[list[str]] = []
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run

    def fake(command, **options):
        commands.append([Path(command[0]).name, *command[1:]])
        if command[1] == "-m":
            return subprocess.CompletedProcess(command, 0, "", "")
        return run([sys.executable, str(script), *command[1:]], **options)

    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(fer_environment.venv, "create", lambda folder, **options: folder.mkdir(parents=True))
    return commands


def test_environment_is_made_once_and_pictures_are_resized(ran, tmp_path):
    fer = FerEnvironment(tmp_path / "work" / "fer")
    pictures = [np.full((48, 48), 10, np.uint8), np.full((112, 96), 200, np.uint8)]
    assert fer.probabilities(pictures) == pytest.approx(np.array([[10.0] * 7, [200.0] * 7]))
    assert sum(command[1:4] == ["-m", "pip", "install"] for command in ran) == 2
    assert ran[0][-2:] == ["fer==25.10.3", "--no-deps"]
    fer.probabilities(pictures)
    assert sum(command[1] == "-m" for command in ran) == 2, "it is there already"


def test_failed_installation_is_one_sentence_and_is_tried_again(monkeypatch, tmp_path):
    def fails(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "long story\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.setattr(fer_environment.venv, "create", lambda folder, **options: folder.mkdir(exist_ok=True))
    fer = FerEnvironment(tmp_path / "fer")
    with pytest.raises(UserError, match=r"cannot be installed .* \(ERROR: no network\)"):
        fer.probabilities([np.zeros((48, 48), np.uint8)])
    assert not fer.installed_file.exists()
