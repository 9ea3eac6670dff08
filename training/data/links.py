"""Symbolic links in data sets. Links that point out of a data set are refused.

A data set from another source may contain a link to any file of this machine.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from tgdfer.training.errors import UserError


def require_inside(folder: Path, path: PurePath) -> None:
    """Checks that a path is inside a folder after its links are resolved.

    Raises:
        UserError: If it is not.
    """
    target = Path(os.path.realpath(folder / path))
    if not any(target.is_relative_to(root) for root in _allowed_roots(folder)):
        raise UserError(
            f"{folder / path} is a link that points out of the data set, to {target}: copy the files into {folder}."
        )


def _allowed_roots(folder: Path) -> Iterator[Path]:
    """Yields the folders that links of a data set may point to."""
    real = Path(os.path.realpath(folder))
    yield real
    # A snapshot in the cache of the Hub consists of links to the folder `blobs` next to it.
    for place in (real, *real.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("datasets--"):
            yield place.parent.parent / "blobs"
