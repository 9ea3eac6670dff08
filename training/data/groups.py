"""The groups of a data set, such as age or gender, by which results are reported."""

import logging
from collections.abc import Mapping, Sequence

from tgdfer.training.data.columns import name_of
from tgdfer.training.data.tables import Table

logger = logging.getLogger(__name__)

# Columns of data sets that say to which group the person in a clip belongs. They are never used in training.
GROUP_COLUMNS = (
    "group",
    "age",
    "age_group",
    "gender",
    "sex",
    "ethnicity",
    "race",
    "skin_tone",
    "skin_colour",
    "skin_color",
    "glasses",
)
# A column with more values is not a small number of groups, for example an age in years.
MAX_GROUPS = 12


def read_groups(place: str, table: Table) -> dict[str, list[str]] | None:
    """Returns the group of each row for each attribute that the split has as a column. None if it has none.

    Args:
        place (`str`): Name of the split in messages.
        table (`Table`): The split.

    Returns:
        The groups by attribute. An empty text stands for an unknown group.
    """
    groups = {}
    for name in table.names:
        if name.lower() not in GROUP_COLUMNS:
            continue
        values = [name_of(value) for value in table.values(name)]
        found = len(set(values) - {""})
        if found > MAX_GROUPS:
            logger.warning("%s has %d values in column %r, too many to report results by it.", place, found, name)
        elif found > 1:
            groups[name] = values
    return groups or None


def group_members(groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[int]]]:
    """Returns the rows of each group of each attribute. The groups are sorted by name, and unknown ones left out."""
    return {
        attribute: {
            group: [row for row, value in enumerate(values) if value == group]
            for group in sorted(set(values))
            if group
        }
        for attribute, values in groups.items()
    }
