"""The files of a published Space: the page, its metadata, its requirements, and the code of this package."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from tgdfer.model_card.requirements import dependencies, pinned

# The version of Gradio with which the page is tested.
GRADIO = "6.31.0"
PYTHON = "3.11"
# Files of the package that the page needs. Its models are left out, because the Space loads a published one.
SUFFIXES = (".py", ".yaml", ".json", ".md", ".css", ".mp4", ".typed")
WEIGHTS = "weights/"

APP = '''"""The page of {repo_id}, on which people try the model with their own clips."""

from tgdfer.model_card.space.page import run_space

run_space({repo_id!r})
'''
README = """
# {name}

A page on which people try [{repo_id}](https://huggingface.co/{repo_id}) with their own clips. An uploaded or recorded
clip is deleted after it is analysed. The answers name expressions, not what people feel.

`tgdfer/` is the code of the package with which the model was published. The examples show rendered people.
"""


def space_files(repo_id: str) -> dict[str, bytes | Path]:
    """Returns the files of a Space for a published model.

    The package is not on PyPI, so the Space contains its code. Dependencies are pinned to their installed versions.

    Args:
        repo_id (`str`): Repository of the model as "user/name". A private model needs a secret `HF_TOKEN` in the
            settings of the Space.

    Returns:
        `dict[str, bytes | Path]`: Contents or path of each file, by its path in the repository of the Space.
    """
    files: dict[str, bytes | Path] = {
        "app.py": APP.format(repo_id=repo_id).encode(),
        "README.md": f"---\n{_metadata(repo_id)}---\n{README.format(name=_name(repo_id), repo_id=repo_id)}".encode(),
        "requirements.txt": pinned(dependencies()).encode(),
    }
    package = resources.files("tgdfer")
    code = {f"tgdfer/{path}": content for path, content in _code(package).items()}
    return files | dict(sorted(code.items()))


def _name(repo_id: str) -> str:
    return repo_id.rpartition("/")[2]


def _metadata(repo_id: str) -> str:
    """Returns the YAML at the top of README.md, which tells the Hub how to run the Space."""
    metadata = {
        "title": f"{_name(repo_id)}: expressions in a clip",
        "emoji": "🎞️",
        "colorFrom": "green",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "python_version": PYTHON,
        "app_file": "app.py",
        "models": [repo_id],
        "license": "apache-2.0",
        "short_description": "Facial expressions in a clip, over time",
        "pinned": False,
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)


def _code(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """Returns the contents of the files of the package, by their path in it."""
    found: dict[str, bytes] = {}
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and prefix != WEIGHTS:
            found |= _code(path, f"{prefix}{path.name}/")
        elif path.is_file() and path.name.endswith(SUFFIXES):
            found[f"{prefix}{path.name}"] = path.read_bytes()
    return found
