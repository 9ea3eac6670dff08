"""The labelled clips of one split of a data set."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # It takes a second to import, and predictions need none of it.
    import datasets


@dataclass(frozen=True)
class LabelledClips:
    """N clips of one split; labels are canonical names, never integers.

    Attributes:
        rows: the data set's rows, N of them; videos are read on access, as a path or as bytes.
        video_column: the column of `rows` that holds the video.
        files: a name for each clip: its path below the data set's folder, or what the data set calls it.
        labels: label of each clip.
        people: who is seen in each clip, where the data set says so.
        intensity: intensity (0 to 1) of every frame of each clip, where the data set says so. For evaluation alone.
        activity: summed intensity of the action units in every frame of each clip, where the data set has
            `action_units`. For evaluation alone.
        left_out: files on disk that `datasets` did not take.
    """

    rows: "datasets.Dataset"
    video_column: str
    files: list[str]
    labels: list[str]
    people: list[str] | None = None
    intensity: list[list[float] | None] | None = None
    activity: list[list[float] | None] | None = None
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def video(self, index: int) -> str | bytes:
        """The clip as the video processor reads it: its path, or its bytes where the data set embeds them."""
        video = self.rows[index][self.video_column]
        return video["path"] if video["bytes"] is None else video["bytes"]

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted by name: the order of a model's classes."""
        return sorted(set(self.labels))

    def select(self, indices: Sequence[int]) -> "LabelledClips":
        """The clips at `indices`, in that order."""

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
        )

    def fingerprint(self) -> str:
        """Hash that changes with any video: of its bytes where embedded, else of its name, size and time of change."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            video = self.video(index)
            if isinstance(video, str):
                stat = os.stat(video)
                video = f"{self.files[index]}|{stat.st_size}|{stat.st_mtime_ns}".encode()
            digest.update(hashlib.sha256(video).digest())
        return digest.hexdigest()
