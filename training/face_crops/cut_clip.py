"""Cutting the faces out of one clip."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgdfer.processing.faces_tgdfer import CROP_MARK, NoFaceError, crop_face, locate_faces, require_faces
from tgdfer.processing.tracks_tgdfer import FacePath, join_paths
from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, VideoDecodeError, open_video, stream
from tgdfer.training.errors import unexpected_error_message
from tgdfer.training.face_crops.sources import Job
from tgdfer.training.files import UNWRITABLE, source_state
from tgdfer.training.video_writing import writing

logger = logging.getLogger(__name__)

# A square picture up to this size (pixels) is an aligned face if the face fills this share of its height.
_ALIGNED_SIDE, _ALIGNED_SHARE = 256, 0.6


def cut_clip(job: Job) -> dict[str, Any]:
    """Cuts the faces out of one video. It is read twice: to find the faces, and to write the crops.

    Args:
        job (`Job`): The video and the settings.

    Returns:
        The row of the clip, which contains only values that JSON can represent:

        - `file` and `source`: name of the clip, and size and modification time of its source;
        - `frames` and `missing`: number of frames, and indices of the frames without the face;
        - `crops`: names of the crops below `job.folder`;
        - `kept`: indices of the frames of each crop, or None for all frames;
        - `aligned`: whether the faces appear to be aligned already;
        - `seconds_looking`: time of decoding and face detection, in seconds;
        - `no_face`: why there is no crop, if no face was found;
        - `error`: why there is no crop, if the video cannot be read or another error occurs.

    Raises:
        OSError: If the folder of the crops is not writable or full, which affects all clips.
    """
    row = _empty_row(job)
    reader = _FrameReader()
    try:
        video = open_video(job.source)
        start = time.perf_counter()
        paths = locate_faces(reader.read(video), job.settings).paths
        if paths and job.settings.crop != "all":
            paths = [join_paths(paths)]  # At most one face per frame, in one file.
        row["seconds_looking"] = round(time.perf_counter() - start, 4)
        found = np.unique(np.concatenate([path.indices for path in paths])) if paths else np.zeros(0, np.int64)
        row |= {
            "frames": len(reader.numbers),
            "missing": np.setdiff1d(reader.numbers, found).tolist(),
            "aligned": _looks_aligned(paths, reader),
        }
        require_faces(paths, np.array(reader.numbers), job.settings, job.file)
        row["crops"] = _write_crops(video, paths, job)
        row["kept"] = [None if len(path.indices) == len(reader.numbers) else path.indices.tolist() for path in paths]
        if job.settings.no_face == "full_frame":
            row["kept"] = [None] * len(row["crops"])
    except NoFaceError as error:
        row["no_face"] = str(error)
    except VideoDecodeError as error:
        row["error"] = str(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE and _is_below(job.folder, error.filename):
            raise
        logger.debug("Cutting %s failed.", job.file, exc_info=True)
        row = _empty_row(job) | {"error": unexpected_error_message(job.file, "cut", error)}
    return row


def crashed_row(job: Job) -> dict[str, Any]:
    """Returns the row of a clip that crashed the process that read it."""
    reason = f"{job.file} crashes the process that reads it; encode it again or remove it."
    return _empty_row(job) | {"error": reason}


def use_one_thread() -> None:
    """Makes a worker process use one thread, because there is one process per processor."""
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _empty_row(job: Job) -> dict[str, Any]:
    """Returns the row of a clip without crops."""
    return {"file": job.file, "source": source_state(job.source), "crops": [], "kept": []}


def _is_below(folder: Path, name: Any) -> bool:
    """Returns whether the file of an error is in a folder."""
    return isinstance(name, str) and Path(name).absolute().is_relative_to(folder.absolute())


class _FrameReader:
    """Reads the frames of a video, and records their indices and their size.

    Attributes:
        numbers: Indices of the frames.
        size: Height and width in pixels.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.size = (0, 0)

    def read(self, video: Any) -> Iterator[tuple[int, float, torch.Tensor]]:
        """Yields index, seconds and picture (C, H, W) of every frame."""
        self.numbers = []
        for number, second, frame in stream(video, lambda _, total, __: np.arange(total)):
            self.numbers.append(number)
            self.size = (frame.shape[-2], frame.shape[-1])
            yield number, number / ASSUMED_FPS if second is None else second, frame


def _write_crops(video: Any, paths: Sequence[FacePath], job: Job) -> list[str]:
    """Writes a file for each face, and returns the names of the files."""
    stem = job.output.removesuffix(".mp4")
    names = [job.output] if len(paths) <= 1 else [f"{stem}-{number}.mp4" for number in range(1, len(paths) + 1)]
    with ExitStack() as files:
        writers = [
            files.enter_context(writing(job.folder / name, crf=15, comment=f"{CROP_MARK} {job.settings.size}"))
            for name in names
        ]
        # Without a face, `crop_face` returns the whole frames.
        faces: list[FacePath | None] = [*paths] or [None]
        for number, second, frame in _FrameReader().read(video):
            for path, writer in zip(faces, writers, strict=True):
                face = crop_face(frame[None], np.array([number]), path, job.settings)
                for crop in face.frames:
                    writer.write(second, crop.permute(1, 2, 0).numpy())
    return names


def _looks_aligned(paths: Sequence[FacePath], reader: _FrameReader) -> bool:
    """Returns whether the pictures appear to be aligned faces.

    Such pictures are small squares. The face fills them, or it is not detected because it is too large.
    """
    height, width = reader.size
    if max(height, width) > _ALIGNED_SIDE or abs(height - width) > 0.02 * max(height, width):
        return False
    if not paths or len(paths[0].indices) < len(reader.numbers) / 2:
        return True
    boxes = paths[0].boxes
    return bool(np.median(boxes[:, 3] - boxes[:, 1]) >= _ALIGNED_SHARE * height)
