"""Search for phrases in the faces of videos: scores that can be compared between phrases, and the best moments.

Shapes: N frames of all people in a video, P phrases, D the width of the joint space of frames and texts.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Minimum score of a moment. See docs/guides/find.md for what a score means, and docs/experiments.md for this choice.
MIN_SCORE = 1.5
# Share of the mean score of a person that is subtracted from the scores of their frames, because a resting face can
# look as if its brows were raised. The mean of a person who is visible for `OWN_SECONDS` counts half as much as that
# of a person who is always visible, because it may consist of a single expression. A photograph has no such mean.
OWN_SHARE, OWN_SECONDS = 0.5, 10.0
# Maximum number of moments of a phrase.
LIMIT = 5
# Two moments of a person are one moment if the time between them is at most this, in seconds.
JOIN = 0.3
# Maximum number of directions in which the covariance of a reference is stored. In the others, it is the same.
MAX_COMPONENTS = 64
# Minimum number of frames of a reference. Fewer frames do not tell how much a score varies.
MIN_FRAMES = 32
# Number of frames whose scores are computed together, so that a long video does not need several copies in memory.
_CHUNK = 65536


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.detach().float(), dim=-1)


@dataclass(frozen=True)
class SearchReference:
    """Distribution of frame embeddings over many faces, with which the scores of phrases are compared.

    It consists of a mean and a covariance. The covariance is `components.T @ components + noise * I` (probabilistic
    PCA, Tipping & Bishop, 1999). No single face can be recovered from it.

    Attributes:
        mean (`Tensor` of shape `(D,)`): Mean of the embeddings, which have unit length.
        components (`Tensor` of shape `(R, D)`): Directions of the largest variance, scaled by their deviation.
        noise (`float`): Variance in all other directions.
        source (`str`, *optional*, defaults to `""`): Which faces it was computed from.
    """

    mean: Tensor
    components: Tensor
    noise: float
    source: str = ""

    @classmethod
    def fit(cls, embeddings: Tensor, weights: Tensor | None = None, source: str = "") -> "SearchReference":
        """Computes mean and covariance of frame embeddings.

        Args:
            embeddings (`Tensor` of shape `(N, D)`): Outputs of `get_frame_features`.
            weights (`Tensor` of shape `(N,)`, *optional*): Weights of the frames. By default all are equal.
            source (`str`, *optional*, defaults to `""`): Which faces they show.

        Raises:
            ValueError: If there are fewer than `MIN_FRAMES` frames, or if all are equal.
        """
        if len(embeddings) < MIN_FRAMES:
            raise ValueError(f"A reference needs at least {MIN_FRAMES} frames, but there are {len(embeddings)}.")
        frames = _unit(embeddings).double()
        shares = torch.ones(len(frames)) if weights is None else weights
        shares = (shares / shares.sum()).double().to(frames.device)
        mean = shares @ frames
        centred = (frames - mean) * shares.sqrt().unsqueeze(1)
        # In increasing order of the variance.
        variances, directions = torch.linalg.eigh(centred.T @ centred)
        rank = min(MAX_COMPONENTS, len(variances) - 1)
        noise = float(variances[:-rank].mean().clamp(min=1e-6))
        scales = (variances[-rank:] - noise).clamp(min=0).sqrt()
        if not bool(scales.any()):
            raise ValueError("All frames of a reference are equal; give frames of different faces.")
        return cls(mean.float().cpu(), (directions[:, -rank:] * scales).T.float().cpu(), noise, source)

    def to_dict(self) -> dict[str, Any]:
        """Returns values for JSON. The numbers are encoded in half precision and base64."""
        return {
            "width": len(self.mean),
            "mean": _encoded(self.mean),
            "components": _encoded(self.components),
            "noise": self.noise,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, values: Any) -> "SearchReference":
        """Reads the values of `to_dict`. They may come from a checkpoint that is not trusted.

        Raises:
            ValueError: If they are not valid.
        """
        try:
            width, noise, source = int(values["width"]), float(values["noise"]), str(values.get("source", ""))
            mean, components = _decoded(values["mean"], width), _decoded(values["components"], width)
            is_valid = len(mean) == 1 and 0 < noise < 1 and 0 < len(components) <= MAX_COMPONENTS
            if not is_valid or not bool(torch.cat([mean, components]).isfinite().all()):
                raise ValueError("out of range")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "The saved search reference of the processor is damaged; download the model again."
            ) from error
        return cls(mean[0], components, noise, source)

    def scores(self, frames: Tensor, phrases: Tensor) -> Tensor:
        """Computes how well phrases fit frames, compared with how well they fit the faces of the reference.

        Over these faces, the scores of each phrase have a mean of 0 and a standard deviation of 1.

        Args:
            frames (`Tensor` of shape `(N, D)`): Outputs of `get_frame_features`.
            phrases (`Tensor` of shape `(P, D)`): Outputs of `encode_phrases`.

        Returns:
            `Tensor` of shape `(N, P)`: Scores in standard deviations.

        Raises:
            ValueError: If the reference belongs to a model with another width.
        """
        if frames.shape[1] != len(self.mean):
            raise ValueError(
                f"The search reference has a width of {len(self.mean)}, but the frames have {frames.shape[1]}; use the"
                " processor of the model that encoded the frames."
            )
        phrases = _unit(phrases).cpu()
        deviations = ((phrases @ self.components.T).square().sum(1) + self.noise).sqrt()  # (P,)
        expected = phrases @ self.mean
        parts = [
            (_unit(frames[start : start + _CHUNK]).cpu() @ phrases.T - expected) / deviations
            for start in range(0, len(frames), _CHUNK)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, len(phrases))


def _encoded(values: Tensor) -> str:
    return base64.b64encode(values.half().numpy().astype("<f2").tobytes()).decode()


def _decoded(text: str, width: int) -> Tensor:
    """Decodes rows of a width (R, width)."""
    if not 0 < width <= 65536:
        raise ValueError("width out of range")
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f2").reshape(-1, width)
    return torch.from_numpy(values.astype(np.float32))


@dataclass(frozen=True)
class FaceIndex:
    """Embeddings of the faces in a video, in which phrases can be searched without reading the video again.

    The N rows are sorted by person and time. Without face detection, the rows are the whole frames of the video.

    Attributes:
        embeddings (`np.ndarray` of shape `(N, D)`): Frame embeddings of unit length, float16.
        spans (`np.ndarray` of shape `(N, 2)`): Start and end of the time that each frame stands for in seconds,
            float32.
        seconds (`np.ndarray` of shape `(N,)`): Time of each frame in seconds, float32.
        frames (`np.ndarray` of shape `(N,)`): Number of each frame in the video, int32.
        people (`np.ndarray` of shape `(N,)`): Number of the person, from 1, or 0 if faces were not detected, int32.
        boxes (`np.ndarray` of shape `(N, 4)`): Left, top, right and bottom of the face in pixels, or NaN where it was
            not found, float16.
        duration (`float`): Duration of the video in seconds.
    """

    embeddings: np.ndarray
    spans: np.ndarray
    seconds: np.ndarray
    frames: np.ndarray
    people: np.ndarray
    boxes: np.ndarray
    duration: float

    def __len__(self) -> int:
        return len(self.people)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Returns the arrays of the index by name, for a safetensors file."""
        return {**{name: getattr(self, name) for name in _TYPES}, "duration": np.array([self.duration])}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "FaceIndex":
        """Returns the index of `to_tensors`.

        Raises:
            ValueError: If an array is missing or has another type or length.
        """
        arrays = {name: tensors.get(name) for name in _TYPES}
        lengths = {None if array is None else len(array) for array in arrays.values()}
        duration = tensors.get("duration")
        types_fit = all(array is not None and array.dtype == _TYPES[name] for name, array in arrays.items())
        if len(lengths) != 1 or not types_fit or duration is None:
            raise ValueError("it has unexpected contents")
        return cls(**arrays, duration=float(duration[0]))  # type: ignore[arg-type]


