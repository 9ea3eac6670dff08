"""Evaluation of a model on a split that it was not trained on: figures, predictions and confusion matrix."""

import csv
import hashlib
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.baseline import mean_baseline
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.left_out import write_left_out
from tgdfer.training.data.loading import load_readable_clips
from tgdfer.training.data.quarantine import write_quarantine
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.figures.risk_coverage import plot_risk_coverage
from tgdfer.training.files import read_json, require_writable, write_text
from tgdfer.training.hardware import Hardware
from tgdfer.training.label_kinds import several_label_metrics, vote_metrics, write_several_labels
from tgdfer.training.measure import ClipPrediction, measure_groups, measure_model
from tgdfer.training.models import load_trained, model_commit, model_source
from tgdfer.training.processes import process_state
from tgdfer.training.readable import predict_readable_clips
from tgdfer.training.reading_options import LabelKind
from tgdfer.training.revisions import HubName, dataset_commit
from tgdfer.training.run_folder import read_run_config
from tgdfer.weights import DEFAULT_MODEL


@dataclass(frozen=True)
class EvaluationData:
    """The split to evaluate on. Values that are None are taken from the run that is evaluated.

    Attributes:
        dataset (`str`, *optional*): Hub id or folder. By default the data set of the run.
        split (`str`, *optional*): Name of the split. By default the `test_split` of the run, or "test".
        dataset_config (`str`, *optional*): Configuration of a Hub data set with several configurations.
        video_column (`str`, *optional*): Column of the videos.
        label_column (`str`, *optional*): Column of the labels.
        data_root (`str`, *optional*): Folder of a published data set.
        fold (`int`, *optional*): Fold of a published data set, from 1.
        split_map (`Mapping[str, str]`, *optional*): As in `ReadingOptions`.
        streaming (`bool`, *optional*): As in `ReadingOptions`.
        label_kind (`"single"`, `"multiple"` or `"votes"`, *optional*): As in `ReadingOptions`.
        vote_columns (`Mapping[str, str]`, *optional*): As in `ReadingOptions`.
        vote_file (`str`, *optional*): As in `ReadingOptions`.
        strict (`bool`, *optional*): Whether a clip that cannot be read is an error.
    """

    dataset: str | None = None
    split: str | None = None
    dataset_config: str | None = None
    video_column: str | None = None
    label_column: str | None = None
    data_root: str | None = None
    fold: int | None = None
    split_map: Mapping[str, str] | None = None
    streaming: bool | None = None
    label_kind: LabelKind | None = None
    vote_columns: Mapping[str, str] | None = None
    vote_file: str | None = None
    strict: bool | None = None


@dataclass(frozen=True)
class _EvaluationTask:
    """A model and the split to evaluate it on, with all defaults filled in.

    Attributes:
        model: "best" or "last" for a run, otherwise the model as the user gave it.
        source: Folder or Hub id of the model.
        data: The split. Its `dataset` and `split` are not None.
        output: Folder for the results. None to write nothing.
        run: Configuration of the run. None if the model is not part of a run.
        facts: Facts of the training.
    """

    model: str
    source: str | Path
    data: EvaluationData
    output: Path | None
    run: TrainingConfig | None = None
    facts: dict[str, Any] | None = None

    def load_clips(self) -> LabelledClips:
        """Loads the clips of the split."""
        options = {name: value for name, value in asdict(self.data).items() if value is not None}
        return load_readable_clips(options.pop("dataset"), options.pop("split"), **{"strict": False, **options})


