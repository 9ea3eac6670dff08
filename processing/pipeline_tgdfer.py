"""The pipeline `emotion-timeline`: finds the people in a video and the expressions that they show over time."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForVideoClassification, AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineChunkIterator, PipelineIterator

from .explanation_tgdfer import UNSURE, candidates, probabilities
from .frame_sampling_tgdfer import sample_indices, windows
from .quality_tgdfer import face_warnings, quality_of
from .recordings_tgdfer import Recording
from .segments_tgdfer import Presence, find_moments
from .video_reading_tgdfer import ASSUMED_FPS

TASK = "emotion-timeline"
# Assumed maximum duration in seconds of the clips on which models are trained. The scores of a person who is visible
# for longer are averaged over windows, because models are not trained on longer bags of frames.
LONGEST_CLIP = 15.0
FACE_OPTIONS = ("face_crop", "face_detector", "face_model", "face_every", "no_face")
# Number of windows in a batch for the head of the model.
_WINDOWS_PER_BATCH = 32
# Height and width of thumbnails in pixels.
THUMBNAIL = 96


class EmotionTimelinePipeline(ChunkPipeline):
    """Predicts the expressions of the people in a video over time with a TG-DFER model.

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
    # None tries to load it, because the caller may give a processor instead.
    _load_video_processor: Any = None
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __init__(self, model: Any, video_processor: Any = None, processor: Any = None, **kwargs: Any):
        if processor is not None:
            video_processor = processor.video_processor
        if video_processor is None and os.path.isdir(model.name_or_path):
            video_processor = AutoVideoProcessor.from_pretrained(model.name_or_path)  # Its error says what is wrong.
        if video_processor is None:
            raise ValueError("The pipeline has no video processor; pass `processor` or `video_processor`.")
        super().__init__(model=model, video_processor=video_processor, processor=processor, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Analyses one or several videos.

        The pipeline finds faces, tracks them and crops them according to the `face_crop` setting of the video
        processor. It skips this step for a video that already is a crop of one face. It analyses one frame every
        `interval` seconds, in windows of `num_frames` frames.

        Args:
            inputs (`Any`): A path, URL, bytes or file object of a video or photograph, a folder of frames, or a list
                of these.
            *args (`Any`): Ignored, as in every pipeline.
            num_frames (`int`, *optional*, defaults to `model.config.num_frames`): Number of frames in a window. It is
                also the minimum number of frames that are analysed.
            interval (`float`, *optional*, defaults to `model.config.frame_interval`): Seconds between two analysed
                frames.
            face_crop, face_detector, face_model, face_every, no_face (*optional*): Options that override those of the
                video processor.
            thumbnails (`int`, *optional*, defaults to 0): Number of thumbnails that are returned for each person.
            longest_clip (`float`, *optional*, defaults to 15): Duration in seconds above which the scores of a person
                are averaged over windows.
            progress (`Callable[[float], None]`, *optional*): Called with the fraction of a video that is done.
            batch_size (`int`, *optional*): Number of chunks that are encoded together. A chunk has up to 16 frames of
                one person.
            num_workers (`int`, *optional*): Whether a separate process reads the videos: 0 is none, and any other
                number is one.
            **kwargs (`Any`): The options above.

        Returns:
            `dict` or `list[dict]`: For each video a dictionary of plain values.

            Keys of a video:

            - `duration` in seconds; `width` and `height` in pixels;
            - `detector`: the name of the face detector, or None if the frames were not cropped, because `face_crop` is
                "none" or the video already is a crop of one face;
            - `cuts`: the times in seconds at which a new shot begins;
            - `timestamps`: the times of all analysed frames in seconds. Frames of arrays and folders are assumed to
                have a rate of 25 per second;
            - `calibrated`: whether the model is calibrated. The score of a calibrated model estimates the probability
                that the answer is correct;
            - `people`: a dictionary for each person. The person who is most prominent in the video comes first.

            Keys of a person:

            - `person`: a number from 1 in order of appearance, or None if the frames were not cropped or no face was
                found;
            - `label`: the most probable class over the time in which the person is visible, or "unsure" if its
                probability is below `model.config.unsure_below`;
            - `score`: the probability of the most probable class;
            - `candidates`: the possible labels, most probable first. There are two if the label is "unsure", and one
                otherwise;
            - `scores`: the probability of each class. For a person who is visible for more than `longest_clip` seconds
                it is a mean over windows;
            - `segments`: dictionaries with `label`, `start` and `end` in seconds, `score`, `candidates`, `person`, and
                `description_relevance`, the mean cosine of the frames with each description of the first candidate.
                The segments cover the whole time in which the person is visible, and never cross a cut;
            - `timestamps`: the times in seconds of the T frames in which the person is visible;
            - `frame_scores`: the probabilities of each class in these frames;
            - `frame_relevance`: the relevance of these frames for the first candidate, with sum one;
            - `description_relevance`: for each description of the first candidate, its cosines with these frames;
            - `boxes`: left, top, right and bottom of the face in pixels in each of these frames, or None where the
                face was not found. The key is missing if the frames were not cropped;
            - `without_face`: the times in seconds of the analysed frames of the person's shots in which the person is
              not visible;
            - `warnings`: sentences about what makes the answer less reliable;
            - `thumbnails`: an array (N, 96, 96, 3) of uint8, and `thumbnail_seconds`, their times in seconds. The keys
                are present only if thumbnails were requested.

        Raises:
            VideoDecodeError: If a video cannot be read. Its subclass `NoFaceError` is raised if a video has no face
                and `no_face` does not allow that.
        """
        # `Pipeline` fails for an empty list.
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        preprocess_names = ("num_frames", "interval", "progress", "thumbnails", *FACE_OPTIONS)
        postprocess_names = ("num_frames", "longest_clip")
        if unknown := sorted(set(kwargs) - {*preprocess_names, *postprocess_names}):
            known = ", ".join(dict.fromkeys([*preprocess_names, *postprocess_names]))
            raise TypeError(f"The emotion-timeline pipeline has no option {unknown[0]!r}; its options are {known}.")
        preprocess_options, postprocess_options = (
            {name: kwargs[name] for name in names if kwargs.get(name) is not None}
            for names in (preprocess_names, postprocess_names)
        )
        return preprocess_options, {}, postprocess_options

    def preprocess(  # type: ignore[override]
        self,
        input_: Any,
        num_frames: int | None = None,
        interval: float | None = None,
        progress: Callable[[float], None] | None = None,
        thumbnails: int = 0,
        **faces: Any,
    ) -> Iterator[dict[str, Any]]:
        """Reads a video, and yields the frames of its people in chunks."""
        config = self.model.config
        processor = copy.copy(self.video_processor)
        for name, value in faces.items():
            setattr(processor, name, value)
        recording = processor.read_recording(
            input_, config.frame_interval if interval is None else interval, num_frames or config.num_frames, progress
        )
        # Store the detector that "auto" selected, because a model needs the crops that it was trained with.
        if "face_detector" not in faces:
            self.video_processor.face_detector = processor.face_detector
        thumbnail_places = [_thumbnail_places(recording, person, thumbnails) for person in range(len(recording.paths))]
        metadata = replace(recording, chunks=())
        for chunk, is_last in _mark_last(recording.chunks):
            # The frames are already sampled and cropped.
            batch = processor([chunk.frames], do_sample_frames=False, face_crop="none", return_tensors="pt")
            has_thumbnail = np.isin(chunk.places, thumbnail_places[chunk.person])
            quality = quality_of(chunk.frames, processor.face_margin)
            yield {
                "pixel_values_videos": batch["pixel_values_videos"].to(self.dtype),
                "frame_mask": batch["frame_mask"],
                "chunk_info": [(metadata, is_last, chunk.person, chunk.places, chunk.boxes)],
                "image_info": [(quality, chunk.places[has_thumbnail], _thumbnails(chunk.frames[has_thumbnail]))],
            }

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> Any:
        features = self.model.get_frame_features(input_tensors["pixel_values_videos"], input_tensors["frame_mask"])
        passed_on = {name: input_tensors[name] for name in ("frame_mask", "chunk_info", "image_info")}
        return {**passed_on, "features": features.float()}

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, num_frames: int | None = None, longest_clip: float = LONGEST_CLIP
    ) -> dict[str, Any]:
        """Predicts the expressions of each person in a video from the features of all frames."""
        features: _VideoFeatures = model_outputs
        recording, config = features.recording, self.model.config
        num_frames = num_frames or config.num_frames
        people = [self._person_result(recording, person, num_frames, longest_clip) for person in features.people]
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

    def _person_result(
        self, recording: Recording, person: "_PersonFeatures", num_frames: int, longest_clip: float
    ) -> dict[str, Any]:
        """Creates the dictionary of one person, or of a video that is not cropped."""
        config = self.model.config
        names = [config.id2label[index] for index in range(config.num_labels)]
        seconds = recording.seconds[person.places]
        presence = Presence(person.places, recording.edges, recording.cuts, recording.seconds)
        prediction = self._predict_person(person, seconds, presence, num_frames, longest_clip)
        likely = candidates(prediction["scores"].tolist(), names, config)
        best = names.index(likely[0])
        number = None if recording.detector is None or person.path is None else person.path.person
        below = getattr(config, "unsure_below", None)
        segments = find_moments(prediction["frame_scores"], names, presence, below)
        result = {
            "person": number,
            "label": likely[0] if len(likely) == 1 else UNSURE,
            "score": float(prediction["scores"][best]),
            "candidates": likely,
            "scores": dict(zip(names, prediction["scores"].tolist(), strict=True)),
            "segments": [self._segment_result(one, number, prediction["descriptions"]) for one in segments],
            "timestamps": _rounded(seconds),
            "frame_scores": dict(zip(names, prediction["frame_scores"].T.tolist(), strict=True)),
            "frame_relevance": (prediction["relevance"][:, best] / prediction["relevance"][:, best].sum()).tolist(),
            "description_relevance": prediction["descriptions"][:, best, self._description_mask(best)].T.tolist(),
            "warnings": [],
            "without_face": [],
        }
        if not recording.timed and len(seconds) > 1:
            result["warnings"].append(f"The frames have no timestamps: {ASSUMED_FPS} frames per second are assumed.")
        if recording.detector is not None:
            boxes = zip(person.boxes, person.found.tolist(), strict=True)
            result["boxes"] = [box.tolist() if is_found else None for box, is_found in boxes]
            # Other shots are left out: a film has hundreds of shots, and each of them has other people.
            own = np.setdiff1d(recording.own_shots(person.places), person.places[person.found])
            result["without_face"] = _rounded(recording.seconds[own])
            if person.path is not None:
                result["warnings"] += face_warnings(person.path, person.quality[person.found])
        if person.thumbnails:
            result["thumbnails"] = np.stack(person.thumbnails)
            result["thumbnail_seconds"] = _rounded(recording.seconds[person.thumbnail_places])
        return result

    def _segment_result(self, segment: dict[str, Any], person: int | None, descriptions: np.ndarray) -> dict[str, Any]:
        """Creates the dictionary of one segment; `descriptions` are the cosines (T, K, M) of the person."""
        first, last = segment.pop("frames")
        index = self.model.config.class_names.index(segment["candidates"][0])
        cosines = descriptions[first : last + 1, index, self._description_mask(index)].mean(0)
        times = {side: _rounded(segment[side]) for side in ("start", "end")}
        return {**segment, **times, "person": person, "description_relevance": cosines.tolist()}

    def _description_mask(self, label: int) -> np.ndarray:
        """Returns which of the M columns are descriptions of a label: mask (M,)."""
        return self.model.tgdfer.text_guidance.description_mask[label].cpu().numpy()

    def _predict_person(
        self, person: "_PersonFeatures", seconds: np.ndarray, presence: Presence, num_frames: int, longest_clip: float
    ) -> dict[str, np.ndarray]:
        """Predicts the T frames of a person in windows. Scores of a short clip are predicted from the whole clip.

        Returns:
            `dict[str, np.ndarray]`: `scores` (K,), `frame_scores` (T, K), `relevance` (T, K), with sum one over time,
            and `descriptions` (T, K, M).
        """
        parts = [
            stretch.start + window
            for stretch in presence.stretches()
            for window in windows(stretch.stop - stretch.start, num_frames)
        ]
        predictions = self._predict_bags(person.features, seconds, parts)
        joined = _join_windows(predictions, parts, len(seconds))
        if len(parts) > 1 and seconds[-1] - seconds[0] <= longest_clip:
            whole = sample_indices(len(seconds), num_frames)
            joined["scores"] = self._predict_bags(person.features, seconds, [whole])[0]["scores"]
        return joined

    def _predict_bags(
        self, features: np.ndarray, seconds: np.ndarray, parts: list[np.ndarray]
    ) -> list[dict[str, np.ndarray]]:
        """Predicts bags of frames, given by their indices `parts`, from the features (T, D) of all frames."""
        predictions: list[dict[str, np.ndarray]] = []
        for start in range(0, len(parts), _WINDOWS_PER_BATCH):
            batch = parts[start : start + _WINDOWS_PER_BATCH]
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
            scores = probabilities(outputs.logits.float(), self.model.config)
            frames = probabilities(outputs.frame_logits.float(), self.model.config)
            for row, length in enumerate(lengths.tolist()):
                predictions.append(
                    {
                        "scores": scores[row].cpu().numpy(),
                        "frame_scores": frames[row, :length].cpu().numpy(),
                        "relevance": outputs.frame_relevance[row, :length].float().cpu().numpy(),
                        "descriptions": outputs.description_relevance[row, :length].float().cpu().numpy(),
                    }
                )
        return predictions

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Saves the model, the video processor and the code of this pipeline.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write to.
            **kwargs (`Any`): Options of `Pipeline.save_pretrained`.
        """
        super().save_pretrained(save_directory, **kwargs)
        self.video_processor.save_pretrained(save_directory, **kwargs)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> PipelineIterator:
        """Batches chunks of different lengths. The collation of `transformers` can pad only texts."""
        chunks = _Chunks(inputs, self.preprocess, preprocess_params)
        # With several workers, each of them would read all chunks.
        loader = torch.utils.data.DataLoader(
            chunks, num_workers=min(num_workers, 1), batch_size=batch_size, collate_fn=_collate
        )
        outputs = (self.forward(batch, **forward_params) for batch in loader)
        return PipelineIterator(_collect_videos(outputs), self.postprocess, postprocess_params)


# Collecting the chunks of each person


class _Chunks(PipelineChunkIterator):
    """The chunks of all videos. Their number is not known in advance."""

    def __len__(self) -> int:
        raise TypeError("The number of chunks of a video is not known in advance.")


def _mark_last(chunks: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yields each chunk, and whether it is the last one."""
    chunks = iter(chunks)
    chunk = next(chunks)
    for following in chunks:
        yield chunk, False
        chunk = following
    yield chunk, True


def _collate(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Batches chunks (1, T_i, ...), padded and masked."""
    padded = {
        name: pad_sequence([chunk[name][0] for chunk in chunks], batch_first=True)
        for name in ("pixel_values_videos", "frame_mask")
    }
    return {**padded, **{name: [chunk[name][0] for chunk in chunks] for name in ("chunk_info", "image_info")}}


def _collect_videos(outputs: Iterable[dict[str, Any]]) -> Iterator["_VideoFeatures"]:
    """Yields the features of each video from batches of chunks."""
    video: _VideoFeatures | None = None
    for batch in outputs:
        for row, (recording, is_last, person, places, boxes) in enumerate(batch["chunk_info"]):
            video = video or _VideoFeatures(recording, batch["features"].shape[-1])
            features = batch["features"][row, : len(places)].cpu().numpy()
            video.people[person].add(places, features, boxes, *batch["image_info"][row])
            if is_last:
                video.finish()
                yield video
                video = None


class _PersonFeatures:
    """Collects the features, boxes and thumbnails of one person.

    The arrays are allocated with their maximum size. Thousands of small arrays would fragment the memory between the
    frames and activations that are allocated and freed meanwhile.
    """

    def __init__(self, path: Any, count: int, width: int):
        self.path = path
        self.count = 0
        self.places = np.zeros(count, np.int64)
        self.features = np.zeros((count, width), np.float32)
        self.boxes = np.full((count, 4), np.nan)
        self.quality = np.zeros((count, 2), np.float32)
        self.thumbnails: list[np.ndarray] = []
        self.thumbnail_places: list[int] = []

    def add(
        self,
        places: np.ndarray,
        features: np.ndarray,
        boxes: np.ndarray,
        quality: np.ndarray,
        thumbnail_places: np.ndarray,
        thumbnails: np.ndarray,
    ) -> None:
        chunk = slice(self.count, self.count + len(places))
        self.places[chunk], self.features[chunk], self.boxes[chunk] = places, features, boxes
        self.quality[chunk] = quality
        self.count += len(places)
        self.thumbnails += list(thumbnails)
        self.thumbnail_places += thumbnail_places.tolist()

    def finish(self) -> None:
        """Removes the rows of frames that could not be decoded."""
        for name in ("places", "features", "boxes", "quality"):
            setattr(self, name, getattr(self, name)[: self.count])

    @property
    def found(self) -> np.ndarray:
        """Frames in which the face was found: mask (T,)."""
        return ~np.isnan(self.boxes).any(1)


class _VideoFeatures:
    """Collects the features of the people in a video."""

    def __init__(self, recording: Recording, width: int):
        self.recording = recording
        self.people = [
            _PersonFeatures(path, recording.most_frames(person), width) for person, path in enumerate(recording.paths)
        ]

    def finish(self) -> None:
        for person in self.people:
            person.finish()
        self.people = [person for person in self.people if person.count]


def _join_windows(
    predictions: list[dict[str, np.ndarray]], parts: list[np.ndarray], count: int
) -> dict[str, np.ndarray]:
    """Joins the predictions of overlapping windows.

    Values of a frame in several windows are averaged. Scores are a mean over windows, weighted by their number of
    frames. For the relevance of a class, a window is weighted by its number of frames and its probability of the
    class.

    Returns:
        `dict[str, np.ndarray]`: As in `_predict_person`.
    """
    times = np.zeros(count)
    sums: dict[str, np.ndarray] = {}
    for prediction, part in zip(predictions, parts, strict=True):
        times[part] += 1
        relevance = prediction["relevance"] * len(part) * prediction["scores"]
        for name, rows in (prediction | {"relevance": relevance}).items():
            if name != "scores":
                sums.setdefault(name, np.zeros((count, *rows.shape[1:])))[part] += rows
    joined = {name: rows / times.reshape(-1, *[1] * (rows.ndim - 1)) for name, rows in sums.items()}
    joined["relevance"] /= np.maximum(joined["relevance"].sum(0), 1e-30)
    scores = [prediction["scores"] for prediction in predictions]
    joined["scores"] = np.average(scores, axis=0, weights=[len(part) for part in parts])
    return joined


# Thumbnails and rounding


def _thumbnail_places(recording: Recording, person: int, count: int) -> np.ndarray:
    """Selects evenly spaced frames for the thumbnails of a person, among those in which the person is visible."""
    path = recording.paths[person]
    places = np.arange(len(recording.indices))
    if path is not None:
        places = np.flatnonzero(np.isin(recording.indices, path.indices))
    if not count or not len(places):
        return np.zeros(0, np.int64)
    # The middle of each of `count` equal parts.
    chosen = ((np.arange(count) + 0.5) * len(places) / count).astype(int)
    return np.unique(places[chosen])


def _thumbnails(frames: torch.Tensor) -> np.ndarray:
    """Resizes the central square of images (N, 3, H, W) to thumbnails (N, 96, 96, 3)."""
    if not len(frames):
        return np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8)
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[..., top : top + side, left : left + side].float()
    small = torch.nn.functional.interpolate(square, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _rounded(seconds: Any) -> Any:
    """Rounds seconds to milliseconds, and converts them to plain numbers."""
    return np.round(np.asarray(seconds, dtype=np.float64), 3).tolist()


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=EmotionTimelinePipeline, pt_model=AutoModelForVideoClassification, type="multimodal"
)
