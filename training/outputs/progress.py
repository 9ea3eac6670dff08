"""The progress bar of a prediction: the file, the position in the video, and the speed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import get_console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tgdfer.training.outputs.names import clock


class PredictionProgress:
    """Shows how far a list of videos is.

    Args:
        total: number of videos.
        done: how many of them are done already.
    """

    def __init__(self, total: int, done: int = 0):
        self.total, self.done = total, done
        self.read_seconds = 0.0  # of the videos that are finished
        self.began = time.monotonic()
        # Names of files are not markup: "[/a].mp4" would end a style that was never begun.
        columns = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "position", "speed")]
        self.bar = Progress(
            TextColumn("Predicting {task.description}", markup=False),
            columns[0],
            BarColumn(),
            TaskProgressColumn(),
            *columns[1:],
            TimeRemainingColumn(),
            console=get_console(),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total, completed=done, count="", position="", speed="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar."""
        with self.bar:
            yield

    def begin(self, name: str, duration: float | None) -> Callable[[float], None]:
        """Begins a video.

        Args:
            name: of the video.
            duration: seconds of the video; None where unknown.

        Returns:
            A function that takes the share of the video that is done.
        """
        count = f"({self.done + 1} of {self.total})" if self.total > 1 else ""
        self.bar.update(self.task, description=name, count=count, completed=self.done, position="")

        def advance(share: float) -> None:
            self.bar.update(self.task, completed=self.done + share)
            if duration:
                position = f"{clock(share * duration)} of {clock(duration)}"
                self.bar.update(self.task, position=position, speed=self._speed(share * duration))

        return advance

    def end(self, duration: float | None) -> None:
        """Ends a video of this many seconds."""
        self.done += 1
        self.read_seconds += duration or 0.0
        self.bar.update(self.task, completed=self.done, speed=self._speed(0.0))

    def _speed(self, seconds: float) -> str:
        passed = time.monotonic() - self.began
        read = self.read_seconds + seconds
        return f"{read / passed:.1f} s of video per second" if passed > 0 and read > 0 else ""
