"""Data sets that are streamed: rows are read from their source without preparing a copy of the whole data set.

Training visits the clips in a random order, so each clip must be found again. A video that is a file of its own stays
where it is, and is read each time it is needed. A video that is embedded in a table is copied to the cache of
`datasets` when its row is read, one file per video. The other columns are small, and stay in memory.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError
from tgdfer.training.files import atomic_write

_MEDIA = (datasets.Video, datasets.Image)


class StreamedTable(Mapping[str, Table]):
    """The splits of a streamed data set. The rows of a split are read when it is accessed first."""

    def __init__(self, splits: Mapping[str, Any]) -> None:
        self.splits = splits
        self.tables: dict[str, Table] = {}

    @classmethod
    def of_splits(cls, splits: Mapping[str, Any]) -> "StreamedTable":
        """Creates the splits from the `IterableDataset` of each of them."""
        return cls(splits)

    def __getitem__(self, split: str) -> Table:
        if split not in self.tables:
            self.tables[split] = _read_rows(self.splits[split], split)
        return self.tables[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)


def _read_rows(rows: Any, split: str) -> Table:
    """Reads all rows of a split."""
    features = rows.features
    if features is None:
        raise UserError(f"The columns of the split {split!r} are unknown when it is streamed: leave out --streaming.")
    # Columns of bytes become columns of videos, because their contents are copied to files.
    media = {name for name, kind in features.items() if isinstance(kind, _MEDIA) or _is_binary(kind)}
    undecoded = datasets.Features(
        {name: datasets.Video(decode=False) if name in media else kind for name, kind in features.items()}
    )
    columns: dict[str, list[Any]] = {name: [] for name in features}
    for row in rows.decode(False):
        for name, value in row.items():
            columns[name].append(_kept(value) if name in media else value)
    return Table(datasets.Dataset.from_dict(columns, undecoded))


def _is_binary(kind: Any) -> bool:
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _kept(video: Any) -> Any:
    """Returns a video as a path, without its bytes."""
    if isinstance(video, bytes):
        video = {"bytes": video, "path": None}
    if not isinstance(video, dict) or video.get("bytes") is None:
        return {"path": video, "bytes": None} if isinstance(video, str) else video
    content = video["bytes"]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "tgdfer-streamed"
    path = folder / f"{hashlib.sha256(content).hexdigest()}{Path(video.get('path') or '').suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return {"path": str(path), "bytes": None}
