"""The functions behind the page: analyse a clip, answer again with other classes, and create the files to download.

Nothing here keeps anything about a clip. An `Analysis` is returned to the caller, who keeps it for one session only.
"""

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tgdfer.processing.explanation_tgdfer import explain_timeline
from tgdfer.processing.faces_tgdfer import NoFaceError
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import ASSUMED_FPS, stream
from tgdfer.training.errors import UserError, error_message, unexpected_error_message
from tgdfer.training.outputs import Run, without_pixels
from tgdfer.training.outputs.document import document, json_text
from tgdfer.training.outputs.subtitles import subtitles
from tgdfer.training.outputs.tables import frame_table
from tgdfer.training.predict import PredictionOptions, load
from tgdfer.weights import DEFAULT_MODEL

logger = logging.getLogger(__name__)

# Number of people whose timelines are shown, and of frames in the film strip of each of them.
MAX_PEOPLE, STRIP = 6, 12
# Larger side of a frame of the film strip in pixels, and its JPEG quality.
PICTURE_SIDE, JPEG_QUALITY = 480, 80
# Classes that a person may type, descriptions of each, letters of a description, and letters in total.
MAX_CLASSES, MAX_DESCRIPTIONS, MAX_WORDS, MAX_LETTERS = 12, 8, 200, 4000


@dataclass(frozen=True)
class Limits:
    """What the page accepts.

    Attributes:
        megabytes (`int`): Size of a clip in MB.
        seconds (`float`): Length of a clip.
        patience (`float`): Seconds that the analysis of a clip may take.
    """

    megabytes: int = 50
    seconds: float = 60.0
    patience: float = 120.0


@dataclass(frozen=True)
class Analysis:
    """What is known about a clip.

    Attributes:
        name (`str`): File name of the clip.
        result (`dict[str, Any]`): Output of the pipeline with explanations.
        run (`Run`): Model and options.
        descriptions (`dict[str, list[str]]`): The descriptions of each class.
        references (`dict[str, Any]`): For each class the mean and standard deviation of the cosine of each
            description, as far as known.
        pictures (`dict[float, bytes]`): Frames of the film strip as JPEG, by their time in seconds.
        features (`Any`): Features of the faces. They do not depend on the classes.
        relabelled (`bool`): Whether the classes are those that a person typed.
    """

    name: str
    result: dict[str, Any]
    run: Run
    descriptions: dict[str, list[str]]
    references: dict[str, Any]
    pictures: dict[float, bytes] = field(repr=False)
    features: Any = field(repr=False)
    relabelled: bool = False

    @property
    def shown_people(self) -> list[dict[str, Any]]:
        """The people whose timelines are shown, the most prominent first."""
        return self.result["people"][:MAX_PEOPLE]


