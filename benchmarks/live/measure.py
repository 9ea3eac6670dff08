"""Measures the live page: how fast and how late it is, and whether its memory grows."""

import csv
import math
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from rich import get_console

from benchmarks.live.watching import Watched, watching, write_camera
from benchmarks.long_videos.memory import repeat, write_face
from tgdfer.training.errors import UserError

# Seconds of the rendered video, and seconds after which the first answers have come and measuring begins.
RENDERED_SECONDS, WARM_UP = 10.0, 5.0
# Seconds between two measurements of the memory, and between two changes of the classes.
SAMPLE, CHANGE = 10.0, 60.0
# Minutes after which the memory is compared with that at the end: the history is full, and the classes have changed.
SETTLED = 3.0
OWN_CLASSES = "smiling: a broad smile\nbored: half-closed eyes; a slack mouth\nastonished: jaw dropped"


def render(folder: Path) -> Path:
    """Renders a face that shows all expressions, 640 x 480, 25 frames per second."""
    path = folder / "rendered_face.mp4"
    write_face(path, 480, 640, RENDERED_SECONDS)
    return path


def measure_pace(videos: list[Path], detectors: dict[str, list[str]], seconds: float) -> list[dict[str, Any]]:
    """Measures frames per second and latency, with the camera of the browser and with a file in real time.

    Args:
        videos (`list[Path]`): Videos that the camera of the browser plays, and that are played in real time.
        detectors (`dict[str, list[str]]`): Arguments of `tgdfer live` for each detector.
        seconds (`float`): Seconds that are measured.

    Returns:
        `list[dict[str, Any]]`: A row for each video, source and detector.
    """
    rows = []
    for video in videos:
        with TemporaryDirectory() as folder, av.open(str(video)) as container:
            stream = container.streams.video[0]
            shape = {"width": stream.width, "height": stream.height, "fps": float(stream.average_rate or 25)}
            camera = write_camera(video, Path(folder) / "camera.y4m")
            long = Path(folder) / video.name
            # The file must not end before the page is closed.
            repeat(video, math.ceil((seconds + 60) / _length(video)), long)
            for detector, arguments in detectors.items():
                for source, own in (("camera of the browser", []), ("file", ["--video", str(long)])):
                    with watching([*arguments, *own], None if own else camera) as watched:
                        found = _pace(watched, seconds)
                    row = {"video": video.name, **shape, "source": source, "detector": detector, **found}
                    rows.append(row)
                    get_console().print(row, highlight=False, markup=False)
    return rows


def _length(video: Path) -> float:
    """Returns the length of the frames in seconds. The sound of a file may be longer."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for packet in container.demux(stream) if packet.size)
        return frames / float(stream.average_rate or 25)


def _pace(watched: Watched, seconds: float) -> dict[str, Any]:
    watched.page.wait_for_timeout(1000 * WARM_UP)
    before = watched.process.cpu_times()
    begin = time.perf_counter()
    seen = watched.collect(seconds)
    passed = time.perf_counter() - begin
    after = watched.process.cpu_times()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    memory = watched.process.memory_info().rss
    code, closing, sentence = watched.close()
    return {
        **figures_of(seen),
        "cpu_share": (after.user + after.system - before.user - before.system) / passed,
        "rss": memory,
        "load": load,
        "exit_code": code,
        "closing_seconds": closing,
        "sentence": sentence,
    }


def figures_of(seen: dict[str, list[list[float]]]) -> dict[str, float]:
    """Computes the figures of what the page has reported.

    Args:
        seen (`dict[str, list[list[float]]]`): Output of `Watched.collect`.

    Returns:
        `dict[str, float]`: `shown_fps` and `answers_per_second`; `slow_seconds`, the share of the whole seconds with
        fewer than 15 frames; and `median` and `p95` of the latency of the answers in seconds.
    """
    shown, answers = (np.array(seen[name]).reshape(-1, 2) for name in ("frames", "answers"))
    moments = shown[:, 0] - shown[0, 0]
    counts = np.bincount(moments.astype(int))[:-1]  # the last second is not whole
    return {
        "shown_fps": (len(moments) - 1) / float(moments[-1]),
        "slow_seconds": float((counts < 15).mean()),
        "answers_per_second": (len(answers) - 1) / float(answers[-1, 0] - answers[0, 0]),
        "median": float(np.median(answers[:, 1])),
        "p95": float(np.percentile(answers[:, 1], 95)),
    }


def measure_memory(video: Path, arguments: list[str], minutes: float, log: Path) -> dict[str, Any]:
    """Measures the memory of the command while a file is played, and the classes change every minute.

    Args:
        video (`Path`): Video that is repeated for as long as necessary.
        arguments (`list[str]`): Arguments of `tgdfer live`.
        minutes (`float`): Minutes that are measured.
        log (`Path`): CSV file to which each measurement is appended.

    Returns:
        `dict[str, Any]`: The figures. Memory is the resident set in bytes.
    """
    samples: list[tuple[float, int]] = []
    with TemporaryDirectory() as folder:
        long = Path(folder) / video.name
        repeat(video, math.ceil((60 * minutes + 120) / _length(video)), long)
        with watching([*arguments, "--video", str(long)]) as watched, log.open("w", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "rss"])
            begin, changes = time.monotonic(), 0
            while (passed := time.monotonic() - begin) < 60 * minutes:
                if passed > CHANGE * (changes + 1):
                    _change_classes(watched.page, own=changes % 2 == 0)
                    changes += 1
                if watched.process.poll() is not None:
                    raise UserError(f"The command has ended after {passed:.0f} s: {watched.process.stdout.read()}")
                samples.append((passed, watched.process.memory_info().rss))
                writer.writerow([f"{passed:.1f}", samples[-1][1]])
                file.flush()
                watched.page.evaluate("seen.frames = []; seen.answers = []; 0")
                watched.page.wait_for_timeout(1000 * SAMPLE)
            code, _, sentence = watched.close()
    return {
        **memory_figures(samples),
        "video": video.name,
        "changes": changes,
        "load": os.getloadavg()[2] if hasattr(os, "getloadavg") else None,
        "exit_code": code,
        "sentence": sentence,
    }


def _change_classes(page: Any, own: bool) -> None:
    if own:
        page.locator("#classes").fill(OWN_CLASSES)
        page.locator("#own button.primary").click()
    else:
        page.locator("#restore").click()


def memory_figures(samples: list[tuple[float, int]]) -> dict[str, float]:
    """Compares the memory at the start and at the end, from pairs of seconds and bytes.

    Returns:
        `dict[str, float]`: `minutes`; the largest value, `peak`; the medians of two minutes, `settled` (after
        `SETTLED` minutes, or at the start of a shorter run) and `end`; and `per_hour`, the growth from one to the
        other in bytes per hour.
    """
    seconds, values = np.array([one[0] for one in samples]), np.array([one[1] for one in samples], dtype=float)
    start = min(60 * SETTLED, seconds[-1] / 2)
    settled = float(np.median(values[(seconds >= start) & (seconds <= start + 120)]))
    end = float(np.median(values[seconds >= seconds[-1] - 120]))
    between = max(seconds[-1] - 60 - (start + 60), 1.0)
    return {
        "minutes": float(seconds[-1]) / 60,
        "peak": float(values.max()),
        "settled": settled,
        "end": end,
        "per_hour": float(3600 * (end - settled) / between),
    }
