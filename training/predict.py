"""Prediction for video files: reads them one after the other, and writes what is found."""

import hashlib
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
from tgdfer.training.errors import PartialResultError, UserError, sentence_of, unforeseen
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
    noting,
    output_paths,
    print_results,
    short_names,
    without_pixels,
)
from tgdfer.training.video_paths import find_videos, readable
from tgdfer.weights import DEFAULT_MODEL

logger = logging.getLogger(__name__)

# Pictures of a person in the film strip of a plot.
THUMBNAILS = 16


@dataclass(frozen=True)
class PredictionOptions:
    """Options that change what a prediction says, or how fast it comes.

    Attributes:
        faces: options of the video processor, such as `face_crop`; a value of None changes nothing, but that a model
            that was trained on faces cut out of its clips answers for all faces of a video.
        interval: seconds from one analysed frame to the next; None leaves it to the model.
        descriptions: other classes for the model: for each label one sentence or more, or a YAML file of them. The
            model is then not calibrated.
        hardware: device, number format and batch size.
        url_allow_private: whether a URL may lead to this machine or into a private network.
    """

    faces: Mapping[str, Any] = field(default_factory=dict)
    interval: float | None = None
    descriptions: Mapping[str, Sequence[str]] | str | Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    url_allow_private: bool = False