class _FeaturePipeline(EmotionTimelinePipeline):
    """Finds and encodes the faces of a video. The classes are applied later, so they can be replaced."""

    def postprocess(self, model_outputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return model_outputs


class Recogniser:
    """A loaded model that analyses clips. It is shared by all sessions and never changes.

    Args:
        model (`str` or `Path`, *optional*, defaults to `DEFAULT_MODEL`): Folder of a run or of a model, or Hub id.
        limits (`Limits`, *optional*): What is accepted.

    Raises:
        UserError: If the model cannot be loaded.
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.network, self.processor, self.run = load(model, PredictionOptions())

    def analyse(self, path: str | Path, progress: Callable[[float], None] | None = None) -> Analysis:
        """Analyses a clip.

        Args:
            path (`str` or `Path`): A video file. It can be deleted afterwards.
            progress (`Callable[[float], None]`, *optional*): Called with the fraction that is done.

        Returns:
            `Analysis`: The answers.

        Raises:
            UserError: If the file cannot be read, is larger or longer than the limits, or takes too long.
        """
        path = Path(path)
        deadline = time.monotonic() + self.limits.patience

        def advance(fraction: float) -> None:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path.name} takes longer than {self.limits.patience:g} seconds to analyse; upload a shorter clip"
                    " or a smaller picture."
                )
            if progress is not None:
                progress(fraction)

        with _sentences(path.name):
            self._require_size(path)
            with path.open("rb") as file:
                source = self.processor.video_processor.open_video({"path": path.name, "bytes": file})
                self._require_length(source, path.name)
                # A copy, because "auto" is replaced by the detector that was found.
                video_processor = copy.copy(self.processor.video_processor)
                pipeline = _FeaturePipeline(self.network, video_processor=video_processor, device=self.network.device)
                features = pipeline(source, progress=advance)
                analysis = self._answer(path.name, self.network, features, self.processor.descriptions or {}, {})
                wanted = sorted({second for one in analysis.shown_people for second in strip_seconds(one)})
                return replace(analysis, pictures=_pictures(source, wanted))

    def relabel(self, analysis: Analysis, text: str) -> Analysis:
        """Answers again with other classes. The video is not needed.

        Args:
            analysis (`Analysis`): An analysis by this recogniser.
            text (`str`): The classes, as in `read_classes`.

        Returns:
            `Analysis`: The new answers. They are not calibrated.

        Raises:
            UserError: If the classes cannot be used.
        """
        descriptions = read_classes(text)
        network = with_classes(self.network, self.processor, descriptions)
        with _sentences(analysis.name):
            return self._answer(analysis.name, network, analysis.features, descriptions, analysis.pictures, True)

    def _answer(
        self,
        name: str,
        network: Any,
        features: Any,
        descriptions: Mapping[str, Sequence[str]],
        pictures: dict[float, bytes],
        relabelled: bool = False,
    ) -> Analysis:
        """Creates an analysis from the features of a clip and a network with some classes."""
        pipeline = EmotionTimelinePipeline(
            network, video_processor=self.processor.video_processor, device=network.device
        )
        texts = {label: list(words) for label, words in descriptions.items()}
        result = explain_timeline(pipeline.postprocess(features), texts, network.config)
        labels = network.config.class_names
        options = self.run.options | {"descriptions": texts if relabelled else None}
        references = dict(getattr(network.config, "description_references", None) or {})
        run = replace(self.run, labels=labels, options=options)
        return Analysis(name, result, run, texts, references, pictures, features, relabelled)

    def _require_size(self, path: Path) -> None:
        megabytes = path.stat().st_size / 1e6
        if megabytes > self.limits.megabytes:
            raise UserError(
                f"{path.name} has {megabytes:.0f} MB, and at most {self.limits.megabytes} MB are accepted; upload a"
                " shorter clip or a smaller picture."
            )

    def _require_length(self, source: Any, name: str) -> None:
        """Checks the length before any frame is analysed. Recordings of a browser often do not declare theirs."""
        length = 0.0

        def first(seconds: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
            nonlocal length
            length = duration or 0.0
            return np.arange(min(1, total))

        next(stream(source, first), None)
        if length > self.limits.seconds:
            raise UserError(
                f"{name} is {length:.0f} seconds long, and at most {self.limits.seconds:g} seconds are accepted;"
                " upload a shorter clip, or use `tgdfer predict` on your own machine."
            )


def read_classes(text: str) -> dict[str, list[str]]:
    """Reads classes that a person has typed, one a line: `bored: half-closed eyes; a slack mouth`.

    Args:
        text (`str`): The lines. The words of a class are separated by semicolons.

    Returns:
        `dict[str, list[str]]`: The descriptions of each class.

    Raises:
        UserError: If a line cannot be read, or there are too few or too many classes or words.
    """
    if len(text) > MAX_LETTERS:
        raise UserError(f"The text has {len(text)} letters, and at most {MAX_LETTERS} are accepted; shorten it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError("The text has characters that are not valid Unicode; type it again.") from error
    classes: dict[str, list[str]] = {}
    for line in filter(str.strip, text.splitlines()):
        label, colon, words = line.partition(":")
        label = " ".join(label.split())
        described = [" ".join(one.split()) for one in words.split(";") if one.strip()]
        if not colon or not label or not described:
            raise UserError(
                f'The line "{line.strip()}" names no class and its words; write it as `bored: half-closed eyes;'
                " a slack mouth`."
            )
        if label in classes:
            raise UserError(f'The class "{label}" is there twice; write its words in one line, with semicolons.')
        if any(len(one) > MAX_WORDS for one in described):
            raise UserError(f'A description of "{label}" has more than {MAX_WORDS} letters; shorten it.')
        if len(described) > MAX_DESCRIPTIONS:
            raise UserError(
                f'The class "{label}" has {len(described)} descriptions, and at most {MAX_DESCRIPTIONS} are accepted;'
                " remove some."
            )
        classes[label] = described
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise UserError(f"The number of classes is {len(classes)}; write 2 to {MAX_CLASSES}, one in each line.")
    return classes


def with_classes(network: Any, processor: TGDFERProcessor, descriptions: Mapping[str, Sequence[str]]) -> Any:
    """Returns a copy of a network that has other classes. The network itself does not change.

    Args:
        network (`TGDFERForVideoClassification`): The network.
        processor (`TGDFERProcessor`): Its processor.
        descriptions (`Mapping[str, Sequence[str]]`): The descriptions of each class.

    Raises:
        UserError: If the classes cannot be used.
    """
    # Parameters are shared with the copy. `set_classes` replaces those that it changes.
    changed = copy.deepcopy(network, {id(one): one for one in network.parameters()})
    try:
        changed.set_classes(processor.class_prompts(descriptions))
    except ValueError as error:
        raise UserError(f"The classes cannot be used: {error}") from error
    return changed


def strip_seconds(person: Mapping[str, Any]) -> list[float]:
    """Selects the frames of the film strip of a person.

    Args:
        person (`Mapping[str, Any]`): A person in the output of the pipeline.

    Returns:
        `list[float]`: Their times in seconds: evenly spaced among the analysed frames of the person, and the most
        relevant one.
    """
    seconds = person["timestamps"]
    evenly = np.linspace(0, len(seconds) - 1, min(STRIP - 1, len(seconds))).round().astype(int)
    places = {*evenly.tolist(), int(np.argmax(person["frame_relevance"]))}
    return [seconds[place] for place in sorted(places)]


def files_of(analysis: Analysis) -> dict[str, str]:
    """Creates the files to download: name and text of the CSV, the JSON and the subtitles."""
    stem = Path(analysis.name).stem or "clip"
    results = {analysis.name: without_pixels(analysis.result)}
    return {
        f"{stem}.csv": frame_table(results),
        f"{stem}.json": json_text(document(results, {}, analysis.run)),
        f"{stem}.vtt": subtitles(analysis.result, ".vtt"),
    }


def _pictures(source: Any, seconds: Sequence[float]) -> dict[float, bytes]:
    """Reads the frames at some times, and returns them as JPEG by their time."""
    wanted: dict[int, list[float]] = {}

    def nearest(times: np.ndarray | None, total: int, duration: float | None) -> np.ndarray:
        known = np.arange(total) / ASSUMED_FPS if times is None else times
        for second in seconds:
            wanted.setdefault(int(np.abs(known - second).argmin()), []).append(second)
        return np.array(sorted(wanted), np.int64)

    pictures: dict[float, bytes] = {}
    for number, _, frame in stream(source, nearest):
        picture = frame[:3].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        encoded = encode_jpeg(picture, PICTURE_SIDE)
        pictures |= dict.fromkeys(wanted[number], encoded)
    return pictures


def encode_jpeg(picture: np.ndarray, side: int) -> bytes:
    """Encodes a picture, which is reduced if it is large.

    Args:
        picture (`np.ndarray`): RGB picture (H, W, 3).
        side (`int`): Length of its longer side in pixels, at most.
    """
    scale = min(1.0, side / max(picture.shape[:2]))
    if scale < 1:
        size = [max(1, round(scale * length)) for length in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Converts every error to a sentence about the clip."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{name} is not there any more; upload it again.") from error
    except NoFaceError as error:
        raise UserError(
            f"{name} shows no face that can be found; upload a clip with a larger or brighter face, or turn it to the"
            " camera."
        ) from error
    except VideoDecodeError as error:
        raise UserError(error_message(error)) from error
    except Exception as error:
        logger.exception("A clip could not be analysed.")
        raise UserError(unexpected_error_message(name, "analysed", error)) from error
