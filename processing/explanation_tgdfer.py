"""Explanations of predictions: the decisive time spans, and the descriptions that match the face in them.

Shapes: T unmasked frames of a clip, M descriptions of its label. A config that was saved before calibration was
introduced lacks the calibration fields. It is treated as not calibrated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .frame_sampling_tgdfer import find_gaps

# Label of a clip whose best class is not probable enough.
UNSURE = "unsure"
# Maximum number of spans, and of descriptions, in a sentence.
MAX_NAMED = 2
# Minimum ratio of the mean relevance of the decisive frames to the mean relevance of all frames.
MIN_LIFT = 1.25
# A description is named if its cosine exceeds its mean over clips by at least this number of standard deviations. If
# seven labels are equally frequent, a description matches about one clip in seven. One seventh of a normal
# distribution lies above 1.07, which is rounded to 1.
MIN_Z_SCORE = 1.0


def at_temperature(logits: Tensor, config: Any = None) -> Tensor:
    """Divides logits by the temperature of a model (Guo et al., 2017).

    Args:
        logits (`Tensor` of shape `(..., K)`): Logits of the network.
        config (`TGDFERConfig`, *optional*): Config of the model. None is a temperature of 1.

    Returns:
        `Tensor` of shape `(..., K)`: Logits for the softmax.
    """
    return logits / getattr(config, "temperature", 1.0)


def probabilities(logits: Tensor, config: Any = None) -> Tensor:
    """Converts logits to calibrated probabilities.

    Args:
        logits (`Tensor` of shape `(..., K)`): Logits of the network.
        config (`TGDFERConfig`, *optional*): Config of the model. By default a clip has one label.

    Returns:
        `Tensor` of shape `(..., K)`: Probabilities. Their sum is one, unless the model was trained on clips with
        several labels.
    """
    scaled = at_temperature(logits, config)
    several = getattr(config, "problem_type", None) == "multi_label_classification"
    return scaled.sigmoid() if several else scaled.softmax(-1)


def candidates(scores: Sequence[float], names: Sequence[str], config: Any = None) -> list[str]:
    """Returns the possible labels of a clip, the most probable one first.

    Args:
        scores (`Sequence[float]`): K calibrated probabilities.
        names (`Sequence[str]`): K labels.
        config (`TGDFERConfig`, *optional*): Config of the model. Without it, the answer is never unsure.

    Returns:
        `list[str]`: The best label, or the best two if the probability of the best is below `config.unsure_below`.
    """
    ranked = sorted(range(len(names)), key=lambda index: -scores[index])  # stable, so ties are resolved as by argmax
    below = getattr(config, "unsure_below", None)
    unsure = below is not None and scores[ranked[0]] < below
    return [names[index] for index in ranked[: 2 if unsure else 1]]


def references_of(label: str, config: Any = None) -> Mapping[str, Sequence[float]]:
    """Returns the mean and standard deviation of the cosine of each description of a label, or {} if unknown."""
    return (getattr(config, "description_references", None) or {}).get(label, {})


@dataclass(frozen=True)
class Span:
    """A sequence of consecutive frames.

    Attributes:
        first (`int`): Index of the first frame.
        last (`int`): Index of the last frame.
        start (`float`, *optional*): Start in seconds, halfway between the first frame and the frame before it. None if
            times are unknown.
        end (`float`, *optional*): End in seconds, halfway between the last frame and the frame after it. None if times
            are unknown.
        relevance (`float`): Sum of the relevance of the frames, 0 to 1. The sum over the whole clip is 1.
    """

    first: int
    last: int
    start: float | None
    end: float | None
    relevance: float

    def __str__(self) -> str:
        if self.start is None:
            return f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        start, end = f"{self.start:.1f} s", f"{self.end:.1f} s"
        return start if start == end else f"{start} to {end}"


@dataclass(frozen=True)
class Description:
    """A description of the label, and how well it matches the decisive frames.

    Attributes:
        text (`str`): The description.
        cosine (`float`): Mean cosine of the description and the decisive frames.
        gain (`float`, *optional*): Difference between that and the mean cosine of the other frames of the clip. None
            if there are no other frames.
        z_score (`float`, *optional*): Deviation of the cosine from its mean over the calibration clips, in standard
            deviations. None if the mean is unknown.
    """

    text: str
    cosine: float
    gain: float | None
    z_score: float | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it matches the decisive frames better than other frames and, if known, better than other clips."""
        above_others = self.gain is None or self.gain > 0
        return above_others and (self.z_score is None or self.z_score >= MIN_Z_SCORE)


