"""Every command of the benchmarks that a document, the Makefile or a result names can be typed today."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from benchmarks.__main__ import benchmarks
from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.command_options import published_command, settings_options

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "Makefile", ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
RESULTS = list((ROOT / "benchmarks" / "results").glob("*.json"))


def named_commands() -> dict[str, str]:
    """The commands, and a file that names each."""
    found = {}
    for path in [*DOCUMENTS, *RESULTS]:
        for command in re.findall(r"python -m (benchmarks\.[^`\"\n|,;]*)", path.read_text(encoding="utf-8")):
            found[command.strip()] = path.relative_to(ROOT).as_posix()
    return found


def command_of(module: str):
    """The command that `python -m` runs, which is the app or the function `main` of its file."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    file = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations else module)
    if hasattr(file, "app"):
        return get_command(file.app)
    app = typer.Typer()
    app.command()(file.main)
    return get_command(app)


@pytest.mark.parametrize("command", named_commands())
def test_named_commands_can_be_typed(command):
    module, *words = shlex.split(command)
    parsed = command_of(module)
    if hasattr(parsed, "commands"):
        parsed, words = parsed.commands[words[0]], words[1:]
    parsed.make_context(module, words)


def test_all_benchmarks_are_named():
    """A benchmark that nothing names would not be found."""
    modules = {command.split()[0] for command in named_commands()}
    folder = ROOT / "benchmarks"
    there = {path.stem for path in folder.glob("[a-z]*.py")} | {
        path.parent.name for path in folder.glob("*/__main__.py")
    }
    assert there == set(benchmarks())
    assert {module.split(".")[1] for module in modules} == there


@pytest.mark.slow
def test_one_command_lists_all_benchmarks_and_shows_their_help():
    program = [sys.executable, "-m", "benchmarks"]
    shown = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"^{name} ", shown, re.MULTILINE) for name in benchmarks())
    done = subprocess.run([*program, "broken_files", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage: python -m benchmarks.broken_files" in done.stdout
    done = subprocess.run([*program, "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: There is no benchmark 'nothing'")


def test_published_commands_name_options_that_differ_and_no_folders(clip_folder):
    settings = settings_options(Settings(model=str(clip_folder), clips=6))
    command = published_command("benchmarks.x", "run", **settings, row=(["a", "b c"], []), real=(None, None))
    assert command == "python -m benchmarks.x run --model clip --clips 6 --row a --row 'b c'"
    assert published_command("benchmarks.x", **settings_options(Settings())) == "python -m benchmarks.x"
