"""The pipeline `emotion-timeline`: who is in a video, and which emotion each of them shows from when to when."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForVideoClassification
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineChunkIterator, PipelineIterator

from .explanation_tgdfer import UNSURE, at_temperature, candidates
from .quality_tgdfer import face_warnings, quality_of
from .recordings_tgdfer import Recording
from .segments_tgdfer import Presence, find_moments
from .video_reading_tgdfer import ASSUMED_FPS, sample_indices, windows

TASK = "emotion-timeline"
# What the field calls a clip is at most so many seconds long. A person who is there for longer gets the mean of what
# the model says of its windows, because no model is trained on longer bags of frames.
LONGEST_CLIP = 15.0
FACE_OPTIONS = ("face_crop", "face_detector", "face_model", "face_every", "no_face")
# Windows that are given to the head of the model together.
_WINDOWS = 32
# Height and width of thumbnails in pixels.
THUMBNAIL = 96


class EmotionTimelinePipeline(ChunkPipeline):
    """Emotions of the people in a video over time, by a TG-DFER model.

    Example:
        ```python
        timeline = pipeline("emotion-timeline", model="user/tgdfer-model")
        result = timeline("clip.mp4")
        for person in result["people"]:
            for segment in person["segments"]:
                print(person["person"], segment["start"], segment["end"], segment["label"], segment["score"])
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

        Faces are found, followed and cut out as the video processor says (`face_crop`), unless the video is a crop of
        one face already. One frame of every `interval` seconds is analysed, in windows of `num_frames` frames.

        Args:
            inputs: a path, URL, bytes or file object of a video or photograph, or a folder of frames; or a list.
            *args: ignored, as in every pipeline.
            **kwargs: `num_frames`, frames of a window, default `model.config.num_frames`, and the least number of
                frames that are analysed; `interval`, seconds, default `model.config.frame_interval`; `face_crop`,
                `face_detector`, `face_model`, `face_every` and `no_face`, instead of those of the video processor;
                `thumbnails`, how many small pictures of each person are returned, default 0; `longest_clip`, seconds,
                default 15; `progress`, called with the share of a video that is done; `batch_size`, groups of frames
                at a time, and `num_workers`, as in every pipeline.

        Returns:
            For each video a dict of plain values:

            - `duration`, seconds; `width` and `height` in pixels; `detector`, the name of the face detector, None
              where the pictures were taken as they are;
            - `cuts`, the seconds at which a new shot begins; `timestamps`, the seconds of all analysed frames (of
              arrays and folders of frames at 25 frames a second);
            - `calibrated`, whether the model is, so that a score can be read as the share of such answers that are
              right;
            - `people`, a dict for each person, the one who fills most of the video first.

            Of each person:

            - `person`, a number from 1, in the order of appearance; None where no faces were looked for;
            - `label`, the most probable class over the time in which the person is there, or "unsure" if its
              probability is below `model.config.unsure_below`; `score`, its probability; `candidates`, the labels
              that it may be, the most probable one first: two if the label is "unsure", else one; `scores`, the
              probability of each class. For somebody who is there for more than `longest_clip` seconds these are
              means over windows;
            - `segments`, which cover every moment in which the person is there and never reach over a cut: `label`,
              `start` and `end` in seconds, `score`, `candidates`, `person`, and `description_relevance`, for each
              description of the first candidate its mean cosine with the frames;
            - `timestamps`, the seconds (T,) of the frames in which the person is; `frame_scores`, for each class its
              probability in each of them; `frame_relevance`, how much each frame counts for the first candidate: T
              shares of one; `description_relevance`, for each description of the first candidate its cosine with each
              frame;
            - `boxes`, left, top, right and bottom of the face in pixels in each of the T frames, None where it was
              not found; no key where no faces were looked for; `without_face`, the seconds of the analysed frames in
              which this person is not;
            - `warnings`, sentences about what makes the answer less reliable;
            - with `thumbnails`, `thumbnails`, an array (N, 96, 96, 3) of uint8, and `thumbnail_seconds`.

        Raises:
            VideoDecodeError: a video cannot be read; `NoFaceError`, one of them, if it has no face, by `no_face`.
        """
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        reading = ("num_frames", "interval", "progress", "thumbnails", *FACE_OPTIONS)
        answering = ("num_frames", "longest_clip")
        before, after = (
            {name: kwargs[name] for name in names if kwargs.get(name) is not None} for names in (reading, answering)
        )
        return before, {}, after

    def preprocess(  # type: ignore[override]
        self,
        input_: Any,
        num_frames: int | None = None,
        interval: float | None = None,
        progress: Callable[[float], None] | None = None,
        thumbnails: int = 0,
        **faces: Any,
    ) -> Iterator[dict[str, Any]]:
        """Reads a video, and yields the frames of its people in small groups."""
        config = self.model.config
        processor = copy.copy(self.video_processor)
        for name, value in faces.items():
            setattr(processor, name, value)
        recording = processor.read_recording(
            input_, interval or config.frame_interval, num_frames or config.num_frames, progress
        )
        # What "auto" came to is kept: models keep the crop that they are trained with.
        if "face_detector" not in faces:
            self.video_processor.face_detector = processor.face_detector
        pictures = [_thumbnail_places(recording, person, thumbnails) for person in range(len(recording.paths))]
        about = replace(recording, chunks=())
        for chunk, is_last in _and_whether_last(recording.chunks):
            # The frames are cut out already.
            batch = processor([chunk.frames], num_frames=len(chunk.frames), face_crop="none", return_tensors="pt")
            shown = np.isin(chunk.places, pictures[chunk.person])
            quality = quality_of(chunk.frames, processor.face_margin)
            yield {
                "pixel_values_videos": batch["pixel_values_videos"].to(self.dtype),
                "frame_mask": batch["frame_mask"],
                "about": [(about, is_last, chunk.person, chunk.places, chunk.boxes)],
                "seen": [(quality, chunk.places[shown], _thumbnails(chunk.frames[shown]))],
            }

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> Any:
        features = self.model.get_frame_features(input_tensors["pixel_values_videos"], input_tensors["frame_mask"])
        return {name: input_tensors[name] for name in ("frame_mask", "about", "seen")} | {"features": features.float()}

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, num_frames: int | None = None, longest_clip: float = LONGEST_CLIP
    ) -> dict[str, Any]:
        """Answers for each person of a video, from the features of all frames."""
        found: _Collected = model_outputs
        recording, config = found.recording, self.model.config
        people = [
            self._person(recording, person, num_frames or config.num_frames, longest_clip) for person in found.people
        ]
        return {
            "duration": _rounded(recording.duration),
            "width": recording.size[0],
            "height": recording.size[1],
            "detector": recording.detector,
            "cuts": _rounded(recording.edges[recording.cuts]),
            "timestamps": _rounded(recording.seconds),
            "calibrated": bool(getattr(config, "is_calibrated", False)),
            "people": people,
        }

    def _person(self, recording: Recording, person: "_Person", num_frames: int, longest_clip: float) -> dict[str, Any]:
        """What is said of one person, or of a video that is taken as it is."""
        config = self.model.config
        names = [config.id2label[index] for index in range(config.num_labels)]
        seconds = recording.seconds[person.places]
        presence = Presence(person.places, recording.edges, recording.cuts, recording.seconds)
        found = self._answers(person, seconds, presence, num_frames, longest_clip)
        likely = candidates(found["scores"].tolist(), names, config)
        best = names.index(likely[0])
        number = None if recording.detector is None or person.path is None else person.path.person
        below = getattr(config, "unsure_below", None)
        segments = find_moments(found["frame_scores"], names, presence, below)
        result = {
            "person": number,
            "label": likely[0] if len(likely) == 1 else UNSURE,
            "score": float(found["scores"][best]),
            "candidates": likely,
            "scores": dict(zip(names, found["scores"].tolist(), strict=True)),
            "segments": [self._segment(one, number, found["descriptions"]) for one in segments],
            "timestamps": _rounded(seconds),
            "frame_scores": dict(zip(names, found["frame_scores"].T.tolist(), strict=True)),
            "frame_relevance": (found["relevance"][:, best] / found["relevance"][:, best].sum()).tolist(),
            "description_relevance": found["descriptions"][:, best, self._described(best)].T.tolist(),
            "warnings": [],
            "without_face": [],
        }
        if not recording.timed and len(seconds) > 1:
            result["warnings"].append(f"The frames have no times: {ASSUMED_FPS} frames a second are assumed.")
        if recording.detector is not None:
            away = np.delete(recording.seconds, person.places[person.found])
            result["boxes"] = [box.tolist() if here else None for box, here in person.boxes]
            result["without_face"] = _rounded(away)
            if person.path is not None:
                result["warnings"] += face_warnings(person.path, person.quality[person.found])
        if person.thumbnails:
            result["thumbnails"] = np.stack(person.thumbnails)
            result["thumbnail_seconds"] = _rounded(recording.seconds[person.thumbnail_places])
        return result

    def _segment(self, segment: dict[str, Any], person: int | None, descriptions: np.ndarray) -> dict[str, Any]:
        first, last = segment.pop("frames")
        index = self.model.config.label2id[segment["candidates"][0]]
        cosines = descriptions[first : last + 1, index, self._described(index)].mean(0)
        times = {side: _rounded(segment[side]) for side in ("start", "end")}
        return {**segment, **times, "person": person, "description_relevance": cosines.tolist()}

    def _described(self, label: int) -> np.ndarray:
        """Which of the M columns are descriptions of a label: mask (M,)."""
        return self.model.tgdfer.text_guidance.description_mask[label].cpu().numpy()

    def _answers(
        self, person: "_Person", seconds: np.ndarray, presence: Presence, num_frames: int, longest_clip: float
    ) -> dict[str, np.ndarray]:
        """What the model says of the T frames of a person: in windows, and of all of them together if it can.

        Returns:
            `scores` (K,), `frame_scores` (T, K), `relevance` (T, K), for each class shares of one, and `descriptions`
            (T, K, M).
        """
        parts = [
            part.start + window
            for part in presence.stretches()
            for window in windows(part.stop - part.start, num_frames)
        ]
        said = self._heads(person.features, seconds, parts)
        found = _join_windows(said, parts, len(seconds))
        if len(parts) > 1 and seconds[-1] - seconds[0] <= longest_clip:
            whole = sample_indices(len(seconds), num_frames)
            found["scores"] = self._heads(person.features, seconds, [whole])[0]["scores"]
        return found

    def _heads(
        self, features: np.ndarray, seconds: np.ndarray, parts: list[np.ndarray]
    ) -> list[dict[str, np.ndarray]]:
        """What the model says of bags of frames, by their features (T, D)."""
        said: list[dict[str, np.ndarray]] = []
        for start in range(0, len(parts), _WINDOWS):
            batch = parts[start : start + _WINDOWS]
            lengths = torch.tensor([len(part) for part in batch])
            rows = pad_sequence([torch.from_numpy(features[part]) for part in batch], batch_first=True)
            times = pad_sequence([torch.from_numpy(seconds[part]).float() for part in batch], batch_first=True)
            mask = torch.arange(rows.shape[1]) < lengths[:, None]
            with self.get_inference_context()():
                outputs = self.model(
                    frame_features=rows.to(self.device, self.dtype),
                    frame_mask=mask.to(self.device),
                    timestamps=times.to(self.device),
                )
            scores = at_temperature(outputs.logits.float(), self.model.config).softmax(-1)
            frames = at_temperature(outputs.frame_logits.float(), self.model.config).softmax(-1)
            for row, length in enumerate(lengths.tolist()):
                said.append(
                    {
                        "scores": scores[row].cpu().numpy(),
                        "frame_scores": frames[row, :length].cpu().numpy(),
                        "relevance": outputs.frame_relevance[row, :length].float().cpu().numpy(),
                        "descriptions": outputs.description_relevance[row, :length].float().cpu().numpy(),
                    }
                )
        return said

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
        """Batches groups of frames of different lengths; the collation of `transformers` pads texts alone."""
        chunks = _Chunks(inputs, self.preprocess, preprocess_params)
        # Each of several processes would read all the chunks.
        loader = torch.utils.data.DataLoader(
            chunks, num_workers=min(num_workers, 1), batch_size=batch_size, collate_fn=_collate
        )
        outputs = (self.forward(batch, **forward_params) for batch in loader)
        return PipelineIterator(_videos(outputs), self.postprocess, postprocess_params)


# Chunks in, people out


class _Chunks(PipelineChunkIterator):
    """The chunks of all videos, of which nobody knows the number."""

    def __len__(self) -> int:
        raise TypeError("Videos have as many chunks as they are long.")


def _and_whether_last(chunks: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    chunks = iter(chunks)
    chunk = next(chunks)
    for following in chunks:
        yield chunk, False
        chunk = following
    yield chunk, True


def _collate(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch of chunks (1, T_i, ...), padded under the mask."""
    padded = {
        name: pad_sequence([chunk[name][0] for chunk in chunks], batch_first=True)
        for name in ("pixel_values_videos", "frame_mask")
    }
    return {**padded, **{name: [chunk[name][0] for chunk in chunks] for name in ("about", "seen")}}


def _videos(outputs: Iterable[dict[str, Any]]) -> Iterator["_Collected"]:
    """All that is known of each video, from batches of chunks."""
    found: _Collected | None = None
    for batch in outputs:
        for row, (recording, is_last, person, places, boxes) in enumerate(batch["about"]):
            found = found or _Collected(recording, batch["features"].shape[-1])
            features = batch["features"][row, : len(places)].cpu().numpy()
            found.people[person].add(places, features, boxes, *batch["seen"][row])
            if is_last:
                found.finish()
                yield found
                found = None


class _Person:
    """The frames of one person, as their chunks come.

    The arrays have their full size from the start. Thousands of small ones, kept between the frames and activations
    that come and go, would leave no gap in memory large enough to be used again.
    """

    def __init__(self, path: Any, count: int, width: int):
        self.path = path
        self.count = 0
        self.places = np.zeros(count, np.int64)
        self.features = np.zeros((count, width), np.float32)
        self.rows = np.full((count, 4), np.nan)
        self.quality = np.zeros((count, 2), np.float32)
        self.thumbnails: list[np.ndarray] = []
        self.thumbnail_places: list[int] = []

    def add(
        self,
        places: np.ndarray,
        features: np.ndarray,
        boxes: np.ndarray,
        quality: np.ndarray,
        shown: np.ndarray,
        pictures: np.ndarray,
    ) -> None:
        here = slice(self.count, self.count + len(places))
        self.places[here], self.features[here], self.rows[here] = places, features, boxes
        self.quality[here] = quality
        self.count += len(places)
        self.thumbnails += list(pictures)
        self.thumbnail_places += shown.tolist()

    def finish(self) -> None:
        """Cuts off what was kept for frames that could not be decoded."""
        for name in ("places", "features", "rows", "quality"):
            setattr(self, name, getattr(self, name)[: self.count])

    @property
    def found(self) -> np.ndarray:
        """In which of the frames the face was found: mask (T,)."""
        return ~np.isnan(self.rows).any(1)

    @property
    def boxes(self) -> list[tuple[np.ndarray, bool]]:
        return list(zip(self.rows, self.found.tolist(), strict=True))


class _Collected:
    """A video and the frames of its people."""

    def __init__(self, recording: Recording, width: int):
        self.recording = recording
        # Whole frames may stand for those without the face.
        self.people = [_Person(path, len(recording.seconds), width) for path in recording.paths]

    def finish(self) -> None:
        for person in self.people:
            person.finish()
        self.people = [person for person in self.people if person.count]


def _join_windows(said: list[dict[str, np.ndarray]], parts: list[np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Joins what is said of windows that overlap, frame by frame.

    Returns:
        As `_answers`. A frame in several windows has the mean of what they say. A window counts for the scores by its
        number of frames, and for the relevance of a class also by the probability that it gives to the class.
    """
    times = np.zeros(count)
    sums: dict[str, np.ndarray] = {}
    for one, part in zip(said, parts, strict=True):
        times[part] += 1
        relevance = one["relevance"] * len(part) * one["scores"]
        for name, rows in (one | {"relevance": relevance}).items():
            if name != "scores":
                sums.setdefault(name, np.zeros((count, *rows.shape[1:])))[part] += rows
    joined = {name: rows / times.reshape(-1, *[1] * (rows.ndim - 1)) for name, rows in sums.items()}
    joined["relevance"] /= np.maximum(joined["relevance"].sum(0), 1e-30)
    joined["scores"] = np.average([one["scores"] for one in said], axis=0, weights=[len(part) for part in parts])
    return joined


# Pictures and numbers


def _thumbnail_places(recording: Recording, person: int, count: int) -> np.ndarray:
    """Which of the sampled frames are shown of a person, evenly spread over those in which they are."""
    path = recording.paths[person]
    there = np.arange(len(recording.indices))
    if path is not None:
        there = np.flatnonzero(np.isin(recording.indices, path.indices))
    if not count or not len(there):
        return np.zeros(0, np.int64)
    # The middles of equal parts.
    chosen = ((np.arange(count) + 0.5) * len(there) / count).astype(int)
    return np.unique(there[chosen])


def _thumbnails(frames: torch.Tensor) -> np.ndarray:
    """Small pictures (N, 96, 96, 3) of crops (N, 3, S, S), or of the middle of pictures (N, 3, H, W)."""
    if not len(frames):
        return np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8)
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[..., top : top + side, left : left + side].float()
    small = torch.nn.functional.interpolate(square, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _rounded(seconds: Any) -> Any:
    """Seconds to the millisecond, as plain numbers."""
    return np.round(np.asarray(seconds, dtype=np.float64), 3).tolist()


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=EmotionTimelinePipeline, pt_model=AutoModelForVideoClassification, type="multimodal"
)
