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
from tgdfer.training.revisions import with_revision
from tgdfer.weights import DEFAULT_MODEL

PREDICT_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "tgdfer predict holiday.mov\n\n"
    "tgdfer predict talk.mp4 --subtitles talk.vtt --plot talk.png --annotate talk-annotated.mp4\n\n"
    "tgdfer predict recordings/ --every 0.5 --jsonl found.jsonl --csv frames.csv --resume\n\n"
    'tgdfer predict clip.mp4 --label "bored=half-closed eyes; a slack mouth" --label "awake=wide open eyes"'
)
# Maximum of --fps and --every. Their minimum is its reciprocal.
_MOST = 100_000
JOIN_EXAMPLES = "[bold]Example[/]\n\ntgdfer join found-*.jsonl --csv frames.csv --json found.json"

REVISION_HELP = "Branch, tag or commit of the model on the Hub; MODEL@REVISION does the same"
MODEL_HELP = 'Folder of a run or of a model, or a Hub id; "tgdfer-tiny" is the model in the package'


@dataclass(frozen=True)
class ReadingOptions:
    """Options for the frames that are analysed and for the classes of the model."""

    fps: Annotated[
        float | None,
        typer.Option(help="Number of frames per second that are analysed", rich_help_panel="Data"),
    ] = None
    every: Annotated[
        float | None,
        typer.Option(
            help="Seconds (not frames) from one analysed frame to the next, instead of --fps", rich_help_panel="Data"
        ),
    ] = None
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of classes and descriptions that replace the classes of the model. The answers are then "
            "not calibrated",
            rich_help_panel="Model",
        ),
    ] = None
    label: Annotated[
        list[str],
        typer.Option(
            help="Class and its descriptions, separated by semicolons. Repeat the option for each class. The classes "
            "given here and in --descriptions replace all classes of the model, so give at least two",
            metavar="LABEL=DESCRIPTION;...",
            rich_help_panel="Model",
        ),
    ] = field(default_factory=list)
    url_allow_private: Annotated[
        bool,
        typer.Option(
            "--url-allow-private",
            help="Also fetch URLs on this machine and in private networks",
            rich_help_panel="Data",
        ),
    ] = False

    def interval(self) -> float | None:
        """Returns the seconds between two analysed frames, or None for the default of the model."""
        if self.fps is not None and self.every is not None:
            raise UserError("--fps and --every both set which frames are analysed; give only one of them.")
        require_interval("--fps", self.fps)
        require_interval("--every", self.every)
        return 1 / self.fps if self.fps is not None else self.every

    def classes(self) -> dict[str, list[str]] | None:
        """Returns the descriptions of the given classes, or None if no classes are given."""
        if self.descriptions is None and not self.label:
            return None
        classes, given = _read_classes(self.descriptions), set()
        for text in self.label:
            name, equals, described = text.partition("=")
            texts = [one.strip() for one in described.split(";") if one.strip()]
            if not equals or not name.strip() or not texts:
                raise UserError(
                    f"--label expects LABEL=DESCRIPTION, such as 'bored=half-closed eyes', but got {text!r}."
                )
            name = unicodedata.normalize("NFC", name.strip())
            if name in given:
                raise UserError(
                    f"--label describes {name!r} twice: give its descriptions together, as"
                    " 'LABEL=DESCRIPTION; DESCRIPTION'."
                )
            given.add(name)
            classes[name] = texts
        if len(classes) < 2:
            raise UserError(
                "With a single class, every answer would be the same; describe at least two classes with --label or"
                " --descriptions."
            )
        return classes


def require_interval(flag: str, value: float | None) -> None:
    """Checks a number of seconds between two frames, or of frames per second.

    Raises:
        UserError: If it is not between 0.00001 and 100,000.
    """
    if value is not None and not 1 / _MOST <= value <= _MOST:
        raise UserError(f"{flag} is {value:g}, but must be between {1 / _MOST:g} and {_MOST:g}.")


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
    """Options for the faces that are analysed and for their detection."""

    face_crop: Annotated[
        Literal["none", "largest", "center", "all"] | None,
        typer.Option(
            help='Which faces to analyse; "none" analyses the whole picture. Default: "all", or "none" if the model '
            "was trained on whole pictures",
            rich_help_panel="Faces",
        ),
    ] = None
    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"] | None,
        typer.Option(
            help='Face detector; "auto" uses YuNet if it can be downloaded, otherwise MTCNN. Default: as in training, '
            'otherwise "auto"',
            rich_help_panel="Faces",
        ),
    ] = None
    face_model: Annotated[
        Path | None, typer.Option(help="File of YuNet to use instead of downloading it", rich_help_panel="Faces")
    ] = None
    no_face: Annotated[
        Literal["skip", "error", "full_frame"] | None,
        typer.Option(
            help='Frames without the face: "skip" leaves them out, "error" refuses the video, and "full_frame" uses '
            "the whole frame. Default: as in training",
            rich_help_panel="Faces",
        ),
    ] = None


