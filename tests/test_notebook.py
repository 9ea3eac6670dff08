"""The notebook runs from top to bottom, in a new process and a new folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "guides" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
COMMANDS = """
def run_command(line):
    import shlex
    from tgdfer.command_line import main

    program, *arguments = shlex.split(line)
    assert program == "tgdfer", line
    code = main(arguments)
    assert code == 0, f"exit code {code}: {line}"

"""


def code() -> str:
    """The code of all cells. As in IPython, `!command` runs a command, in which `{name}` is a variable.

    A backslash at the end of a line continues it. Commands run in the process of the notebook, where the libraries are
    imported already.
    """
    cells = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    lines = "\n\n".join(cells).replace("\\\n", " ").split("\n")
    return COMMANDS + "\n".join(f"run_command(f{line[1:]!r})" if line.startswith("!") else line for line in lines)


def test_the_notebook_has_no_outputs():
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in CELLS)


def test_links_of_the_notebook_lead_somewhere():
    texts = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"]
    targets = [target for text in texts for target in re.findall(r"\]\((?!http)([^)#]+)", text)]
    assert targets and all((NOTEBOOK.parent / target).exists() for target in targets)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute and a half on a machine that does nothing else
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    done = subprocess.run([sys.executable, "-c", code()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Person 2: surprise" in done.stdout and "dry run" in done.stdout
    assert (tmp_path / "runs/notebook/timeline.png").is_file()
    assert (tmp_path / "runs/notebook/first/metrics.json").is_file()
