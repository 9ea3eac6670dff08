"""Trackers of experiments: trackio and TensorBoard."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker

from tgdfer.training.errors import UserError

# Project of all runs in trackio.
PROJECT = "tgdfer"


def require_trackers(names: Sequence[str]) -> None:
    """Checks that the libraries of trackers are installed.

    Raises:
        UserError: If one is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f"report_to={name!r} needs the library {name}: `pip install '.[{name}]'` in the clone of tgdfer."
            )


def start_trackers(accelerator: Accelerator, names: Sequence[str], folder: Path, options: dict[str, Any]) -> None:
    """Starts trackers, which then get the values that are passed to `accelerator.log`.

    TensorBoard writes to `RUN/tensorboard`. The name of a run in trackio is that of its folder. A resumed run is
    continued there. Otherwise trackio starts another run, even if there is one of this name.

    Args:
        accelerator (`Accelerator`): Accelerator of the training.
        names (`Sequence[str]`): Names of the trackers.
        folder (`Path`): Folder of the run.
        options (`dict[str, Any]`): Options of the run.
    """
    resume = "allow" if options["resume"] else "never"
    trackers: dict[str, GeneralTracker] = {
        "tensorboard": TensorBoardTracker("tensorboard", folder),
        "trackio": TrackioTracker(PROJECT, name=folder.resolve().name, resume=resume),
    }
    accelerator.log_with = [trackers[name] for name in dict.fromkeys(names)]
    # TensorBoard has no lists and mappings.
    scalars = {name: value if isinstance(value, int | float) else str(value) for name, value in options.items()}
    accelerator.init_trackers(PROJECT, config=scalars)
