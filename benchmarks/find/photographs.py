"""The photographs of FER+ with a clear majority vote, and how well everyday phrases find their emotions."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from benchmarks.find.measure import Retrieval, precision_of, reference_of
from benchmarks.find.phrases import EMOTIONS
from benchmarks.real_faces.cropped_photographs import cropped, inputs
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.training.errors import UserError


def photograph_retrievals(
    search: EmotionSearchPipeline, path: Path, work: Path, face_model: Path | None
) -> dict[str, Retrieval]:
    """Searches the test photographs for each of the eight emotions by several phrases.

    Args:
        search (`EmotionSearchPipeline`): The pipeline.
        path (`Path`): Parquet file with the columns `image`, `label` (empty without a clear majority) and `split`.
        work (`Path`): Folder of the cached crops.
        face_model (`Path`, *optional*): Path of the YuNet model. None loads it from the Hub.

    Returns:
        `dict[str, Retrieval]`: The results by phrase. The other words are the phrases of the other emotions.

    Raises:
        UserError: If the file cannot be read.
    """
    pictures, labels = read_photographs(path)
    owners = [emotion for emotion, phrases in EMOTIONS.items() for _ in phrases]
    phrases = [phrase for phrases in EMOTIONS.values() for phrase in phrases]
    embeds = search.encode(phrases)
    scores = []
    for part in cropped(pictures, work / "crops", face_model):
        for batch in inputs(search.video_processor, part):
            with torch.inference_mode():
                frames = search.model.get_frame_features(batch["pixel_values_videos"].to(search.device))[:, 0]
            # A photograph has no mean over time, so the scores are those of the reference.
            scores.append(reference_of(search).scores(frames.float(), embeds).numpy())
    columns, found = np.concatenate(scores).T, {}
    for phrase, owner, column in zip(phrases, owners, columns, strict=True):
        right = np.array(labels) == owner
        others = [precision_of(one, right) for one, emotion in zip(columns, owners, strict=True) if emotion != owner]
        found[phrase] = Retrieval(owner, float(right.mean()), precision_of(column, right), float(np.mean(others)))
    return found


def read_photographs(path: Path) -> tuple[list[np.ndarray], list[str]]:
    """Returns the grey test photographs with a clear majority for an emotion, uint8 (H, W) each, and their labels.

    Raises:
        UserError: If the file or a photograph cannot be read.
    """
    try:
        table = pyarrow.parquet.read_table(path, columns=["image", "label", "split"])
    except (OSError, pyarrow.ArrowInvalid, KeyError) as error:
        raise UserError(f"{path} cannot be read as a parquet file of photographs ({error}).") from error
    pictures, labels = [], []
    for row, (label, split) in enumerate(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)):
        if split == "test" and label in EMOTIONS:
            encoded = np.frombuffer(table["image"][row]["bytes"].as_py(), np.uint8)
            picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise UserError(f"{path}: the image in row {row} cannot be read; fetch the file again.")
            pictures.append(picture)
            labels.append(label)
    return pictures, labels
