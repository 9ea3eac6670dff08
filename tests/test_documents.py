"""The documents of the repository."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from tgdfer.command_line import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")]
DOCUMENTS += (ROOT / "docs").glob("*/*.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_of_this_repository_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def commands_of(document: Path) -> list[list[str]]:
    """The words of each `tgdfer` command in the shell blocks of a document."""
    blocks = re.findall(r"```bash\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [
        line[line.index("tgdfer") + 1 :]
        for line in words
        if "tgdfer" in (line[:1] or line) or {"-m", "tgdfer"} <= {*line}
    ]


def all_commands() -> list[tuple[str, Any]]:
    """The commands, such as "train" and "data check"."""
    found = []
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", {})
        found += [(f"{name} {one}", sub) for one, sub in inner.items()] or [(name, command)]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_have_options_that_there_are(document: Path) -> None:
    known = {
        name: {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
        for name, command in all_commands()
    }
    for name, *words in commands_of(document):
        if name not in known:  # A group of commands.
            name = f"{name} {words[0]}"
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known[name]
        assert not unknown, f"tgdfer {name} has no {', '.join(sorted(unknown))}"
