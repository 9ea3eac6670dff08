"""The splits of a data set, independent of how they were read. Their columns are not checked yet."""

from dataclasses import dataclass, field
from typing import Any

import datasets


@dataclass(frozen=True)
class Table:
    """One split of a data set.

    Attributes:
        rows (`datasets.Dataset`): The videos. If `datasets` read the data set, also all other columns.
        others (`dict[str, list[Any]]`, *optional*): Columns that are not in `rows`.
        left_out (`dict[str, str]`, *optional*): Videos on disk that are not in the data set, with the reasons.
    """

    rows: datasets.Dataset
    others: dict[str, list[Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

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