_TYPES = {
    "embeddings": np.float16,
    "spans": np.float32,
    "seconds": np.float32,
    "frames": np.int32,
    "people": np.int32,
    "boxes": np.float16,
}


def score_index(index: FaceIndex, phrase_embeds: Tensor, reference: SearchReference) -> np.ndarray:
    """Scores the frames of a video: the scores of the reference, minus a share of the mean score of the person.

    Args:
        index (`FaceIndex`): The N frames.
        phrase_embeds (`Tensor` of shape `(P, D)`): Outputs of `encode_phrases`.
        reference (`SearchReference`): Reference of the model.

    Returns:
        `np.ndarray` of shape `(N, P)`: Scores, float32.
    """
    scores = reference.scores(torch.from_numpy(index.embeddings), phrase_embeds).numpy()
    if not len(index):
        return scores
    starts = np.flatnonzero(np.diff(index.people, prepend=index.people[0] - 1))
    counts = np.diff([*starts, len(index)])
    visible = np.add.reduceat(np.diff(index.spans, axis=1)[:, 0].astype(np.float64), starts)
    shares = OWN_SHARE * visible / (visible + OWN_SECONDS)
    means = np.add.reduceat(scores, starts, axis=0) / counts[:, None]
    return scores - np.repeat((shares[:, None] * means).astype(np.float32), counts, axis=0)


