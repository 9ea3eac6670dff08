"""The most confident errors of a model, as film strips and as a list.

The film strips show faces of the data set. They are written to the folder `errors`, which `tgdfer push` never sends.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.figures.film_strips import FilmStrip, plot_film_strips
from tgdfer.training.files import printable, write_text
from tgdfer.training.measure import ClipPrediction, frame_scores

FOLDER = "errors"
# Default number of film strips.
SHOWN = 12
_NOTE = "Bars: score of each frame for the answer, compared with the highest score in the clip."


def confident_errors(
    true_labels: Sequence[str], predictions: Sequence[ClipPrediction], number: int = SHOWN
) -> list[int]:
    """Returns the indices of the wrong answers with the highest probabilities, the most confident one first."""
    wrong = [
        index
        for index, (label, prediction) in enumerate(zip(true_labels, predictions, strict=True))
        if label != prediction.label
    ]
    return sorted(wrong, key=lambda index: -predictions[index].score)[:number]


def write_confident_errors(
    folder: Path,
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    predictions: Sequence[ClipPrediction],
    number: int = SHOWN,
) -> None:
    """Writes `errors/most_confident.png` and `errors/most_confident.csv`. Files of an earlier evaluation are removed.

    Args:
        folder (`Path`): Folder of the results.
        model (`TGDFERForVideoClassification`): The model, on its device.
        video_processor (`TGDFERVideoProcessor`): Its video processor.
        clips (`LabelledClips`): The clips.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
        number (`int`, *optional*, defaults to 12): Number of errors. With 0, nothing is written.
    """
    picture, table = (folder / FOLDER / f"most_confident.{suffix}" for suffix in ("png", "csv"))
    for path in (picture, table):
        path.unlink(missing_ok=True)
    rows = confident_errors(clips.labels, predictions, number)
    if not rows:
        return
    picture.parent.mkdir(parents=True, exist_ok=True)
    strips = [_film_strip(model, video_processor, clips, index, predictions[index]) for index in rows]
    wrong = sum(label != prediction.label for label, prediction in zip(clips.labels, predictions, strict=True))
    title = f"The {len(rows)} most confident of {wrong} wrong answers"
    if wrong == len(rows):
        title = f"All {wrong} wrong answers, the most confident ones first" if wrong > 1 else "The only wrong answer"
    plot_film_strips(strips, picture, title, _NOTE)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "predicted", "score"])
    for index in rows:
        prediction = predictions[index]
        writer.writerow(
            [printable(clips.files[index]), clips.labels[index], prediction.label, f"{prediction.score:.4f}"]
        )
    write_text(table, text.getvalue())


def _film_strip(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    index: int,
    prediction: ClipPrediction,
) -> FilmStrip:
    """Reads the frames of a clip as the model sees them, with their scores for the answer: see `frame_scores`."""
    config: Any = model.config
    frames, seconds = video_processor.read_clip(clips.video(index), config.num_frames)
    inputs = video_processor(
        [frames],
        timestamps=[seconds],
        num_frames=config.num_frames,
        sampling="segments",
        face_crop="none",
        return_tensors="pt",
    ).to(model.device)
    with torch.inference_mode():
        output = model(**inputs)
    scores = frame_scores(output, inputs["frame_mask"], config)[0, :, config.class_names.index(prediction.label)]
    return FilmStrip(
        f"{clips.labels[index]}, called {prediction.label} ({prediction.score:.0%}): {printable(clips.files[index])}",
        [frame.permute(1, 2, 0).numpy() for frame in frames],
        scores[inputs["frame_mask"][0].bool()].float().cpu().tolist(),
        None if seconds is None else seconds.tolist(),
    )
