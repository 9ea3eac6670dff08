"""Evaluation of a model on a split that it was not trained on: figures, predictions and confusion matrix."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.baseline import mean_baseline
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import require_known
from tgdfer.training.data.left_out import write_left_out
from tgdfer.training.data.loading import load_readable_clips
from tgdfer.training.data.opening import name_in_dataset, split_facts
from tgdfer.training.data.quarantine import write_quarantine
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.evaluation.confident_errors import SHOWN, write_confident_errors
from tgdfer.training.evaluation.result_files import write_metrics, write_results
from tgdfer.training.evaluation.seen_clips import seen_facts
from tgdfer.training.evaluation.shared_labels import LabelMatch, match_labels, select_shared, shared_label_facts
from tgdfer.training.evaluation.temperature_scaling import temperature_scaling
from tgdfer.training.evaluation.views import EvaluationViews, with_views
from tgdfer.training.evaluation.zero_shot import zero_shot_model
from tgdfer.training.files import read_json, require_writable
from tgdfer.training.hardware import Hardware
from tgdfer.training.label_kinds import (
    require_several_labels,
    several_label_metrics,
    vote_metrics,
    write_several_labels,
)
from tgdfer.training.measure import ClipPrediction, clip_outcomes, measure_groups, measure_model
from tgdfer.training.metrics import class_figures
from tgdfer.training.metrics.intervals import metric_intervals
from tgdfer.training.models import is_trained, load_trained, model_commit, model_source
from tgdfer.training.processes import num_workers, process_state
from tgdfer.training.readable import predict_readable_clips
from tgdfer.training.reading_options import LabelKind
from tgdfer.training.revisions import HubName, dataset_commit
from tgdfer.training.runs.run_folder import first_model, read_run_config
from tgdfer.training.saved_weights import weights_sha256
from tgdfer.weights import DEFAULT_MODEL

logger = logging.getLogger(__name__)

# The models of a run, by the names of their folders.
Which = Literal["best", "last"]


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
        model: "best" or "last" for a model of a run, otherwise the model as the user gave it.
        source: Folder or Hub id of the model.
        data: The split. Its `dataset` and `split` are not None.
        output: Folder for the results. None to write nothing.
        run: Configuration of the run. None if the model is not part of a run.
        facts: Facts of the training.
        zero_shot: Whether the model is an untrained CLIP.
    """

    model: str
    source: str | Path
    data: EvaluationData
    output: Path | None
    run: TrainingConfig | None = None
    facts: dict[str, Any] | None = None
    zero_shot: bool = False

    def load_clips(self) -> LabelledClips:
        """Loads the clips of the split."""
        options = {name: value for name, value in asdict(self.data).items() if value is not None}
        return load_readable_clips(options.pop("dataset"), options.pop("split"), **{"strict": False, **options})


