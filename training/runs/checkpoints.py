"""Checkpoints of a training run: its progress, the states to resume from, and its best and last models."""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.filesize import decimal
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor

from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import RunConfig
from tgdfer.training.errors import UserError, is_lost_process_error
from tgdfer.training.files import UNWRITABLE, write_text
from tgdfer.training.optimisation.loop import DivergedError
from tgdfer.training.processes import from_main_process, true_in_any_process
from tgdfer.training.runs.sharded_weights import whole_model

logger = logging.getLogger(__name__)

_PROGRESS = "progression.json"


@dataclass
class Progress:
    """The progress of a run. It is saved with every checkpoint.

    Attributes:
        history (`list[dict[str, Any]]`, *optional*): One record per finished epoch, as in `log.jsonl`.
        best_epoch (`int`, *optional*, defaults to 0): Epoch of `RUN/best`, counted from 1. 0 if there is none yet.
        best (`list[float]`, *optional*): Validation UAR and negative validation loss of this epoch. Empty if the next
            epoch becomes the best one in any case.
        best_weights (`str`, *optional*, defaults to `""`): Hash of the weights in `RUN/best`.
        seconds (`float`, *optional*, defaults to 0.0): Training time of the finished epochs, in seconds.
        epoch_seconds (`float`, *optional*, defaults to 0.0): Training time of the unfinished epoch so far.
        loop (`dict[str, Any]`, *optional*): Position of the training loop, as `TrainingLoop.state_dict` returns it.
        processes (`int`, *optional*, defaults to 1): Number of processes that trained.
        quarantined (`dict[str, dict[str, str]]`, *optional*): Clips that could not be read in training ("train") or
            validation ("validation"), with the reasons.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[float] = field(default_factory=list)
    best_weights: str = ""
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    loop: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    quarantined: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return self.loop.get("step", 0)


class Checkpoints:
    """Writes models and checkpoints to the folder of a run. Each one is written aside and then renamed.

    A checkpoint contains the hash of each of its files. If the last one is damaged, the one before it is used.

    Args:
        folder (`Path`): Folder of the run.
        accelerator (`Accelerator`): Accelerator whose prepared objects are saved and restored.
        processor (`TGDFERProcessor`): Processor that is saved with every model.
        keep (`int`, *optional*, defaults to 2): Number of checkpoints to keep.
        optimizer (`torch.optim.Optimizer`, *optional*): Optimiser whose weights and states must be finite in every
            checkpoint. By default they are not checked.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        processor: TGDFERProcessor,
        keep: int = 2,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.folder, self.accelerator, self.processor, self.keep = folder, accelerator, processor, keep
        self.optimizer = optimizer

    def save_model(self, model: Any, name: str) -> None:
        """Writes the model, with LoRA merged, its processor and its adapter with LoRA to `RUN/name`."""
        network = whole_model(self.accelerator, model)
        if self.accelerator.is_main_process:
            with _atomic_folder(self.folder / f".{name}.tmp", self.folder / name) as temporary:
                network.save_pretrained(temporary, merge_lora=True)
                self.processor.save_pretrained(temporary)
                # `tgdfer push --adapter` publishes the adapter. It cannot be separated from merged weights. A model
                # whose CLIP was changed by an earlier training has none.
                with suppress(ValueError):
                    if network.has_lora:
                        network.save_adapter(temporary / "adapter")
        self.accelerator.wait_for_everyone()

    def weights_hash(self, name: str) -> str:
        """Returns a hash of the weights in `RUN/name`, or "" if there are none. All processes call it."""
        paths = sorted((self.folder / name).glob("*.safetensors")) if self.accelerator.is_main_process else []
        return from_main_process(" ".join(map(_hash, paths)))

    def save(self, progress: Progress) -> None:
        """Saves the state of the run after an update, and removes the oldest checkpoints. All processes call it.

        Raises:
            DivergedError: If a weight or a state of the optimiser is not finite. Nothing is saved then.
            UserError: If the checkpoint cannot be written, for example because the disk is full. Earlier checkpoints
                stay as they are.
        """
        self._require_finite(progress)
        folder = self.folder / "checkpoints"
        progress.processes = self.accelerator.num_processes
        with _atomic_folder(folder / ".tmp", folder / _name(progress.step), self.accelerator) as temporary:
            self.accelerator.save_state(str(temporary))
            self.accelerator.wait_for_everyone()  # Each process writes its random state before the folder is renamed.
            if self.accelerator.is_main_process:
                paths = sorted(path for path in temporary.rglob("*") if path.is_file())
                files = {path.relative_to(temporary).as_posix(): _hash(path) for path in paths}
                write_text(temporary / _PROGRESS, json.dumps({**asdict(progress), "files": files}))
        if self.accelerator.is_main_process:
            for older in checkpoint_folders(self.folder)[: -self.keep]:
                shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def load(self) -> Progress:
        """Restores the last checkpoint that is complete. Without one, the run starts from the beginning.

        Raises:
            UserError: If there are checkpoints, but none can be read, or another number of processes wrote them.
        """
        found = [checkpoint_folders(self.folder)]
        broadcast_object_list(found)  # Otherwise a slower process could find other folders.
        folders = found[0]
        if not folders and self.accelerator.is_main_process:
            logger.warning("%s has no checkpoint yet: training starts from the beginning.", self.folder)
        damaged: dict[Path, str] = {}
        for folder in reversed(folders):
            progress = self._load(folder)
            if isinstance(progress, str):
                damaged[folder] = progress
                continue
            if self.accelerator.is_main_process:
                for other, reason in damaged.items():
                    logger.warning(
                        "The checkpoint %s is damaged (%s). It is removed, and %s is used.", other, reason, folder.name
                    )
                    shutil.rmtree(other)
            return progress
        if damaged:
            newest, reason = next(iter(damaged.items()))
            which = f"The checkpoint {newest} cannot" if len(damaged) == 1 else f"No checkpoint in {newest.parent} can"
            raise UserError(f"{which} be read ({reason}): remove {self.folder} and train again.")
        return Progress()

    def _load(self, folder: Path) -> Progress | str:
        """Restores a checkpoint. Returns the reason if it cannot be read, which all processes agree on."""
        progress, reason = Progress(), ""
        try:
            progress = read_progress(folder, verified=self.accelerator.is_main_process)
        except UserError as error:
            reason = str(error.__cause__)
        if true_in_any_process(bool(reason))[0]:
            return reason or "another process cannot read it"
        if progress.processes != self.accelerator.num_processes:
            raise UserError(
                f"The run in {self.folder} has {progress.processes} processes, but there are"
                f" {self.accelerator.num_processes} now: resume it with as many, or start another run with --output."
            )
        try:
            self.accelerator.load_state(str(folder))
        except Exception as error:  # Libraries raise all kinds of errors for damaged files.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if true_in_any_process(bool(reason))[0]:
            return reason or "another process cannot read it"
        return progress

    def _require_finite(self, progress: Progress) -> None:
        """Checks the loss, and the weights and the states of the optimiser that training changes."""
        tensors = [
            tensor
            for group in (self.optimizer.param_groups if self.optimizer else ())
            for parameter in group["params"]
            for tensor in (parameter, *self.optimizer.state.get(parameter, {}).values())
            if isinstance(tensor, torch.Tensor)
        ]
        # Of a sharded tensor, each process checks its part.
        parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
        sums = [value for row in progress.loop["averages"]["sums"] for value in row] if progress.loop else []
        is_finite = all(map(math.isfinite, sums))
        if parts:
            flags = torch.stack([torch.isfinite(part).all().to(parts[0].device) for part in parts])
            is_finite = is_finite and bool(flags.all())
        if true_in_any_process(not is_finite)[0]:
            raise DivergedError(f"The loss or a weight is not finite after step {progress.step}")


