"""The progress bar of a prediction: current file, position in the video, and speed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import get_console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tgdfer.training.outputs.names import format_time


class PredictionProgress:
    """Shows the progress of a prediction or a search over a list of videos.

    Args:
        total (`int`): Number of videos.
        done (`int`, *optional*, defaults to 0): Number of videos that are already done.
        action (`str`, *optional*, defaults to `"Predicting"`): Text before the name of a video.
    """

    def __init__(self, total: int, done: int = 0, action: str = "Predicting"):
        self.total, self.done = total, done
        self.read_seconds = 0.0  # Duration of the finished videos.
        self.started = time.monotonic()
        # File names must not be interpreted as markup: "[/a].mp4" would close a style that was never opened.
        columns = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "position", "speed")]
        self.bar = Progress(
            TextColumn(f"{action} {{task.description}}", markup=False),
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
        """Shows the bar in a `with` block."""
        with self.bar:
            yield

    def begin(self, name: str, duration: float | None) -> Callable[[float], None]:
        """Starts a video.

        Args:
            name (`str`): Name of the video.
            duration (`float`, *optional*): Duration of the video in seconds. None if unknown.

        Returns:
            A function to call with the fraction of the video that is done.
        """
        count = f"({self.done + 1} of {self.total})" if self.total > 1 else ""
        self.bar.update(self.task, description=name, count=count, completed=self.done, position="")

        def advance(share: float) -> None:
            self.bar.update(self.task, completed=self.done + share)
            if duration:
                position = f"{format_time(share * duration)} of {format_time(duration)}"
                self.bar.update(self.task, position=position, speed=self._speed(share * duration))

        return advance

    def end(self, duration: float | None) -> None:
        """Finishes a video with the given duration in seconds."""
        self.done += 1
        self.read_seconds += duration or 0.0
        self.bar.update(self.task, completed=self.done, speed=self._speed(0.0))

    def _speed(self, seconds: float) -> str:
        """Returns the speed so far, given the position in the current video in seconds."""
        elapsed = time.monotonic() - self.started
        read = self.read_seconds + seconds
        return f"{read / elapsed:.1f} s of video per second" if elapsed > 0 and read > 0 else ""
