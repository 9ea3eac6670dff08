"""Symbolic links in data sets: those that lead out of a data set are refused.

A data set from somewhere else may hold a link to any file of this machine.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from tgdfer.training.errors import UserError


def require_inside(folder: Path, path: PurePath) -> None:
    """Checks that a path below a folder stays in it when its links are followed.

    Raises:
        UserError: it does not.
    """
    target = Path(os.path.realpath(folder / path))
    if not any(target.is_relative_to(root) for root in _roots(folder)):
        raise UserError(
            f"{folder / path} is a link that leads out of the data set, to {target}: copy the files into {folder}."
        )


def _roots(folder: Path) -> Iterator[Path]:
    real = Path(os.path.realpath(folder))
    yield real
    # A snapshot in the cache of the Hub is made of links to the files beside it.
    for place in (real, *real.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("datasets--"):
            yield place.parent.parent / "blobs"
