"""Runs `tgdfer predict` and `fer` on the same recordings, short and repeated, and stores the measurements."""

import dataclasses
import hashlib
import json
import math
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from rich import get_console

from benchmarks.long_videos.memory import repeat, write_face
from benchmarks.prediction.children import measure_command
from benchmarks.prediction.fer_whole import FullFerEnvironment
from tgdfer import modeling_tgdfer, processing, training
from tgdfer.training.files import source_hash, write_text

# The repeated recording is at least this many seconds longer than the original.
LONGER = 16.0
# Frames per second that `tgdfer predict` analyses by default.
ANALYSED = 8
THREADS = (1, 2)
FLOOR = "import torch, torchvision; from transformers import CLIPModel; import cv2, av; CLIPModel.forward"
HERE = Path(__file__).parent
# If the code of these packages changes, all measurements are repeated.
CODE = (modeling_tgdfer, processing, training)


@dataclass(frozen=True)
class Recording:
    """A recording and a longer copy in which it is repeated.

    Attributes:
        name (`str`): Name of the file without its folder, which is published.
        short (`Path`): Path of the recording.
        long (`Path`): Path of the repeated copy.
        seconds (`tuple[float, float]`): Length of the recording and of the copy in seconds.
        fps (`float`): Frames per second.
        size (`tuple[int, int]`): Width and height in pixels.
    """

    name: str
    short: Path
    long: Path
    seconds: tuple[float, float]
    fps: float
    size: tuple[int, int]


def render_recording(folder: Path) -> list[Path]:
    """Renders a face for 5 seconds. This is the default recording."""
    path = folder / "rendered_face.mp4"
    if not path.is_file():
        write_face(path, 360, 640, 5.0)
    return [path]


def prepare(path: Path, folder: Path) -> Recording:
    """Writes the repeated copy of a recording into `folder`."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for packet in container.demux(stream) if packet.size)
        fps = float(stream.average_rate or 25)
        size = (stream.codec_context.width, stream.codec_context.height)
    seconds = frames / fps
    times = 1 + math.ceil(LONGER / seconds)
    long = folder / f"{path.stem}_x{times}.mp4"
    repeat(path, times, long)
    return Recording(path.name, path, long, (seconds, seconds * times), fps, size)


@dataclass
class Runs:
    """Runs commands, and stores each measurement on disk as soon as it is finished.

    Attributes:
        work (`Path`): Folder of the stored measurements.
        fer (`FullFerEnvironment`): Virtual environment of `fer`.
        face_model (`Path`, *optional*): File of the YuNet model. None skips the rows of YuNet.
        done (`dict[str, Any]`, *optional*): Finished measurements by name.
    """

    work: Path
    fer: FullFerEnvironment
    face_model: Path | None
    done: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = self.work / f"runs-{'-'.join(source_hash(package)[:8] for package in CODE)}.json"
        if self.file.is_file():
            self.done = json.loads(self.file.read_text(encoding="utf-8"))

    def store(self, name: str, value: Any) -> None:
        """Stores a measurement."""
        self.done[name] = value
        write_text(self.file, json.dumps(self.done, indent=1))
        get_console().print(f"{name}: {value}", highlight=False, markup=False)

    def measure(self, name: str, command: list[str], threads: int) -> None:
        """Runs and measures a command, unless its measurement is already stored.

        Args:
            name (`str`): Name of the measurement.
            command (`list[str]`): Program and arguments. "{folder}" stands for a temporary folder.
            threads (`int`): Number of threads.
        """
        if name not in self.done:
            with tempfile.TemporaryDirectory() as folder:
                extra = {"TGDFER_CACHE": folder}
                arguments = [argument.replace("{folder}", folder) for argument in command]
                usage = measure_command(arguments, threads, extra=extra)
            self.store(name, dataclasses.asdict(usage))

    def commands(self, recording: Recording, path: Path, threads: int) -> dict[str, list[str]]:
        """Returns the compared commands by name."""
        predict = [sys.executable, "-m", "tgdfer", "predict", str(path)]
        every = max(1, round(recording.fps / ANALYSED))
        script = [str(self.fer.python), str(HERE / "fer_video.py"), str(path)]
        commands = {}
        if self.face_model is not None:
            commands["yunet"] = [*predict, *self._yunet_options()]
        commands["mtcnn"] = [*predict, "--face-detector", "mtcnn"]
        commands["fer"] = [*script, "1", str(threads)]
        commands["fer, as many frames"] = [*script, str(every), str(threads)]
        return commands

    def _yunet_options(self) -> list[str]:
        return ["--face-detector", "yunet", "--face-model", str(self.face_model)]

    def compare(self, recordings: list[Recording], repeats: int) -> None:
        """Runs the compared commands in turn, so that other processes on the machine disturb all of them equally."""
        for attempt in range(repeats):
            for threads in THREADS:
                self.measure(f"floor|{threads}|{attempt}", [sys.executable, "-c", FLOOR], threads)
                for recording in recordings:
                    for length, path in (("short", recording.short), ("long", recording.long)):
                        for tool, command in self.commands(recording, path, threads).items():
                            name = "|".join((tool, recording.name, length, str(threads), str(attempt)))
                            self.measure(name, command, threads)

    def measure_other_commands(self, recordings: list[Recording], repeats: int) -> None:
        """Measures `tgdfer faces` and `--annotate`, and the time of each part of a prediction, on one thread."""
        detector = ["--face-detector", "mtcnn"] if self.face_model is None else self._yunet_options()
        for attempt in range(repeats):
            for recording in recordings:
                long, name = str(recording.long), f"{recording.name}|{attempt}"
                tgdfer = [sys.executable, "-m", "tgdfer"]
                annotated = [*tgdfer, "predict", long, *detector, "--annotate", "{folder}/annotated.mp4"]
                self.measure(f"annotate|{name}", annotated, 1)
                crops = [*tgdfer, "faces", long, "{folder}/crops", "--workers", "1", *detector]
                self.measure(f"faces|{name}", crops, 1)
                if f"parts|{name}" not in self.done:
                    with tempfile.TemporaryDirectory() as folder:
                        out = Path(folder) / "parts.json"
                        module = ["-m", "benchmarks.prediction.parts", str(out), "predict", long, *detector]
                        measure_command([sys.executable, *module, "--annotate", f"{folder}/a.mp4"], 1)
                        self.store(f"parts|{name}", json.loads(out.read_text(encoding="utf-8")))

    def long_video(self, minutes: int) -> None:
        """Measures the prediction of a long video of 1920x1080 that shows a face."""
        name = f"minutes|{minutes}"
        if name in self.done:
            return
        with tempfile.TemporaryDirectory() as folder:
            minute, file = Path(folder) / "minute.mp4", Path(folder) / "long.mp4"
            write_face(minute, 1080, 1920)
            repeat(minute, minutes, file)
            detector = ["--face-detector", "mtcnn"] if self.face_model is None else self._yunet_options()
            self.measure(name, [sys.executable, "-m", "tgdfer", "predict", str(file), *detector], 1)


def file_hash(path: Path) -> str:
    """Returns a hash of a recording, which is published with its figures."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
