"""How good a model is on a split that it has not seen: labels of clips, and the frames that carry them."""

import csv
import hashlib
import io
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from rich import get_console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import Clips, LabelledClips, load_clips, load_parts, require_readable, write_left_out
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, read_yaml, require_writable, write_text
from tgdfer.training.metrics import localisation_figures, recognition_figures
from tgdfer.training.models import load_trained, model_source


@dataclass(frozen=True)
class Prediction:
    """What the model says of one clip of T frames.

    Attributes:
        label: the predicted label.
        score: its probability.
        relevance: weight of each frame in the logit of the true class, T of them.
        intensity: true intensity of the same frames; NaN where unknown.
        activity: summed intensity of their action units; NaN where unknown.
    """

    label: str
    score: float
    relevance: list[float]
    intensity: list[float]
    activity: list[float]


@dataclass(frozen=True)
class _Subject:
    """What is evaluated on what, with all that a run decides filled in.

    Attributes:
        model: "best" or "last" of a run, or the model as it was given.
        source: folder of the model, or Hub id.
        data: dataset, split, configuration, video column and label column, as `load_clips` takes them.
        output: where to write; None to write nothing.
        run: config of the run; None of a model without one.
        facts: what the run says of its training.
    """

    model: str
    source: str | Path
    data: tuple[str, str, str | None, str | None, str | None]
    output: Path | None
    run: TrainingConfig | None
    facts: dict[str, Any] | None


def evaluate_model(
    model: str | Path,
    dataset: str | None = None,
    split: str | None = None,
    *,
    output: str | Path | None = None,
    which: Literal["best", "last"] = "best",
    baseline: bool = False,
    dataset_config: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    batch_size: int = 16,
    workers: int = 0,
) -> dict[str, Any]:
    """Measures a model on a split and writes `metrics.json`, `predictions.csv` and `figures/confusion_matrix.png`.

    Args:
        model: folder of a run, or of a model, or Hub id.
        dataset: as in `load_clips`; by default the one that the run was trained on.
        split: its split; by default the run's `test_split`, or "test".
        output: where to write; by default the run's folder. Without run and output nothing is written.
        which: model of a run.
        baseline: also train and measure the baseline on the data of the run; all else is written before.
        dataset_config: configuration of a Hub data set; by default the run's.
        video_column: by default the run's.
        label_column: by default the run's.
        batch_size: clips a step.
        workers: processes that decode.

    Returns:
        WAR (`war`), UAR (`uar`), recall of each class, confusion matrix (rows are true classes), and frame AP and
        pointing where the data set has the intensity of every frame (else None); all from 0 to 1.

    Raises:
        UserError: if model or data set cannot be read, the split has labels that the model lacks, or a baseline is
            asked for where there is no run.
    """
    columns = {"dataset_config": dataset_config, "video_column": video_column, "label_column": label_column}
    if baseline and not (Path(model) / "config.yaml").is_file():
        raise UserError(f"{model} is not the folder of a run, so there is nothing to train its baseline on.")
    subject = _subject(model, dataset, split, which, output, **columns)
    if subject.output is not None:
        require_writable(subject.output / "metrics.json")
    network, processor = load_trained(subject.source)
    if subject.run is not None:  # The path is one of this machine, and not saved with the model.
        processor.video_processor.face_model = subject.run.face_model
    labels = list(network.config.id2label.values())
    clips = load_clips(*subject.data)
    require_known(clips, labels, subject.data[1])
    require_readable(clips, processor.video_processor)
    predictions = list(predict_clips(network, processor.video_processor, clips, batch_size, workers))
    given = {"dataset": dataset, "split": split, "output": output, "which": None if which == "best" else which}
    metrics = {
        **_about(subject, clips),
        "command": _command(str(model), baseline, given | columns),
        **measure(clips, predictions, labels),
        **({"training": subject.facts} if subject.facts else {}),
    }
    if subject.output is not None:
        _write(subject.output, metrics, clips, predictions)
        write_left_out(subject.output, subject.data[1], clips)
        if baseline:
            metrics["baseline"] = _baseline(subject, clips, predictions)
            _write_metrics(subject.output, metrics)
    return metrics