@dataclass(frozen=True)
class Explanation:
    """The prediction for a clip and its explanation.

    `str` returns a sentence such as `surprise, 0.8 s to 1.4 s: jaw dropped`.

    Attributes:
        label (`str`): The predicted label, or "unsure".
        score (`float`): Probability of the first candidate.
        spans (`list[Span]`): Spans of the decisive frames, most relevant first.
        descriptions (`list[Description]`): All descriptions of the label, best match first.
        candidates (`list[str]`): The possible labels, most probable first. There are two if the label is "unsure", and
            one otherwise. Spans and descriptions refer to the first one.
    """

    label: str
    score: float
    spans: list[Span]
    descriptions: list[Description]
    candidates: list[str] = field(default_factory=list)

    @property
    def start(self) -> float | None:
        """Start of the most relevant span in seconds, or None if times are unknown."""
        return self.spans[0].start

    @property
    def end(self) -> float | None:
        """End of the most relevant span in seconds, or None if times are unknown."""
        return self.spans[0].end

    @property
    def named(self) -> list[str]:
        """The descriptions that the sentence names: the best matches among those that the decisive frames show."""
        return [one.text for one in self.descriptions if one.is_shown][:MAX_NAMED]

    @property
    def times(self) -> str:
        """The most relevant spans as text, in chronological order."""
        return " and ".join(str(span) for span in sorted(self.spans[:MAX_NAMED], key=lambda span: span.first))

    def __str__(self) -> str:
        return _sentence(self.label, self.candidates, self.times, self.named)

    def to_dict(self) -> dict[str, Any]:
        """Converts the explanation and its sentence to plain values for JSON."""
        return {"sentence": str(self), **asdict(self)}


def _sentence(label: str, candidates: Sequence[str], times: str, named: Sequence[str]) -> str:
    unsure = f" ({' or '.join(candidates)})" if len(candidates) > 1 else ""
    # Descriptions are separated by semicolons because they may contain commas.
    return f"{label}{unsure}, {times}" + (f": {'; '.join(named)}" if named else "")


