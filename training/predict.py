"""Prediction for video files: analyses them one after the other and writes the results."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich import get_console

from tgdfer.processing.explanation_tgdfer import explain_timeline
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_file_tgdfer import VideoDecodeError, VideoFile
from tgdfer.training.errors import PartialResultError, UserError, error_message, unexpected_error_message
from tgdfer.training.files import printable
from tgdfer.training.hardware import Hardware
from tgdfer.training.interruption import Terminated, raising_on_sigterm
from tgdfer.training.models import load_trained
from tgdfer.training.outputs import (
    PredictionFiles,
    PredictionProgress,
    ResultLog,
    Run,
    Shard,
    output_paths,
    print_results,
    recording_write_errors,
    short_names,
    without_pixels,
)
from tgdfer.training.video_paths import find_videos, readable_source
from tgdfer.weights import DEFAULT_MODEL

logger = logging.getLogger(__name__)

# Number of thumbnails of each person in a figure.
THUMBNAILS = 16
# Settings of the video processor that change the pixels that the model gets, besides those of the faces.
_PREPROCESSING = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
# Fields of configs that say where a model comes from and how it was saved or loaded.
_ORIGIN = {
    *("_name_or_path", "transformers_version", "architectures", "auto_map", "custom_pipelines", "dtype"),
    *("clip_name", "clip_revision", "training_data", "format_version"),
}


@dataclass(frozen=True)
class PredictionOptions:
    """Options that change the results of a prediction, or its speed.

    Attributes:
        faces (`Mapping[str, Any]`, *optional*): Options of the video processor, such as `face_crop`. None values are
            ignored. By default, a model that was trained on cropped faces predicts all faces of a video.
        interval (`float`, *optional*): Seconds between two analysed frames. By default that of the model.
        descriptions (`Mapping[str, Sequence[str]]`, `str` or `Path`, *optional*): Other classes for the model: one or
            more sentences for each label, or a YAML file of them. The model is not calibrated then.
        hardware (`Hardware`, *optional*, defaults to `Hardware()`): Device, number format and batch size.
        url_allow_private (`bool`, *optional*, defaults to `False`): Whether a URL may lead to this machine or to a
            private network.
    """

    faces: Mapping[str, Any] = field(default_factory=dict)
    interval: float | None = None
    descriptions: Mapping[str, Sequence[str]] | str | Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    url_allow_private: bool = False


@dataclass(frozen=True)
class Batch:
    """How a long list of videos is processed.

    Attributes:
        jsonl (`Path`, *optional*): File to which each result is appended. The number of a part is added to the file
            name.
        resume (`bool`, *optional*, defaults to `False`): Whether to skip videos that already have a result in this
            file.
        shard (`Shard`, *optional*): Part of the list to process. By default that of the environment.
    """

    jsonl: Path | None = None
    resume: bool = False
    shard: Shard | None = None

    def resolve_shard(self, files: PredictionFiles) -> Shard:
        """Returns the part of the list to process.

        Raises:
            UserError: If options contradict each other.
        """
        if self.resume and self.jsonl is None:
            raise UserError("--resume needs the file to continue: name it with --jsonl.")
        shard = self.shard or Shard.from_environment()
        if shard.is_part and self.jsonl is None:
            raise UserError("A part of a list needs a file for its results: name it with --jsonl.")
        if shard.is_part and files.shared_paths:
            raise UserError(
                f"{files.shared_paths[0]} would contain all videos, but this process reads only a part of them: write"
                " only --jsonl, and make the other files with `tgdfer join`."
            )
        if self.jsonl is not None and self.jsonl.is_dir():
            raise UserError(f"{self.jsonl} is a folder; name the file to write.")
        return shard


def predict(
    videos: Sequence[str],
    model: str | Path = DEFAULT_MODEL,
    files: PredictionFiles | None = None,
    options: PredictionOptions | None = None,
    batch: Batch | None = None,
) -> dict[str, dict[str, Any]]:
    """Analyses videos and writes the results to files.

    If a video cannot be read, the others are still analysed and written before the error is raised. If the user or
    SIGTERM interrupts the prediction, the results so far are written.

    Args:
        videos (`Sequence[str]`): Paths, URLs, folders or patterns, as in `find_videos`.
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id. By
            default the model in the package.
        files (`PredictionFiles`, *optional*): Files to write.
        options (`PredictionOptions`, *optional*): Options of reading and predicting.
        batch (`Batch`, *optional*): How a long list is processed.

    Returns:
        The output of `EmotionTimelinePipeline` for each video that could be read, with an `explanation` of each person
        and a `sentence` of each segment. With `resume`, earlier results are included.

    Raises:
        UserError: If the model cannot be loaded, an output cannot be written, or no video can be read.
        PartialResultError: If some of the videos cannot be read.
    """
    files, options, batch = files or PredictionFiles(), options or PredictionOptions(), batch or Batch()
    shard = batch.resolve_shard(files)
    files.require_writable()
    all_videos = find_videos(videos)
    files.require_no_input(all_videos, batch.jsonl)
    own = shard.of(all_videos)
    network, processor, run = load(model, options)
    log = None
    if batch.jsonl is not None:
        log = ResultLog(shard.path(batch.jsonl), run, shard, own, len(all_videos), batch.resume)
    prediction = _Prediction(network, processor, own, all_videos, files, options, log)
    try:
        with raising_on_sigterm():
            prediction.read_all()
    except (KeyboardInterrupt, Terminated):
        print_results(prediction.results)
        _print_interruption(prediction, log)
        raise
    finally:
        # Results are also written after an interruption.
        if prediction.results:
            prediction.unwritten |= files.write(prediction.results, prediction.errors, run, all_videos)
    if prediction.unwritten:
        print_results(prediction.results)
        raise UserError(_unwritten_message(prediction.unwritten))
    if prediction.errors and not prediction.results:
        raise UserError(" ".join(prediction.errors.values()))
    if prediction.errors:
        print_results(prediction.results)
        raise PartialResultError(prediction.errors, len(own))
    return prediction.results


def load(model: str | Path, options: PredictionOptions) -> tuple[Any, TGDFERProcessor, Run]:
    """Loads the model and its processor, and describes both for the output files.

    Raises:
        UserError: If the model, the device or the descriptions cannot be used.
    """
    device = options.hardware.torch_device()
    network, processor = load_trained(model, **options.hardware.loading_options())
    if options.descriptions is not None:
        try:
            network.set_classes(processor.encode_classes(options.descriptions))
        except (ValueError, OSError) as error:
            raise UserError(f"The descriptions cannot be used: {error}") from error
    faces = {name: value for name, value in options.faces.items() if value is not None}
    # A model that was trained on cropped faces can predict every face in a video.
    if processor.video_processor.face_crop != "none":
        faces.setdefault("face_crop", "all")
    for name, value in faces.items():
        setattr(processor.video_processor, name, value)
    processor.video_processor.url_allow_private = options.url_allow_private
    processor.video_processor.resolve_face_detector()
    run = Run(
        model=str(model),
        weights=_model_hash(network, processor.video_processor),
        labels=network.config.class_names,
        options={
            "interval": options.interval,
            "dtype": str(network.dtype).removeprefix("torch."),
            # The path of the detector is not included, because it is only valid on this machine.
            "faces": {
                name: getattr(processor.video_processor, name)
                for name in ("face_crop", "face_detector", "face_size", "face_margin", "face_every", "no_face")
            },
            "descriptions": processor.descriptions if options.descriptions is not None else None,
        },
    )
    network.to(device)  # type: ignore[arg-type]
    return network, processor, run


def _model_hash(network: Any, video_processor: Any) -> str:
    """Returns a hash of all that makes the answers of a model: its parameters, its config, and its preprocessing."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = [network.config.to_dict(), {name: getattr(video_processor, name, None) for name in _PREPROCESSING}]
    digest.update(json.dumps(_without_origin(settings), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _without_origin(value: Any) -> Any:
    """Removes from a config what says where a model comes from, which does not affect its answers."""
    if isinstance(value, Mapping):
        return {str(name): _without_origin(one) for name, one in value.items() if name not in _ORIGIN}
    return [_without_origin(one) for one in value] if isinstance(value, list | tuple) else value


class _Prediction:
    """Analyses videos one after the other, and draws their figures and annotated videos."""

    def __init__(
        self,
        network: Any,
        processor: TGDFERProcessor,
        videos: list[str],
        all_videos: list[str],
        files: PredictionFiles,
        options: PredictionOptions,
        log: ResultLog | None,
    ):
        self.processor, self.videos, self.options, self.log = processor, videos, options, log
        # The files of a video have the same names whichever part of the list it is in.
        self.files, self.per_video = files, files.per_video_paths(all_videos)
        self.pipeline = EmotionTimelinePipeline(
            model=network, video_processor=processor.video_processor, device=network.device
        )
        self.names = short_names(all_videos)
        self.pictures = output_paths(all_videos, files.plot)
        self.annotated = output_paths(all_videos, files.annotate)
        self.regions = output_paths(all_videos, files.regions)
        self.found: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, str] = {}
        # The reason for each output that could not be written.
        self.unwritten: dict[Path, str] = {}
        if log is not None:
            self.found.update({video: result for video, result in log.part.results.items() if self._has_files(video)})

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results so far, in the order of the videos."""
        return {video: self.found[video] for video in self.videos if video in self.found}

    def read_all(self) -> None:
        """Analyses the videos that have no result yet. An error in one of them does not affect the others."""
        remaining = [video for video in self.videos if video not in self.found]
        progress = PredictionProgress(len(self.videos), len(self.found))
        with progress.shown():
            for video in remaining:
                self._read_one(video, progress)
                progress.end((self.found.get(video) or {}).get("duration"))
                if self.log is not None and self.log.path in self.unwritten:
                    return  # The results of further videos could not be saved.

    def _read_one(self, video: str, progress: PredictionProgress) -> None:
        """Analyses a video and records its result or its error."""
        try:
            result = self._read(video, progress)
        except VideoDecodeError as error:
            self.errors[video] = error_message(error)
        except Exception as error:
            logger.debug("Reading %s failed.", video, exc_info=True)
            self.errors[video] = unexpected_error_message(video, "analysed", error)
        else:
            self.found[video] = result
            self.unwritten |= self.files.write_video_files(video, result, self.per_video)
        if self.log is not None:
            with recording_write_errors(self.log.path, self.unwritten):
                if video in self.found:
                    self.log.add(video, self.found[video])
                else:
                    self.log.add_error(video, self.errors[video])

    def _read(self, video: str, progress: PredictionProgress) -> dict[str, Any]:
        """Returns the result of a video without pixels, after drawing its figures and its annotated video."""
        with readable_source(video) as opened:
            source = self.processor.video_processor.open_video(opened)
            advance = progress.begin(self.names[video], declared_seconds(source))
            # Drawing an annotated video takes about as long as reading it.
            share = 0.5 if video in self.annotated else 1.0
            result = self.pipeline(
                source,
                interval=self.options.interval,
                thumbnails=THUMBNAILS if video in self.pictures else None,
                progress=lambda part: advance(share * part),
                batch_size=self.options.hardware.batch_size,
            )
            result = explain_timeline(result, self.processor.descriptions or {}, self.pipeline.model.config)
            # Drawing libraries take seconds to import.
            if video in self.pictures:
                from tgdfer.training.figures.timeline import plot_timeline

                with recording_write_errors(self.pictures[video], self.unwritten):
                    plot_timeline(result, self.pictures[video], self.names[video])
            if video in self.annotated:
                from tgdfer.training.figures.annotated_video import annotate

                with recording_write_errors(self.annotated[video], self.unwritten):
                    annotate(source, result, self.annotated[video], lambda part: advance(share + share * part))
            if video in self.regions:
                from tgdfer.training.figures.regions import plot_regions
                from tgdfer.training.regions import face_regions

                faces = face_regions(self.pipeline, self.processor, source, result, self.options.interval)
                with recording_write_errors(self.regions[video], self.unwritten):
                    plot_regions(faces, self.regions[video], self.names[video])
        return without_pixels(result)

    def _has_files(self, video: str) -> bool:
        """Returns whether the figures and the annotated video exist. If so, the video need not be read again."""
        drawn = (self.pictures, self.annotated, self.regions)
        return all(paths[video].is_file() for paths in drawn if video in paths)


def declared_seconds(source: Any) -> float | None:
    """Returns the duration in the header of an opened video, for the progress bar. None if it is unknown."""
    try:
        return source.declared_duration() if isinstance(source, VideoFile) else None
    except VideoDecodeError:  # The pipeline raises the same error.
        return None


def _print_interruption(prediction: _Prediction, log: ResultLog | None) -> None:
    """Prints how many results are kept, and how to resume."""
    done = f"Interrupted: {len(prediction.found)} of {len(prediction.videos)} videos have their results"
    if log is None:
        message = f"{done}. With --jsonl FILE, a prediction can be resumed."
    else:
        message = f"{done} in {log.path}. Resume with the same command and --resume."
    get_console().print(message, highlight=False, markup=False, soft_wrap=True)


def _unwritten_message(unwritten: Mapping[Path, str]) -> str:
    """Returns the message about outputs that could not be written."""
    first, reason = next(iter(unwritten.items()))
    more = f" and {len(unwritten) - 1} more files" if len(unwritten) > 1 else ""
    return (
        f"Cannot write {printable(str(first))}{more}: {reason} in {printable(str(first.absolute().parent))}; make room"
        " or choose another path. The answers above are complete for the videos that were read."
    )
