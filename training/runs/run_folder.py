"""The folder of a training run: checks before the first epoch, and the files that describe the run."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tgdfer.training.config import DataConfig, TrainingConfig
from tgdfer.training.data.left_out import write_left_out
from tgdfer.training.data.opening import split_facts
from tgdfer.training.data.quarantine import write_quarantine
from tgdfer.training.data.splits import Part
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, read_yaml, require_writable
from tgdfer.training.models import model_source
from tgdfer.training.revisions import HubName, dataset_commit
from tgdfer.training.runs.checkpoints import Progress, checkpoint_folders, read_progress, remove_leftovers
from tgdfer.training.runs.record import RECORD, RunRecord, read_record
from tgdfer.weights import BUNDLED, TGDFER_TINY

# Folder in that of a run for its first stage, which trains on photographs (`training/stills.py`).
STILLS = "stills"
# Options that may change when a run is resumed.
_MAY_CHANGE = {
    *("resume", "workers", "output", "face_model"),
    *("checkpoint_every", "keep", "log_every", "report_to"),
}


def require_new_or_resumable(folder: Path, config: TrainingConfig) -> None:
    """Checks that the folder is empty or, with `resume`, that its run has the same options.

    Args:
        folder (`Path`): Folder of the run.
        config (`TrainingConfig`): Configuration of the run that is about to start.

    Raises:
        UserError: If the folder is not empty, or the options differ.
    """
    require_writable(folder / "config.yaml")
    if not config.run.resume:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: continue its run with --resume, or choose another --output.")
        return
    require_same_options(folder, read_run_config(folder), config)


def require_same_options(folder: Path, saved: TrainingConfig, config: TrainingConfig) -> None:
    """Checks that a run that continues has the options that it started with.

    Args:
        folder (`Path`): Folder of the run.
        saved (`TrainingConfig`): Configuration with which the run started.
        config (`TrainingConfig`): Configuration with which it is about to continue.

    Raises:
        UserError: If options differ that may not change. The message names all of them.
    """
    before, now = (options.with_absolute_paths().options() for options in (saved, config))
    changed = [name for name in before if name not in _MAY_CHANGE and before[name] != now[name]]
    if changed:
        first, *others = changed
        differences = [f"{first} is {now[first]!r}, but the run in {folder} has {before[first]!r}"]
        differences += [f"{name} is {now[name]!r}, but it has {before[name]!r}" for name in others]
        raise UserError(
            f"{'; '.join(differences)}: resume it with the same options, or start another run with --output."
        )


def read_run_config(folder: Path) -> TrainingConfig:
    """Reads the configuration of the run in a folder.

    Raises:
        UserError: If there is no run, or its `config.yaml` is not valid.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"There is no run to resume in {folder}: name its folder with --output, or leave out --resume."
        )
    return TrainingConfig.from_options(**read_yaml(folder / "config.yaml"))


def interruption_message(config: TrainingConfig) -> str:
    """Returns a message that says how many epochs of an interrupted run are kept, and how to resume it."""
    folder = Path(config.run.output)
    if not (folder / "config.yaml").is_file():
        return "Interrupted before the first epoch: nothing was written. Start again with the same command."
    total, what = config.optimisation.epochs, "epochs"
    if config.data.stills and not (folder / STILLS / "last").is_dir():  # Training on photographs comes first.
        folder, total, what = folder / STILLS, config.optimisation.stills_epochs or total, "epochs on photographs"
    progress = _kept_progress(folder)
    epochs = len(progress.history)
    is_between = progress.loop.get("epoch", -1) < epochs
    more = "" if is_between else f", and the next one up to step {progress.step}"
    return (
        f"Interrupted: {epochs} of {total} {what} are kept in {folder}{more}. Continue with:"
        f" tgdfer train --resume --output {shlex.quote(config.run.output)}"
    )


def _kept_progress(folder: Path) -> Progress:
    """Returns the progress of the last checkpoint that can be read."""
    for checkpoint in reversed(checkpoint_folders(folder)):
        with suppress(UserError):
            return read_progress(checkpoint, verified=False)
    return Progress()


def hash_clips(folder: Path, *parts: Part | None) -> str:
    """Computes a hash of all clips of a run.

    Args:
        folder (`Path`): Folder of the run.
        *parts (`Part`, *optional*): Training clips and validation clips, if any.

    Raises:
        UserError: If the run in the folder started with other clips.
    """
    hashes = [
        f"{part.clips.fingerprint()} {part.clips.labels} {part.indices}{_votes_of(part)}" for part in parts if part
    ]
    found = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    if (folder / RECORD).is_file() and read_record(folder)["data"]["fingerprint"] != found:
        raise UserError(
            f"The clips have changed since the run in {folder} started (files, labels or votes): restore"
            " them, or start another run with --output."
        )
    return found


def _votes_of(part: Part) -> str:
    soft = part.clips.soft
    return "" if soft is None or soft.kind != "votes" else f" {soft.names} {soft.values.tolist()}"