def _subject(
    model: str | Path,
    dataset: str | None,
    split: str | None,
    which: str,
    output: str | Path | None,
    dataset_config: str | None,
    video_column: str | None,
    label_column: str | None,
) -> _Subject:
    folder = Path(model)
    output = None if output is None else Path(output)
    columns = (dataset_config, video_column, label_column)
    if not (folder / "config.yaml").is_file():
        if dataset is None:
            raise UserError(f"{model} is not the folder of a run: name the data set to evaluate on with --dataset.")
        return _Subject(str(model), model, (dataset, split or "test", *columns), output, None, None)
    run = TrainingConfig.from_dict(read_yaml(folder / "config.yaml"))
    if not (folder / which).is_dir():
        raise UserError(f"{model} has no {which!r} model yet: finish its training with `tgdfer train --resume`.")
    if dataset in (None, run.dataset):
        dataset = run.dataset
        columns = (
            dataset_config or run.dataset_config,
            video_column or run.video_column,
            label_column or run.label_column,
        )
    facts = read_json(folder / "training.json")
    return _Subject(which, folder / which, (dataset, split or run.test_split, *columns), output or folder, run, facts)


def _about(subject: _Subject, clips: LabelledClips) -> dict[str, Any]:
    """What the figures are of; folders by their names alone, as the figures may be published."""
    dataset, split = subject.data[:2]
    return {
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else dataset,
        "split": split,
        "num_clips": len(clips),
        "num_people": len(set(clips.people)) if clips.people else None,
        "model": subject.model,
        "weights_sha256": _sha256(Path(model_source(subject.source)) / "model.safetensors"),
    }


def _command(model: str, baseline: bool, given: dict[str, Any]) -> str:
    """The command line that does the same."""
    flags = [word for name, value in given.items() if value for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["tgdfer", "evaluate", model, *flags, *(["--baseline"] if baseline else [])])


def _sha256(weights: Path) -> str | None:
    """Hash of a file of weights; None where there is none, as for a Hub id or weights in several files."""
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def predict_clips(
    model: TGDFERForVideoClassification,
    video_processor: TGDFERVideoProcessor,
    clips: LabelledClips,
    batch_size: int = 16,
    workers: int = 0,
) -> Iterator[Prediction]:
    """What the model says of each clip, at the middle frames, in the order of the clips."""
    model = model.eval().to(PartialState().device)
    names = [name for _, name in sorted(model.config.id2label.items())]
    data = Clips(clips, names, video_processor, model.config.num_frames)
    loader = torch.utils.data.DataLoader(data, batch_size, num_workers=workers, collate_fn=data.collate)
    for batch in track(loader, "Evaluating", console=get_console()):
        labels, intensity, activity = (batch.pop(name) for name in ("labels", "intensity", "activity"))
        with torch.inference_mode():
            output = model(**{name: value.to(model.device) for name, value in batch.items()})
        scores, best = output.logits.float().softmax(-1).cpu().max(-1)
        for row, label in enumerate(labels.tolist()):
            seen = batch["frame_mask"][row]
            yield Prediction(
                label=names[int(best[row])],
                score=float(scores[row]),
                relevance=output.frame_relevance[row, :, label].float().cpu()[seen].tolist(),
                intensity=intensity[row][seen].tolist(),
                activity=activity[row][seen].tolist(),
            )


def measure(clips: LabelledClips, predictions: list[Prediction], labels: list[str]) -> dict[str, Any]:
    """The figures of `evaluate_model`, of clips and what a model says of them.

    Frames are measured in the clips that are not neutral and whose frames' intensity, or action units, are known.
    """
    recognition = recognition_figures(
        predictions=[prediction.label for prediction in predictions], references=clips.labels, labels=labels
    )
    emotional = [prediction for prediction, label in zip(predictions, clips.labels, strict=True) if label != "neutral"]
    shown = [prediction for prediction in emotional if not np.isnan(prediction.intensity).any()]
    localisation: dict[str, Any] = {}
    if shown:
        localisation = localisation_figures(
            predictions=[prediction.relevance for prediction in shown],
            references=[prediction.intensity for prediction in shown],
        )
    frames = ("frame_ap", "pointing", "random_frame_ap", "random_pointing", "position_frame_ap", "position_pointing")
    found = {name: localisation.get(name) for name in frames}
    return {"labels": labels, **recognition, **found, "activity_gain": activity_gain(emotional)}