@dataclass(frozen=True)
class Batch:
    """How a long list of videos is worked through.

    Attributes:
        jsonl: file to which each result is appended as it comes; a part of a list has the number of the part added.
        resume: whether videos that have a result in this file are left out.
        shard: which part of the list is read; None takes that of the environment.
    """

    jsonl: Path | None = None
    resume: bool = False
    shard: Shard | None = None

    def require_sensible(self, files: PredictionFiles) -> Shard:
        """The part of the list.

        Raises:
            UserError: options do not fit together.
        """
        if self.resume and self.jsonl is None:
            raise UserError("--resume needs the file to go on with: name it with --jsonl.")
        shard = self.shard or Shard.from_environment()
        if shard.is_part and self.jsonl is None:
            raise UserError("A part of a list needs a file for its results: name it with --jsonl.")
        if shard.is_part and files.of_all_videos:
            raise UserError(
                f"{files.of_all_videos[0]} is a file of all videos, and this process reads a part of them: write"
                " --jsonl alone, and make the others with `tgdfer join`."
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
    """Analyses videos, and writes the results to files.

    A video that cannot be read does not stop the others: their results are written before the error is raised. So are
    those of the videos that are done when the user interrupts, or when SIGTERM comes.

    Args:
        videos: paths, URLs, folders or patterns, as in `find_videos`.
        model: a trained model: folder of a run or of a model, Hub id, or by default the model in the package.
        files: what is written.
        options: how videos are read.
        batch: how a long list is worked through.

    Returns:
        For each video that could be read what `EmotionTimelinePipeline` gives, with an `explanation` of each person
        and a `sentence` of each segment. With `resume` also the results that were there already.

    Raises:
        UserError: the model cannot be loaded, an output cannot be written, or no video can be read;
            `PartialResultError`, one of them, if some can and some cannot.
    """
    files, options, batch = files or PredictionFiles(), options or PredictionOptions(), batch or Batch()
    shard = batch.require_sensible(files)
    files.require_writable()
    everything = find_videos(videos)
    own = shard.of(everything)
    network, processor, run = load(model, options)
    log = None
    if batch.jsonl is not None:
        log = ResultLog(shard.path(batch.jsonl), run, shard, own, len(everything), batch.resume)
    prediction = _Prediction(network, processor, own, files, options, log)
    try:
        with raising_on_sigterm():
            prediction.read_all()
    except (KeyboardInterrupt, Terminated):
        print_results(prediction.results)
        _say_how_to_go_on(prediction, log)
        raise
    finally:
        # Also after an interruption: what is found must not be lost.
        if prediction.results:
            prediction.unwritten |= files.write(prediction.results, prediction.errors, run, own)
    if prediction.unwritten:
        print_results(prediction.results)
        raise UserError(_sentence_about(prediction.unwritten))
    if prediction.errors and not prediction.results:
        raise UserError(" ".join(prediction.errors.values()))
    if prediction.errors:
        print_results(prediction.results)
        raise PartialResultError(prediction.errors, len(own))
    return prediction.results


def load(model: str | Path, options: PredictionOptions) -> tuple[Any, TGDFERProcessor, Run]:
    """The model, its processor, and what describes both in the files that are written.

    Raises:
        UserError: the model, the device or the descriptions cannot be used.
    """
    device = options.hardware.torch_device()
    network, processor = load_trained(model, **options.hardware.loading())
    if options.descriptions is not None:
        try:
            network.set_classes(processor.encode_classes(options.descriptions))
        except (ValueError, OSError) as error:
            raise UserError(f"The descriptions cannot be used: {error}") from error
    faces = {name: value for name, value in options.faces.items() if value is not None}
    # A model that was trained on the faces of its clips can answer for everybody in a video.
    if processor.video_processor.face_crop != "none":
        faces.setdefault("face_crop", "all")
    for name, value in faces.items():
        setattr(processor.video_processor, name, value)
    processor.video_processor.url_allow_private = options.url_allow_private
    run = Run(
        model=str(model),
        weights=_hash_of(network),
        labels=list(network.config.id2label.values()),
        options={
            "interval": options.interval,
            "dtype": str(network.dtype).removeprefix("torch."),
            # The path of the detector is one of this machine.
            "faces": {
                name: getattr(processor.video_processor, name)
                for name in ("face_crop", "face_detector", "face_size", "face_margin", "face_every", "no_face")
            },
            "descriptions": processor.descriptions if options.descriptions is not None else None,
        },
    )
    network.to(device)  # type: ignore[arg-type]
    return network, processor, run


def _hash_of(network: Any) -> str:
    """Hash of the parameters and of what the config says about their answers, in the way of safetensors."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    config = network.config
    found.update(repr((config.id2label, config.temperature, config.unsure_below)).encode())
    return found.hexdigest()


class _Prediction:
    """Reads videos one after the other, each with its picture and its annotated video."""

    def __init__(
        self,
        network: Any,
        processor: TGDFERProcessor,
        videos: list[str],
        files: PredictionFiles,
        options: PredictionOptions,
        log: ResultLog | None,
    ):
        self.processor, self.videos, self.options, self.log = processor, videos, options, log
        self.files, self.own = files, files.own_paths(videos)
        self.pipeline = EmotionTimelinePipeline(
            model=network, video_processor=processor.video_processor, device=network.device
        )
        self.names = short_names(videos)
        self.pictures = output_paths(videos, files.plot)
        self.annotated = output_paths(videos, files.annotate)
        self.found: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, str] = {}
        # Outputs that could not be written, and for each the reason.
        self.unwritten: dict[Path, str] = {}
        if log is not None:
            self.found.update({video: result for video, result in log.part.results.items() if self._has_files(video)})

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results that are there, in the order of the videos."""
        return {video: self.found[video] for video in self.videos if video in self.found}

    def read_all(self) -> None:
        """Reads the videos that have no result yet. What goes wrong with one of them does not concern the others."""
        left = [video for video in self.videos if video not in self.found]
        progress = PredictionProgress(len(self.videos), len(self.found))
        with progress.shown():
            for video in left:
                self._read_one(video, progress)
                progress.end((self.found.get(video) or {}).get("duration"))
                if self.log is not None and self.log.path in self.unwritten:
                    return  # The others would be read for nothing.

    def _read_one(self, video: str, progress: PredictionProgress) -> None:
        try:
            result = self._read(video, progress)
        except VideoDecodeError as error:
            self.errors[video] = sentence_of(error)
        except Exception as error:
            logger.debug("Reading %s failed.", video, exc_info=True)
            self.errors[video] = unforeseen(video, "analysed", error)
        else:
            self.found[video] = result
            self.unwritten |= self.files.write_of_video(video, result, self.own)
        if self.log is not None:
            with noting(self.log.path, self.unwritten):
                if video in self.found:
                    self.log.add(video, self.found[video])
                else:
                    self.log.add_error(video, self.errors[video])

    def _read(self, video: str, progress: PredictionProgress) -> dict[str, Any]:
        """The result of one video, without pixels; its pictures are written."""
        with readable(video) as given:
            source = self.processor.video_processor.open_video(given)
            advance = progress.begin(self.names[video], _declared_seconds(source))
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
            # What draws takes seconds to import.
            if video in self.pictures:
                from tgdfer.training.figures.timeline import plot_timeline

                with noting(self.pictures[video], self.unwritten):
                    plot_timeline(result, self.pictures[video], self.names[video])
            if video in self.annotated:
                from tgdfer.training.figures.annotated_video import annotate

                with noting(self.annotated[video], self.unwritten):
                    annotate(source, result, self.annotated[video], lambda part: advance(share + share * part))
        return without_pixels(result)

    def _has_files(self, video: str) -> bool:
        """Whether the files that need the frames of a video are there, so that it need not be read again."""
        return all(paths[video].is_file() for paths in (self.pictures, self.annotated) if video in paths)


def _declared_seconds(source: Any) -> float | None:
    """How long a file says that it is, for the progress bar; None where it does not say so."""
    try:
        return source.declared_duration() if isinstance(source, VideoFile) else None
    except VideoDecodeError:  # The pipeline will say so.
        return None


def _say_how_to_go_on(prediction: _Prediction, log: ResultLog | None) -> None:
    done = f"Interrupted: {len(prediction.found)} of {len(prediction.videos)} videos have their results"
    if log is None:
        sentence = f"{done}. With --jsonl FILE, a batch can be resumed."
    else:
        sentence = f"{done} in {log.path}. Go on with the same command and --resume."
    get_console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def _sentence_about(unwritten: Mapping[Path, str]) -> str:
    first, reason = next(iter(unwritten.items()))
    more = f" and {len(unwritten) - 1} more files" if len(unwritten) > 1 else ""
    return (
        f"Cannot write {printable(str(first))}{more}: {reason} in {printable(str(first.absolute().parent))}; make room"
        " or name another place. The answers above are complete for the videos that were read."
    )
