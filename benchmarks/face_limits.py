"""When a face is hard to read: accuracy by width, turn, light and cover: `python -m benchmarks.face_limits`."""

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
from benchmarks.harness.provenance import commit
from benchmarks.harness.tables import paragraph
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.cropped_photographs import enlarged
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.console import hide_loading_bars
from tgdfer.processing.detectors_tgdfer import find_faces, load_detector
from tgdfer.processing.faces_tgdfer import FaceSettings, align
from tgdfer.processing.quality_tgdfer import (
    LEAST_BRIGHTNESS,
    LEAST_MOUTH_DETAIL,
    LEAST_SCORE,
    LEAST_WIDTH,
    MOST_TURNED,
    quality_of,
    turn,
)
from tgdfer.training.files import write_text
from tgdfer.weights import DEFAULT_MODEL

app = new_app()

WIDTHS = (8, 12, 16, 18, 20, 24, 32)
BRIGHTNESSES = (5, 10, 15, 20, 25, 30, 45)
COVERS = (0.0, 0.2, 0.3, 0.4, 0.5)
# Standard deviation of the noise of a camera in the dark, of 255.
NOISE = 4.0
TURNS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 2.0)
SCORES = (0.6, 0.8, 0.85, 0.9, 1.0)

Row = tuple[str, int, float]


