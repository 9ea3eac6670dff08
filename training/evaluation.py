"""How good a model is on a split that it has not seen: labels of clips, and the frames that carry them."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich import get_console
from rich.progress import track
from rich.table import Table

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import TrainingConfig, read_yaml, write_text
from tgdfer.training.data import Clips, LabelledClips, load_clips, require_readable
from tgdfer.training.errors import UserError
from tgdfer.training.metrics import load_metric
from tgdfer.training.models import load_trained


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


def evaluate_model(
    model: str | Path,
    dataset: str | None = None,
    split: str | None = None,
    *,
    output: str | Path | None = None,
    which: str = "best",
    baseline: bool = False,
    dataset_config: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
    batch_size: int = 16,
    workers: int = 0,
    command: str | None = None,
) -> dict[str, Any]:
    """Measures a model on a split and writes `metrics.json`, `predictions.csv` and `figures/confusion_matrix.png`.

    Args:
        model: folder of a run, or of a model, or Hub id.
        dataset: as in `load_clips`; by default the one that the run was trained on.
        split: its split; by default the run's `test_split`, or "test".
        output: where to write; by default the run's folder. Without run and output nothing is written.
        which: "best" or "last" of a run.
        baseline: also train and measure the baseline on the data of the run.
        dataset_config: configuration of a Hub data set; by default the run's.
        video_column: by default the run's.
        label_column: by default the run's.
        batch_size: clips a step.
        workers: processes that decode.
        command: the command line that does the same, for the record.

    Returns:
        WAR (`war`), UAR (`uar`), recall of each class, confusion matrix (rows are true classes), and frame AP and
        pointing where the data set has the intensity of every frame (else None); all from 0 to 1.

    Raises:
        UserError: if model or data set cannot be read, the split has labels that the model lacks, or a baseline is
            asked for where there is no run.
    """
    if command is None:
        chosen = [("dataset", dataset), ("split", split), ("which", None if which == "best" else which)]
        command = " ".join([f"tgdfer evaluate {model}", *(f"--{name} {value}" for name, value in chosen if value)])
        command += " --baseline" if baseline else ""
    run = Path(model) if (Path(model) / "config.yaml").is_file() else None
    source: str | Path = model
    if run is not None:
        trained = TrainingConfig.from_dict(read_yaml(run / "config.yaml"))
        source, output = run / which, output or run
        if not source.is_dir():
            raise UserError(f"{run} has no {which!r} model yet: finish its training with `tgdfer train --resume`.")
        split = split or trained.test_split
        if dataset in (None, trained.dataset):
            dataset = trained.dataset
            dataset_config = dataset_config or trained.dataset_config
            video_column = video_column or trained.video_column
            label_column = label_column or trained.label_column
    elif baseline:
        raise UserError(f"{model} is not the folder of a run, so there is nothing to train its baseline on.")
    if dataset is None:
        raise UserError(f"{model} is not the folder of a run: name the data set to evaluate on with --dataset.")
    split = split or "test"

    network, processor = load_trained(source)
    clips = load_clips(dataset, split, dataset_config, video_column, label_column)
    require_known(clips, list(network.config.id2label.values()), split)
    require_readable(clips, processor.video_processor)
    predictions = list(predict_clips(network, processor.video_processor, clips, batch_size, workers))
    metrics = {
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else dataset,
        "split": split,
        "num_clips": len(clips),
        "num_people": len(set(clips.people)) if clips.people else None,
        "model": which if run else str(model),
        "command": command,
        **measure(clips, predictions, list(network.config.id2label.values())),
    }
    if run is not None and (run / "training.json").is_file():
        metrics["training"] = json.loads((run / "training.json").read_text(encoding="utf-8"))
        if baseline:
            metrics["baseline"] = _baseline(trained, metrics["training"]["base_model"], clips, predictions)
    if output is not None:
        _write(Path(output), metrics, clips, predictions)
    return metrics


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
    recognition = load_metric("expression_recognition").compute(
        predictions=[prediction.label for prediction in predictions], references=clips.labels, labels=labels
    )
    emotional = [prediction for prediction, label in zip(predictions, clips.labels, strict=True) if label != "neutral"]
    shown = [prediction for prediction in emotional if not np.isnan(prediction.intensity).any()]
    localisation: dict[str, Any] = {}
    if shown:
        localisation = load_metric("frame_localisation").compute(
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

    def add(title: str, *values: float | None, style: str = "") -> None:
        model, beside, random = values
        cells = [model, *([beside] if baseline else []), random]
        table.add_row(title, *("" if cell is None else f"{100 * cell:.1f}" for cell in cells), style=style)

    for label, recall in metrics["recall"].items():
        add(f"recall of {label}", recall, None, None)
    table.add_section()
    chance = 1 / len(metrics["labels"])
    add("UAR (mean recall)", metrics["uar"], baseline.get("uar"), chance, style="bold")
    add("WAR (accuracy)", metrics["war"], baseline.get("war"), None, style="bold")
    if metrics["frame_ap"] is not None:
        add("frame AP", metrics["frame_ap"], baseline.get("frame_ap"), metrics["random_frame_ap"], style="bold")
        add("pointing", metrics["pointing"], baseline.get("pointing"), metrics["random_pointing"], style="bold")
    if metrics["activity_gain"] is not None:
        add("activity gain", metrics["activity_gain"], baseline.get("activity_gain"), 1.0)
    get_console().print(table)


def _baseline(
    config: TrainingConfig, base_model: str, clips: LabelledClips, predictions: list[Prediction]
) -> dict[str, Any]:
    from tgdfer.training.baseline import mean_baseline

    columns = (config.dataset_config, config.video_column, config.label_column)
    train = load_clips(config.dataset, config.train_split, *columns)
    return mean_baseline(config, base_model, train, clips, predictions)


def _write(folder: Path, metrics: dict[str, Any], clips: LabelledClips, predictions: list[Prediction]) -> None:
    from tgdfer.training.plots import plot_confusion_matrix

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "label", "predicted", "score", "person"])
    people = clips.people or [""] * len(clips)
    for file, label, prediction, person in zip(clips.files, clips.labels, predictions, people, strict=True):
        writer.writerow([file, label, prediction.label, f"{prediction.score:.4f}", person])
    write_text(folder / "predictions.csv", table.getvalue())
    plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], folder / "figures" / "confusion_matrix.png")
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