def explain_segment(
    segment: Mapping[str, Any], texts: Sequence[str], references: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Describes a segment in a sentence such as `surprise, 0.8 s to 1.4 s: jaw dropped`.

    Args:
        segment (`Mapping[str, Any]`): Segment of `EmotionTimelinePipeline`.
        texts (`Sequence[str]`): Descriptions of its first candidate.
        references (`Mapping[str, Sequence[float]]`, *optional*): Mean and standard deviation of the cosine of each
            description, as far as known. A description is named only if its cosine is clearly above the mean. Without
            any reference, the best match is named.

    Returns:
        `str`: The sentence.
    """
    fits = sorted(zip(segment["description_relevance"], texts, strict=False), reverse=True)
    z_scores = {text: _z_score(fit, (references or {}).get(text)) for fit, text in fits}
    if any(score is not None for score in z_scores.values()):
        named = [text for text, score in z_scores.items() if score is not None and score >= MIN_Z_SCORE][:MAX_NAMED]
    else:
        named = [text for _, text in fits[:1]] if segment["label"] != UNSURE else []
    start, end = f"{segment['start']:.1f} s", f"{segment['end']:.1f} s"
    return _sentence(segment["label"], segment["candidates"], start if start == end else f"{start} to {end}", named)


def explain_timeline(result: dict[str, Any], descriptions: Mapping[str, Sequence[str]], config: Any) -> dict[str, Any]:
    """Adds explanations to a result of `EmotionTimelinePipeline`.

    Args:
        result (`dict[str, Any]`): Result of the pipeline for a video.
        descriptions (`Mapping[str, Sequence[str]]`): One or more sentences per label.
        config (`TGDFERConfig`): Config of the model.

    Returns:
        `dict[str, Any]`: The result with a `sentence` for each segment and an `explanation` for each person. The
        explanation is that of `explain_clip` for the frames of the person, as plain values.
    """
    people = []
    for person in result["people"]:
        label = person["candidates"][0]
        explanation = explain_clip(
            person["candidates"],
            person["score"],
            torch.tensor(person["frame_relevance"]),
            torch.tensor(person["description_relevance"]).T,
            descriptions.get(label, []),
            torch.tensor(person["timestamps"]),
            references=references_of(label, config),
        )
        segments = [
            segment
            | {
                "sentence": explain_segment(
                    segment,
                    descriptions.get(segment["candidates"][0], []),
                    references_of(segment["candidates"][0], config),
                )
            }
            for segment in person["segments"]
        ]
        people.append(person | {"segments": segments, "explanation": explanation.to_dict()})
    return result | {"people": people}


def explain_clip(
    label: str | Sequence[str],
    score: float,
    relevance: Tensor,
    cosines: Tensor,
    texts: Sequence[str],
    seconds: Tensor | None = None,
    frame_mask: Tensor | None = None,
    references: Mapping[str, Sequence[float]] | None = None,
) -> Explanation:
    """Explains the prediction for one clip.

    Args:
        label (`str` or `Sequence[str]`): The predicted label, or the possible labels, most probable first.
        score (`float`): Probability of the label.
        relevance (`Tensor` of shape `(T,)`): Relevance of the frames, with sum one.
        cosines (`Tensor` of shape `(T, M)`): Cosine of each frame and each description of the label. Columns beyond
            the M descriptions are ignored.
        texts (`Sequence[str]`): The M descriptions.
        seconds (`Tensor` of shape `(T,)`, *optional*): Times of the frames. None, or any NaN, means that they are
            unknown.
        frame_mask (`Tensor` of shape `(T,)`, *optional*): True for valid frames. Defaults to all frames.
        references (`Mapping[str, Sequence[float]]`, *optional*): Mean and standard deviation over clips of the mean
            cosine of each description and the decisive frames, as far as known.

    Returns:
        `Explanation`: The explanation.
    """
    likely = [label] if isinstance(label, str) else list(label)
    places = torch.arange(len(relevance)) if frame_mask is None else frame_mask.nonzero().squeeze(1)
    relevance, cosines = relevance[places], cosines[places][:, : len(texts)]
    decisive = decisive_frames(relevance)
    fits = cosines[decisive].mean(0)
    z_scores = [_z_score(fit, (references or {}).get(text)) for fit, text in zip(fits.tolist(), texts, strict=False)]
    gains = [None] * len(texts) if decisive.all() else (fits - cosines[~decisive].mean(0)).tolist()
    # Sorted by cosine and not by gain: the description with the largest change is often not the best match.
    ranked = sorted(map(Description, texts, fits.tolist(), gains, z_scores), key=lambda one: -one.cosine)
    times = None if seconds is None or bool(seconds[places].isnan().any()) else seconds[places]
    spans = _spans(decisive, relevance, times, places.tolist())
    return Explanation(likely[0] if len(likely) == 1 else UNSURE, score, spans, ranked, likely)


def _z_score(cosine: float, reference: Sequence[float] | None) -> float | None:
    return None if reference is None else (cosine - reference[0]) / reference[1]


def decisive_frames(relevance: Tensor) -> Tensor:
    """Selects the frames whose relevance is above the mean.

    All frames are selected if these frames are hardly more relevant than the others. The prediction then depends on
    the clip as a whole.

    Args:
        relevance (`Tensor` of shape `(T,)`): Relevance of the frames.

    Returns:
        `Tensor` of shape `(T,)`: Mask of the decisive frames.
    """
    decisive = relevance > relevance.mean()
    if not decisive.any() or relevance[decisive].mean() < MIN_LIFT * relevance.mean():
        return torch.ones_like(decisive)
    return decisive


def _spans(decisive: Tensor, relevance: Tensor, seconds: Tensor | None, places: list[int]) -> list[Span]:
    """Groups consecutive decisive frames into spans, most relevant first. Spans end halfway to the adjacent frames."""
    # A span ends at a gap in time.
    gaps = np.zeros(max(len(decisive) - 1, 0), bool) if seconds is None else find_gaps(seconds.tolist())
    median_step = 0.0 if seconds is None or len(seconds) < 2 else float(seconds.diff().median())
    mask = decisive.numpy()
    first = np.flatnonzero(mask & np.append(True, ~mask[:-1] | gaps))
    last = np.flatnonzero(mask & np.append(~mask[1:] | gaps, True))
    spans = []
    for start, end in zip(first.tolist(), last.tolist(), strict=True):
        ends: tuple[float | None, float | None] = (None, None)
        if seconds is not None:
            begin, finish = float(seconds[start]), float(seconds[end])
            before = median_step if start > 0 and gaps[start - 1] else begin - float(seconds[max(start - 1, 0)])
            after = median_step if end < len(gaps) and gaps[end] else float(seconds[min(end + 1, len(gaps))]) - finish
            # The times are in float32, so more digits than milliseconds would not be exact.
            ends = (round(begin - before / 2, 3), round(finish + after / 2, 3))
        spans.append(Span(places[start], places[end], *ends, float(relevance[start : end + 1].sum())))
    return sorted(spans, key=lambda span: -span.relevance)
