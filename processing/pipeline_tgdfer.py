"""The emotion timeline of a video: the pipeline, which joins what a model says of its windows and finds segments."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForVideoClassification
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineChunkIterator, PipelineIterator

from .calibration_tgdfer import UNSURE, at_temperature, candidates

TASK = "emotion-timeline"
# A video of more seconds is no clip any more: what the field calls one is shorter. It is read window by window.
LONGEST_CLIP = 15.0
# So many parts of a long video are kept as they come, before their numbers are put together.
_LOOSE = 64
# The label of a face at rest, whose time lies between segments.
AT_REST = "neutral"


class EmotionTimelinePipeline(ChunkPipeline):
    """Emotion of a video over time, by a TG-DFER model.

    Example:
        ```python
        timeline = pipeline("emotion-timeline", model="user/tgdfer-model")
        timeline("clip.mp4")
        # {"label": "surprise", "score": 0.87, "candidates": ["surprise"], "calibrated": True,
        #  "scores": {"anger": 0.01, ...}, "timestamps": [0.02, ...],
        #  "frame_scores": {"anger": [0.05, ...], ...}, "frame_relevance": [0.01, ...],
        #  "description_relevance": [[0.21, ...], ...],
        #  "segments": [{"start": 0.9, "end": 1.8, "label": "surprise", "confidence": 0.83}]}
        ```
    """

    model: Any
    video_processor: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = True
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Analyses one video or several.

        A clip is sampled as a whole. A longer video is read in windows that overlap by half, one at a time in memory,
        with `model.config.frame_interval` seconds from frame to frame; what they say is joined by time.

        Args:
            inputs: a path, URL, bytes or file object of a video, or a folder of frames; or a list of them.
            *args: ignored, as in every pipeline.
            **kwargs: `num_frames`, frames of a clip or window, default `model.config.num_frames`; `longest_clip`,
                seconds up to which a video is one clip, default 15; `progress`, called with the share of a long video
                that is read; `batch_size`, clips or windows at a time, and `num_workers`, as in every pipeline.

        Returns:
            For each video a dict: `label`, the most probable class, or "unsure" if its probability is below
            `model.config.unsure_below`; `score`, its probability; `candidates`, the labels that it may be, the most
            probable one first: two if the label is "unsure", else one; `calibrated`, whether the model is, so that
            `score` can be read as the share of such answers that are right; `scores`, the probability of each class,
            by name;
            `timestamps`, seconds of the T frames, None where unknown (in a longer video at 25 frames a second);
            `frame_scores`, for each class its probability in each of the T frames; `frame_relevance`, how much each
            frame counts for the label: T shares of one; `description_relevance`, for each description of the label its
            cosine with each of the T frames; `segments` of emotion, each with `start` and `end` in seconds, `label`
            and `confidence`.
            Where the label is "unsure", what is said of the label holds for the first candidate. The temperature is
            that of clips: `frame_scores` and the `confidence` of segments are not calibrated.
            In a long video a frame counts for the label of its window, and `scores` are the mean over the windows.
            With the `face_crop` of the video processor also `track`, the number of the face in the video, `boxes`,
            its left, top, right and bottom in pixels in each of the T frames, None where it was not found, and
            `without_face`, the seconds of all sampled frames in which it is not (their numbers where unknown). With
            `face_crop="all"` a list of these for each video, the face that fills most of it first.

        Raises:
            VideoDecodeError: a video cannot be read; `NoFaceError`, one of them, if it has no face, by `no_face`.
        """
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        reading = ("num_frames", "longest_clip", "progress")
        return {name: kwargs[name] for name in reading if kwargs.get(name) is not None}, {}, {}

    def preprocess(  # type: ignore[override]
        self,
        input_: Any,
        num_frames: int | None = None,
        longest_clip: float = LONGEST_CLIP,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Reads a video part by part; those without time stamps get NaN, so that all items have the same keys."""
        config = self.model.config
        parts = self.video_processor.read_parts(
            input_, num_frames or config.num_frames, longest_clip, config.frame_interval, progress
        )
        for part, is_last in _and_whether_last(parts):
            count = len(part.frames)
            batch = self.video_processor(
                [part.frames], timestamps=[part.seconds], num_frames=count, return_tensors="pt"
            ).to(self.dtype)
            yield {
                "is_last": torch.tensor([is_last]),
                "timestamps": torch.full((1, count), torch.nan),
                "track": torch.full((1, count), -1 if part.track is None else part.track),
                "boxes": torch.from_numpy(np.where(part.found[:, None], part.boxes, np.nan))[None],
                "missing": torch.from_numpy(np.asarray(part.missing, dtype=np.float64))[None],
                **batch,
            }

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> Any:
        kept = {name: input_tensors.pop(name) for name in ("is_last", "track", "boxes", "missing")}
        seconds, frame_mask = input_tensors["timestamps"], input_tensors["frame_mask"]
        # What the model takes where it is given no time at all, here for single clips of a batch.
        usual = torch.arange(seconds.shape[1], device=seconds.device) * self.model.config.frame_interval
        outputs = self.model(**{**input_tensors, "timestamps": torch.where(seconds.isnan(), usual, seconds)})
        names = ("logits", "frame_logits", "frame_relevance", "description_relevance")
        chosen = {name: outputs[name].float() for name in names}
        chosen["logits"] = at_temperature(chosen["logits"], self.model.config)
        return {**chosen, "timestamps": seconds, "frame_mask": frame_mask, **kept}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> Any:
        """Names for the numbers of one video, or of each person in it with all faces."""
        parts: list[dict[str, np.ndarray]] = model_outputs
        missing = np.unique(np.concatenate([part.pop("missing") for part in parts]))
        crop = self.video_processor.face_crop
        if crop != "all":
            return self._timeline(parts, None if crop == "none" else missing)
        people: dict[int, list[dict[str, np.ndarray]]] = {}
        for part in parts:
            people.setdefault(int(part["track"][0]), []).append(part)
        return [
            self._timeline(people[track], missing) for track in sorted(people, key=lambda who: -_area(people[who]))
        ]

    def _timeline(self, parts: list[dict[str, np.ndarray]], missing: np.ndarray | None) -> dict[str, Any]:
        """What is said of one person, or of a video as it is, in which no faces were looked for."""
        found = parts[0] if len(parts) == 1 else stitch(parts)
        config = self.model.config
        names = [config.id2label[index] for index in range(config.num_labels)]
        timed = not np.isnan(found["seconds"]).any()
        curves = dict(zip(names, found["frame_scores"].T.tolist(), strict=True))
        scores = found["scores"].tolist()
        likely = candidates(scores, names, config)
        best = names.index(likely[0])
        described = self.model.tgdfer.text_guidance.description_mask[best].cpu().numpy()
        result = {
            "label": likely[0] if len(likely) == 1 else UNSURE,
            "score": scores[best],
            "candidates": likely,
            "calibrated": bool(getattr(config, "is_calibrated", False)),
            "scores": dict(zip(names, scores, strict=True)),
            "timestamps": found["seconds"].tolist() if timed else None,
            "frame_scores": curves,
            "frame_relevance": found["relevance"].tolist(),
            "description_relevance": found["descriptions"][:, best, described].T.tolist(),
            "segments": find_segments(curves, found["seconds"]) if timed else [],
        }
        if missing is None:
            return result
        seen = found["track"][found["track"] >= 0]
        boxes = [None if np.isnan(box).any() else box.tolist() for box in found["boxes"]]
        track = int(np.bincount(seen).argmax()) if len(seen) else None
        return {**result, "track": track, "boxes": boxes, "without_face": missing.tolist()}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the model, the video processor and the code of this pipeline."""
        super().save_pretrained(save_directory, **kwargs)
        self.video_processor.save_pretrained(save_directory)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> PipelineIterator:
        """Batches parts of different lengths, which the collation of `transformers` knows for texts alone."""
        parts = _Parts(inputs, self.preprocess, preprocess_params)
        # Each of several processes would read all the parts.
        loader = torch.utils.data.DataLoader(
            parts, num_workers=min(num_workers, 1), batch_size=batch_size, collate_fn=_collate
        )
        outputs = (self.forward(batch, **forward_params) for batch in loader)
        return PipelineIterator(_videos(outputs), self.postprocess, postprocess_params)


class _Parts(PipelineChunkIterator):
    """The parts of all videos, of which nobody knows the number."""

    def __len__(self) -> int:
        raise TypeError("Videos have as many parts as they are long.")


def _and_whether_last(parts: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    parts = iter(parts)
    part = next(parts)
    for following in parts:
        yield part, False
        part = following
    yield part, True


def _videos(outputs: Iterable[dict[str, torch.Tensor]]) -> Iterator[list[dict[str, np.ndarray]]]:
    """The numbers of all parts of each video, from batches of parts."""
    parts: list[dict[str, np.ndarray]] = []
    for batch in outputs:
        for index, is_last in enumerate(batch.pop("is_last").tolist()):
            parts.append(_numbers({name: value[index] for name, value in batch.items()}))
            if len(parts) % _LOOSE == 0:
                parts[-_LOOSE:] = _together(parts[-_LOOSE:])
            if is_last:
                yield parts
                parts = []


def _together(parts: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The same numbers, as views of a few large arrays.

    Thousands of small ones, kept between the frames and activations that come and go, would leave no gap in memory
    large enough to be used again: half an hour of video took two gigabytes more.
    """
    found: list[dict[str, np.ndarray]] = [{} for _ in parts]
    for name in parts[0]:
        rows = [part[name] for part in parts]
        ends = np.cumsum([len(row) for row in rows])
        for one, row in zip(found, np.split(np.concatenate(rows), ends[:-1]), strict=True):
            one[name] = row
    return found


def _numbers(part: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """What the model says of one part (T, ...), in numpy and without padding."""
    mask, missing = part["frame_mask"], part["missing"]
    scores = part["logits"].softmax(-1)
    rows = {
        "seconds": part["timestamps"][mask],
        "frame_scores": part["frame_logits"][mask].softmax(-1),
        "relevance": part["frame_relevance"][mask, scores.argmax()],
        "descriptions": part["description_relevance"][mask],
        "track": part["track"][mask],
        "boxes": part["boxes"][mask],
    }
    found = {"scores": scores, "missing": missing[~missing.isnan()], **rows}
    return {name: value.cpu().numpy() for name, value in found.items()}


def _area(parts: list[dict[str, np.ndarray]]) -> float:
    """Pixels of a face, summed over the frames of its parts."""
    boxes = np.concatenate([part["boxes"] for part in parts])
    return float(np.nansum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))


def _collate(clips: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Batch of clips (1, T_i, ...), padded by their last frame under the mask."""
    lengths = [clip["frame_mask"].shape[1] for clip in clips]
    which = [torch.arange(max(lengths)).clamp(max=length - 1) for length in lengths]
    apart = {"is_last", "missing"}
    batch = {
        name: torch.cat([clip[name][:, index] for clip, index in zip(clips, which, strict=True)])
        for name in clips[0]
        if name not in apart
    }
    batch["frame_mask"] &= torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    batch["is_last"] = torch.cat([clip["is_last"] for clip in clips])
    batch["missing"] = torch.nn.utils.rnn.pad_sequence(
        [clip["missing"][0] for clip in clips], batch_first=True, padding_value=torch.nan
    )
    return batch


# From windows to curves over the whole video, and from curves to segments.


@dataclass(frozen=True)
class Hysteresis:
    """When a curve makes a segment: it must rise to `high`, and lasts as long as it stays above `low`.

    The defaults are those with the highest mean average precision on rendered videos (docs/results/long_videos.md).

    Attributes:
        high: probability that starts a segment.
        low: probability below which it ends.
        shortest: seconds that it lasts at least; felt expressions mostly last half a second and more.
    """

    high: float = 0.5
    low: float = 0.3
    shortest: float = 0.3

    def __post_init__(self):
        if not 0 < self.low <= self.high <= 1 or self.shortest < 0:
            raise ValueError(
                f"Segments need 0 < low <= high <= 1 and shortest >= 0, not {self.low}, {self.high} and "
                f"{self.shortest}."
            )


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one emotion.

    Attributes:
        start: seconds.
        end: seconds.
        label: the emotion.
        confidence: mean probability over its frames.
    """

    start: float
    end: float
    label: str
    confidence: float


def find_segments(
    curves: Mapping[str, Sequence[float]], seconds: Sequence[float] | np.ndarray, rule: Hysteresis | None = None
) -> list[dict[str, Any]]:
    """Segments of emotion by hysteresis on the curve of each class but neutral.

    Args:
        curves: for each class its probability in each of T frames.
        seconds: (T,) of the frames, increasing.
        rule: the thresholds.

    Returns:
        `start` and `end` in seconds, `label` and `confidence` of each, in order of time. A segment reaches half the
        way to the frames beside it, and never over a stretch without frames (a face that was away).
    """
    rule = rule or Hysteresis()
    found: list[Segment] = []
    for label, values in curves.items():
        if label != AT_REST:
            found += _of_curve(label, np.asarray(values, dtype=float), rule, np.asarray(seconds, dtype=float))
    return [asdict(segment) for segment in sorted(found, key=lambda one: (one.start, one.end, one.label))]


def argmax_segments(curves: Mapping[str, Sequence[float]], seconds: Sequence[float]) -> list[dict[str, Any]]:
    """What segments are compared with: runs of frames whose most probable class is the same emotion."""
    names = list(curves)
    best = np.argmax([curves[name] for name in names], axis=0) if len(seconds) else np.zeros(0, int)
    alone = {name: np.where(best == index, curves[name], 0.0).tolist() for index, name in enumerate(names)}
    return find_segments(alone, seconds, Hysteresis(high=1e-9, low=1e-9, shortest=0.0))


def _of_curve(label: str, curve: np.ndarray, rule: Hysteresis, seconds: np.ndarray) -> list[Segment]:
    starts, ends = _extents(seconds)
    segments = []
    for run in _runs(curve >= rule.low, seconds):
        start, end = float(starts[run.start]), float(ends[run.stop - 1])
        if curve[run].max() >= rule.high and end - start >= rule.shortest:
            segments.append(Segment(start, end, label, float(curve[run].mean())))
    return segments


def _runs(inside: np.ndarray, seconds: np.ndarray) -> list[slice]:
    """Stretches of frames that are inside, cut where time goes on without frames."""
    new = np.ones(len(inside), bool)
    new[1:] = ~inside[:-1] | (np.diff(seconds) > _longest_step(seconds))
    first = np.flatnonzero(inside & new)
    last = np.flatnonzero(inside & np.append(~inside[1:] | new[1:], True))
    return [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]


def _extents(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (T,) of the time that each frame stands for: half the way to those beside it."""
    if len(seconds) < 2:
        return seconds, seconds
    steps = np.diff(seconds)
    usual = float(np.median(steps))
    halves = np.where(steps > _longest_step(seconds), usual, steps) / 2
    return (
        np.maximum(seconds - np.append(usual / 2, halves), 0.0),
        seconds + np.append(halves, usual / 2),
    )


def _longest_step(seconds: np.ndarray) -> float:
    """Frames further apart than this have something between them that was not looked at."""
    return 3 * float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0


def stitch(windows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins windows of T_w frames and K classes that may overlap, frame by frame.

    Args:
        windows: of each `seconds` (T_w,), `scores` (K,) of the window, `frame_scores` (T_w, K) and `relevance` (T_w,),
            how much each frame counts for the label of its window: shares of one; and whatever else has T_w rows.

    Returns:
        The same over all T frames, in order of time. A frame that lies in several windows has the mean of what they
        say of it; of other rows, what the first one has. `relevance` is in shares of one over the video, a window
        counting by its number of frames; `scores` (K,) the mean over the windows by the same measure.
    """
    lengths = np.array([len(window["seconds"]) for window in windows], dtype=float)
    seconds = np.concatenate([window["seconds"] for window in windows])
    # The same frame has the same time in every window, to the last bit or nearly so.
    times, first, which = np.unique(np.round(seconds, 4), return_index=True, return_inverse=True)
    counts = np.bincount(which)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(times), *values.shape[1:]))
        np.add.at(total, which, values)
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    rows = (name for name in windows[0] if name != "scores")
    joined = {name: np.concatenate([window[name] for window in windows])[first] for name in rows}
    relevance = mean(np.concatenate([w["relevance"] * len(w["relevance"]) for w in windows]))
    return joined | {
        "seconds": seconds[first],
        "frame_scores": mean(np.concatenate([window["frame_scores"] for window in windows])),
        "relevance": relevance / relevance.sum(),
        "scores": np.average([window["scores"] for window in windows], axis=0, weights=lengths),
    }


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=EmotionTimelinePipeline, pt_model=AutoModelForVideoClassification, type="multimodal"
)
