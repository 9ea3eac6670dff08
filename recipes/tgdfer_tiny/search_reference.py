"""Computes the reference of `tgdfer-tiny` for searching: the distribution of its frame embeddings over many faces.

Half of the weight is on photographs of real faces, and half on rendered faces. Neither were used to train the model,
and neither are in a test split.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recipes.clip_tiny_faces.augmentation import normalise
from recipes.clip_tiny_faces.ferplus import SIZE, crop_face
from recipes.clip_tiny_faces.stills import render_stills
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.detectors_tgdfer import load_detector
from tgdfer.processing.search_tgdfer import SearchReference
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, write_text
from tgdfer.training.models import load_trained

# Name of the split of rendered people. No other data set has people of this split.
SPLIT = "search reference"
_BATCH = 64


@dataclass(frozen=True)
class Faces:
    """The faces of the reference.

    Attributes:
        ferplus (`Path`): Parquet file of FER2013 with the votes of FER+. Its validation split is used.
        face_model (`Path`, *optional*): File of the YuNet model. None loads it from the Hub.
        photographs (`int`, *optional*, defaults to `2000`): Number of photographs. Those without a face are left out.
        rendered (`int`, *optional*, defaults to `2000`): Number of rendered faces, of half as many people.
        seed (`int`, *optional*, defaults to `0`): Random seed of both.
    """

    ferplus: Path
    face_model: Path | None = None
    photographs: int = 2000
    rendered: int = 2000
    seed: int = 0


def write_reference(folder: Path, faces: Faces, progress: Callable[[str], None]) -> SearchReference:
    """Computes the reference of a model, and writes it to the `processor_config.json` in its folder.

    Args:
        folder (`Path`): Folder of a model.
        faces (`Faces`): The faces.
        progress (`Callable[[str], None]`): Called with a sentence after each step.

    Raises:
        UserError: If the photographs or the model cannot be read.
    """
    model, _ = load_trained(folder)
    photographs = _photographs(faces)
    progress(f"Cropped {len(photographs)} photographs.")
    rendered = render_stills(faces.rendered, faces.rendered // 2, faces.seed, SPLIT).images
    progress(f"Rendered {len(rendered)} faces.")
    parts = [embed(model, photographs), embed(model, list(rendered))]
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
    source = (
        f"{len(photographs)} photographs of the validation split of FER2013 (FER+), and {len(rendered)} rendered faces"
    )
    reference = SearchReference.fit(torch.cat(parts), torch.from_numpy(weights), source)
    path = folder / "processor_config.json"
    config = read_json(path) | {"search_reference": reference.to_dict()}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    return reference


@torch.inference_mode()
def embed(model: TGDFERForVideoClassification, pictures: Sequence[np.ndarray]) -> Tensor:
    """Encodes N RGB pictures, uint8 (S, S, 3) each, and returns their embeddings (N, D)."""
    parts = []
    for start in range(0, len(pictures), _BATCH):
        pixels = torch.from_numpy(np.stack(pictures[start : start + _BATCH])).permute(0, 3, 1, 2).float().div(255)
        parts.append(model.get_frame_features(normalise(pixels)[:, None])[:, 0])
    return torch.cat(parts)


def _photographs(faces: Faces) -> list[np.ndarray]:
    """Returns the cropped faces of random photographs of the validation split, uint8 (112, 112, 3) each."""
    try:
        table = pq.read_table(faces.ferplus, columns=["image", "split", "near"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{faces.ferplus} cannot be read as a parquet file of photographs ({error}).") from error
    rows = table.select(["split", "near"]).to_pylist()
    usable = [index for index, row in enumerate(rows) if row["split"] == "validation" and not row["near"]]
    chosen = np.random.default_rng(faces.seed).permutation(usable)[: faces.photographs]
    detector = load_detector("yunet", None if faces.face_model is None else str(faces.face_model))[1]
    crops = []
    for row in chosen.tolist():
        encoded = np.frombuffer(table["image"][row]["bytes"].as_py(), np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise UserError(f"{faces.ferplus}: the image in row {row} cannot be read; download the file again.")
        crop = crop_face(picture, detector)
        if crop is not None:
            crops.append(np.repeat(cv2.resize(crop, (SIZE, SIZE))[..., None], 3, axis=2))
    return crops
