"""Writing a folder of weights: whole or not at all, and never in the place of something else."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tgdfer.training.errors import UserError

# Where the weights of the package lie in the repository. An editable installation has links to the files there, and a
# folder that is replaced among the links would be lost.
WEIGHTS = Path(__file__).parents[1] / "package" / "weights"


def require_weights_folder(folder: Path, kinds: Collection[str]) -> None:
    """Refuses a folder that would be replaced by weights, and holds something else.

    Args:
        folder: Where weights are to be written.
        kinds: Model types that may be replaced.

    Raises:
        UserError: If it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or json.loads(config.read_text("utf-8")).get("model_type") not in kinds:
        raise UserError(f"{folder} holds something else than such weights: name another folder with --out.")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when everything in it is written."""
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
