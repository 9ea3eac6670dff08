"""The files of a published Space."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tgdfer.model_card.space import space_files
from tgdfer.weights import TGDFER_TINY


@pytest.fixture(scope="module")
def files():
    return space_files("user/a.model")


def test_the_metadata_are_those_that_the_hub_reads(files):
    head = files["README.md"].decode().split("---\n")[1]
    metadata = yaml.safe_load(head)
    assert metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py" and metadata["models"] == ["user/a.model"]
    assert len(metadata["short_description"]) <= 60
    for name in ("colorFrom", "colorTo"):
        assert metadata[name] in {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_requirements_are_pinned(files):
    lines = files["requirements.txt"].decode().splitlines()
    assert all(line.count("==") == 1 and "+" not in line for line in lines)
    assert f"transformers=={version('transformers')}" in lines and len(lines) == len(set(lines))


def test_the_space_has_code_and_examples_and_no_weights(files):
    assert sum(name.endswith(".mp4") for name in files) == 3
    assert "tgdfer/weights/__init__.py" in files and not any("safetensors" in name for name in files)
    assert sum(len(content) for content in files.values()) < 5e6
    assert b"run_space('user/a.model')" in files["app.py"]
    compile(files["app.py"], "app.py", "exec")


@pytest.mark.slow
def test_the_code_in_the_space_analyses_a_clip(files, tmp_path):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    script = (
        "import sys; from pathlib import Path; import tgdfer; from tgdfer.model_card.space.clips import Recogniser\n"
        "from tgdfer.model_card.space.views import answers_html\n"
        "folder = Path(tgdfer.__file__).parent; assert folder == Path.cwd() / 'tgdfer'\n"
        "clip = folder / 'model_card' / 'space' / 'examples' / 'one_expression.mp4'\n"
        "assert 'happiness' in answers_html(Recogniser(sys.argv[1]).analyse(clip))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", script, str(TGDFER_TINY)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_examples_are_those_of_the_recipe():
    from recipes.space_examples import CLIPS

    folder = Path(__file__).parents[3] / "model_card" / "space" / "examples"
    assert {path.stem for path in folder.iterdir()} == set(CLIPS)