@dataclass(frozen=True)
class HardwareOptions:
    """Device, precision and batch size."""

    device: Annotated[
        str,
        typer.Option(
            help='Device, such as "cpu", "cuda" or "cuda:1"; "auto" uses a GPU if there is one',
            rich_help_panel="Hardware",
        ),
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(
            help='Precision of the weights; "auto" keeps that of the saved model', rich_help_panel="Hardware"
        ),
    ] = "auto"
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of clips per step (16 by default), or of groups of 16 frames in predict and find (1 by "
            "default)",
            rich_help_panel="Hardware",
        ),
    ] = None


@dataclass(frozen=True)
class JoinedFileOptions:
    """Options for output files that can be written without the video, so `join` can write them too."""

    csv: Annotated[
        Path | None, typer.Option(help="Table with a row for each analysed frame", rich_help_panel="Files")
    ] = None
    segments_csv: Annotated[
        Path | None, typer.Option(help="Table with a row for each segment", rich_help_panel="Files")
    ] = None
    json: Annotated[Path | None, typer.Option(help="JSON file with all results", rich_help_panel="Files")] = None
    subtitles: Annotated[Path | None, typer.Option(help="Subtitles (.vtt or .srt)", rich_help_panel="Files")] = None
    elan: Annotated[Path | None, typer.Option(help="Annotations for ELAN (.eaf)", rich_help_panel="Files")] = None
    textgrid: Annotated[
        Path | None, typer.Option(help="Annotations for Praat (.TextGrid)", rich_help_panel="Files")
    ] = None


@dataclass(frozen=True)
class FileOptions(JoinedFileOptions):
    """Options for all output files of a prediction."""

    plot: Annotated[Path | None, typer.Option(help="Picture of the timeline", rich_help_panel="Files")] = None
    annotate: Annotated[
        Path | None,
        typer.Option(
            help="Copy of the video with boxes and labels, and a panel with segments and relevance below",
            rich_help_panel="Files",
        ),
    ] = None
    regions: Annotated[
        Path | None,
        typer.Option(help="Picture of where in the face the descriptions are seen", rich_help_panel="Files"),
    ] = None


@dataclass(frozen=True)
class BatchOptions:
    """Options for long lists of videos."""

    jsonl: Annotated[
        Path | None,
        typer.Option(
            help="File to which each result is appended as soon as it is ready", rich_help_panel="Long lists"
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip videos that already have a result in the file of --jsonl",
            rich_help_panel="Long lists",
        ),
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            help="Process only one part of the list; 3/16 is the third of 16 parts. Under accelerate launch, each "
            "process gets its own part without this option",
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
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP, rich_help_panel="Model")] = None,
    faces: FaceOptions,
    hardware: HardwareOptions,
    files: FileOptions,
    batch: BatchOptions,
) -> None:  # fmt: skip
    """Recognise the expressions in videos, for each person and over time.

    For several videos, each has its own subtitles, annotations, pictures and annotated video. The name of the video is
    added to the names of these files.
    """
    interval, classes = reading.interval(), reading.classes()
    # OpenMP reads this variable when PyTorch is loaded. By default, a waiting thread keeps its core busy. PASSIVE lets
    # it sleep.
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
        videos,
        with_revision(model, revision),
        PredictionFiles(**asdict(files)),
        options,
        Batch(batch.jsonl, batch.resume, part),
    )
    print_results(results)


@with_groups
def join(
    parts: Annotated[list[Path], typer.Argument(help="Files that `predict --jsonl` has written", metavar="PART...")],
    *,
    files: JoinedFileOptions,
) -> None:
    """Join the results of `predict --shard` from several machines, and write the files for the whole list."""
    from tgdfer.training.outputs import PredictionFiles, print_results
    from tgdfer.training.outputs import join as join_parts

    results, errors = join_parts(parts, PredictionFiles(**asdict(files)))
    print_results(results)
    if errors:
        raise PartialResultError(errors, len(results) + len(errors))
