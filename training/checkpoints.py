"""What a run keeps of itself: its progress, the checkpoint to resume from, and its best and last models."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.files import write_text

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run has come. It is saved with every checkpoint.

    Attributes:
        history: a row for each finished epoch, as in `log.jsonl`.
        best_epoch: the epoch, from 1, of `RUN/best`; 0 before there is one.
        best: its validation UAR and, negated, its validation loss.
        seconds: time spent so far.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Checkpoints:
    """Models and checkpoints in the folder of a run. Each replaces the one before only when it is whole.

    Args:
        folder: folder of the run.
        accelerator: what it has prepared is saved and restored.
        processor: saved with every model.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, processor: TGDFERProcessor) -> None:
        self.folder, self.accelerator, self.processor = folder, accelerator, processor

    def save_model(self, model: Any, name: str) -> None:
        """Writes model and processor to `RUN/name`; LoRA is merged."""
        if self.accelerator.is_main_process:
            with _whole_folder(self.folder / f".{name}.tmp", self.folder / name) as temporary:
                self.accelerator.unwrap_model(model).save_pretrained(temporary, merge_lora=True)
                self.processor.save_pretrained(temporary)
        self.accelerator.wait_for_everyone()

    def save(self, progress: Progress) -> None:
        """Saves the state of the run after an epoch, and removes that of the epoch before."""
        folder, name = self.folder / "checkpoints", f"epoch-{len(progress.history):04d}"
        with _whole_folder(folder / ".tmp", folder / name, self.accelerator) as temporary:
            self.accelerator.save_state(str(temporary))
            self.accelerator.wait_for_everyone()  # Each process writes its random state, which may not come too late.
            if self.accelerator.is_main_process:
                write_text(temporary / "progression.json", json.dumps(asdict(progress)))
        if self.accelerator.is_main_process:
            for older in folder.glob("epoch-*"):
                if older.name != name:
                    shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def load(self) -> Progress:
        """Restores the last checkpoint. If the run was interrupted before the first one, it starts anew.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        checkpoints = sorted((self.folder / "checkpoints").glob("epoch-*"))
        if not checkpoints:
            logger.warning("%s has no checkpoint yet: training starts from the beginning.", self.folder)
            return Progress()
        try:
            saved = json.loads((checkpoints[-1] / "progression.json").read_text(encoding="utf-8"))
            self.accelerator.load_state(str(checkpoints[-1]))
            return Progress(**saved)
        except Exception as error:  # the libraries that read damaged files raise errors of any kind
            raise UserError(
                f"The checkpoint {checkpoints[-1]} cannot be read: remove {self.folder} and train again."
            ) from error


@contextmanager
def _whole_folder(temporary: Path, folder: Path, accelerator: Accelerator | None = None) -> Iterator[Path]:
    """Gives a folder to write, which takes the place of another one once it is whole, and else disappears.

    Args:
        temporary: the folder to write. What an interruption may have left there is removed.
        folder: its place in the end, which may be taken.
        accelerator: of the processes that all write to the folder; None where only this one does.
    """
    moves = accelerator is None or accelerator.is_main_process
    if moves:
        shutil.rmtree(temporary, ignore_errors=True)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    try:
        yield temporary
        if moves:
            _replace_folder(temporary, folder)
    finally:
        if moves:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, old: Path) -> None:
    """Moves a folder to the place of another one, which may not exist."""
    stale = old.with_name(f".{old.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    try:
        if old.exists():
            os.replace(old, stale)
        os.replace(new, old)
    finally:
        # After an interruption between the two moves, the earlier folder returns to its place.
        if stale.exists() and not old.exists():
            os.replace(stale, old)
        shutil.rmtree(stale, ignore_errors=True)
