"""The record of a push: which files this package wrote in a repository, so that the next push can delete stale ones.

The record is the file `tgdfer_push.json` in the repository. It names each file with the hashes of its contents. A file
that somebody has added or changed on the Hub differs from the record, and is never deleted.
"""

import hashlib
import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.hf_api import RepoSibling

RECORD = "tgdfer_push.json"
# Weights that loaders prefer to those of another form. They are part of a model even if no record names them.
WEIGHTS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tgdfer_adapter.safetensors",
)
# What pushes wrote before there were records.
UNRECORDED = (
    "*_tgdfer.py",
    "figures/confusion_matrix*.png",
    "figures/risk_coverage*.png",
    "figures/timeline*.png",
)

Files = dict[str, Path | bytes]


class ContentIds(NamedTuple):
    """Hashes of the contents of a file, with which git and LFS name it."""

    git: str
    sha256: str

    @classmethod
    def of(cls, content: Path | bytes) -> "ContentIds":
        """Computes the hashes of a file or of contents."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        git, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        if isinstance(content, bytes):
            git.update(content)
            sha256.update(content)
        else:
            with content.open("rb") as file:
                while block := file.read(1 << 20):
                    git.update(block)
                    sha256.update(block)
        return cls(git.hexdigest(), sha256.hexdigest())

    def match(self, remote: RepoSibling | None) -> bool:
        """Returns whether a file on the Hub has these contents."""
        if remote is None:
            return False
        return remote.lfs.sha256 == self.sha256 if remote.lfs else remote.blob_id == self.git


@dataclass
class PushRecord:
    """What a push wrote.

    Attributes:
        files (`dict[str, ContentIds]`, *optional*): Hashes of each file.
        card (`dict[str, Any]`, *optional*): What the push wrote in the card. See `card_edits.py`.
    """

    files: dict[str, ContentIds] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes | None) -> "PushRecord | None":
        """Reads a record. None if there is none, or it is damaged."""
        try:
            values = json.loads(content or b"")
            files = {path: ContentIds(*map(str, ids)) for path, ids in values["files"].items()}
            return cls(files, dict(values.get("card") or {}))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def to_json(self) -> bytes:
        """Returns the contents of the file of the record."""
        about = "Written by `tgdfer push`. It uses this file to delete stale files and to keep your edits of the card."
        files = {path: list(ids) for path, ids in sorted(self.files.items())}
        return (json.dumps({"about": about, "files": files, "card": self.card}, indent=1) + "\n").encode()


def find_stale(
    remote: dict[str, RepoSibling], kept: set[str], record: PushRecord | None, was_pushed: bool, is_model: bool
) -> tuple[list[str], list[str]]:
    """Finds the files of earlier pushes that are not part of the new state of a repository.

    Args:
        remote (`dict[str, RepoSibling]`): Files of the repository by path.
        kept (`set[str]`): Paths of the new state.
        record (`PushRecord`, *optional*): Record of the last push.
        was_pushed (`bool`): Whether this package has written the repository before, perhaps without a record.
        is_model (`bool`): Whether it is the repository of a model.

    Returns:
        `tuple[list[str], list[str]]`: Paths to delete, and paths of stale files that are kept because somebody has
        changed them.
    """
    stale, changed = [], []
    patterns = (WEIGHTS if is_model else ()) + (UNRECORDED if was_pushed and record is None else ())
    for path, file in sorted(remote.items()):
        if path in kept or path in ("README.md", RECORD):
            continue
        recorded = record.files.get(path) if record else None
        if any(fnmatch(path, pattern) for pattern in patterns) or (recorded and recorded.match(file)):
            stale.append(path)
        elif recorded:
            changed.append(path)
    return stale, changed
