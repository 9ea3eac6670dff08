"""The labelled clips of one split of a data set."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from tgdfer.training.data.soft_labels import SoftLabels
from tgdfer.training.errors import UserError

if TYPE_CHECKING:  # The import takes a second, and predictions do not need it.
    import datasets


# Bytes that are read at each end of a file. The tables of a video, which change with its frames, are at one of them.
_END = 2**16
# Number and bytes of the blocks that are read between the ends. Videos that are not compressed differ only there.
_BLOCKS, _BLOCK = 16, 2**12


@dataclass(frozen=True)
class LabelledClips:
    """N labelled clips of one split. Labels are canonical names, never integers.

    Attributes:
        rows (`datasets.Dataset`): The N rows of the data set. A video is read on access, as a path or as bytes.
        video_column (`str`): Column of `rows` that contains the videos.
        files (`list[str]`): Name of each clip: its path below the folder of the data set, or the name in the data set.
        labels (`list[str]`): Label of each clip.
        people (`list[str]`, *optional*): Person in each clip, if the data set has a column `person`.
        intensity (`list[list[float] | None]`, *optional*): Intensity (0 to 1) of every frame of each clip, if known.
            Only used for evaluation.
        activity (`list[list[float] | None]`, *optional*): Summed intensity of the action units in every frame of each
            clip, if the data set has a column `action_units`. Only used for evaluation.
        groups (`dict[str, list[str]]`, *optional*): Group of each clip for each attribute, such as age, if the data
            set has a column of that name. Only used for evaluation.
        num_frames (`list[int | None]`, *optional*): Number of frames of each clip as the data set states it, if it
            does. Only used by `tgdfer data check`.
        left_out (`dict[str, str]`, *optional*): Files on disk that are not part of the data set, with the reasons.
        table_rows (`list[int]`, *optional*): Row of each clip in the table of its split.
        quarantined (`dict[str, str]`, *optional*): Clips of the data set that cannot be used, with the reasons. They
            are not among the N clips.
        soft (`SoftLabels`, *optional*): Several labels of each clip, or the votes for each label. `labels` then
            contains the joined names of the labels, or the label with most votes.
    """

    rows: "datasets.Dataset"
    video_column: str
    files: list[str]
    labels: list[str]
    people: list[str] | None = None
    intensity: list[list[float] | None] | None = None
    activity: list[list[float] | None] | None = None
    groups: dict[str, list[str]] | None = None
    num_frames: list[int | None] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    table_rows: list[int] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    soft: SoftLabels | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def video(self, index: int) -> str | bytes:
        """Returns a clip as an input of the video processor: its path, or its bytes if the data set embeds them."""
        video = self.rows[index][self.video_column]
        return video["path"] if video["bytes"] is None else video["bytes"]

    def require_at_hand(self) -> None:
        """Checks that the videos are files or bytes, and not addresses on the Hub.

        Raises:
            UserError: If they are addresses, as in a data set of video files that is streamed.
        """
        video = self.video(0) if len(self) else b""
        if isinstance(video, str) and "://" in video:
            raise UserError(f"The videos of the data set stay on the Hub, such as {video}: leave out --streaming.")

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted by name. This is the order of the classes of a model."""
        return sorted(set(self.labels)) if self.soft is None else self.soft.names

    def classes_of(self, indices: Sequence[int]) -> set[str]:
        """Returns the labels that occur in some of the clips."""
        if self.soft is None:
            return {self.labels[index] for index in indices}
        totals = self.soft.values[list(indices)].sum(axis=0)
        return {name for name, total in zip(self.soft.names, totals, strict=True) if total > 0}

    def select(self, indices: Sequence[int]) -> "LabelledClips":
        """Returns the clips at `indices`, in that order."""

        def pick(values: Any) -> Any:
            return None if values is None else [values[index] for index in indices]

        return replace(
            self,
            rows=self.rows.select(indices),
            files=pick(self.files),
            labels=pick(self.labels),
            people=pick(self.people),
            intensity=pick(self.intensity),
            activity=pick(self.activity),
            groups=self.groups and {name: pick(values) for name, values in self.groups.items()},
            num_frames=pick(self.num_frames),
            table_rows=pick(self.table_rows) if self.table_rows else [],
            quarantined=dict(self.quarantined),  # More clips are added to it in training.
            soft=self.soft and self.soft.select(indices),
        )

    def fingerprint(self) -> str:
        """Returns a hash of all videos, in their order: see `fingerprint_of`."""
        return hashlib.sha256("".join(self.fingerprint_of(index) for index in range(len(self))).encode()).hexdigest()

    def fingerprint_of(self, index: int) -> str:
        """Returns a hash of a video: of its size, its beginning, its end, and blocks between them.

        Whole files are not read, because that would take minutes for a data set. Names and modification times do not
        count, so a copy is the same video, and so are the bytes of a file that a data set embeds. A folder of frames
        counts with the names and sizes of all files, and the contents of five of them: the first, the last, and three
        between them. A file that is streamed counts with its address.
        """
        video = self.video(index)
        sample = _sample_of(video) if isinstance(video, str) else _hash_sample(io.BytesIO(video))
        return hashlib.sha256(sample.encode("utf-8", "replace")).hexdigest()


def _sample_of(video: str) -> str:
    """Returns a text that changes with the contents of a file or of a folder of frames."""
    if "://" in video:
        return video
    try:
        if not os.path.isdir(video):
            with open(video, "rb") as file:
                return _hash_sample(file)
        frames = sorted(os.scandir(video), key=lambda entry: entry.name)
        names = [f"{entry.name}|{entry.stat().st_size}" for entry in frames]
    except OSError:  # It is reported when the clip is read.
        return "unreadable"
    places = sorted({(len(frames) - 1) * quarter // 4 for quarter in range(5)}) if frames else []
    return "|".join([*names, *(_sample_of(frames[place].path) for place in places if frames[place].is_file())])


def _hash_sample(file: BinaryIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    digest = hashlib.sha256(file.read(_END))
    for block in range(_BLOCKS if size > 2 * _END else 0):
        # Not quite evenly spaced (golden section), so that they are in different parts of the frames.
        file.seek(int(size * (block + block * 0.618 % 1) / _BLOCKS))
        digest.update(file.read(_BLOCK))
    file.seek(max(size - _END, 0))
    digest.update(file.read(_END))
    return f"{size}|{digest.hexdigest()}"
