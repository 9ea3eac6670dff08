"""Checkpoints of a training run: its progress, the state to resume from, and its best and last models."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text
from tgdfer.training.runs.sharded_weights import whole_model

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """The progress of a run. It is saved with every checkpoint.

    Attributes:
        history (`list[dict[str, Any]]`, *optional*): One record per finished epoch, as in `log.jsonl`.
        best_epoch (`int`, *optional*, defaults to 0): Epoch of `RUN/best`, counted from 1. 0 if there is none yet.
        best (`list[float]`, *optional*): Validation UAR and negative validation loss of this epoch.
        seconds (`float`, *optional*, defaults to 0.0): Training time so far, in seconds.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Checkpoints:
    """Writes models and checkpoints to the folder of a run. Each one replaces the previous one atomically.

    Args:
        folder (`Path`): Folder of the run.
        accelerator (`Accelerator`): Accelerator whose prepared objects are saved and restored.
        processor (`TGDFERProcessor`): Processor that is saved with every model.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, processor: TGDFERProcessor) -> None:
        self.folder, self.accelerator, self.processor = folder, accelerator, processor

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

    def save(self, progress: Progress) -> None:
        """Saves the state of the run after an epoch, and removes the previous checkpoint."""
        folder, name = self.folder / "checkpoints", f"epoch-{len(progress.history):04d}"
        with _atomic_folder(folder / ".tmp", folder / name, self.accelerator) as temporary:
            self.accelerator.save_state(str(temporary))
            self.accelerator.wait_for_everyone()  # Each process writes its random state before the folder is renamed.
            if self.accelerator.is_main_process:
                write_text(temporary / "progression.json", json.dumps(asdict(progress)))
        if self.accelerator.is_main_process:
            for older in folder.glob("epoch-*"):
                if older.name != name:
                    shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def load(self) -> Progress:
        """Restores the last checkpoint. Without one, the run starts from the beginning.

        Raises:
            UserError: If the checkpoint cannot be read.
        """
        checkpoints = sorted((self.folder / "checkpoints").glob("epoch-*"))
        if not checkpoints:
            logger.warning("%s has no checkpoint yet: training starts from the beginning.", self.folder)
            return Progress()
        try:
            saved = json.loads((checkpoints[-1] / "progression.json").read_text(encoding="utf-8"))
            self.accelerator.load_state(str(checkpoints[-1]))
            return Progress(**saved)
        except Exception as error:  # Libraries raise all kinds of errors for damaged files.
            raise UserError(
                f"The checkpoint {checkpoints[-1]} cannot be read: remove {self.folder} and train again."
            ) from error


@contextmanager
def _atomic_folder(temporary: Path, folder: Path, accelerator: Accelerator | None = None) -> Iterator[Path]:
    """Yields a temporary folder to write to. On success, it replaces `folder`. Otherwise it is deleted.

    Args:
        temporary: Temporary folder. Leftovers of an interrupted run are removed from it.
        folder: Folder to write, which may exist.
        accelerator: Accelerator, if all processes write to the folder. None if only this process does.
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
    finally:
        if is_owner:
            shutil.rmtree(temporary, ignore_errors=True)


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
