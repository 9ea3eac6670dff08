"""Accuracy on small, turned, dark and covered faces: `python -m benchmarks.face_limits`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from rich import get_console
from rich.progress import track

from benchmarks.harness.benchmark_dataset import Settings
from benchmarks.harness.command_options import errors_as_sentences, new_app, print_written
from benchmarks.harness.tables import paragraph
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.cropped_photographs import enlarged
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.console import hide_loading_bars
from tgdfer.processing.detectors_tgdfer import find_faces, load_detector
from tgdfer.processing.faces_tgdfer import FaceSettings, align
from tgdfer.processing.quality_tgdfer import (
    MAX_TURN,
    MIN_BRIGHTNESS,
    MIN_MOUTH_DETAIL,
    MIN_SCORE,
    MIN_WIDTH,
    quality_of,
    turn,
)
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit
from tgdfer.weights import DEFAULT_MODEL

app = new_app()

# Widths of the face in pixels, mean brightnesses of the crop (0 to 255), and shares of the face that are covered.
WIDTHS = (8, 12, 16, 18, 20, 24, 32)
BRIGHTNESSES = (5, 10, 15, 20, 25, 30, 45)
COVERS = (0.0, 0.2, 0.3, 0.4, 0.5)
# Standard deviation of simulated camera noise in the dark, on a scale of 0 to 255.
NOISE = 4.0
# Edges of the bins for the turn of the face and for the score of the detector.
TURNS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 2.0)
SCORES = (0.6, 0.8, 0.85, 0.9, 1.0)

# A row of a table: description, number of photographs, accuracy.
Row = tuple[str, int, float]


class Faces:
    """Validation photographs in which the detector finds a face, with the detected faces and the labels.

    Args:
        dataset (`PhotographDataset`): The photographs.
        face_model (`Path`, *optional*): Path of the YuNet model. None loads it from the Hub.
        count (`int`): Number of photographs to search.
    """

    def __init__(self, dataset: PhotographDataset, face_model: Path | None, count: int):
        self.detector = load_detector("yunet", None if face_model is None else str(face_model))[1]
        self.pictures: list[np.ndarray] = []
        self.faces: list[np.ndarray] = []
        self.labels: list[str] = []
        pictures = list(dataset.pictures("validation"))[:count]
        for picture, label in zip(
            track(pictures, "Faces", console=get_console()), dataset.labels["validation"], strict=False
        ):
            large = enlarged(picture)
            detections = find_faces(self.detector, large)
            if len(detections):
                self.pictures.append(large)
                self.faces.append(max(detections, key=lambda face: face[2] * face[3]))
                self.labels.append(label)
        self.detections = np.stack(self.faces)

    def crops(self, change: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> list[np.ndarray]:
        """Returns aligned crops (S, S, 3) of the faces.

        Args:
            change (`Callable`, *optional*): `change(picture, face)` returns a modified picture, from which the face is
                cropped.
        """
        size, margin = FaceSettings.size, FaceSettings.margin
        changed = self.pictures if change is None else map(change, self.pictures, self.faces)
        return [
            align(picture, face[4:14].reshape(5, 2), size, margin)
            for picture, face in zip(changed, self.faces, strict=True)
        ]


class CropClassifier:
    """Classifies crops of faces with a trained model.

    Args:
        model (`str`): Folder of a run or of a model, Hub id, or name of a model in the package.
    """

    def __init__(self, model: str):
        trained = TrainedModel(model)
        self.network, processor = trained.network
        self.classes = trained.classes
        self.processor = trained.video_processor(processor.video_processor)

    def correct(self, crops: Sequence[np.ndarray], labels: Sequence[str], description: str) -> np.ndarray:
        """Returns a mask (N,) of the crops that are classified correctly.

        Args:
            crops (`Sequence[np.ndarray]`): N crops (S, S, 3).
            labels (`Sequence[str]`): True label of each crop.
            description (`str`): Text of the progress bar.
        """
        predicted = []
        for start in track(range(0, len(crops), 64), description, console=get_console()):
            clips = [crop[None] for crop in crops[start : start + 64]]
            batch = self.processor(clips, num_frames=1, face_crop="none", return_tensors="pt")
            with torch.inference_mode():
                predicted += self.network(**batch).logits.argmax(-1).tolist()
        return np.array([self.classes[index] == label for index, label in zip(predicted, labels, strict=True)])


def reduce_width(width: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function that reduces the resolution of a picture until its face is `width` pixels wide."""

    def change(picture: np.ndarray, face: np.ndarray) -> np.ndarray:
        scale = min(1.0, width / face[2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)

    return change


def darken(crop: np.ndarray, brightness: int, rng: np.random.Generator) -> np.ndarray:
    """Darkens a crop to a mean brightness (0 to 255), and adds camera noise."""
    noisy = crop * min(1.0, brightness / max(crop.mean(), 1.0)) + rng.normal(0, NOISE, crop.shape[:2])[..., None]
    return np.clip(noisy, 0, 255).astype(np.uint8)


def cover(share: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function that covers a share (0 to 1) of a face from below, like a hand, a scarf or a microphone.

    The cover has the median colour of the picture.
    """

    def change(picture: np.ndarray, face: np.ndarray) -> np.ndarray:
        left, right = (max(0, round(side)) for side in (face[0], face[0] + face[2]))
        top, bottom = max(0, round(face[1] + (1 - share) * face[3])), max(0, round(face[1] + 1.1 * face[3]))
        result = picture.copy()
        if share and top < bottom:
            result[top:bottom, left:right] = np.median(picture.reshape(-1, 3), 0)
        return result

    return change


@app.command()
def face_limits(
    photographs: Annotated[Path, typer.Option(envvar="TGDFER_FERPLUS", help="Parquet file of FER+.")],
    face_model: Annotated[
        Path | None,
        typer.Option(envvar="TGDFER_FACE_MODEL", help="File of the YuNet model. By default it comes from the Hub."),
    ] = None,
    model: Annotated[
        str, typer.Option(envvar="TGDFER_TRAINED", help="Trained TG-DFER model: a name, a folder or a Hub id.")
    ] = DEFAULT_MODEL,
    count: Annotated[int, typer.Option(min=100, help="Number of validation photographs to search for faces.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Markdown file of the report.")] = None,
) -> None:
    """Measure how the accuracy of a model falls if a face is small, turned, dark or covered."""
    hide_loading_bars()
    with errors_as_sentences():
        dataset = PhotographDataset(photographs, Settings(), Path("runs/face_limits"), face_model)
        faces, classifier = Faces(dataset, face_model, count), CropClassifier(model)
        rng = np.random.default_rng(0)
        labels, crops = faces.labels, faces.crops()
        unchanged = classifier.correct(crops, labels, "Unchanged")
        turns = turn(faces.detections[:, 4:14].reshape(-1, 5, 2))
        tables = {
            "width of the face in pixels": [
                _row(str(width), classifier.correct(faces.crops(reduce_width(width)), labels, f"{width} pixels"))
                for width in WIDTHS
            ],
            "mean brightness of the crop, 0 to 255": [
                _row(str(light), classifier.correct([darken(crop, light, rng) for crop in crops], labels, f"{light}"))
                for light in BRIGHTNESSES
            ],
            "share of the face that is covered from below": [_cover_row(share, faces, classifier) for share in COVERS],
            "turn, as measured for the warning": _binned(turns, TURNS, unchanged),
            "score of the detector": _binned(faces.detections[:, 14], SCORES, unchanged),
        }
        text = _report(unchanged, tables, model)
        get_console().print(text, markup=False, highlight=False, soft_wrap=True)
        if out is not None:
            write_text(out, text)
            print_written(out)


def _row(name: str, correct: np.ndarray) -> Row:
    return name, len(correct), float(correct.mean())


def _cover_row(share: float, faces: Faces, classifier: CropClassifier) -> Row:
    """Measures covered faces: accuracy, median score of the detector, and the share of faces reported as covered."""
    change = cover(share)
    crops = faces.crops(change)
    correct = classifier.correct(crops, faces.labels, f"Covered {share:.0%}")
    scores = [
        max((face[14] for face in find_faces(faces.detector, change(picture, face))), default=0.0)
        for picture, face in zip(faces.pictures, faces.faces, strict=True)
    ]
    detail = quality_of(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), FaceSettings.margin)[:, 1]
    reported = (detail < MIN_MOUTH_DETAIL).mean()
    name = f"{share:.0%} (median score {np.median(scores):.2f}, {reported:.1%} reported as covered)"
    return _row(name, correct)


def _binned(values: np.ndarray, edges: Sequence[float], correct: np.ndarray) -> list[Row]:
    """Returns the accuracy in each bin of `values` (N,) that contains at least 20 faces."""
    rows = []
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (values >= low) & (values < high)
        if inside.sum() >= 20:
            rows.append(_row(f"{low:g} to {high:g}", correct[inside]))
    return rows


def _report(unchanged: np.ndarray, tables: dict[str, list[Row]], model: str) -> str:
    lines = [
        "# When a face is hard to read",
        "",
        paragraph(
            "`tgdfer predict` warns if a face is small, turned away, covered, dark or hard to recognise in most of"
            " its frames. These tables show how the accuracy of a model depends on these conditions. They use"
            " validation photographs of FER+ in which YuNet finds a face. On the unchanged photographs the accuracy"
            f" is {unchanged.mean():.1%} of {len(unchanged)}. Width, brightness and cover are changed artificially, so"
            " all rows of these tables show the same photographs. Turn and score are properties of the photographs,"
            " so each row of these tables shows different people."
        ),
        "",
        paragraph(
            f"`tgdfer predict` warns below a width of {MIN_WIDTH} pixels, a brightness of {MIN_BRIGHTNESS} or a"
            f" detector score of {MIN_SCORE}, and above a turn of {MAX_TURN} (`processing/quality_tgdfer.py`). It"
            f" reports a face as covered if the mouth has less than {MIN_MOUTH_DETAIL:.0%} of the detail of the"
            " eyes. The covers in this benchmark have a single colour. A cover with a pattern is not detected."
        ),
        "",
        f"Model: {Path(model).name}. Commit: `{(commit() or 'unknown')[:7]}`. Command:",
        "`python -m benchmarks.face_limits --photographs FILE --out docs/results/face_limits.md`",
    ]
    for title, rows in tables.items():
        lines += ["", f"| {title} | photographs | accuracy |", "| --- | --- | --- |"]
        lines += [f"| {name} | {count} | {share:.1%} |" for name, count, share in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