def rank_moments(
    scores: np.ndarray, index: FaceIndex, min_score: float = MIN_SCORE, limit: int | None = LIMIT
) -> list[dict[str, Any]]:
    """Finds the moments in which a phrase fits a face.

    A moment is a run of consecutive frames of one person whose scores are at least `min_score`. Shorter breaks than
    `JOIN` seconds do not end it.

    Args:
        scores (`np.ndarray` of shape `(N,)`): Scores of a phrase in all frames.
        index (`FaceIndex`): The frames.
        min_score (`float`, *optional*, defaults to `MIN_SCORE`): Minimum score.
        limit (`int`, *optional*, defaults to `LIMIT`): Maximum number of moments. None is no limit.

    Returns:
        `list[dict[str, Any]]`: The moments, best first: `score`, the highest score of a frame; `start` and `end` in
        seconds; `time`, the time of this frame; `person`, its number or None; `frame`, its number in the video; and
        `box`, the face in this frame in pixels, or None.
    """
    above = np.flatnonzero(scores >= min_score)
    if not len(above):
        return []
    pauses = index.spans[above[1:], 0] - index.spans[above[:-1], 1]
    is_new = (np.diff(index.people[above]) != 0) | (pauses > JOIN + 1e-3)
    starts = np.concatenate([[0], np.flatnonzero(is_new) + 1])
    stops = np.concatenate([starts[1:], [len(above)]])
    highest = np.maximum.reduceat(scores[above], starts)
    ranked = np.argsort(-highest, kind="stable")[:limit]
    found = []
    for run in ranked.tolist():
        rows = above[starts[run] : stops[run]]
        best = int(rows[scores[rows].argmax()])
        found.append(
            {
                **frame_facts(index, best, float(scores[best])),
                "start": _milliseconds(index.spans[rows[0], 0]),
                "end": _milliseconds(index.spans[rows[-1], 1]),
            }
        )
    return found


def frame_facts(index: FaceIndex, row: int, score: float) -> dict[str, Any]:
    """Returns the keys `score`, `person`, `time`, `frame` and `box` of `rank_moments` for a row of an index."""
    box = index.boxes[row]
    return {
        "score": round(score, 3),
        "person": int(index.people[row]) or None,
        "time": _milliseconds(index.seconds[row]),
        "frame": int(index.frames[row]),
        "box": None if np.isnan(box).any() else [float(side) for side in box],
    }


def search_indexes(
    indexes: Sequence[FaceIndex],
    phrases: Sequence[str],
    phrase_embeds: Tensor,
    reference: SearchReference | None = None,
    min_score: float = MIN_SCORE,
    limit: int | None = LIMIT,
) -> list[dict[str, Any]]:
    """Finds the moments of several videos that match each phrase best.

    Args:
        indexes (`Sequence[FaceIndex]`): The videos.
        phrases (`Sequence[str]`): The P phrases.
        phrase_embeds (`Tensor` of shape `(P, D)`): Outputs of `encode_phrases`.
        reference (`SearchReference`, *optional*): Reference of the model. Without it, scores are compared with all
            frames of these videos, and cannot be compared with those of other videos.
        min_score (`float`, *optional*, defaults to `MIN_SCORE`): Minimum score of a moment.
        limit (`int`, *optional*, defaults to `LIMIT`): Maximum number of moments of a phrase over all videos. None is
            no limit.

    Returns:
        `list[dict[str, Any]]`: For each phrase: `phrase`; `moments`, those of `rank_moments` with the position of
        their `video` in `indexes`; and `best`, the frame with the highest score, which may be too low for a moment,
        with the keys of `frame_facts` and `video`. `best` is None without frames.

    Raises:
        ValueError: If there is no reference and the videos have fewer than `MIN_FRAMES` frames.
    """
    if reference is None:
        reference = SearchReference.fit(torch.from_numpy(np.concatenate([one.embeddings for one in indexes])))
    results: list[dict[str, Any]] = [{"phrase": phrase, "moments": [], "best": None} for phrase in phrases]
    for video, index in enumerate(indexes):
        scores = score_index(index, phrase_embeds, reference)
        for result, column in zip(results, np.ascontiguousarray(scores.T), strict=True):
            result["moments"] += [{"video": video, **one} for one in rank_moments(column, index, min_score, limit)]
            row = int(column.argmax()) if len(column) else None
            if row is not None and (result["best"] is None or column[row] > result["best"]["score"]):
                result["best"] = {"video": video, **frame_facts(index, row, float(column[row]))}
    for result in results:
        result["moments"] = sorted(result["moments"], key=lambda one: -one["score"])[:limit]
    return results


def _milliseconds(seconds: Any) -> float:
    return round(float(seconds), 3)