class CheckpointSchedule:
    """When checkpoints are saved: every few steps, after some time, or at the end of every epoch.

    Args:
        options (`RunConfig`): Options of the run.
    """

    def __init__(self, options: RunConfig) -> None:
        self.steps, self.seconds = options.checkpoint_steps, options.checkpoint_seconds
        self.saved()

    @property
    def by_epoch(self) -> bool:
        """Whether a checkpoint is saved at the end of every epoch."""
        return self.steps is None and self.seconds is None

    def saved(self) -> None:
        """Starts to measure the time to the next checkpoint."""
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Returns whether a checkpoint is to be saved after a step."""
        if self.steps is not None:
            return step % self.steps == 0
        return self.seconds is not None and time.monotonic() - self._last >= self.seconds


def checkpoint_folders(run: Path) -> list[Path]:
    """Returns the folders of the checkpoints of a run, from the oldest to the newest."""
    return sorted(path for path in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", path.name))


def read_progress(folder: Path, verified: bool = True) -> Progress:
    """Reads the progress of a checkpoint.

    Args:
        folder (`Path`): Folder of the checkpoint.
        verified (`bool`, *optional*, defaults to `True`): Whether to compare all files with their hashes.

    Raises:
        UserError: If the checkpoint is damaged.
    """
    try:
        saved = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        files = saved.pop("files")
        if verified:
            for name, expected in files.items():
                if _hash(folder / name) != expected:
                    raise ValueError(f"{name} has changed")
        return Progress(**saved)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"The checkpoint {folder} is damaged ({error}): remove it.") from error


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process left: unfinished files and folders, and the folder that was just replaced."""
    for name in ("best", "last"):
        old = run / f".{name}.old"
        if old.exists() and not (run / name).exists():
            os.replace(old, run / name)
    for path in (*run.glob(".tgdfer-*"), *run.glob(".*.tmp"), *run.glob(".*.old"), *run.glob("checkpoints/.*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _name(step: int) -> str:
    """Returns the name of the checkpoint after a step. The names have the order of the steps."""
    return f"step-{step:08d}"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _atomic_folder(temporary: Path, folder: Path, accelerator: Accelerator | None = None) -> Iterator[Path]:
    """Yields a temporary folder to write to. On success, it replaces `folder`. Otherwise it is deleted.

    Args:
        temporary: Temporary folder. Leftovers of an interrupted run are removed from it.
        folder: Folder to write, which may exist.
        accelerator: Accelerator, if all processes write to the folder. None if only this process does.

    Raises:
        UserError: If the folder cannot be written, for example because the disk is full.
    """
    is_owner = accelerator is None or accelerator.is_main_process
    if is_owner:
        shutil.rmtree(temporary, ignore_errors=True)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    try:
        yield temporary
        if is_owner:
            _replace_folder(temporary, folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason_of_failed_writing(error, folder.parent)
        if reason is None:
            raise
        raise UserError(
            f"{folder} cannot be written ({reason}): make space there, and continue the run with --resume."
        ) from error
    finally:
        if is_owner:
            shutil.rmtree(temporary, ignore_errors=True)


def _reason_of_failed_writing(error: Exception, folder: Path) -> str | None:
    """Returns the reason why files cannot be written. None if the error has another cause.

    PyTorch and safetensors raise errors of their own for a full disk. Their messages contain the number of the error
    of the operating system, or say that a file could not be written.
    """
    if isinstance(error, RuntimeError) and is_lost_process_error(error):
        return None
    found = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) and error.errno else int(found[1]) if found else None
    if number in UNWRITABLE:
        return os.strerror(number)
    if number is None and re.search(r"writ(e|ing)\b.*fail|fail\w* writ(e|ing)|unexpected pos", str(error)):
        free = shutil.disk_usage(folder).free
        return os.strerror(errno.ENOSPC) if free < 2**20 else f"{decimal(free)} free"
    return None


def _replace_folder(new: Path, old: Path) -> None:
    """Moves a folder to the path of another folder, which may exist and is then replaced."""
    stale = old.with_name(f".{old.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    try:
        if old.exists():
            os.replace(old, stale)
        os.replace(new, old)
    finally:
        # After an interruption between the two moves, the old folder is restored.
        if stale.exists() and not old.exists():
            os.replace(stale, old)
        shutil.rmtree(stale, ignore_errors=True)
