"""The folder of a run before its first epoch: what must hold for it, and what is written to it."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.left_out import write_left_out
from tgdfer.training.data.splits import Part
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json, read_yaml, require_writable, write_text
from tgdfer.training.models import model_source
from tgdfer.weights import TGDFER_TINY

# Options that may differ between a run and its continuation.
_MAY_CHANGE = {"resume", "workers", "output", "face_model"}


def require_new_or_same(folder: Path, config: TrainingConfig) -> None:
    """Checks that the folder is empty, or that the run in it has the same options if it is resumed.

    Raises:
        UserError: if not.
    """
    require_writable(folder / "config.yaml")
    if not config.run.resume:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: continue its run with --resume, or name another --output.")
        return
    before, now = (one.with_absolute_paths().options() for one in (read_run_config(folder), config))
    for name in before:
        if name not in _MAY_CHANGE and before[name] != now[name]:
            raise UserError(
                f"{name} is {now[name]!r}, but the run in {folder} has {before[name]!r}: resume it as it was, or start"
                " another with --output."
            )


def read_run_config(folder: Path) -> TrainingConfig:
    """The configuration of the run in a folder.

    Raises:
        UserError: there is no run, or its `config.yaml` cannot be used.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"There is no run to resume in {folder}: name its folder with --output, or leave out --resume."
        )
    return TrainingConfig.from_options(**read_yaml(folder / "config.yaml"))


def how_to_go_on(config: TrainingConfig) -> str:
    """What is kept of a run that was interrupted, and how it continues, in words."""
    folder = Path(config.run.output)
    if not (folder / "config.yaml").is_file():
        return "Interrupted before the first epoch: nothing is written. Start again with the same command."
    log = folder / "log.jsonl"
    done = len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0
    return (
        f"Interrupted: {done} of {config.optimisation.epochs} epochs are kept in {folder}. Continue with: tgdfer train"
        f" --resume --output {shlex.quote(config.run.output)}"
    )


def fingerprint(folder: Path, *parts: Part | None) -> str:
    """Hash of all clips of a run.

    Raises:
        UserError: the run in the folder began with other clips.
    """
    hashes = [f"{part.clips.fingerprint()} {part.clips.labels} {part.indices}" for part in parts if part]
    found = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    before = folder / "data.sha256"
    if before.is_file() and before.read_text(encoding="utf-8").strip() != found:
        raise UserError(
            f"The clips have changed since the run in {folder} began: restore them, or start another run with"
            " --output."
        )
    return found


def prepare(folder: Path, config: TrainingConfig, clips_hash: str, train: Part, validation: Part | None) -> None:
    """Writes `config.yaml`, `data.sha256` and the lists of videos that are not used."""
    folder.mkdir(parents=True, exist_ok=True)
    config.with_options(resume=False).with_absolute_paths().save(folder / "config.yaml")
    write_text(folder / "data.sha256", clips_hash + "\n")
    write_left_out(folder, config.data.train_split, train.clips)
    if validation is not None and validation.clips is not train.clips:
        write_left_out(folder, config.data.validation_split or "validation", validation.clips)


def training_facts(config: TrainingConfig, train: Part, held_out_by: str | None, parameters: int) -> dict[str, Any]:
    """The facts of a run for `training.json` and the model card. Folders appear by their names alone.

    Args:
        config: of the run.
        train: the clips that it trains on.
        held_out_by: how the validation clips were told apart.
        parameters: number of trainable parameters.

    Raises:
        UserError: the run continues another one whose facts cannot be read.
    """
    dataset, earlier = config.data.dataset, earlier_run(config.model.model)
    return {
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else dataset,
        "split": config.data.train_split,
        "num_clips": len(train.indices),
        "validation": held_out_by,
        "epochs": config.optimisation.epochs,
        "seed": config.run.seed,
        "base_model": (earlier or {}).get("base_model", config.model.model),
        "trainable_parameters": parameters,
        **({"continued_from": earlier} if earlier else {}),
    }


def earlier_run(name: str) -> dict[str, Any] | None:
    """The facts of the run whose `best` or `last` a model is, or of `tgdfer-tiny`; None of any other model.

    Raises:
        UserError: they cannot be read.
    """
    folder = Path(model_source(name))
    if name == TGDFER_TINY.name:
        facts = folder / "training.json"
    elif folder.name in ("best", "last") and (folder / "config.json").is_file():
        facts = folder.parent / "training.json"
    else:
        return None  # For example a Hub id: a `training.json` in this folder belongs to something else.
    return read_json(facts) if facts.is_file() else None
