"""Training on labelled photographs first, as clips of one frame, and on clips afterwards (`stills`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich import get_console

from tgdfer.training.config import DataConfig, TrainingConfig
from tgdfer.training.data.splits import load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.optimisation.loop import start_accelerator
from tgdfer.training.processes import process_state
from tgdfer.training.runs.run_folder import STILLS, require_new_or_resumable

# Options of the data that also hold for the photographs.
_SHARED = ("augmentation", "validation_fraction", "strict", "workers")


class RunStage(Protocol):
    """Trains one stage of a run, as `run_stage` in `training/train.py`."""

    def __call__(
        self,
        config: TrainingConfig,
        start: str | None = None,
        labels: list[str] | None = None,
        before_writing: Callable[[], None] | None = None,
    ) -> Path: ...


def train_after_stills(config: TrainingConfig, run_stage: RunStage) -> Path:
    """Trains on photographs in `RUN/stills`, and then from its best model on clips in `RUN`.

    A finished stage is not repeated, so that `resume` continues the stage that was interrupted.

    Args:
        config (`TrainingConfig`): Configuration of the run, with `stills`.
        run_stage (`RunStage`): Trains a stage.

    Returns:
        The folder of the run.

    Raises:
        UserError: As in `train`, or if photographs and clips have fewer than two labels in common.
    """
    folder, accumulation = Path(config.run.output), config.optimisation.gradient_accumulation
    precision = start_accelerator(config.run.mixed_precision, accumulation).mixed_precision
    config = config.with_options(mixed_precision=precision)
    require_new_or_resumable(folder, config)
    stage = stills_config(config)
    if not (folder / STILLS / "last" / "config.json").is_file():
        # Clips that cannot be trained on are an error now, and not hours later.
        labels = load_parts(config.data, config.run.seed)[0].clips.classes
        is_started = (folder / STILLS / "config.yaml").is_file()
        _say(f"Stage 1 of 2: photographs of {config.data.stills}, in {folder / STILLS}")

        def save_config() -> None:
            # Without this file, a run that is interrupted in the first stage could not be resumed.
            folder.mkdir(parents=True, exist_ok=True)
            config.with_options(resume=False).with_absolute_paths().save(folder / "config.yaml")

        with _naming_options_of_photographs():
            run_stage(stage.with_options(resume=is_started), labels=labels, before_writing=save_config)
    _say(f"Stage 2 of 2: clips of {config.data.dataset}, in {folder}")
    return run_stage(config, start=str(folder / STILLS / "best"))


@contextmanager
def _naming_options_of_photographs() -> Iterator[None]:
    """Replaces options of clips in messages by those of photographs."""
    try:
        yield
    except UserError as error:
        message = str(error).replace("--label-column", "--stills-label-column")
        message = message.replace("--vote-columns", "--stills-vote-columns")
        message = message.replace("name one with --video-column", "keep one column of pictures")
        raise UserError(message) from error


def _say(message: str) -> None:
    if process_state().is_main_process:
        get_console().print(message, highlight=False, markup=False, soft_wrap=True)


def stills_config(config: TrainingConfig) -> TrainingConfig:
    """Returns the configuration of the run on photographs.

    Args:
        config (`TrainingConfig`): Configuration of the whole run. Its options of the model and of the updates also
            hold for the photographs.
    """
    data, votes = config.data, config.data.stills_vote_columns
    options = {name: value for name, value in config.options().items() if name not in DataConfig.model_fields}
    options |= {name: getattr(data, name) for name in _SHARED}
    options |= {"dataset": data.stills, "label_column": data.stills_label_column, "vote_columns": votes}
    options |= {"label_kind": "votes" if votes else "single", "num_frames": 1, "stills_epochs": None}
    options["epochs"] = config.optimisation.stills_epochs or config.optimisation.epochs
    options["output"] = str(Path(config.run.output) / STILLS)
    return TrainingConfig.from_options(**options)
