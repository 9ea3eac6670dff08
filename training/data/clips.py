"""The labelled clips of one split of a data set."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The import takes a second, and predictions do not need it.
    import datasets


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
        left_out (`list[str]`, *optional*): Files on disk that are not part of the data set.
    """

    rows: "datasets.Dataset"
    video_column: str
    files: list[str]
    labels: list[str]
    people: list[str] | None = None
    intensity: list[list[float] | None] | None = None
    activity: list[list[float] | None] | None = None
    groups: dict[str, list[str]] | None = None
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def video(self, index: int) -> str | bytes:
        """Returns a clip as an input of the video processor: its path, or its bytes if the data set embeds them."""
        video = self.rows[index][self.video_column]
        return video["path"] if video["bytes"] is None else video["bytes"]

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted by name. This is the order of the classes of a model."""
        return sorted(set(self.labels))

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
        )

    def fingerprint(self) -> str:
        """Returns a hash of all videos: of their bytes if embedded, otherwise of name, size and modification time."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            video = self.video(index)
            if isinstance(video, str):
                stat = os.stat(video)
                video = f"{self.files[index]}|{stat.st_size}|{stat.st_mtime_ns}".encode()
            digest.update(hashlib.sha256(video).digest())
        return digest.hexdigest()
