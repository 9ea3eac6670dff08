"""Measures the CPU time of each part of a prediction: `python -m benchmarks.prediction.parts OUT.json ARGUMENTS...`.

`ARGUMENTS` are the arguments of `tgdfer`. Functions of the package are wrapped in timers, and run on one thread. If a
wrapped function calls another one, the time inside the inner function counts only for the inner function.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

PARTS = ("imports", "loading the model", "decoding", "faces", "model", "drawing", "rest")


class Timers:
    """CPU time of each part in seconds. At any moment, the time counts for the innermost part that is running."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.running = ["rest"]
        self.since = time.process_time()

    def stop(self) -> None:
        """Adds the time since the last change to the part that is running."""
        now = time.process_time()
        self.spent[self.running[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time inside the context for a part."""
        self.stop()
        self.running.append(name)
        try:
            yield
        finally:
            self.stop()
            self.running.pop()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Measures the time of a function of a module, or of a method of a class, and counts it for a part."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def wrap_generator(self, owner: Any, name: str, part: str) -> None:
        """Measures the time of a generator method, without the time in which its caller uses the values."""
        function: Callable[..., Iterator[Any]] = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            values = function(*args, **kwargs)
            while True:
                with self.part(part):
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                yield value

        setattr(owner, name, timed)


def main(out: str, arguments: list[str]) -> int:
    """Runs a command of `tgdfer`, and writes the CPU time of its parts.

    Args:
        out (`str`): JSON file to write.
        arguments (`list[str]`): Arguments of `tgdfer`.

    Returns:
        `int`: Exit code of the command.
    """
    timers = Timers()
    # The time before this line was spent on imports.
    timers.spent["imports"] = timers.since
    with timers.part("imports"):
        import cv2

        from tgdfer.command_line import main as run
        from tgdfer.processing import detectors_tgdfer, faces_tgdfer, recordings_tgdfer
        from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
        from tgdfer.processing.shots_tgdfer import CutFinder
        from tgdfer.processing.video_file_tgdfer import VideoFile
        from tgdfer.training import predict
        from tgdfer.training.figures import annotated_video, timeline

    cv2.setNumThreads(1)
    timers.wrap(predict, "load", "loading the model")
    timers.wrap_generator(VideoFile, "stream", "decoding")
    timers.wrap(VideoFile, "_packets_of", "decoding")
    for owner, name in (
        (detectors_tgdfer, "_find"),
        (detectors_tgdfer, "load_detector"),
        (faces_tgdfer, "locate_faces"),
        (recordings_tgdfer, "locate_faces"),
        (recordings_tgdfer, "look_for_faces"),
        (recordings_tgdfer, "crop_face"),
        (CutFinder, "add"),
    ):
        timers.wrap(owner, name, "faces")
    for name in ("forward", "postprocess"):
        timers.wrap(EmotionTimelinePipeline, name, "model")
    timers.wrap(annotated_video, "annotate", "drawing")
    timers.wrap(timeline, "plot_timeline", "drawing")
    code = run(arguments)
    timers.stop()
    Path(out).write_text(json.dumps(timers.spent), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
