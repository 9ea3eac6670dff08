"""The splits of a data set before their columns are checked, whatever they were read from."""

from dataclasses import dataclass, field
from typing import Any

import datasets


@dataclass(frozen=True)
class Table:
    """One split.

    Attributes:
        rows: the videos, and of a data set that `datasets` has read all other columns.
        others: the columns that are not in `rows`.
        left_out: videos on disk that no row has, and for each the reason.
    """

    rows: datasets.Dataset
    others: dict[str, list[Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """All columns."""
        return [*self.rows.column_names, *self.others]

    @property
    def videos(self) -> list[str]:
        """The columns of type `Video`."""
        return [name for name, feature in self.rows.features.items() if isinstance(feature, datasets.Video)]

    @property
    def class_labels(self) -> list[str]:
        """The columns of type `ClassLabel`."""
        return [name for name, feature in self.rows.features.items() if isinstance(feature, datasets.ClassLabel)]

    def values(self, name: str) -> list[Any]:
        """The values of a column that holds no videos; a `ClassLabel` by its names, None where there is none."""
        if name in self.others:
            return self.others[name]
        feature, values = self.rows.features[name], list(self.rows[name])
        if not isinstance(feature, datasets.ClassLabel):
            return values
        return [None if value is None or value < 0 else feature.int2str(value) for value in values]
