"""Crops the faces of photographs with the settings of prediction, and caches the crops on disk."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich import get_console
from rich.progress import track
from safetensors.numpy import load_file, save_file

from tgdfer import processing
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.files import source_hash

# Size in pixels to which photographs are enlarged. The detector does not find faces of 48 pixels.
LARGE = 192
# Number of photographs per file of the cache. An interrupted run resumes with the first missing file.
_PART = 512


@dataclass(frozen=True)
class CropPart:
    """Crops of some photographs.

    Attributes:
        crops (`list[bytes]`): Grey crops, uint8 (224, 224) each, encoded as PNG.
        found (`list[bool]`): Whether a face was found in each photograph. Without a face, the centre square of the
            photograph is used.
    """

    crops: list[bytes]
    found: list[bool]

    def clips(self) -> list[np.ndarray]:
        """Returns the crops as RGB clips of one frame, uint8 (1, 224, 224, 3) each."""
        encoded = [np.frombuffer(crop, np.uint8) for crop in self.crops]
        return [np.asarray(cv2.imdecode(crop, cv2.IMREAD_COLOR_RGB))[None] for crop in encoded]


def cropped(
    pictures: Sequence[np.ndarray], folder: Path, face_model: Path | None, description: str = "Faces of photographs"
) -> Iterator[CropPart]:
    """Crops the faces of photographs, or reads the crops from the cache.

    Args:
        pictures (`Sequence[np.ndarray]`): Grey photographs, uint8 (H, W) each. Small ones are enlarged first.
        folder (`Path`): Folder of the cached crops.
        face_model (`Path`, *optional*): Path of the YuNet model. None loads it from the Hub.
        description (`str`, *optional*, defaults to `"Faces of photographs"`): Text of the progress bar.

    Yields:
        `CropPart`: The crops, in the order of the photographs.

    Raises:
        VideoDecodeError: If the detector cannot be loaded.
    """
    code = source_hash(processing)
    processor = TGDFERVideoProcessor(**crop_options(face_model))
    for start in track(range(0, len(pictures), _PART), description, console=get_console()):
        batch = pictures[start : start + _PART]
        digest = hashlib.sha256(json.dumps([code, crop_options(None)]).encode())
        for picture in batch:
            digest.update(json.dumps(picture.shape).encode() + picture.tobytes())
        path = folder / f"{digest.hexdigest()[:24]}.safetensors"
        if not path.is_file():
            _write(path, processor, batch)
        yield _read(path)


def crop_options(face_model: Path | None) -> dict[str, Any]:
    """Returns the options of the video processor: those of prediction, and the full picture if no face is found."""
    model = None if face_model is None else str(face_model)
    return {"face_crop": "largest", "face_detector": "yunet", "face_model": model, "no_face": "full_frame"}


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Converts a grey picture (H, W) to RGB, and enlarges it until the longer side has at least `LARGE` pixels."""
    scale = max(1.0, LARGE / max(picture.shape))
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(large, cv2.COLOR_GRAY2RGB)


def _write(path: Path, processor: TGDFERVideoProcessor, pictures: Sequence[np.ndarray]) -> None:
    faces = [processor.read_faces(enlarged(picture)[None], 1)[0] for picture in pictures]
    # The pictures are grey, so one channel is enough.
    encoded = [cv2.imencode(".png", face.frames[0, 0].numpy())[1].ravel() for face in faces]
    columns = {
        "crops": np.concatenate(encoded),
        "lengths": np.array([len(crop) for crop in encoded]),
        "found": np.array([bool(face.found.any()) for face in faces]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(columns, temporary)
    os.replace(temporary, path)


def _read(path: Path) -> CropPart:
    columns = load_file(path)
    crops = np.split(columns["crops"], np.cumsum(columns["lengths"])[:-1])
    return CropPart([crop.tobytes() for crop in crops], columns["found"].tolist())


def inputs(video_processor: TGDFERVideoProcessor, part: CropPart) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the inputs of a model for the crops, 64 at a time."""
    clips = part.clips()
    for start in range(0, len(clips), 64):
        batch = video_processor(clips[start : start + 64], num_frames=1, face_crop="none", return_tensors="pt")
        yield {name: batch[name] for name in ("pixel_values_videos", "frame_mask")}
