"""Evaluation of a model on a split that it has not seen: its figures, predictions and confusion matrix."""

import csv
import hashlib
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.training.baseline import mean_baseline
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.left_out import write_left_out
from tgdfer.training.data.loading import load_clips, require_readable
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.figures.risk_coverage import plot_risk_coverage
from tgdfer.training.files import read_json, require_writable, write_text
from tgdfer.training.hardware import Hardware
from tgdfer.training.measure import ClipPrediction, measure_model, predict_clips
from tgdfer.training.models import load_trained, model_source
from tgdfer.training.processes import process_state
from tgdfer.training.run_folder import read_run_config
from tgdfer.weights import DEFAULT_MODEL


@dataclass(frozen=True)
class EvaluationData:
    """The split to evaluate on. What is None is taken from the run that is evaluated.

    Attributes:
        dataset: Hub id or folder; by default the data set that the run was trained on.
        split: by default the `test_split` of the run, or "test".
        dataset_config: configuration of a Hub data set that has several.
        video_column: column that holds the videos.
        label_column: column that holds the label.
    """

    dataset: str | None = None
    split: str | None = None
    dataset_config: str | None = None
    video_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class _Subject:
    """A model and the split it is evaluated on, with the defaults of the run filled in.

    Attributes:
        model: "best" or "last" of a run, or the model as it was given.
        source: folder of the model, or Hub id.
        data: the split, of which `dataset` and `split` are not None.
        output: where to write; None to write nothing.
        run: configuration of the run; None of a model without one.
        facts: the facts of its training.
    """

    model: str
    source: str | Path
    data: EvaluationData
    output: Path | None
    run: TrainingConfig | None = None
    facts: dict[str, Any] | None = None

    def load_clips(self) -> LabelledClips:
        """The clips of the split."""
        options = asdict(self.data)
        return load_clips(options.pop("dataset"), options.pop("split"), **options)


