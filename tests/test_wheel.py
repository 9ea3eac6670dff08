"""The wheel holds the package and nothing of the project's own research code."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "package": "tgdfer",
    "modeling_tgdfer": "tgdfer/modeling_tgdfer",
    "processing": "tgdfer/processing",
    "training": "tgdfer/training",
    "model_card": "tgdfer/model_card",
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from a copy of the repository."""
    copy = tmp_path_factory.mktemp("repository")
    for name in (*FOLDERS, "benchmarks", "recipes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (wheel,) = (copy / "dist").glob("*.whl")
    with ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def test_every_file_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    expected = set()
    for folder, inside in FOLDERS.items():
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        expected |= {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert names == expected


def test_no_research_code_is_in_the_wheel(names: set[str]) -> None:
    assert all(name.startswith("tgdfer/") for name in names)
    folders = {Path(name).parts[1] for name in names}
    assert not {"benchmarks", "recipes", "tests"} & folders
