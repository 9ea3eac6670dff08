"""The commands `tgdfer predict` and `tgdfer join`."""

import os
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tgdfer.console import hide_loading_bars
from tgdfer.option_groups import with_groups
from tgdfer.processing.description_files_tgdfer import read_descriptions
from tgdfer.training.errors import PartialResultError, UserError
from tgdfer.weights import DEFAULT_MODEL

PREDICT_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tgdfer predict holiday.mov\n\n"
    "tgdfer predict talk.mp4 --subtitles talk.vtt --plot talk.png --annotate talk-annotated.mp4\n\n"
    "tgdfer predict recordings/ --every 0.5 --jsonl found.jsonl --csv frames.csv --resume\n\n"
    'tgdfer predict clip.mp4 --label "bored=half-closed eyes; a slack mouth" --label "awake=wide open eyes"'
)
JOIN_EXAMPLES = "[bold]Example[/]\n\ntgdfer join found-*.jsonl --csv frames.csv --json found.json"

MODEL_HELP = "Folder of a run or of a model, or a Hub id; tgdfer-tiny is the model in the package"


@dataclass(frozen=True)
class ReadingOptions:
    """Which frames are analysed, and which classes the model has."""

    fps: Annotated[
        float | None,
        typer.Option(help="Frames to analyse per second", rich_help_panel="Data"),
    ] = None
    every: Annotated[
        float | None,
        typer.Option(help="Seconds between analysed frames, instead of --fps", rich_help_panel="Data"),
    ] = None
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of other classes and their descriptions; the answers are then not calibrated",
            rich_help_panel="Model",
        ),
    ] = None
    label: Annotated[
        list[str],
        typer.Option(
            help="Another class with its descriptions, separated by semicolons; give it once for each class",
            metavar="LABEL=DESCRIPTION;...",
            rich_help_panel="Model",
        ),
    ] = field(default_factory=list)
    url_allow_private: Annotated[
        bool,
        typer.Option(
            "--url-allow-private",
            help="Also fetch URLs that lead to this machine or to a private network",
            rich_help_panel="Data",
        ),
    ] = False

    def interval(self) -> float | None:
        """Seconds between analysed frames; None for the default of the model."""
        if self.fps is not None and self.every is not None:
            raise UserError("--fps and --every both say how many frames are analysed; give one of them.")
        for flag, value in (("--fps", self.fps), ("--every", self.every)):
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{flag} is {value:g}, but must be above 0.")
        return 1 / self.fps if self.fps is not None else self.every

    def classes(self) -> dict[str, list[str]] | None:
        """Descriptions of other classes; None if there are none."""
        if self.descriptions is None and not self.label:
            return None
        words = _read_classes(self.descriptions)
        for text in self.label:
            name, equals, described = text.partition("=")
            texts = [one.strip() for one in described.split(";") if one.strip()]
            if not equals or not name.strip() or not texts:
                raise UserError(f"--label takes LABEL=DESCRIPTION, as in 'bored=half-closed eyes', not {text!r}.")
            words[unicodedata.normalize("NFC", name.strip())] = texts
        if len(words) < 2:
            raise UserError("One class alone is always the answer; describe at least two with --label.")
        return words


def _read_classes(file: Path | None) -> dict[str, list[str]]:
    if file is None:
        return {}
    try:
        return read_descriptions(file)
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True)
class FaceOptions:
    """Which faces are analysed, and how they are detected."""

    face_crop: Annotated[
        Literal["none", "largest", "center", "all"] | None,
        typer.Option(
            help="Faces to analyse; none analyses whole pictures. By default all faces, or none if the model was "
            "trained on whole pictures",
            rich_help_panel="Faces",
        ),
    ] = None
    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"] | None,
        typer.Option(
            help="Detector; by default that of the training, else YuNet where it is available",
            rich_help_panel="Faces",
        ),
    ] = None
    face_model: Annotated[
        Path | None, typer.Option(help="File of the detector YuNet, instead of the Hub's", rich_help_panel="Faces")
    ] = None
    no_face: Annotated[
        Literal["skip", "error", "full_frame"] | None,
        typer.Option(
            help="Frames without the face: leave them out, stop, or use the whole frame; by default as in training",
            rich_help_panel="Faces",
        ),
    ] = None


