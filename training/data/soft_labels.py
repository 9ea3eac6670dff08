"""Labels other than a single one: several labels of a clip, and the votes of the people who labelled it."""

import csv
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.errors import UserError
from tgdfer.training.files import csv_rows
from tgdfer.training.video_names import VIDEO_NAME

logger = logging.getLogger(__name__)

# Characters between the labels of a clip that are written as one text. Compound labels of MAFW are joined by "_".
_SEPARATOR = re.compile(r"\s*[_,;+|]\s*")
# What joins several labels in tables and lists.
JOINT = " + "
# A column, or a position in a column of lists.
_COLUMN = re.compile(r"(?P<name>.+?)(?:\[(?P<position>\d+)\])?")


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Several labels, or votes, of N clips.

    Attributes:
        kind (`"multiple"` or `"votes"`): Whether the values are labels or shares of votes.
        names (`list[str]`): Names of the K labels, sorted.
        values (`np.ndarray` of shape `(N, K)`): float32. Several labels: 1 for each label that a clip has, else 0.
            Votes: the share of the votes, with a sum of 1 for each clip.
    """

    kind: Literal["multiple", "votes"]
    names: list[str]
    values: np.ndarray

    def select(self, indices: Sequence[int]) -> "SoftLabels":
        """Returns the labels of some of the clips."""
        return SoftLabels(self.kind, self.names, self.values[list(indices)])

    def ordered(self, classes: Sequence[str]) -> np.ndarray:
        """Returns the values (N, K) in the order of other classes, with zeros for classes that do not occur.

        Raises:
            UserError: If a label is not among the classes.
        """
        if unknown := sorted(set(self.names) - set(classes)):
            raise UserError(f"The labels {', '.join(unknown)} are not among the classes {', '.join(classes)}.")
        values = np.zeros((len(self.values), len(classes)), np.float32)
        values[:, [list(classes).index(name) for name in self.names]] = self.values
        return values

    def texts(self) -> list[str]:
        """Returns the labels of each clip as a text: the joined names, or the name with most votes."""
        if self.kind == "votes":
            return [self.names[index] for index in self.values.argmax(1)]
        return [JOINT.join(np.asarray(self.names)[row > 0]) for row in self.values]


def warn_about_merged(place: str, names: Iterable[str]) -> None:
    """Warns if different names of labels are read as one label. Case and spaces make no difference.

    Args:
        place (`str`): Name of the split in the warning.
        names (`Iterable[str]`): Names of the labels, as the data set has them.
    """
    merged = _spellings(unicodedata.normalize("NFC", " ".join(name.lower().split())) for name in names)
    texts = [f"{', '.join(spellings)} as {label}" for label, spellings in sorted(merged.items()) if len(spellings) > 1]
    if texts:
        logger.warning(
            "%s has several names for a label, which are read as one: %s. To train on them separately, rename them to"
            " words that are no other name of a label.",
            place,
            "; ".join(texts),
        )


def _spellings(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names of each canonical label, sorted."""
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(canonical_label(name), set()).add(name)
    return {label: sorted(spellings) for label, spellings in found.items()}


def read_multiple_labels(place: str, values: Sequence[Any], column: str, files: Sequence[str]) -> SoftLabels:
    """Reads a column with several labels of each clip: lists of names, or texts such as "anger_sadness".

    Args:
        place (`str`): Name of the split in messages.
        values (`Sequence[Any]`): Values of the column.
        column (`str`): Name of the column.
        files (`Sequence[str]`): Name of each clip in messages.

    Raises:
        UserError: If a clip has no label, or labels are not names.
    """
    found: list[set[str]] = []
    for file, value in zip(files, values, strict=True):
        parts = _SEPARATOR.split(value) if isinstance(value, str) else value
        if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
            raise UserError(
                f"Column {column!r} of {place} has {value!r} for {file}, but several labels are a list of names, or a"
                " text such as anger_sadness."
            )
        if not (raw := {part for part in parts if part.strip()}):
            raise UserError(f"Column {column!r} of {place} has no label for {file}: add one, or remove the clip.")
        found.append(raw)
    warn_about_merged(place, set().union(*found))
    found = [{canonical_label(part) for part in raw} for raw in found]
    names = sorted(set().union(*found))
    return SoftLabels(
        "multiple", names, np.array([[name in labels for name in names] for labels in found], np.float32)
    )


def read_votes(
    place: str,
    columns: Mapping[str, Sequence[Any]],
    vote_columns: Mapping[str, str] | None,
    files: Sequence[str],
) -> tuple[SoftLabels, dict[int, str]]:
    """Reads the votes for each label.

    Args:
        place (`str`): Name of the split in messages.
        columns (`Mapping[str, Sequence[Any]]`): Values of the columns by name.
        vote_columns (`Mapping[str, str]`, *optional*): Column of each label, as in `ReadingOptions`.
        files (`Sequence[str]`): Name of each clip in messages.

    Returns:
        The shares of the votes, and the reasons why clips cannot be used, by their index. These are clips without
        votes for any of the labels.

    Raises:
        UserError: If no columns are given, a column does not exist, or its values are not numbers of votes.
    """
    if not vote_columns or len(vote_columns) < 2:
        raise UserError("label_kind is 'votes', so give the column of each label as --vote-columns LABEL=COLUMN.")
    for label, spellings in _spellings(vote_columns).items():
        if len(spellings) > 1:
            raise UserError(
                f"The vote_columns of {' and '.join(spellings)} are about one label, {label}: add their votes up in"
                " one column, or leave one out."
            )
    by_label = {
        canonical_label(label): _vote_column(place, columns, column, files) for label, column in vote_columns.items()
    }
    names = sorted(by_label)
    votes = np.array([by_label[name] for name in names], float).T.reshape(-1, len(names))
    totals = votes.sum(1, keepdims=True)
    without = {int(row): "it has no vote for any of the labels." for row in np.flatnonzero(totals[:, 0] == 0)}
    return SoftLabels("votes", names, (votes / np.maximum(totals, 1e-9)).astype(np.float32)), without


