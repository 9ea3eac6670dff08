"""The splits of a published data set as tables, which all data sets have in common."""

from typing import Any

import datasets

from tgdfer.training.data.published.listing import Listing
from tgdfer.training.data.tables import Table

MISSING = "it is listed, but not in the folder of the data set"


def published_tables(listing: Listing) -> dict[str, Table]:
    """Returns a table of each split.

    Listed clips that are missing are `unusable`, and clips that no list names are `left_out` of the first split.
    """
    tables = {}
    paths = listing.on_disk.paths
    features = datasets.Features({"video": datasets.Video(decode=False)})
    for split, listed in listing.splits.items():
        clips = [clip for clip in listed if clip.key in paths]
        videos = {"video": [{"path": str(paths[clip.key]), "bytes": None} for clip in clips]}
        others: dict[str, list] = {"label": [clip.label for clip in clips]}
        known: dict[str, list[Any]] = {
            "person": [clip.person for clip in clips],
            "num_frames": [clip.frames for clip in clips],
            "group": [clip.group for clip in clips],
        }
        for column, values in known.items():
            if any(value is not None for value in values):
                others[column] = values
        missing = dict.fromkeys(listing.missing(split), MISSING)
        tables[split] = Table(
            datasets.Dataset.from_dict(videos, features), others, unusable=missing, root=listing.root
        )
    unlisted = {
        path.relative_to(listing.root).as_posix(): "no list of the data set names it"
        for path in listing.unlisted.values()
    }
    tables["train"].left_out.update(unlisted | listing.on_disk.ignored)
    return tables
