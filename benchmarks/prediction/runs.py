"""What is run and measured: `tgdfer predict` and `fer` on the same recordings, short and repeated."""

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
from benchmarks.prediction.children import spend
from benchmarks.prediction.fer_whole import WholeFer
from tgdfer import modeling_tgdfer, processing, training
from tgdfer.training.files import source_hash, write_text

# A recording is measured as it is, and repeated until it is longer by so many seconds.
LONGER = 16.0
# Frames a second that `tgdfer predict` analyses by default.
ANALYSED = 8
THREADS = (1, 2)
FLOOR = "import torch, torchvision; from transformers import CLIPModel; import cv2, av; CLIPModel.forward"
HERE = Path(__file__).parent
# Changed code is measured anew.
CODE = (modeling_tgdfer, processing, training)


@dataclass(frozen=True)
class Recording:
    """A recording in two lengths.

    Attributes:
        name: its name without folder, which is published.
        short: the file as it is.
        long: the same pictures, repeated.
        seconds: lengths of the two.
        fps: frames a second.
        size: width and height.
    """

    name: str
    short: Path
    long: Path
    seconds: tuple[float, float]
    fps: float
    size: tuple[int, int]


def rendered(folder: Path) -> list[Path]:
    """The recording that is measured where none is given: a rendered face of 5 seconds."""
    path = folder / "rendered_face.mp4"
    if not path.is_file():
        write_face(path, 360, 640, 5.0)
    return [path]


def prepared(path: Path, folder: Path) -> Recording:
    """A recording with its repeated copy in `folder`."""
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
    """Runs of commands, each kept in a file as soon as it is done.

    Attributes:
        work: folder of the file, and of what the commands write.
        fer: environment of `fer`.
        face_model: file of YuNet; None leaves out the rows of YuNet.
        done: what was measured, by name.
    """

    work: Path
    fer: WholeFer
    face_model: Path | None
    done: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = self.work / f"runs-{'-'.join(source_hash(one)[:8] for one in CODE)}.json"
        if self.file.is_file():
            self.done = json.loads(self.file.read_text(encoding="utf-8"))

    def keep(self, name: str, value: Any) -> None:
        """Keeps what was measured."""
        self.done[name] = value
        write_text(self.file, json.dumps(self.done, indent=1))
        get_console().print(f"{name}: {value}", highlight=False, markup=False)

    def measure(self, name: str, command: list[str], threads: int) -> None:
        """Runs a command, unless it was run before."""
        if name not in self.done:
            with tempfile.TemporaryDirectory() as folder:
                extra = {"TGDFER_CACHE": folder}
                spent = spend([word.replace("{folder}", folder) for word in command], threads, extra=extra)
            self.keep(name, dataclasses.asdict(spent))

    def commands(self, recording: Recording, path: Path, threads: int) -> dict[str, list[str]]:
        """The commands that are compared, by their names."""
        predict = [sys.executable, "-m", "tgdfer", "predict", str(path)]
        every = max(1, round(recording.fps / ANALYSED))
        script = [str(self.fer.python), str(HERE / "fer_video.py"), str(path)]
        found = {}
        if self.face_model is not None:
            found["yunet"] = [*predict, *self._yunet()]
        found["mtcnn"] = [*predict, "--face-detector", "mtcnn"]
        found["fer"] = [*script, "1", str(threads)]
        found["fer, as many frames"] = [*script, str(every), str(threads)]
        return found

    def _yunet(self) -> list[str]:
        return ["--face-detector", "yunet", "--face-model", str(self.face_model)]

    def compare(self, recordings: list[Recording], repeats: int) -> None:
        """Runs everything that is compared, in turn, so that a busy machine disturbs all alike."""
        for attempt in range(repeats):
            for threads in THREADS:
                self.measure(f"floor|{threads}|{attempt}", [sys.executable, "-c", FLOOR], threads)
                for recording in recordings:
                    for length, path in (("short", recording.short), ("long", recording.long)):
                        for tool, command in self.commands(recording, path, threads).items():
                            name = "|".join((tool, recording.name, length, str(threads), str(attempt)))
                            self.measure(name, command, threads)

    def others(self, recordings: list[Recording], repeats: int) -> None:
        """`tgdfer faces` and `--annotate`, and where the time goes; on one thread."""
        detector = ["--face-detector", "mtcnn"] if self.face_model is None else self._yunet()
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
                        words = ["-m", "benchmarks.prediction.parts", str(out), "predict", long, *detector]
                        spend([sys.executable, *words, "--annotate", f"{folder}/a.mp4"], 1)
                        self.keep(f"parts|{name}", json.loads(out.read_text(encoding="utf-8")))

    def long_video(self, minutes: int) -> None:
        """Peak memory of a video of 1920x1080 with a face."""
        name = f"minutes|{minutes}"
        if name in self.done:
            return
        with tempfile.TemporaryDirectory() as folder:
            minute, file = Path(folder) / "minute.mp4", Path(folder) / "long.mp4"
            write_face(minute, 1080, 1920)
            repeat(minute, minutes, file)
            detector = ["--face-detector", "mtcnn"] if self.face_model is None else self._yunet()
            self.measure(name, [sys.executable, "-m", "tgdfer", "predict", str(file), *detector], 1)


def key_of(path: Path) -> str:
    """Hash of a recording, so that figures say what they were measured on."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
