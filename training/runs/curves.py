"""The picture of the learning curves in the folder of a run."""

import time
from pathlib import Path

from tgdfer.training.runs.checkpoints import Progress
from tgdfer.training.runs.step_log import STEPS, read_steps

CURVES = "learning_curves.png"
# Drawing takes up to a second, so that it would slow down short epochs.
SECONDS_BETWEEN = 60


class CurvesFile:
    """Draws `RUN/learning_curves.png` from the logs, during training at most once a minute.

    Args:
        folder (`Path`): Folder of the run.
        steps_per_epoch (`int`): Number of updates in an epoch.
    """

    def __init__(self, folder: Path, steps_per_epoch: int) -> None:
        self.folder, self.steps_per_epoch = folder, steps_per_epoch
        self._drawn = time.monotonic()

    def draw_if_old(self, progress: Progress) -> None:
        """Draws the picture if the last one is older than a minute."""
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN:
            self.draw(progress)

    def draw(self, progress: Progress) -> None:
        """Draws the picture."""
        from tgdfer.training.figures.learning_curves import plot_learning_curves  # Importing matplotlib takes time.

        steps = read_steps(self.folder / STEPS)
        path = self.folder / CURVES
        plot_learning_curves(steps, progress.history, self.steps_per_epoch, path, progress.best_epoch)
        self._drawn = time.monotonic()
