"""Writes a folder of weights atomically, and never replaces a folder with other contents."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tgdfer.training.errors import UserError

# Folder of the weights in the repository. The editable installation contains links to its files. Replacing a folder
# among the links would not change the repository.
WEIGHTS = Path(__file__).parents[1] / "package" / "weights"


def require_weights_folder(folder: Path, kinds: Collection[str]) -> None:
    """Checks that a folder may be replaced by new weights.

    Args:
        folder (`Path`): Folder to which weights will be written.
        kinds (`Collection[str]`): Model types that may be replaced.

    Raises:
        UserError: If the folder contains anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or json.loads(config.read_text("utf-8")).get("model_type") not in kinds:
        raise UserError(f"{folder} contains other files than such weights: choose another folder with --out.")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to write to. It replaces `folder` if the context ends without an error."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".weights-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        for file in draft.iterdir():
            file.chmod(0o755 if file.is_dir() else 0o644)
        stale = draft.with_name(f"{draft.name}.old")
        if folder.exists():
            os.replace(folder, stale)
        os.replace(draft, folder)
        shutil.rmtree(stale, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