def require_same_descriptions(folder: Path, descriptions: Mapping[str, list[str]]) -> None:
    """Checks that the classes have the descriptions with which the run in a folder started, if there is one.

    Args:
        folder (`Path`): Folder of the run.
        descriptions (`Mapping[str, list[str]]`): Descriptions of each class, whose text the checkpoints have encoded.

    Raises:
        UserError: If descriptions differ.
    """
    saved = (read_record(folder).get("descriptions") if (folder / RECORD).is_file() else None) or {}
    if changed := sorted(label for label in saved if saved[label] != descriptions.get(label)):
        raise UserError(
            f"The descriptions of {', '.join(changed)} have changed since the run in {folder} started: restore"
            " their file, or start another run with --output."
        )


def prepare_folder(
    folder: Path,
    config: TrainingConfig,
    facts: dict[str, Any],
    clips_hash: str,
    descriptions: Mapping[str, list[str]],
    train: Part,
    validation: Part | None,
) -> RunRecord:
    """Writes `config.yaml`, `run.json` and the lists of unused videos, and removes what a killed process left.

    Returns:
        The record in `run.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    config = config.with_options(resume=False).with_absolute_paths()
    record = RunRecord(folder, config, facts, clips_hash, descriptions)
    config.save(folder / "config.yaml")
    record.start(0)
    write_clip_lists(folder, config.data, train, validation)
    return record


def write_clip_lists(folder: Path, data: DataConfig, train: Part, validation: Part | None) -> None:
    """Writes the lists of the videos that are not used, of the training split and of a separate validation split."""
    splits = {data.train_split: train.clips}
    if validation is not None and validation.clips is not train.clips:
        splits[data.validation_split or "validation"] = validation.clips
    for split, clips in splits.items():
        write_left_out(folder, split, clips)
        write_quarantine(folder, split, clips)


def training_facts(
    config: TrainingConfig,
    train: Part,
    held_out_by: str | None,
    parameters: int,
    base_revision: str | None = None,
) -> dict[str, Any]:
    """Collects the facts of a run for `training.json` and the model card. Of local paths only the last part is kept.

    Args:
        config (`TrainingConfig`): Configuration of the run.
        train (`Part`): Training clips.
        held_out_by (`str`, *optional*): How the validation clips were chosen.
        parameters (`int`): Number of trainable parameters.
        base_revision (`str`, *optional*): Commit of the initial model on the Hub.

    Raises:
        UserError: If the run continues another one whose facts cannot be read.
    """
    dataset, previous = config.data.dataset, previous_run_facts(config.model.model)
    revisions = {
        "dataset_revision": dataset_commit(dataset),
        "base_model_revision": previous.get("base_model_revision") if previous else base_revision,
    }
    return {
        "dataset": Path(dataset).resolve().name if Path(dataset).exists() else HubName.parse(dataset).name,
        **({"fold": config.data.fold or 1} if config.data.is_published else {}),
        **split_facts(config.data.train_split, config.data.split_map),
        "num_clips": len(train.indices),
        "num_quarantined": len(train.clips.quarantined),
        "validation": held_out_by,
        "epochs": config.optimisation.epochs,
        "seed": config.run.seed,
        "base_model": (previous or {}).get("base_model") or _short_name(config.model.model),
        "trainable_parameters": parameters,
        **{name: revision for name, revision in revisions.items() if revision},
        **({"continued_from": previous} if previous else {}),
    }


def _short_name(model: str) -> str:
    """Returns a Hub id without its revision, the name of a model in the package, or the last part of a path."""
    folder = os.path.abspath(os.path.expanduser(model))
    return Path(folder).name if model not in BUNDLED and os.path.exists(folder) else HubName.parse(model).name


def first_model(config: TrainingConfig, facts: dict[str, Any]) -> str:
    """Returns the model that the first of the trainings started from that led to a run.

    Args:
        config (`TrainingConfig`): Configuration of the run, with absolute paths.
        facts (`dict[str, Any]`): Facts of the run, as in `training.json`.

    Returns:
        The path of a folder, the name of a model in the package, or a Hub id with the recorded revision.
    """
    name, revision, start = facts["base_model"], facts.get("base_model_revision"), config.model.model
    while (folder := Path(model_source(start)).parent / "config.yaml").is_file() and previous_run_facts(start):
        start = read_run_config(folder.parent).model.model  # The run continues another one.
    if revision is None and os.path.isdir(start) and _short_name(start) == Path(name).name:
        return start
    return f"{name}@{revision}" if revision else name


def previous_run_facts(name: str) -> dict[str, Any] | None:
    """Reads the facts of the run that made a model.

    Args:
        name (`str`): Folder, Hub id or name of a model.

    Returns:
        The facts, if the model is the `best` or `last` of a run, or `tgdfer-tiny`. Otherwise None.

    Raises:
        UserError: If the facts cannot be read.
    """
    folder = Path(model_source(name))
    if name == TGDFER_TINY.name:
        facts = folder / "training.json"
    elif folder.name in ("best", "last") and (folder / "config.json").is_file():
        facts = folder.parent / "training.json"
    else:
        return None  # For a Hub id, for example, `training.json` in this folder would belong to something else.
    return read_json(facts) if facts.is_file() else None
