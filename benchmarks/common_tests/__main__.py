"""Runs the common test classes of the installed transformers on our classes: `python -m benchmarks.common_tests`.

The test classes are in the source distribution of transformers, which is downloaded into a temporary folder. Arguments
after `--` are passed to pytest. `docs/results/common_tests.md` explains every remaining failure.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tgdfer.help_pages import run

HERE = Path(__file__).parent
# Modules that the common classes import but that the source distribution does not contain: tests of export and
# generation, which run only for models that declare these features, and values for the fields of a configuration.
MISSING_MODULES = {
    "../fetch_hub_objects_for_ci.py": "def url_to_local_path(url, *args, **kwargs):\n    return url\n",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {'output_hidden_states': True, 'output_attentions': True, 'return_dict': False,\n"
        "    'dtype': 'float16', 'chunk_size_feed_forward': 5, 'architectures': ['TGDFERModel'],\n"
        "    'id2label': {0: 'label'}, 'label2id': {'label': '0'}, 'problem_type': 'regression'}\n"
    ),
}


def prepare(folder: Path) -> Path:
    """Downloads the source distribution into a folder, and adds a test file with our classes to its tests.

    Returns:
        `Path`: The root folder of the source distribution, which contains `tests`.

    Raises:
        CalledProcessError: If the download fails.
    """
    name = f"transformers=={version('transformers')}"
    pip = [sys.executable, "-m", "pip"]
    download = [*pip, "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    subprocess.run([*download, "-d", str(folder), name], check=True)
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--target", str(folder / "needed"), "parameterized"], check=True
    )
    (archive,) = folder.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    root = folder / archive.name.removesuffix(".tar.gz")
    for path, text in MISSING_MODULES.items():
        file = root / "tests" / path
        file.parent.mkdir(exist_ok=True)
        if file.parent.resolve() != root.resolve():
            (file.parent / "__init__.py").touch()
        file.write_text(text, encoding="utf-8")
    (root / "tests" / "__init__.py").touch()
    ours = (HERE / "our_classes.py").read_text(encoding="utf-8")
    (root / "tests" / "test_tgdfer.py").write_text(ours, encoding="utf-8")
    return root


def main(
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments for pytest, after --.")] = None,
) -> None:
    """Run the common tests of transformers on the classes of this package. The exit code is that of pytest."""
    with TemporaryDirectory() as folder:
        root = prepare(Path(folder))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment["PYTHONPATH"] = str(Path(folder, "needed"))
        settings = Path(folder, "pytest.ini")  # Replaces the settings of the source distribution.
        settings.write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "--rootdir", str(root), "--tb=line"]
        command += ["-p", "no:cacheprovider", "tests/test_tgdfer.py", *(arguments or [])]
        code = subprocess.run(command, cwd=root, env=environment, check=False).returncode
    raise typer.Exit(code)


if __name__ == "__main__":
    run(main)
