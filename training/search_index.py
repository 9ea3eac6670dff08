"""Indexes of the faces in videos for `tgdfer find`. They are cached, so that a video is read only once."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tgdfer import processing
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import FaceIndex
from tgdfer.training.cache import cache_folder, kind_folder, mark_used, trim_cache
from tgdfer.training.files import atomic_write, source_hash
from tgdfer.training.outputs import Run
from tgdfer.training.video_paths import readable_source

logger = logging.getLogger(__name__)


class IndexCache:
    """Reads the index of a video from the cache, or creates it and stores it there.

    Files and folders of frames are cached. URLs, pipes and standard input are read every time, because their content
    may change. A cached index is used as long as path, size and time of the file, the model and its options, and the
    code that reads videos stay the same.

    Args:
        search (`EmotionSearchPipeline`): Pipeline that creates indexes.
        run (`Run`): Model and options.
        interval (`float`, *optional*): Seconds between two analysed frames. By default that of the model.
        batch_size (`int`, *optional*): Number of chunks that are encoded together.
    """

    def __init__(
        self, search: EmotionSearchPipeline, run: Run, interval: float | None = None, batch_size: int | None = None
    ):
        self.search, self.interval, self.batch_size = search, interval, batch_size
        self.key = [run.fingerprint, source_hash(processing)]

    def load(self, video: str) -> FaceIndex | None:
        """Returns the cached index of a video, or None if there is none or it cannot be read."""
        path = self._path(video)
        if path is None or not path.is_file():
            return None
        try:
            index = FaceIndex.from_tensors(load_file(path))
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning("The cached index of %s cannot be read (%s). The video is read again.", video, error)
            return None
        with suppress(OSError):  # The cache may be readable but not writable.
            mark_used(path)
        return index

    def create(self, video: str, begin: Callable[[Any], Callable[[float], None]]) -> FaceIndex:
        """Reads a video, and stores its index in the cache.

        Args:
            video (`str`): A video as returned by `find_videos`.
            begin (`Callable`): Called with the opened video. It returns a function that is called with the fraction of
                the video that is done.

        Raises:
            VideoDecodeError: If the video cannot be read, or has no face.
        """
        path = self._path(video)
        with readable_source(video) as opened:
            source = self.search.video_processor.open_video(opened)
            index = self.search.index(
                source, interval=self.interval, batch_size=self.batch_size, progress=begin(source)
            )
        if path is not None:
            self._save(path, index)
        return index

    def _path(self, video: str) -> Path | None:
        """Returns the file of the cached index. None if the video is not cached."""
        state = _state_of(Path(video))
        if state is None:
            return None
        name = hashlib.sha256(json.dumps([*self.key, state]).encode()).hexdigest()[:32]
        try:
            return kind_folder("indexes") / f"{name}.safetensors"
        except (OSError, ValueError):  # The folder cannot be created. `_save` would warn, but has nothing to save to.
            return None

    def _save(self, path: Path, index: FaceIndex) -> None:
        try:
            with atomic_write(path) as temporary:
                save_file(index.to_tensors(), temporary)
            trim_cache()
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning(
                "The index cannot be cached in %s (%s). The next search reads the video again, unless TGDFER_CACHE"
                " names a writable folder with enough space.",
                cache_folder(),
                error,
            )


def _state_of(path: Path) -> list[Any] | None:
    """Returns path, size and time of a file, or of all files in a folder. None if it is neither."""
    try:
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = sorted(one for one in path.iterdir() if one.is_file())
        else:
            return None
        facts = [(os.fsdecode(os.path.realpath(one)), one.stat()) for one in files]
    except (OSError, ValueError):
        return None
    return [[name.encode("utf-8", "surrogateescape").hex(), stat.st_size, stat.st_mtime_ns] for name, stat in facts]
