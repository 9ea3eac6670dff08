"""Downloads the common test classes of transformers, of the installed version, and runs them on our classes.

They are in its source distribution, and nothing of it is kept: `python -m benchmarks.common_tests`. Arguments after
`--` are those of pytest. `docs/results/common_tests.md` has the reason for every failure that remains.
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
# What the common classes import and the source distribution lacks: tests of export and generation, which are switched
# on by what a model declares, and values for every field of a configuration.
LACKING = {
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
    """Downloads the source distribution into a folder, and puts our classes among its tests.

    Returns:
        The folder with its `tests`.

    Raises:
        CalledProcessError: It cannot be downloaded.
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
    for path, text in LACKING.items():
        file = root / "tests" / path
        file.parent.mkdir(exist_ok=True)
        if file.parent.resolve() != root.resolve():
            (file.parent / "__init__.py").touch()
        file.write_text(text, encoding="utf-8")
    (root / "tests" / "__init__.py").touch()
    ours = (HERE / "our_classes.py").read_text(encoding="utf-8")
    (root / "tests" / "test_tgdfer.py").write_text(ours, encoding="utf-8")
    return root


def main(arguments: Annotated[list[str] | None, typer.Argument(help="Arguments of pytest, after --")] = None) -> None:
    """Run the common tests of transformers on the classes of this package; the exit code is that of pytest."""
    with TemporaryDirectory() as folder:
        root = prepare(Path(folder))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment["PYTHONPATH"] = str(Path(folder, "needed"))
        settings = Path(folder, "pytest.ini")  # in place of those of the source distribution
        settings.write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "--rootdir", str(root), "--tb=line"]
        command += ["-p", "no:cacheprovider", "tests/test_tgdfer.py", *(arguments or [])]
        code = subprocess.run(command, cwd=root, env=environment, check=False).returncode
    raise typer.Exit(code)


if __name__ == "__main__":
    run(main)