def read_vote_file(path: str, keys: Sequence[str], votes: Collection[str] = ()) -> dict[str, list[Any]]:
    """Reads the columns of a CSV file with a row per clip, in the order of the clips.

    The column whose values are the names of clips says which clip a row is about. Names are compared without suffixes
    and, if no column has them as they are, without leading zeros. Their folders matter only if several rows have the
    same name.

    Args:
        path (`str`): The CSV file.
        keys (`Sequence[str]`): Name or path of each clip.
        votes (`Collection[str]`, *optional*): Columns of votes, which are not names.

    Returns:
        The values by column. The values of a clip without a row are None.

    Raises:
        UserError: If the file cannot be read, no column has the names of clips, or it is not clear which row a clip
            has.
    """
    try:
        rows = csv_rows(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"Cannot read the vote_file {path} ({error}): give a CSV file in UTF-8.") from error
    columns = {column: [row[column] or "" for row in rows] for column in (rows[0] if rows else [])}
    names = _names_in({column: texts for column, texts in columns.items() if column not in votes}, keys, path)
    found = _rows_of(names, keys, path)
    return {column: [None if row is None else rows[row][column] for row in found] for column in columns}


def _names_in(columns: Mapping[str, list[str]], keys: Sequence[str], path: str) -> list[str]:
    """Returns the column of a vote file that has the names of the clips.

    Raises:
        UserError: If there is none, or two columns name different clips in a row.
    """
    wanted, exact = {_name_of(key) for key in keys}, {_stem_of(key) for key in keys}
    found = {column: {_name_of(text) for text in texts} & wanted for column, texts in columns.items()}
    candidates = [column for column in columns if found[column]]
    # Most names are different. Ages, for example, are also numbers, but repeat.
    candidates = [name for name in candidates if 2 * len(set(columns[name])) > len(columns[name])] or candidates
    # The first column of pandas counts the rows. It may have the numbers of clips, but not their leading zeros.
    candidates = [name for name in candidates if exact & {_stem_of(text) for text in columns[name]}] or candidates
    if not candidates:
        raise UserError(f"No column of the vote_file {path} has the names of the clips, such as {keys[0]!r}.")
    best = max(candidates, key=lambda column: (len(found[column]), len(set(columns[column]))))
    for other in candidates:
        pairs = ((_name_of(one), _name_of(two)) for one, two in zip(columns[best], columns[other], strict=True))
        if any(one != two and two in wanted for one, two in pairs):
            raise UserError(
                f"The columns {best!r} and {other!r} of the vote_file {path} name different clips in the same row:"
                " remove the one that does not name the clips."
            )
    return columns[best]


def _rows_of(names: Sequence[str], keys: Sequence[str], path: str) -> list[int | None]:
    """Finds the row of each clip in a vote file, by its name and, if this is not unique, by its folders.

    Raises:
        UserError: If several rows fit a clip equally well, or several clips a row.
    """
    rows_by_name: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows_by_name.setdefault(_name_of(name), []).append(row)
    found: list[int | None] = []
    taken: dict[int, str] = {}
    for key in keys:
        candidates = rows_by_name.get(_name_of(key), [])
        if not candidates:
            found.append(None)
            continue
        common = [_common_folders(names[row], key) for row in candidates]
        if common.count(max(common)) > 1:
            raise UserError(
                f"Several rows of the vote_file {path} are about {key}: give paths, or remove all but one."
            )
        row = candidates[common.index(max(common))]
        if row in taken:
            raise UserError(f"{taken[row]} and {key} have the same row of the vote_file {path}: give paths in it.")
        taken[row] = key
        found.append(row)
    return found


def _common_folders(one: str, other: str) -> int:
    """Returns how many folders two paths have in common, counted from their ends."""
    pairs = zip(*(reversed(Path(path.strip().replace("\\", "/")).parts[:-1]) for path in (one, other)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))


def _vote_column(place: str, columns: Mapping[str, Sequence[Any]], text: str, files: Sequence[str]) -> list[float]:
    match = _COLUMN.fullmatch(str(text))
    name, position = (text, None) if match is None else (match["name"], match["position"])
    if str(text) in columns:  # A name may end in brackets.
        name, position = str(text), None
    if name not in columns:
        raise UserError(f"{place} has no column {name!r} of votes: its columns are {', '.join(columns)}.")
    votes = []
    for file, value in zip(files, columns[name], strict=True):
        try:
            number = float((value if position is None else value[int(position)]) or 0)
        except (TypeError, ValueError, IndexError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise UserError(f"Column {text!r} of {place} has {value!r} for {file}, but must have numbers of votes.")
        votes.append(number)
    return votes


def _name_of(key: str) -> str:
    name = _stem_of(key)
    return str(int(name)) if name.isdecimal() else name


def _stem_of(key: str) -> str:
    """Returns the name of a clip without folders and suffix, with its leading zeros."""
    return VIDEO_NAME.sub("", Path(key.strip().replace("\\", "/")).name).lower()
