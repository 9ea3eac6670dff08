"""Photographs with the face cut out as prediction cuts it out. The crops are kept on disk, some hundred to a file."""

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

# The detector finds no faces of 48 pixels, so photographs are enlarged to this many.
LARGE = 192
# Photographs to a file. An interrupted run goes on with the first file that is missing.
_PART = 512


@dataclass(frozen=True)
class CropPart:
    """Crops of some photographs.

    Attributes:
        crops: grey crops, uint8 (224, 224) each, as PNG.
        found: whether a face was found; a photograph without one is cropped to its middle square.
    """

    crops: list[bytes]
    found: list[bool]

    def clips(self) -> list[np.ndarray]:
        """The crops as RGB clips of one frame, uint8 (1, 224, 224, 3) each."""
        encoded = [np.frombuffer(crop, np.uint8) for crop in self.crops]
        return [np.asarray(cv2.imdecode(crop, cv2.IMREAD_COLOR_RGB))[None] for crop in encoded]


def cropped(
    pictures: Sequence[np.ndarray], folder: Path, face_model: Path | None, what: str = "Faces of photographs"
) -> Iterator[CropPart]:
    """Cuts the faces out of photographs, or reads them where they are cut out already.

    Args:
        pictures: grey photographs, uint8 (H, W) each. Small ones are enlarged first.
        folder: folder of the crops.
        face_model: path of YuNet's model; None takes it from the Hub.
        what: text of the progress bar.

    Yields:
        The crops, in the order of the photographs.

    Raises:
        VideoDecodeError: if the detector cannot be loaded.
    """
    code = source_hash(processing)
    processor = TGDFERVideoProcessor(**crop_options(face_model))
    for start in track(range(0, len(pictures), _PART), what, console=get_console()):
        some = pictures[start : start + _PART]
        digest = hashlib.sha256(json.dumps([code, crop_options(None)]).encode())
        for picture in some:
            digest.update(json.dumps(picture.shape).encode() + picture.tobytes())
        path = folder / f"{digest.hexdigest()[:24]}.safetensors"
        if not path.is_file():
            _write(path, processor, some)
        yield _read(path)


def crop_options(face_model: Path | None) -> dict[str, Any]:
    """Options of the video processor: the defaults of prediction, and the whole picture where no face is found."""
    model = None if face_model is None else str(face_model)
    return {"face_crop": "largest", "face_detector": "yunet", "face_model": model, "no_face": "full_frame"}


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A grey picture (H, W) as RGB, in cubic interpolation, with its longer side of at least `LARGE` pixels."""
    scale = max(1.0, LARGE / max(picture.shape))
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(large, cv2.COLOR_GRAY2RGB)


def _write(path: Path, processor: TGDFERVideoProcessor, pictures: Sequence[np.ndarray]) -> None:
    faces = [processor.read_faces(enlarged(picture)[None], 1)[0] for picture in pictures]
    # The pictures are grey, so one of the channels is enough.
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
    """Inputs of a model for the crops of a part, 64 at a time."""
    clips = part.clips()
    for start in range(0, len(clips), 64):
        batch = video_processor(clips[start : start + 64], num_frames=1, face_crop="none", return_tensors="pt")
        yield {name: batch[name] for name in ("pixel_values_videos", "frame_mask")}