@dataclass(frozen=True)
class HardwareOptions:
    """Device, precision and batch size."""

    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda or cuda:1; auto uses a GPU if there is one", rich_help_panel="Hardware"),
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Number format of the weights; auto is that of the file", rich_help_panel="Hardware"),
    ] = "auto"
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Number of clips or windows per step", rich_help_panel="Hardware")
    ] = None


@dataclass(frozen=True)
class JoinedFileOptions:
    """Output files that need no frames of the video, so that `join` can write them too."""

    csv: Annotated[
        Path | None, typer.Option(help="Table with a row for each analysed frame", rich_help_panel="Files")
    ] = None
    segments_csv: Annotated[
        Path | None, typer.Option(help="Table with a row for each segment", rich_help_panel="Files")
    ] = None
    json: Annotated[Path | None, typer.Option(help="All results as JSON", rich_help_panel="Files")] = None
    subtitles: Annotated[Path | None, typer.Option(help="Subtitles, .vtt or .srt", rich_help_panel="Files")] = None
    elan: Annotated[Path | None, typer.Option(help="Annotations for ELAN, .eaf", rich_help_panel="Files")] = None
    textgrid: Annotated[
        Path | None, typer.Option(help="Annotations for Praat, .TextGrid", rich_help_panel="Files")
    ] = None


@dataclass(frozen=True)
class FileOptions(JoinedFileOptions):
    """All output files of a prediction."""

    plot: Annotated[Path | None, typer.Option(help="Picture of the timeline", rich_help_panel="Files")] = None
    annotate: Annotated[
        Path | None,
        typer.Option(help="Copy of the video with boxes, labels and relevance", rich_help_panel="Files"),
    ] = None


@dataclass(frozen=True)
class BatchOptions:
    """How a long list of videos is processed."""

    jsonl: Annotated[
        Path | None,
        typer.Option(help="File to which each result is appended at once", rich_help_panel="Long lists"),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip the videos that have a result in --jsonl", rich_help_panel="Long lists"),
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            help="Part of the list, such as 3/16; accelerate launch gives each process its part",
            metavar="I/N",
            rich_help_panel="Long lists",
        ),
    ] = None


@with_groups
def predict(
    videos: Annotated[
        list[str],
        typer.Argument(help="Videos, photographs, folders, patterns in quotes, URLs, or - for standard input",
                       metavar="VIDEO..."),
    ],
    *,
    reading: ReadingOptions,
    model: Annotated[str, typer.Option(help=MODEL_HELP, rich_help_panel="Model")] = DEFAULT_MODEL,
    faces: FaceOptions,
    hardware: HardwareOptions,
    files: FileOptions,
    batch: BatchOptions,
) -> None:  # fmt: skip
    """Recognise the expressions in videos, for each person and over time.

    With several videos, each has its own subtitles, annotations, picture and annotated video. They are named after the
    video.
    """
    interval, classes = reading.interval(), reading.classes()
    # OpenMP reads this when PyTorch is loaded. By default a thread that waits keeps its core busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hide_loading_bars()
    from tgdfer.training.hardware import Hardware, return_large_blocks
    from tgdfer.training.outputs import PredictionFiles, Shard, print_results
    from tgdfer.training.predict import Batch, PredictionOptions
    from tgdfer.training.predict import predict as predict_videos

    return_large_blocks()
    face_options: dict[str, Any] = {**asdict(faces), "face_model": faces.face_model and str(faces.face_model)}
    options = PredictionOptions(
        face_options, interval, classes, Hardware(**asdict(hardware)), reading.url_allow_private
    )
    part = None if batch.shard is None else Shard.parse(batch.shard)
    results = predict_videos(
        videos, model, PredictionFiles(**asdict(files)), options, Batch(batch.jsonl, batch.resume, part)
    )
    print_results(results)


@with_groups
def join(
    parts: Annotated[list[Path], typer.Argument(help="Files that --jsonl has written", metavar="PART...")],
    *,
    files: JoinedFileOptions,
) -> None:
    """Join the results of --shard from several machines, and write the files of the whole list."""
    from tgdfer.training.outputs import PredictionFiles, print_results
    from tgdfer.training.outputs import join as join_parts

    results, errors = join_parts(parts, PredictionFiles(**asdict(files)))
    print_results(results)
    if errors:
        raise PartialResultError(errors, len(results) + len(errors))