def evaluate_model(
    model: str | Path = DEFAULT_MODEL,
    data: EvaluationData | None = None,
    *,
    output: str | Path | None = None,
    which: Which = "best",
    baseline: bool = False,
    views: EvaluationViews | None = None,
    errors: int = SHOWN,
    descriptions: str | Path | None = None,
    batch_size: int = 16,
    workers: int | None = 0,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Evaluates a model on a split and writes the results to a folder.

    These are `metrics.json`, `predictions.csv` (a row for each clip), `per_class.csv`, the figures
    `figures/confusion_matrix.png` and `figures/risk_coverage.png`, and the most confident errors as film strips in
    `errors/`. Several processes, as `torchrun` and `accelerate launch` start them, share the clips. The main process
    writes, and all processes return the same metrics.

    If the labels of the split are not the classes of the model, the clips whose label both have are measured. A
    warning and `shared_labels` say what was left out. Labels match by name and by alias, such as "happy" and "joy".

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id. By
            default the model in the package. The zero-shot result of an untrained CLIP, or another dual encoder, is
            measured with the mean cosines of its frames and the descriptions of the classes.
        data (`EvaluationData`, *optional*): The split. By default the test split of the run.
        output (`str` or `Path`, *optional*): Folder for the results. By default the folder of the run. For a model
            without a run, or a folder such as `RUN/best`, nothing is written by default.
        which (`"best"` or `"last"`, *optional*, defaults to `"best"`): Model of a run to evaluate.
        baseline (`bool`, *optional*, defaults to `False`): Whether to train and evaluate the baseline on the data of
            the run, after all other results are written.
        views (`EvaluationViews`, *optional*): Windows and crops of each clip, over which logits are averaged. By
            default the middle frames of the segments, as in validation.
        errors (`int`, *optional*, defaults to 12): Number of film strips of errors. With 0, none are written.
        descriptions (`str` or `Path`, *optional*): YAML file with descriptions of the classes, for a CLIP. By default
            the built-in ones.
        batch_size (`int`, *optional*, defaults to 16): Clips per step, if `hardware` does not set it.
        workers (`int`, *optional*, defaults to 0): Number of processes that decode clips.
        hardware (`Hardware`, *optional*): Device and number format.

    Returns:
        The metrics, from 0 to 1 if not stated otherwise:

        - `war`, `uar`, `recall` of each class, and `confusion_matrix`, whose rows are true classes (counts);
        - `per_class`: `num_clips`, `num_answers`, `recall`, `recall_interval`, `precision` and `f1` of each class;
        - `intervals`: 95% bootstrap intervals over people, or over clips if the people are unknown;
        - `frame_ap` and `pointing`, or None if the data set lacks the intensity of every frame;
        - `ece` (expected calibration error), `risk_coverage_area`, and `calibrated` (whether the model is);
        - `temperature_scaling`: the calibration error before and after it, see `temperature_scaling`;
        - `coverage` and `covered_war` (accuracy of the clips that get an answer), for a model that can be unsure;
        - `seen_in_training` (True) and `num_seen_in_training`, if the run has trained the model on some of the clips;
        - `groups`, the results by group, if the data set has columns such as `age` or `gender`;
        - `shared_labels`, if the labels of the split are not the classes of the model: what was `matched` and
          `left_out`, and the results of answers that are restricted to the shared labels.

        All other metrics use the most probable label of a clip, even if the model is unsure.

    Raises:
        UserError: If the model or the data set cannot be read, they share fewer than two labels, `descriptions` are
            given for a trained model, or `baseline` is set and there is no run.
    """
    if baseline and not (Path(model) / "config.yaml").is_file():
        raise UserError(f"{model} is not the folder of a run, so there is nothing to train its baseline on.")
    if errors < 0:
        raise UserError(f"errors is {errors}, but must be 0 or more.")
    requested = data or EvaluationData()
    task = _resolve_task(model, requested, which, None if output is None else Path(output))
    if task.output is not None:
        require_writable(task.output / "metrics.json")
    task = replace(task, zero_shot=task.run is None and not is_trained(task.source))
    if descriptions is not None and not task.zero_shot:
        raise UserError(f"descriptions are for an untrained CLIP, but {model} is trained: leave them out.")
    hardware, views = hardware or Hardware(), views or EvaluationViews()
    # Accelerate chooses the device if none is given.
    device = None if hardware.device == "auto" else hardware.torch_device()
    network, processor, clips, match = _load(task, hardware, descriptions)
    if baseline and clips.soft is not None and clips.soft.kind == "multiple":
        raise UserError("The baseline predicts one label, and these clips have several: leave out --baseline.")
    video_processor = processor.video_processor
    views.require_possible(video_processor)
    size, workers = hardware.batch_size or batch_size, num_workers(workers)
    clips, predictions = predict_readable_clips(
        network,
        video_processor,
        clips,
        f"Split {task.data.split!r} of {task.data.dataset}",
        strict=bool(task.data.strict),
        batch_size=size,
        workers=workers,
        device=device,
    )
    if views.number > 1:
        predictions = with_views(predictions, network, video_processor, clips, views, size, workers, device)
    flags = {"dataset": requested.dataset, "split": requested.split, "output": output}
    flags |= {"which": None if which == "best" else which} | asdict(requested)
    flags |= {name: value for name, value in asdict(views).items() if value > 1}
    flags |= {"descriptions": descriptions, "dtype": None if hardware.dtype == "auto" else hardware.dtype}
    subject = {
        **_subject_facts(task, clips, network),
        **_seen_facts(task, clips),
        **({"zero_shot": {"descriptions": processor.descriptions}} if task.zero_shot else {}),
        **({"views": asdict(views)} if views.number > 1 else {}),
        "command": _command(str(model), baseline, flags),
    }
    if clips.soft is not None and clips.soft.kind == "multiple":
        return _evaluate_several_labels(task, network, subject, clips, predictions)
    metrics = {
        **subject,
        **_measured(task, network.config, clips, predictions),
        **vote_metrics(clips, predictions, network.config),
        **(
            {}
            if match.is_complete
            else {"shared_labels": shared_label_facts(match, clips, predictions, network.config)}
        ),
        **({"training": task.facts} if task.facts else {}),
    }
    if task.output is not None:
        is_main = process_state().is_main_process
        if is_main:
            write_confident_errors(task.output, network, video_processor, clips, predictions, errors)
            write_results(task.output, metrics, clips, predictions)
            write_left_out(task.output, str(task.data.split), clips)
            write_quarantine(task.output, str(task.data.split), clips)
        if baseline:  # All processes encode its clips.
            metrics["baseline"] = _baseline_metrics(task, clips, predictions)
            if is_main:
                write_metrics(task.output, metrics)
    return metrics


def _evaluate_several_labels(
    task: _EvaluationTask,
    network: TGDFERForVideoClassification,
    subject: Mapping[str, Any],
    clips: LabelledClips,
    predictions: Sequence[ClipPrediction],
) -> dict[str, Any]:
    """Measures clips with several labels, which have other metrics and other files."""
    metrics = {
        **subject,
        **several_label_metrics(clips, predictions, network.config),
        **({"training": task.facts} if task.facts else {}),
    }
    if task.output is not None and process_state().is_main_process:
        write_several_labels(task.output, metrics, clips, predictions, network.config)
        write_left_out(task.output, str(task.data.split), clips)
        write_quarantine(task.output, str(task.data.split), clips)
    return metrics


def _load(
    task: _EvaluationTask, hardware: Hardware, descriptions: str | Path | None
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor, LabelledClips, LabelMatch]:
    """Loads the model, its processor and the clips whose label it has, and says which labels are shared."""
    place = f"split {task.data.split!r}"
    if task.zero_shot:
        clips = task.load_clips()
        texts = None if descriptions is None else str(descriptions)
        network, processor = zero_shot_model(
            str(task.source), clips.classes, str(task.data.data_root or task.data.dataset), texts
        )
        network = network.to(**hardware.loading_options()) if hardware.loading_options() else network
    else:
        network, processor = load_trained(task.source, **hardware.loading_options())
        clips = task.load_clips()
    if task.run is not None:  # A model is saved without the path of its detector, which is valid on this machine only.
        processor.video_processor.face_model = task.run.faces.face_model
    labels = network.config.class_names
    if clips.soft is not None:  # Several labels and votes are about all classes together.
        require_known(clips, labels, str(task.data.split))
    match = match_labels(clips.labels if clips.soft is None else clips.classes, labels, place)
    if not match.is_complete and process_state().is_main_process:
        logger.warning("%s", match)
    if clips.soft is not None and clips.soft.kind == "multiple":
        require_several_labels(network.config)
    return network, processor, clips if clips.soft is not None else select_shared(clips, match), match


def _measured(
    task: _EvaluationTask, config: TGDFERConfig, clips: LabelledClips, predictions: Sequence[ClipPrediction]
) -> dict[str, Any]:
    """Computes all metrics of the clips, with their intervals."""
    labels = config.class_names
    metrics = measure_model(clips.labels, predictions, config)
    intervals = metric_intervals(clip_outcomes(clips.labels, predictions, clips.people))
    per_class = {
        label: figures | {"recall_interval": intervals["recall"].get(label)}
        for label, figures in class_figures(metrics["confusion_matrix"], labels).items()
    }
    was_fitted_here = config.is_calibrated and _is_calibration_split(task)
    if was_fitted_here and process_state().is_main_process:
        logger.warning(
            "The temperature of the model was fitted on clips of split %r, so its calibration error is too low here.",
            task.data.split,
        )
    scaling = temperature_scaling(
        np.array([prediction.logits for prediction in predictions], float),
        np.array([labels.index(label) for label in clips.labels]),
        clips.people,
        config.temperature if config.is_calibrated and not was_fitted_here else None,
    )
    groups = measure_groups(clips.labels, predictions, labels, clips.groups, clips.people)
    return {
        **metrics,
        "per_class": per_class,
        "intervals": intervals,
        "temperature_scaling": scaling,
        **({"groups": groups} if groups else {}),
    }


def _is_calibration_split(task: _EvaluationTask) -> bool:
    """Returns whether the split contains the validation clips of the run, on which its model was calibrated."""
    if task.run is None or not task.facts or not task.facts.get("validation"):
        return False
    run = task.run.data
    if not _is_same_dataset(str(task.data.dataset), run.dataset):
        return False
    by_split = task.facts["validation"] == "by split"
    if not by_split and run.is_published and (task.data.fold or 1) != (run.fold or 1):
        return True  # The training clips of a fold, of which some were held out, are in both splits of another one.
    split = (run.validation_split or "validation") if by_split else run.train_split
    return name_in_dataset(str(task.data.split), task.data.split_map) == name_in_dataset(split, run.split_map)


def _is_same_dataset(one: str, other: str) -> bool:
    """Returns whether two names are those of the same data set. The configuration of a run has absolute paths."""
    return os.path.realpath(one) == os.path.realpath(other)


def _resolve_task(model: str | Path, data: EvaluationData, which: Which, output: Path | None) -> _EvaluationTask:
    """Fills in the defaults of an evaluation from the run that the model belongs to. `RUN/best` belongs to `RUN`."""
    folder = Path(model)
    if folder.name in get_args(Which) and (folder.parent / "config.yaml").is_file():
        folder, which = folder.parent, cast(Which, folder.name)
    elif (folder / "config.yaml").is_file():
        output = output or folder
    else:
        if data.dataset is None:
            raise UserError(f"{model} is not the folder of a run: name the data set to evaluate on with --dataset.")
        return _EvaluationTask(str(model), model, replace(data, split=data.split or "test"), output)
    run = read_run_config(folder)
    if not (folder / which).is_dir():
        raise UserError(f"{model} has no {which!r} model yet: finish its training with `tgdfer train --resume`.")
    trained_on: dict[str, Any] = {"dataset": run.data.dataset, "split": run.data.test_split, **run.data.reading}
    # The columns of another data set may have other names.
    if data.dataset is not None and not _is_same_dataset(data.dataset, run.data.dataset):
        trained_on = {"split": run.data.test_split}
    requested = {name: value for name, value in asdict(data).items() if value is not None}
    facts = read_json(folder / "training.json")
    data = EvaluationData(**trained_on | requested)
    return _EvaluationTask(which, folder / which, data, output, run, facts)


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
        "dataset": Path(dataset).resolve().name if Path(dataset).exists() else HubName.parse(dataset).name,
        **{name: revision for name, revision in revisions.items() if revision},
        **({"fold": task.data.fold or 1} if task.data.data_root else {}),
        **split_facts(str(task.data.split), task.data.split_map),
        "num_clips": len(clips),
        "num_quarantined": len(clips.quarantined),
        "num_people": len(set(clips.people)) if clips.people else None,
        "model": task.model,
        "weights_sha256": weights_sha256(model_source(task.source)),
    }


def _seen_facts(task: _EvaluationTask, clips: LabelledClips) -> dict[str, Any]:
    """Says whether the model was trained on some of the clips. Empty for other data than those of its run."""
    if task.run is None or not _is_same_dataset(str(task.data.dataset), task.run.data.dataset):
        return {}
    return seen_facts(task.run, str(task.data.split), asdict(task.data), clips)


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


def _baseline_metrics(
    task: _EvaluationTask, clips: LabelledClips, predictions: list[ClipPrediction]
) -> dict[str, Any]:
    """Returns the metrics of the baseline, trained on the training clips of the run."""
    assert task.run is not None and task.facts is not None
    try:
        part = load_parts(task.run.data, task.run.run.seed)[0]
        return mean_baseline(task.run, first_model(task.run, task.facts), part, clips, predictions)
    except UserError as error:
        raise UserError(f"The baseline failed, all other results are in {task.output}: {error}") from error
