"""Predicts hundreds of broken and odd videos in a worker: each gives an answer or one sentence, soon and small.

    python -m benchmarks.broken_files

Ends with exit code 1 where a file takes 10 s or 1 GB, raises anything but `VideoDecodeError`, or ends the worker.
"""

import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

SECONDS, BYTES = 10, 2**30


def load() -> Any:
    """A pipeline of a model that has not been trained: what it says does not matter here, that it says it does."""
    from tgdfer import TGDFERForVideoClassification, TGDFERProcessor, built_in_descriptions, clip_tiny_faces
    from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline

    processor = TGDFERProcessor.from_clip(clip_tiny_faces(), built_in_descriptions())
    model = TGDFERForVideoClassification.from_clip(clip_tiny_faces(), processor.class_prompts())
    return EmotionTimelinePipeline(model=model.eval(), video_processor=processor.video_processor)


def work(pipe: Any) -> None:
    """Answers each path by what came of it, the seconds it took and the growth of peak memory in bytes."""
    import av
    import torch
    from transformers.utils import logging

    from tgdfer.processing.video_processing_tgdfer import VideoDecodeError

    av.logging.set_level(av.logging.PANIC)
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    predict = load()
    pipe.send(None)
    while (path := pipe.recv()) is not None:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            timeline = predict(path)
            # A picture has no time.
            times = timeline["timestamps"] or []
            numbers = [*timeline["scores"].values(), *timeline["frame_relevance"], *times]
            result = "prediction" if all(map(math.isfinite, numbers)) else "a prediction that is no number"
        except VideoDecodeError as error:
            named = str(path) in str(error) and "\n" not in str(error)
            result = "sentence" if named else f"unclear: {error}"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        pipe.send((result, time.perf_counter() - start, growth))


class Worker:
    """A process that predicts files, and is replaced when one of them ends it or takes too long."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.pipe.recv()

    def predict(self, path: Path) -> tuple[str, float, int]:
        self.pipe.send(str(path))
        if not self.pipe.poll(SECONDS):
            self.process.kill()
            self.process.join()
            return f"not done after {SECONDS} s", float(SECONDS), 0
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return f"the worker died ({self.process.exitcode})", 0.0, 0


def main() -> int:
    from broken_files import FILES  # type: ignore[import-not-found]

    worker, failures, results = Worker(), [], Counter()
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FILES.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(make())
            result, seconds, growth = worker.predict(path)
            slowest, largest = max(slowest, (seconds, name)), max(largest, (growth, name))
            fine = result in ("prediction", "sentence")
            results[result if fine else "failure"] += 1
            if not fine or seconds > SECONDS or growth > BYTES:
                failures.append(f"{name}: {result} ({seconds:.1f} s, {growth / 2**20:.0f} MiB)")
            if not worker.process.is_alive():
                worker = Worker()
            path.unlink()
    print(
        f"{len(FILES)} files: {results['prediction']} predictions, {results['sentence']} sentences, "
        f"{len(failures)} failures"
    )
    print(f"slowest: {slowest[0]:.2f} s ({slowest[1]}); most memory: {largest[0] / 2**20:.0f} MiB ({largest[1]})")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