def evaluate_model(
    model: str | Path = DEFAULT_MODEL,
    data: EvaluationData | None = None,
    *,
    output: str | Path | None = None,
    which: Literal["best", "last"] = "best",
    baseline: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Measures a model on a split and writes `metrics.json`, `predictions.csv` and two figures.

    The figures are `figures/confusion_matrix.png` and `figures/risk_coverage.png`. Several processes, as `torchrun`
    and `accelerate launch` start them, share the clips. The main one writes, and all of them return the same figures.

    Args:
        model: folder of a run, or of a model, or Hub id; by default the model in the package.
        data: the split; by default the test split of the run.
        output: where to write; by default the folder of the run. Without run and output nothing is written.
        which: model of a run.
        baseline: also train and measure the baseline on the data of the run, after everything else is written.
        batch_size: clips per step, where `hardware` does not say it.
        workers: processes that decode clips.
        hardware: device and number format.

    Returns:
        WAR (`war`), UAR (`uar`), recall of each class, confusion matrix (rows are true classes), and frame AP and
        pointing where the data set has the intensity of every frame (else None); expected calibration error (`ece`),
        `risk_coverage_area` and, for a model that can be unsure, its `coverage` and the accuracy of the clips that it
        is sure of (`covered_war`); `calibrated`, whether it is; all but the last from 0 to 1. The label of a clip is
        the most probable one in all other figures, also where the model is unsure.

    Raises:
        UserError: model or data set cannot be read, the split has labels that the model lacks, or a baseline is asked
            for where there is no run.
    """
    if baseline and not (Path(model) / "config.yaml").is_file():
        raise UserError(f"{model} is not the folder of a run, so there is nothing to train its baseline on.")
    given = data or EvaluationData()
    subject = _subject(model, given, which, None if output is None else Path(output))
    if subject.output is not None:
        require_writable(subject.output / "metrics.json")
    hardware = hardware or Hardware()
    # Accelerate chooses the device where none is named.
    device = None if hardware.device == "auto" else hardware.torch_device()
    network, processor = load_trained(subject.source, **hardware.loading())
    if subject.run is not None:  # The path of the detector is not saved with the model, as it is one of this machine.
        processor.video_processor.face_model = subject.run.faces.face_model
    labels = list(network.config.id2label.values())
    clips = subject.load_clips()
    require_known(clips, labels, str(subject.data.split))
    require_readable(clips, processor.video_processor)
    size = hardware.batch_size or batch_size
    predictions = predict_clips(network, processor.video_processor, clips, size, workers, device)
    flags = {"dataset": given.dataset, "split": given.split, "output": output}
    flags |= {"which": None if which == "best" else which} | asdict(given)
    flags |= {"dtype": None if hardware.dtype == "auto" else hardware.dtype}
    metrics = {
        **_about(subject, clips),
        "command": _command(str(model), baseline, flags),
        **measure_model(clips.labels, predictions, network.config),
        **({"training": subject.facts} if subject.facts else {}),
    }
    if subject.output is not None:
        writes = process_state().is_main_process
        if writes:
            _write(subject.output, metrics, clips, predictions)
            write_left_out(subject.output, str(subject.data.split), clips)
        if baseline:  # All processes encode its clips.
            metrics["baseline"] = _baseline(subject, clips, predictions)
            if writes:
                _write_metrics(subject.output, metrics)
    return metrics


def _subject(model: str | Path, data: EvaluationData, which: str, output: Path | None) -> _Subject:
    folder = Path(model)
    if not (folder / "config.yaml").is_file():
        if data.dataset is None:
            raise UserError(f"{model} is not the folder of a run: name the data set to evaluate on with --dataset.")
        return _Subject(str(model), model, replace(data, split=data.split or "test"), output)
    run = read_run_config(folder)
    if not (folder / which).is_dir():
        raise UserError(f"{model} has no {which!r} model yet: finish its training with `tgdfer train --resume`.")
    trained_on = {"dataset": run.data.dataset, "split": run.data.test_split, **run.data.columns}
    if data.dataset not in (None, run.data.dataset):  # The columns of another data set have other names.
        trained_on = {"split": run.data.test_split}
    known = {name: value for name, value in asdict(data).items() if value is not None}
    facts = read_json(folder / "training.json")
    return _Subject(which, folder / which, EvaluationData(**trained_on | known), output or folder, run, facts)


def _about(subject: _Subject, clips: LabelledClips) -> dict[str, Any]:
    """What the figures are of. Folders appear by their names alone, as the figures may be published."""
    dataset = str(subject.data.dataset)
    return {
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else dataset,
        "split": subject.data.split,
        "num_clips": len(clips),
        "num_people": len(set(clips.people)) if clips.people else None,
        "model": subject.model,
        "weights_sha256": weights_sha256(model_source(subject.source)),
    }


def _command(model: str, baseline: bool, given: dict[str, Any]) -> str:
    """The command line that does the same."""
    flags = [word for name, value in given.items() if value for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["tgdfer", "evaluate", model, *flags, *(["--baseline"] if baseline else [])])


def weights_sha256(folder: str | Path) -> str | None:
    """Hash of `model.safetensors` in a folder; None without it, as for a Hub id or weights in several files."""
    weights = Path(folder) / "model.safetensors"
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    table.add_section()
    add("calibration error" + ("" if metrics["calibrated"] else " (not calibrated)"), metrics["ece"], None, None)
    if "coverage" in metrics:
        add(f"clips answered, {metrics['unsure_below']:.0%} sure or more", metrics["coverage"], None, None)
        add("WAR of these clips", metrics["covered_war"], None, None)
    get_console().print(table)


def _baseline(subject: _Subject, clips: LabelledClips, predictions: list[ClipPrediction]) -> dict[str, Any]:
    """The figures of the baseline, trained on the very clips that the run was trained on."""
    assert subject.run is not None and subject.facts is not None
    try:
        part = load_parts(subject.run.data, subject.run.run.seed)[0]
        return mean_baseline(subject.run, subject.facts["base_model"], part, clips, predictions)
    except UserError as error:
        raise UserError(f"All but the baseline is written to {subject.output}; of the baseline: {error}") from error


def plot_figures(
    folder: Path, metrics: dict[str, Any], true_labels: Sequence[str], predictions: Sequence[ClipPrediction]
) -> None:
    """Writes `confusion_matrix.png` and `risk_coverage.png` to a folder, which is made if it does not exist.

    Args:
        folder: where the figures are written.
        metrics: as `measure_model` gives them for the clips.
        true_labels: N labels of the clips.
        predictions: N predictions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], folder / "confusion_matrix.png")
    right = [prediction.label == label for prediction, label in zip(predictions, true_labels, strict=True)]
    scores = [prediction.score for prediction in predictions]
    plot_risk_coverage(scores, right, folder / "risk_coverage.png", metrics.get("unsure_below"))


def _write(folder: Path, metrics: dict[str, Any], clips: LabelledClips, predictions: list[ClipPrediction]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "label", "predicted", "score", "person"])
    people = clips.people or [""] * len(clips)
    for file, label, prediction, person in zip(clips.files, clips.labels, predictions, people, strict=True):
        writer.writerow([file, label, prediction.label, f"{prediction.score:.4f}", person])
    write_text(folder / "predictions.csv", table.getvalue())
    plot_figures(folder / "figures", metrics, clips.labels, predictions)
    _write_metrics(folder, metrics)


def _write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
