"""Search for phrases in videos: indexes the videos, ranks their moments, and writes the results."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import LIMIT, MIN_SCORE, FaceIndex
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.training.errors import PartialResultError, UserError, error_message, unexpected_error_message
from tgdfer.training.interruption import raising_on_sigterm, reporting_interruption
from tgdfer.training.outputs import PredictionProgress, recording_write_errors, short_names
from tgdfer.training.outputs.moments import MomentFiles, MomentResults, print_moments
from tgdfer.training.predict import PredictionOptions, declared_seconds, load
from tgdfer.training.search_index import IndexCache
from tgdfer.training.video_paths import STANDARD_INPUT, find_videos, is_pipe
from tgdfer.weights import DEFAULT_MODEL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """What to search for.

    Attributes:
        phrases (`Sequence[str]`): Phrases that describe a face.
        min_score (`float`, *optional*, defaults to 1.5): Minimum score of a moment.
        limit (`int`, *optional*, defaults to 5): Maximum number of moments of a phrase over all videos.
    """

    phrases: Sequence[str]
    min_score: float = MIN_SCORE
    limit: int = LIMIT


def find(
    videos: Sequence[str],
    query: Query,
    model: str | Path = DEFAULT_MODEL,
    files: MomentFiles | None = None,
    options: PredictionOptions | None = None,
) -> MomentResults:
    """Finds the moments of videos that match phrases best, and writes them to files.

    A video that was searched before, with the same model and options, is not read again. If a video cannot be read,
    the others are still searched before the error is raised.

    Args:
        videos (`Sequence[str]`): Paths, URLs, folders or patterns, as in `find_videos`.
        query (`Query`): The phrases.
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id. By
            default the model in the package.
        files (`MomentFiles`, *optional*): Files to write.
        options (`PredictionOptions`, *optional*): Options of reading and encoding. `descriptions` has no effect.

    Raises:
        UserError: If the model cannot be loaded, a phrase cannot be encoded, an output cannot be written, or no video
            can be read.
        PartialResultError: If some of the videos cannot be read.
    """
    files, options = files or MomentFiles(), options or PredictionOptions()
    files.require_writable()
    found = find_videos(videos)
    files.require_no_input(found)
    if files.plot is not None and STANDARD_INPUT in found:
        raise UserError("Standard input can be read only once, so --plot needs a file; save the video, and name it.")
    if files.plot is not None and (pipes := [video for video in found if is_pipe(video)]):
        raise UserError(f"{pipes[0]} can be read only once, so --plot needs a file; save the video, and name it.")
    network, processor, run = load(model, options)
    search = EmotionSearchPipeline(model=network, processor=processor, device=network.device)
    phrases = list(dict.fromkeys(" ".join(phrase.split()) for phrase in query.phrases))
    try:
        embeds = search.encode(phrases)
    except ValueError as error:
        raise UserError(str(error)) from error
    cache = IndexCache(search, run, options.interval, options.hardware.batch_size)
    with raising_on_sigterm():
        indexes, errors = index_videos(cache, found)
    if not indexes:
        raise UserError(" ".join(errors.values()))
    if processor.search_reference is None:
        logger.warning(
            "%s has no reference faces, because it was trained without validation clips, or saved by an earlier"
            " version. Scores are compared with the frames of these videos instead, and cannot be compared with those"
            " of another search.",
            model,
        )
    try:
        ranked = processor.search(list(indexes.values()), phrases, embeds, query.min_score, query.limit)
    except ValueError as error:
        raise UserError(str(error)) from error
    results = MomentResults.named(ranked, indexes, errors, run, query.min_score)
    unwritten = files.write(results)
    if files.plot is not None:
        # Drawing libraries take seconds to import.
        from tgdfer.training.moment_pictures import plot_moments

        with recording_write_errors(files.plot, unwritten):
            plot_moments(results, files.plot, search.video_processor.open_video)
    if errors or unwritten:
        print_moments(results)
    for path, reason in unwritten.items():
        raise UserError(f"Cannot write {path}: {reason}; make room or choose another path.")
    if errors:
        raise PartialResultError(errors, len(found))
    return results


def _begin(progress: PredictionProgress, name: str, source: Any) -> Callable[[float], None]:
    """Starts an opened video in the progress bar, and returns the function that advances it."""
    return progress.begin(name, declared_seconds(source))


def index_videos(cache: IndexCache, videos: Sequence[str]) -> tuple[dict[str, FaceIndex], dict[str, str]]:
    """Returns the index of each video that can be read, and the reason for each of the others.

    After an interruption, the videos that were finished are not read again.

    Args:
        cache (`IndexCache`): The cache.
        videos (`Sequence[str]`): The videos.
    """
    loaded = {video: cache.load(video) for video in videos}
    indexes = {video: index for video, index in loaded.items() if index is not None}
    errors: dict[str, str] = {}
    names, remaining = short_names(videos), [video for video in videos if video not in indexes]
    if not remaining:
        return indexes, errors
    progress = PredictionProgress(len(videos), len(indexes), "Reading")

    def interrupted() -> str:
        return (
            f"Interrupted: {len(indexes)} of {len(videos)} videos are read. Run the same command again to read the"
            " others."
        )

    with reporting_interruption(interrupted), progress.shown():
        for video in remaining:
            try:
                indexes[video] = cache.create(video, partial(_begin, progress, names[video]))
            except VideoDecodeError as error:
                errors[video] = error_message(error)
            except Exception as error:
                logger.debug("Reading %s failed.", video, exc_info=True)
                errors[video] = unexpected_error_message(video, "searched", error)
            progress.end(indexes[video].duration if video in indexes else None)
    return {video: indexes[video] for video in videos if video in indexes}, errors
