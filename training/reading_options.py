"""Options of reading a data set: which one it is, which of its columns and splits are used, and what labels are."""

from collections.abc import Mapping
from typing import Literal, TypedDict

LabelKind = Literal["single", "multiple", "votes"]
# Names of the published data sets, which are neither folders nor ids on the Hub.
PUBLISHED_NAMES = ("dfew", "ferv39k", "mafw", "afew", "crema_d", "ravdess")


class ReadingOptions(TypedDict, total=False):
    """Keyword arguments of `load_clips`. All of them are optional.

    Attributes:
        dataset_config (`str`, *optional*): Configuration of a data set with several configurations.
        video_column (`str`, *optional*): Column of the videos. By default the only `Video`, or else `Image`.
        label_column (`str`, *optional*): Column of the labels. By default `label`, or the only `ClassLabel`.
        data_root (`str`, *optional*): Folder of a published data set, such as DFEW.
        fold (`int`, *optional*): Fold of a published data set, from 1.
        split_map (`Mapping[str, str]`, *optional*): For names of splits, the name that the data set has for them.
        streaming (`bool`, *optional*): Whether the data set is read without preparing a copy on this machine.
        label_kind (`"single"`, `"multiple"` or `"votes"`, *optional*): What labels are. By default "single".
        vote_columns (`Mapping[str, str]`, *optional*): For each label, the column with the number of its votes, such
            as "happy" or, for one position in a list, "votes[1]".
        vote_file (`str`, *optional*): CSV file of the vote columns, with a row per clip. By default the columns are in
            the data set.
        strict (`bool`, *optional*): Whether a clip that cannot be used is an error. It is, by default. Otherwise the
            clip is put into quarantine.
    """

    dataset_config: str | None
    video_column: str | None
    label_column: str | None
    data_root: str | None
    fold: int | None
    split_map: Mapping[str, str] | None
    streaming: bool
    label_kind: LabelKind
    vote_columns: Mapping[str, str] | None
    vote_file: str | None
    strict: bool