def activity_gain(predictions: list[Prediction]) -> float | None:
    """How much more a face moves in the frames that decide: their action units against those of the whole clip.

    Returns:
        Activity of the most relevant quarter of the frames over that of all frames, mean over the clips whose action
        units are known and move; 1 is what random frames have. None if there is no such clip.
    """
    gains = []
    for prediction in predictions:
        activity = np.asarray(prediction.activity)
        if not np.isnan(activity).any() and activity.sum() > 0:
            top = np.argsort(prediction.relevance, kind="stable")[-max(1, round(len(activity) / 4)) :]
            gains.append(activity[top].mean() / activity.mean())
    return float(np.mean(gains)) if gains else None


def require_known(clips: LabelledClips, labels: list[str], split: str) -> None:
    """Checks that a model knows all labels of a split.

    Raises:
        UserError: if not, with the labels that it lacks.
    """
    unknown = sorted(set(clips.labels) - set(labels))
    if unknown:
        raise UserError(
            f"Split {split!r} has the labels {', '.join(unknown)}, which the model does not know: its classes are"
            f" {', '.join(labels)}."
        )


def print_metrics(metrics: dict[str, Any]) -> None:
    """Prints the figures of `evaluate_model` as a table, in percent."""
    baseline = metrics.get("baseline", {})
    table = Table(
        title=f"{metrics['dataset']}, {metrics['split']}: {metrics['num_clips']} clips", caption="in percent"
    )
    for name in ("", "model", *(["baseline"] if baseline else []), "random"):
        table.add_column(name, justify="right" if name else "left")

    def add(title: str, *values: float | None, style: str = "", unit: float = 100) -> None:
        model, beside, random = values
        cells = [model, *([beside] if baseline else []), random]
        table.add_row(title, *("" if cell is None else f"{unit * cell:.1f}" for cell in cells), style=style)

    for label, recall in metrics["recall"].items():
        add(escape(f"recall of {label}"), recall, None, None)
    table.add_section()
    chance = 1 / len(metrics["labels"])
    add("UAR (mean recall)", metrics["uar"], baseline.get("uar"), chance, style="bold")
    add("WAR (accuracy)", metrics["war"], baseline.get("war"), None, style="bold")
    if metrics["frame_ap"] is not None:
        add("frame AP", metrics["frame_ap"], baseline.get("frame_ap"), metrics["random_frame_ap"], style="bold")
        add("pointing", metrics["pointing"], baseline.get("pointing"), metrics["random_pointing"], style="bold")
    if metrics["activity_gain"] is not None:
        add("activity gain (a ratio)", metrics["activity_gain"], baseline.get("activity_gain"), 1.0, unit=1)
    get_console().print(table)


def _baseline(subject: _Subject, clips: LabelledClips, predictions: list[Prediction]) -> dict[str, Any]:
    """The figures of the baseline, trained on the very clips that the run was trained on."""
    from tgdfer.training.baseline import mean_baseline

    assert subject.run is not None and subject.facts is not None
    try:
        return mean_baseline(subject.run, subject.facts["base_model"], load_parts(subject.run)[0], clips, predictions)
    except UserError as error:
        raise UserError(f"All but the baseline is written to {subject.output}; of the baseline: {error}") from error


def _write(folder: Path, metrics: dict[str, Any], clips: LabelledClips, predictions: list[Prediction]) -> None:
    from tgdfer.training.figures import plot_confusion_matrix

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "label", "predicted", "score", "person"])
    people = clips.people or [""] * len(clips)
    for file, label, prediction, person in zip(clips.files, clips.labels, predictions, people, strict=True):
        writer.writerow([file, label, prediction.label, f"{prediction.score:.4f}", person])
    write_text(folder / "predictions.csv", table.getvalue())
    plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], folder / "figures" / "confusion_matrix.png")
    _write_metrics(folder, metrics)


def _write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
