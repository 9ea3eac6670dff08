"""The command `tgdfer find`."""

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tgdfer.console import hide_loading_bars
from tgdfer.option_groups import with_groups
from tgdfer.prediction_commands import MODEL_HELP, REVISION_HELP, FaceOptions, HardwareOptions, require_interval
from tgdfer.training.errors import UserError
from tgdfer.training.revisions import with_revision
from tgdfer.weights import DEFAULT_MODEL

FIND_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    'tgdfer find talk.mp4 "raised brows" "eyes closed" "a broad smile" --plot moments.png\n\n'
    'tgdfer find recordings/ "lips pressed together" --top 20 --csv moments.csv\n\n'
    'tgdfer find monday.mp4 tuesday.mp4 "a broad smile" --subtitles smiles.vtt'
)


@dataclass(frozen=True)
class MomentFileOptions:
    """Options for the output files of a search."""

    csv: Annotated[Path | None, typer.Option(help="Table with a row for each moment", rich_help_panel="Files")] = None
    json: Annotated[Path | None, typer.Option(help="JSON file with all results", rich_help_panel="Files")] = None
    subtitles: Annotated[
        Path | None, typer.Option(help="Subtitles of the moments (.vtt or .srt)", rich_help_panel="Files")
    ] = None
    plot: Annotated[
        Path | None, typer.Option(help="Picture with a strip of faces for each phrase", rich_help_panel="Files")
    ] = None


@with_groups
def find(
    words: Annotated[
        list[str],
        typer.Argument(
            help="Videos, photographs, folders, patterns in quotes, URLs, or - for standard input; then the phrases, "
            'in quotes, such as "raised brows"',
            metavar="VIDEO... PHRASE...",
        ),
    ],
    *,
    top: Annotated[int, typer.Option(min=1, help="Number of moments of each phrase", rich_help_panel="Search")] = 5,
    min_score: Annotated[
        float,
        typer.Option(
            help="Minimum score of a moment, in standard deviations above the mean of the phrase over the reference "
            "faces of the model",
            rich_help_panel="Search",
        ),
    ] = 1.5,
    every: Annotated[
        float | None,
        typer.Option(
            help="Seconds from one analysed frame to the next. Default: that of the model", rich_help_panel="Data"
        ),
    ] = None,
    url_allow_private: Annotated[
        bool,
        typer.Option(
            "--url-allow-private",
            help="Also fetch URLs on this machine and in private networks",
            rich_help_panel="Data",
        ),
    ] = False,
    model: Annotated[str, typer.Option(help=MODEL_HELP, rich_help_panel="Model")] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option(help=REVISION_HELP, rich_help_panel="Model")] = None,
    faces: FaceOptions,
    hardware: HardwareOptions,
    files: MomentFileOptions,
) -> None:
    """Find the moments of videos that match phrases such as "raised brows".

    The first search in a video reads it. Later searches take a moment, because its faces are kept in a cache (see
    `tgdfer cache`). A phrase that matches no face has no moments.
    """
    videos, phrases = split_words(words)
    require_interval("--every", every)
    if not math.isfinite(min_score):
        raise UserError(f"--min-score is {min_score:g}, but must be a finite number.")
    # OpenMP reads this variable when PyTorch is loaded. PASSIVE lets waiting threads sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hide_loading_bars()
    from tgdfer.training.hardware import Hardware, return_large_blocks
    from tgdfer.training.outputs.moments import MomentFiles, print_moments
    from tgdfer.training.predict import PredictionOptions
    from tgdfer.training.search import Query
    from tgdfer.training.search import find as find_moments

    return_large_blocks()
    face_options: dict[str, Any] = {**asdict(faces), "face_model": faces.face_model and str(faces.face_model)}
    options = PredictionOptions(face_options, every, None, Hardware(**asdict(hardware)), url_allow_private)
    results = find_moments(
        videos,
        Query(phrases, min_score, top),
        with_revision(model, revision),
        MomentFiles(**asdict(files)),
        options,
    )
    print_moments(results)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Separates the arguments of the command into videos and phrases.

    A phrase is an argument that is neither an existing file, a URL, a pattern, standard input, nor a name with a
    suffix. Videos come first.

    Raises:
        UserError: If there is no video or no phrase, or a phrase comes before a video.
    """
    are_videos = [_names_video(word) for word in words]
    count = are_videos.index(False) if False in are_videos else len(words)
    if True in are_videos[count:]:
        video, phrase = words[count + are_videos[count:].index(True)], words[count]
        raise UserError(
            f"{phrase!r} is not a file, so it is a phrase, but {video!r} comes after it; name the videos first and"
            " check their paths."
        )
    if not count:
        raise UserError(f"{words[0]!r} is not a file or folder; name a video before the phrases, and check its path.")
    if count == len(words):
        raise UserError('There is no phrase to search for; add one in quotes, such as "raised brows".')
    if empty := [word for word in words[count:] if not word.strip()]:
        raise UserError(f'{empty[0]!r} is an empty phrase; describe a face, such as "raised brows".')
    return words[:count], words[count:]


def _names_video(word: str) -> bool:
    """Returns whether an argument names videos. `talk.mp4` does, even if it does not exist."""
    if word == "-" or "://" in word or os.path.lexists(os.path.expanduser(word)):
        return True
    has_suffix = len(Path(word).suffix) > 1 and " " not in Path(word).suffix
    return has_suffix or any(character in word for character in "*?[") or "/" in word