class Faces:
    """Validation photographs in which a face is found, and what is seen of it.

    Args:
        dataset (`PhotographDataset`): The photographs.
        face_model (`Path`, *optional*): Path of YuNet's model.
        count (`int`): How many photographs are used.
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
            found = find_faces(self.detector, large)
            if len(found):
                self.pictures.append(large)
                self.faces.append(max(found, key=lambda face: face[2] * face[3]))
                self.labels.append(label)
        self.rows = np.stack(self.faces)

    def crops(self, change: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> list[np.ndarray]:
        """Aligned crops (S, S, 3), of pictures that are changed before."""
        size, margin = FaceSettings.size, FaceSettings.margin
        changed = self.pictures if change is None else map(change, self.pictures, self.faces)
        return [
            align(picture, face[4:14].reshape(5, 2), size, margin)
            for picture, face in zip(changed, self.faces, strict=True)
        ]


class Judge:
    """Tells whether a trained model is right about crops."""

    def __init__(self, model: str):
        trained = TrainedModel(model)
        self.network, processor = trained.network
        self.classes = trained.classes
        self.processor = trained.video_processor(processor.video_processor)

    def right(self, crops: Sequence[np.ndarray], labels: Sequence[str], what: str) -> np.ndarray:
        """Mask (N,) of the crops that get their label."""
        found = []
        for start in track(range(0, len(crops), 64), what, console=get_console()):
            some = [crop[None] for crop in crops[start : start + 64]]
            batch = self.processor(some, num_frames=1, face_crop="none", return_tensors="pt")
            with torch.inference_mode():
                found += self.network(**batch).logits.argmax(-1).tolist()
        return np.array([self.classes[index] == label for index, label in zip(found, labels, strict=True)])


def narrower(width: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Shrinks a picture until its face is so many pixels wide, and enlarges it again."""

    def change(picture: np.ndarray, face: np.ndarray) -> np.ndarray:
        scale = min(1.0, width / face[2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)

    return change


def darker(crop: np.ndarray, brightness: int, rng: np.random.Generator) -> np.ndarray:
    """Darkens a crop to a mean brightness, with the noise of a camera."""
    noisy = crop * min(1.0, brightness / max(crop.mean(), 1.0)) + rng.normal(0, NOISE, crop.shape[:2])[..., None]
    return np.clip(noisy, 0, 255).astype(np.uint8)


def covered(share: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Covers a face from below, as a hand, a scarf or a microphone does, in the colour of skin."""

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
        Path | None, typer.Option(envvar="TGDFER_FACE_MODEL", help="File of YuNet, instead of the Hub's.")
    ] = None,
    model: Annotated[str, typer.Option(envvar="TGDFER_TRAINED", help="A trained TG-DFER.")] = DEFAULT_MODEL,
    count: Annotated[int, typer.Option(min=100, help="Validation photographs that are used.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Report to write, in Markdown.")] = None,
) -> None:
    """Measure on validation photographs when a model is less often right because a face is hard to read."""
    hide_loading_bars()
    with errors_as_sentences():
        dataset = PhotographDataset(photographs, Settings(), Path("runs/face_limits"), face_model)
        faces, judge = Faces(dataset, face_model, count), Judge(model)
        rng = np.random.default_rng(0)
        crops = faces.crops()
        plain = judge.right(crops, faces.labels, "As they are")
        tables = {
            "width of the face in pixels": [
                _row(str(width), judge.right(faces.crops(narrower(width)), faces.labels, f"{width} pixels"))
                for width in WIDTHS
            ],
            "mean brightness of the crop, 0 to 255": [
                _row(str(light), judge.right([darker(crop, light, rng) for crop in crops], faces.labels, f"{light}"))
                for light in BRIGHTNESSES
            ],
            "share of the face that is covered from below": [_cover_row(share, faces, judge) for share in COVERS],
            "turn, as the warning measures it": _binned(turn(faces.rows[:, 4:14].reshape(-1, 5, 2)), TURNS, plain),
            "score of the detector": _binned(faces.rows[:, 14], SCORES, plain),
        }
        text = _report(plain, tables, model)
        get_console().print(text, markup=False, highlight=False, soft_wrap=True)
        if out is not None:
            write_text(out, text)
            print_written(out)


def _row(name: str, right: np.ndarray) -> Row:
    return name, len(right), float(right.mean())


def _cover_row(share: float, faces: Faces, judge: Judge) -> Row:
    """Accuracy on covered faces, with the median score of the detector and the share that is called covered."""
    change = covered(share)
    crops = faces.crops(change)
    right = judge.right(crops, faces.labels, f"Covered {share:.0%}")
    scores = [
        max((face[14] for face in find_faces(faces.detector, change(picture, face))), default=0.0)
        for picture, face in zip(faces.pictures, faces.faces, strict=True)
    ]
    detail = quality_of(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), FaceSettings.margin)[:, 1]
    noticed = (detail < LEAST_MOUTH_DETAIL).mean()
    return (
        f"{share:.0%} (median score {np.median(scores):.2f}, {noticed:.1%} noticed)",
        len(right),
        float(right.mean()),
    )


def _binned(values: np.ndarray, edges: Sequence[float], right: np.ndarray) -> list[Row]:
    rows = []
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (values >= low) & (values < high)
        if inside.sum() >= 20:
            rows.append(_row(f"{low:g} to {high:g}", right[inside]))
    return rows


def _report(plain: np.ndarray, tables: dict[str, list[Row]], model: str) -> str:
    lines = [
        "# When a face is hard to read",
        "",
        paragraph(
            "`tgdfer predict` warns when a face is small, turned away, covered, dark or hard to make out in most of"
            " its frames. These tables show when a model is right less often, on validation photographs of FER+ in"
            f" which YuNet finds a face (accuracy as they are: {plain.mean():.1%} of {len(plain)}). Width, brightness"
            " and cover are changed in the same photographs. Turn and score are those of the photographs themselves,"
            " so that these rows are of different people."
        ),
        "",
        paragraph(
            f"The limits are {LEAST_WIDTH} pixels, a brightness of {LEAST_BRIGHTNESS}, a turn of {MOST_TURNED} and a "
            f"score of {LEAST_SCORE} (`processing/quality_tgdfer.py`). A face counts as covered if its mouth has less "
            f"than {LEAST_MOUTH_DETAIL:.0%} of the detail of its eyes. The covers of this table have one colour. "
            "A cover with a pattern is not noticed."
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
