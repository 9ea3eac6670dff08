"""The commands `tgdfer predict` and `tgdfer join`."""

import os
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tgdfer.console import quieten
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

_OWN = "of several videos each has its own, named after it"


@dataclass(frozen=True)
class ReadingOptions:
    """Which frames are analysed, and for which classes."""

    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second that are analysed", rich_help_panel="Reading", show_default=False),
    ] = None
    every: Annotated[
        float | None,
        typer.Option(help="Seconds from one analysed frame to the next, instead of --fps", rich_help_panel="Reading"),
    ] = None
    descriptions: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of other classes and their descriptions; the model is then not calibrated",
            rich_help_panel="Reading",
        ),
    ] = None
    label: Annotated[
        list[str],
        typer.Option(
            help="One of other classes: its name and descriptions, which semicolons separate",
            metavar="LABEL=DESCRIPTION;...",
            rich_help_panel="Reading",
        ),
    ] = field(default_factory=list)
    url_allow_private: Annotated[
        bool,
        typer.Option(
            "--url-allow-private",
            help="Fetch URLs that lead to this machine or into a private network, too",
            rich_help_panel="Reading",
        ),
    ] = False

    def interval(self) -> float | None:
        """Seconds from one analysed frame to the next; None leaves it to the model."""
        if self.fps is not None and self.every is not None:
            raise UserError("--fps and --every both say how many frames are analysed; give one of them.")
        for flag, value in (("--fps", self.fps), ("--every", self.every)):
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{flag} is {value:g}, but must be above 0.")
        return 1 / self.fps if self.fps is not None else self.every

    def classes(self) -> dict[str, list[str]] | None:
        """The descriptions of other classes; None where none are given."""
        if self.descriptions is None and not self.label:
            return None
        words = _words_in(self.descriptions)
        for text in self.label:
            name, equals, described = text.partition("=")
            texts = [one.strip() for one in described.split(";") if one.strip()]
            if not equals or not name.strip() or not texts:
                raise UserError(f"--label takes LABEL=DESCRIPTION, as in 'bored=half-closed eyes', not {text!r}.")
            words[unicodedata.normalize("NFC", name.strip())] = texts
        if len(words) < 2:
            raise UserError("One class alone is always the answer; describe at least two with --label.")
        return words


def _words_in(file: Path | None) -> dict[str, list[str]]:
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
    """Which faces are analysed, and how they are found."""

    face_crop: Annotated[
        Literal["none", "largest", "center", "all"] | None,
        typer.Option(
            help="Faces to analyse; none takes pictures whole. By default all faces, unless the model was trained on "
            "whole pictures",
            rich_help_panel="Faces",
        ),
    ] = None
    face_detector: Annotated[
        Literal["auto", "yunet", "mtcnn"] | None,
        typer.Option(
            help="What finds them; by default what found them in training, else YuNet where it can be had",
            rich_help_panel="Faces",
        ),
    ] = None
    face_model: Annotated[
        Path | None, typer.Option(help="File of the detector YuNet, instead of the Hub's", rich_help_panel="Faces")
    ] = None
    no_face: Annotated[
        Literal["skip", "error", "full_frame"] | None,
        typer.Option(
            help="Frames without the face: leave them out, stop, or see them whole; by default as in training",
            rich_help_panel="Faces",
        ),
    ] = None


@dataclass(frozen=True)
class HardwareOptions:
    """Where and how the model computes."""

    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1; auto takes a GPU", rich_help_panel="Hardware")
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Number format; auto takes that of the file", rich_help_panel="Hardware"),
    ] = "auto"
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips or windows at a time", rich_help_panel="Hardware")
    ] = None


@dataclass(frozen=True)
class TimelessFileOptions:
    """The files that need no frames, which `join` writes as well."""

    csv: Annotated[
        Path | None, typer.Option(help="Table to write, a row for each sampled frame", rich_help_panel="Files")
    ] = None
    segments_csv: Annotated[
        Path | None, typer.Option(help="Table to write, a row for each segment", rich_help_panel="Files")
    ] = None
    json: Annotated[Path | None, typer.Option(help="Everything, as JSON", rich_help_panel="Files")] = None
    subtitles: Annotated[
        Path | None, typer.Option(help=f"Subtitles, .vtt or .srt; {_OWN}", rich_help_panel="Files")
    ] = None
    elan: Annotated[
        Path | None, typer.Option(help="Annotations for ELAN, .eaf; likewise", rich_help_panel="Files")
    ] = None
    textgrid: Annotated[
        Path | None, typer.Option(help="Annotations for Praat, .TextGrid; likewise", rich_help_panel="Files")
    ] = None


@dataclass(frozen=True)
class FileOptions(TimelessFileOptions):
    """All files that a prediction writes."""

    plot: Annotated[Path | None, typer.Option(help="Picture to write; likewise", rich_help_panel="Files")] = None
    annotate: Annotated[
        Path | None,
        typer.Option(help="Video to write with boxes, labels and relevance; likewise", rich_help_panel="Files"),
    ] = None


@dataclass(frozen=True)
class BatchOptions:
    """How a long list of videos is worked through."""

    jsonl: Annotated[
        Path | None,
        typer.Option(help="File to which each result is appended as it comes", rich_help_panel="Long lists"),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what has a result in --jsonl", rich_help_panel="Long lists")
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            help="Part of the list, such as 3/16; under accelerate launch each process has its own",
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
    model: Annotated[
        str, typer.Option(help="Folder of a run or a model, or Hub id; tgdfer-tiny is the model in the package")
    ] = DEFAULT_MODEL,
    *,
    reading: ReadingOptions,
    faces: FaceOptions,
    hardware: HardwareOptions,
    files: FileOptions,
    batch: BatchOptions,
) -> None:  # fmt: skip
    """Say which expressions people show in videos, when, and what is seen then."""
    interval, classes = reading.interval(), reading.classes()
    # OpenMP reads this when PyTorch is loaded. By default a thread that waits keeps its core busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    quieten()
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
    parts: Annotated[list[Path], typer.Argument(help="The files that --jsonl has written", metavar="PART...")],
    *,
    files: TimelessFileOptions,
) -> None:
    """Join the parts of a list that several machines have read, and write the files of the whole."""
    from tgdfer.training.outputs import PredictionFiles, print_results
    from tgdfer.training.outputs import join as join_parts

    results, errors = join_parts(parts, PredictionFiles(**asdict(files)))
    print_results(results)
    if errors:
        raise PartialResultError(errors, len(results) + len(errors))