def evaluate_model(
    model: str | Path = DEFAULT_MODEL,
    data: EvaluationData | None = None,
    *,
    output: str | Path | None = None,
    which: Literal["best", "last"] = "best",
    baseline: bool = False,
    batch_size: int = 16,
    workers: int | None = 0,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Evaluates a model on a split and writes `metrics.json`, `predictions.csv` and two figures.

    The figures are `figures/confusion_matrix.png` and `figures/risk_coverage.png`. Several processes, as `torchrun`
    and `accelerate launch` start them, share the clips. The main process writes, and all processes return the same
    metrics.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id. By
            default the model in the package.
        data (`EvaluationData`, *optional*): The split. By default the test split of the run.
        output (`str` or `Path`, *optional*): Folder for the results. By default the folder of the run. For a model
            without a run, nothing is written by default.
        which (`"best"` or `"last"`, *optional*, defaults to `"best"`): Model of a run to evaluate.
        baseline (`bool`, *optional*, defaults to `False`): Whether to train and evaluate the baseline on the data of
            the run, after all other results are written.
        batch_size (`int`, *optional*, defaults to 16): Clips per step, if `hardware` does not set it.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
        hardware (`Hardware`, *optional*): Device and number format.

    Returns:
        The metrics, from 0 to 1 if not stated otherwise:

        - `war`, `uar`, `recall` of each class, and `confusion_matrix`, whose rows are true classes (counts);
        - `frame_ap` and `pointing`, or None if the data set lacks the intensity of every frame;
        - `ece` (expected calibration error), `risk_coverage_area`, and `calibrated` (whether the model is);
        - `coverage` and `covered_war` (accuracy of the clips that get an answer), for a model that can be unsure;
        - `groups`, the results by group, if the data set has columns such as `age` or `gender`.

        All other metrics use the most probable label of a clip, even if the model is unsure.

    Raises:
        UserError: If the model or the data set cannot be read, the split has labels that the model lacks, or
            `baseline` is set and there is no run.
    """
    if baseline and not (Path(model) / "config.yaml").is_file():
        raise UserError(f"{model} is not the folder of a run, so there is nothing to train its baseline on.")
    requested = data or EvaluationData()
    task = _resolve_task(model, requested, which, None if output is None else Path(output))
    if task.output is not None:
        require_writable(task.output / "metrics.json")
    hardware = hardware or Hardware()
    # Accelerate chooses the device if none is given.
    device = None if hardware.device == "auto" else hardware.torch_device()
    network, processor = load_trained(task.source, **hardware.loading_options())
    if task.run is not None:  # A model is saved without the path of its detector, which is valid on this machine only.
        processor.video_processor.face_model = task.run.faces.face_model
    labels = list(network.config.id2label.values())
    clips = task.load_clips()
    require_known(clips, labels, str(task.data.split))
    size = hardware.batch_size or batch_size
    clips, predictions = predict_readable_clips(
        network,
        processor.video_processor,
        clips,
        f"Split {task.data.split!r} of {task.data.dataset}",
        strict=bool(task.data.strict),
        batch_size=size,
        workers=workers,
        device=device,
    )
    if clips.soft is not None and clips.soft.kind == "multiple":
        return _evaluate_several_labels(task, network, clips, predictions)
    flags = {"dataset": requested.dataset, "split": requested.split, "output": output}
    flags |= {"which": None if which == "best" else which} | asdict(requested)
    flags |= {"dtype": None if hardware.dtype == "auto" else hardware.dtype}
    metrics = {
        **_subject_facts(task, clips, network),
        "command": _command(str(model), baseline, flags),
        **measure_model(clips.labels, predictions, network.config),
        **vote_metrics(clips, predictions, network.config),
        **({"groups": measure_groups(clips.labels, predictions, labels, clips.groups)} if clips.groups else {}),
        **({"training": task.facts} if task.facts else {}),
    }
    if task.output is not None:
        is_main = process_state().is_main_process
        if is_main:
            _write_results(task.output, metrics, clips, predictions)
            write_left_out(task.output, str(task.data.split), clips)
            write_quarantine(task.output, str(task.data.split), clips)
        if baseline:  # All processes encode its clips.
            metrics["baseline"] = _baseline_metrics(task, clips, predictions)
            if is_main:
                _write_metrics(task.output, metrics)
    return metrics


def _evaluate_several_labels(
    task: _EvaluationTask,
    network: TGDFERForVideoClassification,
    clips: LabelledClips,
    predictions: Sequence[ClipPrediction],
) -> dict[str, Any]:
    """Measures clips with several labels, which have other metrics and other files."""
    metrics = {
        **_subject_facts(task, clips, network),
        **several_label_metrics(clips, predictions, network.config),
        **({"training": task.facts} if task.facts else {}),
    }
    if task.output is not None and process_state().is_main_process:
        write_several_labels(task.output, metrics, clips, predictions, network.config)
        write_left_out(task.output, str(task.data.split), clips)
        write_quarantine(task.output, str(task.data.split), clips)
    return metrics


def _resolve_task(model: str | Path, data: EvaluationData, which: str, output: Path | None) -> _EvaluationTask:
    """Fills in the defaults of an evaluation from the run that the model belongs to."""
    folder = Path(model)
    if not (folder / "config.yaml").is_file():
        if data.dataset is None:
            raise UserError(f"{model} is not the folder of a run: name the data set to evaluate on with --dataset.")
        return _EvaluationTask(str(model), model, replace(data, split=data.split or "test"), output)
    run = read_run_config(folder)
    if not (folder / which).is_dir():
        raise UserError(f"{model} has no {which!r} model yet: finish its training with `tgdfer train --resume`.")
    trained_on = {"dataset": run.data.dataset, "split": run.data.test_split, **run.data.reading}
    if data.dataset not in (None, run.data.dataset):  # The columns of another data set may have other names.
        trained_on = {"split": run.data.test_split}
    requested = {name: value for name, value in asdict(data).items() if value is not None}
    facts = read_json(folder / "training.json")
    data = EvaluationData(**trained_on | requested)
    return _EvaluationTask(which, folder / which, data, output or folder, run, facts)


def _subject_facts(
    task: _EvaluationTask, clips: LabelledClips, network: TGDFERForVideoClassification
) -> dict[str, Any]:
    """Returns what the metrics are about: the data set and the model. Of local paths only the last part is kept."""
    dataset = str(task.data.dataset)
    revisions = {
        "dataset_revision": dataset_commit(dataset),
        "model_revision": model_commit(str(task.source), network),
    }
    return {
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else HubName.parse(dataset).name,
        **{name: revision for name, revision in revisions.items() if revision},
        **({"fold": task.data.fold or 1} if task.data.data_root else {}),
        "split": task.data.split,
        "num_clips": len(clips),
        "num_quarantined": len(clips.quarantined),
        "num_people": len(set(clips.people)) if clips.people else None,
        "model": task.model,
        "weights_sha256": weights_sha256(model_source(task.source)),
    }


def _command(model: str, baseline: bool, options: dict[str, Any]) -> str:
    """Returns the command line of an evaluation."""
    flags = [word for name, value in options.items() if value for word in _flag(name, value)]
    return shlex.join(["tgdfer", "evaluate", model, *flags, *(["--baseline"] if baseline else [])])


def _flag(name: str, value: Any) -> list[str]:
    """Returns the words of an option. A mapping is given by one flag for each entry."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, Mapping):
        return [word for key, entry in value.items() for word in (flag, f"{key}={entry}")]
    return [flag] if value is True else [flag, str(value)]


def weights_sha256(folder: str | Path) -> str | None:
    """Returns the hash of `model.safetensors` in a folder. None without it: a Hub id, or weights in several files."""
    weights = Path(folder) / "model.safetensors"
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def print_metrics(metrics: dict[str, Any]) -> None:
    """Prints the metrics of `evaluate_model` as a table, in percent."""
    baseline = metrics.get("baseline", {})
    table = Table(
        title=f"{metrics['dataset']}, {metrics['split']}: {metrics['num_clips']} clips", caption="in percent"
    )
    for name in ("", "model", *(["baseline"] if baseline else []), "random"):
        table.add_column(name, justify="right" if name else "left")

    def add(title: str, *values: float | None, style: str = "", unit: float = 100) -> None:
        model, baseline_value, random = values
        cells = [model, *([baseline_value] if baseline else []), random]
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
        add(f"clips answered (at least {metrics['unsure_below']:.0%} sure)", metrics["coverage"], None, None)
        add("WAR of these clips", metrics["covered_war"], None, None)
    get_console().print(table)


def _baseline_metrics(
    task: _EvaluationTask, clips: LabelledClips, predictions: list[ClipPrediction]
) -> dict[str, Any]:
    """Returns the metrics of the baseline, trained on the training clips of the run."""
    assert task.run is not None and task.facts is not None
    try:
        part = load_parts(task.run.data, task.run.run.seed)[0]
        return mean_baseline(task.run, task.facts["base_model"], part, clips, predictions)
    except UserError as error:
        raise UserError(f"The baseline failed, all other results are in {task.output}: {error}") from error


def plot_figures(
    folder: Path, metrics: dict[str, Any], true_labels: Sequence[str], predictions: Sequence[ClipPrediction]
) -> None:
    """Writes `confusion_matrix.png` and `risk_coverage.png` to a folder.

    Args:
        folder (`Path`): Folder of the figures. It is created if it does not exist.
        metrics (`dict[str, Any]`): Metrics of the clips, as returned by `measure_model`.
        true_labels (`Sequence[str]`): True label of each clip.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], folder / "confusion_matrix.png")
    correct = [prediction.label == label for prediction, label in zip(predictions, true_labels, strict=True)]
    scores = [prediction.score for prediction in predictions]
    plot_risk_coverage(scores, correct, folder / "risk_coverage.png", metrics.get("unsure_below"))


def _write_results(
    folder: Path, metrics: dict[str, Any], clips: LabelledClips, predictions: list[ClipPrediction]
) -> None:
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
