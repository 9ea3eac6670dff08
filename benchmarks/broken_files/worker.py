"""Worker process that predicts videos. Its parent notices if it hangs, crashes or takes too much memory."""

import math
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path

import av
import torch
from transformers.utils import logging

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor, built_in_descriptions, clip_tiny_faces
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.video_file_tgdfer import VideoDecodeError

# Time limit per file, in seconds.
SECONDS = 10


def load() -> EmotionTimelinePipeline:
    """Returns a pipeline with an untrained model. The values of its predictions do not matter here."""
    clip = str(clip_tiny_faces())
    processor = TGDFERProcessor.from_clip(clip, built_in_descriptions())
    model = TGDFERForVideoClassification.from_clip(clip, processor.class_prompts())
    return EmotionTimelinePipeline(model=model.eval(), video_processor=processor.video_processor)


def work(pipe: Connection) -> None:
    """Runs the worker. It answers each path with the result, the time in seconds and the memory growth in bytes."""
    av.logging.set_level(av.logging.PANIC)
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    predict = load()
    pipe.send(None)
    while (path := pipe.recv()) is not None:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            (person,) = predict(path)["people"]
            numbers = [*person["scores"].values(), *person["frame_relevance"], *person["timestamps"]]
            result = (
                "prediction" if all(map(math.isfinite, numbers)) else "a prediction with values that are not finite"
            )
        except VideoDecodeError as error:
            is_clear = str(path) in str(error) and "\n" not in str(error)
            result = "sentence" if is_clear else f"unclear: {error}"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        pipe.send((result, time.perf_counter() - start, growth))


class Worker:
    """A process that predicts files. It must be replaced if a file crashes it or exceeds the time limit."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()

    def close(self) -> None:
        """Stops the process."""
        self.pipe.send(None)
        self.process.join()

    def predict(self, path: Path) -> tuple[str, float, int]:
        """Predicts a file.

        Returns:
            `tuple[str, float, int]`: The result ("prediction", "sentence" for a clear error message, or a failure),
            the time in seconds, and the growth of peak memory in bytes.
        """
        self.pipe.send(str(path))
        if not self.pipe.poll(SECONDS):
            self.process.kill()
            self.process.join()
            return f"not finished after {SECONDS} s", float(SECONDS), 0
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return f"the worker crashed ({self.process.exitcode})", 0.0, 0
