"""The folders of the weights in the package, which are never written over other files."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tgdfer.training.errors import UserError
from tgdfer.training.files import replaced_folder

# Folder of the weights in the repository. The editable installation contains links to its files. Replacing a folder
# among the links would not change the repository.
WEIGHTS = Path(__file__).parents[1] / "package" / "weights"


@contextmanager
def new_weights(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, which replaces `folder` as in `replaced_folder`, with files that every user can read."""
    with replaced_folder(folder) as draft:
        yield draft
        # safetensors writes files that only their owner can read, and a wheel would keep that.
        for file in draft.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)


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
