"""The splits of a data set, independent of how they were read. Their columns are not checked yet."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets


@dataclass(frozen=True)
class Table:
    """One split of a data set.

    Attributes:
        rows (`datasets.Dataset`): The videos. If `datasets` read the data set, also all other columns.
        others (`dict[str, list[Any]]`, *optional*): Columns that are not in `rows`.
        left_out (`dict[str, str]`, *optional*): Videos on disk that are not in the data set, with the reasons.
        unusable (`dict[str, str]`, *optional*): Clips of the data set that have no row because they cannot be used,
            with the reasons.
        root (`Path`, *optional*): Folder of the data set, if it is a local one.
    """

    rows: datasets.Dataset
    others: dict[str, list[Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return [*self.rows.column_names, *self.others]

    @property
    def videos(self) -> list[str]:
        """Names of the columns of type `Video`."""
        return [name for name, feature in self.rows.features.items() if isinstance(feature, datasets.Video)]

    @property
    def photographs(self) -> list[str]:
        """Names of the columns of type `Image`."""
        return [name for name, feature in self.rows.features.items() if isinstance(feature, datasets.Image)]

    @property
    def media(self) -> list[str]:
        """Names of the columns that contain bytes or photographs, which can be named as videos."""
        kinds = {name: feature for name, feature in self.rows.features.items() if name not in self.videos}
        return [
            name
            for name, feature in kinds.items()
            if isinstance(feature, datasets.Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")
        ]

    @property
    def class_labels(self) -> list[str]:
        """Names of the columns of type `ClassLabel`."""
        return [name for name, feature in self.rows.features.items() if isinstance(feature, datasets.ClassLabel)]

    def values(self, name: str) -> list[Any]:
        """Returns the values of a column without videos. Values of a `ClassLabel` are names, or None if missing."""
        if name in self.others:
            return self.others[name]
        feature, values = self.rows.features[name], list(self.rows[name])
        if not isinstance(feature, datasets.ClassLabel):
            return values
        return [None if value is None or value < 0 else feature.int2str(value) for value in values]
