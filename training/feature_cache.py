"""The cache files of outputs of a frozen CLIP. Each file has the outputs of some clips in one view.

A clip is found in any file that was made with the same CLIP and the same settings. So several folds of a data set, and
its parts, share their clips.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tgdfer.training.cache import cache_folder, kind_folder, mark_used, trim_cache

logger = logging.getLogger(__name__)

# The tensors in a cache file. Their first dimension is that of the clips.
TENSORS = ("features", "frame_mask", "timestamps")
# Field of the metadata with the hashes of the clips.
_CLIPS = "clips"


class CachedView:
    """The cached outputs of clips in one view.

    Args:
        kind (`str`): Kind of the files, "features" or "activations".
        settings (`str`): Hash of everything but the clips that the outputs depend on.
        clips (`Sequence[str]`): Hash of each of the N clips.
        num_frames (`int`): Number of frames of a clip.
        warn (`bool`, *optional*, defaults to `True`): Whether problems cause warnings.
    """

    def __init__(self, kind: str, settings: str, clips: Sequence[str], num_frames: int, warn: bool = True) -> None:
        self.kind, self.settings, self.clips, self.num_frames, self.warn = kind, settings, clips, num_frames, warn

    def load(self) -> tuple[dict[str, Tensor], Tensor]:
        """Reads what is known about the clips.

        A damaged file causes a warning and is removed.

        Returns:
            `tuple[dict[str, Tensor], Tensor]`: `TENSORS` of shape (N, T, ...), with zeros for clips that are not
            known; there are none if no clip is. A mask (N,) of the known clips.
        """
        values: dict[str, Tensor] = {}
        known = torch.zeros(len(self.clips), dtype=torch.bool)
        for path in self._files():
            if known.all():
                break
            try:
                self._load_file(path, values, known)
            except FileNotFoundError:
                continue  # Another process has removed it in the meantime.
            except (OSError, ValueError, SafetensorError) as error:
                self._warn_unreadable(error)
                if not isinstance(error, OSError):  # The file is damaged, and not only out of reach.
                    with suppress(OSError):
                        path.unlink()
        return values, known

    def _warn_unreadable(self, error: Exception) -> None:
        if self.warn:
            logger.warning("Cached features cannot be read (%s). They are computed again.", error)

    def _files(self) -> list[Path]:
        """Returns the files of the settings, the most recent one first."""
        try:
            files = list(kind_folder(self.kind).glob(f"{self.settings}-*.safetensors"))
        except (OSError, ValueError) as error:
            self._warn_unreadable(error)
            return []
        return sorted(files, key=lambda path: (-_modified(path), path.name))

    def _load_file(self, path: Path, values: dict[str, Tensor], known: Tensor) -> None:
        """Copies the clips in a file that are not known yet."""
        with safe_open(path, "pt") as file:
            rows = {clip: row for row, clip in enumerate((file.metadata() or {}).get(_CLIPS, "").split())}
            shapes = {name: tuple(file.get_slice(name).get_shape()[:2]) for name in file.keys()}  # noqa: SIM118
            if not rows or shapes != dict.fromkeys(TENSORS, (len(rows), self.num_frames)):
                raise ValueError(f"{path.name} has unexpected contents")
            found = [index for index, clip in enumerate(self.clips) if clip in rows and not known[index]]
            if not found:
                return
            for name in TENSORS:
                stored = file.get_tensor(name)
                if name not in values:
                    values[name] = stored.new_zeros(len(self.clips), *stored.shape[1:])
                values[name][found] = stored[[rows[self.clips[index]] for index in found]]
        known[found] = True
        with suppress(OSError):  # The cache may be readable but not writable.
            mark_used(path)

    def save(self, values: dict[str, Tensor], clips: Sequence[int]) -> None:
        """Writes a file with the outputs of some clips, atomically. A file that cannot be written causes a warning.

        Args:
            values (`dict[str, Tensor]`): `TENSORS` of these clips.
            clips (`Sequence[int]`): Indices of these clips.
        """
        # A clip that occurs several times is stored once.
        rows = {self.clips[index]: row for row, index in enumerate(clips)}
        try:
            digest = hashlib.sha256(" ".join(rows).encode()).hexdigest()[:16]
            path = kind_folder(self.kind) / f"{self.settings}-{digest}.safetensors"
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            stored = {name: values[name][list(rows.values())] for name in TENSORS}
            try:
                save_file(stored, temporary, {_CLIPS: " ".join(rows)})
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            trim_cache()
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning(
                "Features cannot be cached in %s (%s). The next run computes them again, unless TGDFER_CACHE names a"
                " writable folder with enough space.",
                cache_folder(),
                error,
            )


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
