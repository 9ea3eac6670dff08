"""What a model answers, calibrated or "unsure", and what that rests on, in words: when, and which descriptions fit.

Shapes: T unmasked frames of a clip, M descriptions of its label. The config of a model from before there was
calibration lacks its fields: it counts as not calibrated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .video_reading_tgdfer import find_gaps

# The answer of a clip whose best class is not probable enough.
UNSURE = "unsure"
# A sentence names no more spans and no more descriptions than this.
MOST_NAMED = 2
# Decisive frames have on average at least so many times the relevance of all.
LEAST_LIFT = 1.25
# A description is named if its cosine exceeds its mean over clips by at least so many standard deviations. If the
# labels of the clips are equally frequent, a description of one of seven classes is true of about every seventh clip,
# and a seventh of a normal distribution lies above 1.07.
LEAST_Z_SCORE = 1.0


def at_temperature(logits: Tensor, config: Any = None) -> Tensor:
    """Logits (..., K) of clips, divided by the temperature of the model (Guo et al., 2017), for a softmax.

    Args:
        logits: as the network gives them.
        config: of the model; None for one without calibration.
    """
    return logits / getattr(config, "temperature", 1.0)


def candidates(scores: Sequence[float], names: Sequence[str], config: Any = None) -> list[str]:
    """The labels that a clip may have, the most probable one first.

    Args:
        scores: K calibrated probabilities.
        names: K labels.
        config: of the model; None for one that is never unsure.

    Returns:
        One label, or the best two if the best is less probable than `config.unsure_below`.
    """
    ranked = sorted(range(len(names)), key=lambda index: -scores[index])  # stable, so ties go like argmax
    below = getattr(config, "unsure_below", None)
    unsure = below is not None and scores[ranked[0]] < below
    return [names[index] for index in ranked[: 2 if unsure else 1]]


def references_of(label: str, config: Any = None) -> Mapping[str, Sequence[float]]:
    """For each description of a label the mean and standard deviation of its cosine; empty if unknown."""
    return (getattr(config, "description_references", None) or {}).get(label, {})


@dataclass(frozen=True)
class Span:
    """A stretch of frames that follow each other.

    Attributes:
        first: index of its first frame.
        last: index of its last frame.
        start: seconds, halfway from the frame before its first; None where times are unknown.
        end: seconds, halfway to the frame after its last; None where times are unknown.
        relevance: share of the clip's relevance that its frames have, 0 to 1.
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
    """A description of the label, and how it fits the frames of the spans.

    Attributes:
        text: the description.
        cosine: mean cosine with these frames.
        gain: how much higher that is than with the other frames of the clip; None where there are no others.
        z_score: how many standard deviations the cosine is above what this description has in the decisive frames of
            clips in general; None where that is unknown.
    """

    text: str
    cosine: float
    gain: float | None
    z_score: float | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it fits these frames better than the others and, where known, clearly better than other clips."""
        above_others = self.gain is None or self.gain > 0
        return above_others and (self.z_score is None or self.z_score >= LEAST_Z_SCORE)


@dataclass(frozen=True)
class Explanation:
    """The answer for a clip and what it rests on; printed, a sentence such as `surprise, 0.8 s to 1.4 s: jaw dropped`.

    Attributes:
        label: the predicted label, or "unsure".
        score: its probability; of an unsure answer, that of the first candidate.
        spans: when: the frames that carry most of its relevance, the span with most of it first.
        descriptions: all of the label, the one that fits these frames best first.
        candidates: the labels that it may be, the most probable one first: two if the label is "unsure", else one.
            Spans and descriptions are those of the first.
    """

    label: str
    score: float
    spans: list[Span]
    descriptions: list[Description]
    candidates: list[str] = field(default_factory=list)

    @property
    def start(self) -> float | None:
        """Seconds at which the most relevant span begins; None where times are unknown."""
        return self.spans[0].start

    @property
    def end(self) -> float | None:
        """Seconds at which the most relevant span ends; None where times are unknown."""
        return self.spans[0].end

    @property
    def named(self) -> list[str]:
        """What the sentence names: the best of the descriptions that are shown in these frames."""
        return [one.text for one in self.descriptions if one.is_shown][:MOST_NAMED]

    @property
    def times(self) -> str:
        """The most relevant spans in the order of time."""
        return " and ".join(str(span) for span in sorted(self.spans[:MOST_NAMED], key=lambda span: span.first))

    def __str__(self) -> str:
        return _sentence(self.label, self.candidates, self.times, self.named)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the sentence with them, to be written as JSON."""
        return {"sentence": str(self), **asdict(self)}


def _sentence(label: str, candidates: Sequence[str], times: str, named: Sequence[str]) -> str:
    unsure = f" ({' or '.join(candidates)})" if len(candidates) > 1 else ""
    # Descriptions have commas of their own.
    return f"{label}{unsure}, {times}" + (f": {'; '.join(named)}" if named else "")


def explain_segment(
    segment: Mapping[str, Any], texts: Sequence[str], references: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Says in a sentence what a person shows in a segment, such as `surprise, 0.8 s to 1.4 s: jaw dropped`.

    Args:
        segment: of `EmotionTimelinePipeline`.
        texts: descriptions of its first candidate.
        references: for each description, as far as known, mean and standard deviation of its cosine. A description is
            named only if it clearly exceeds them; without any, the one that fits best is named.
    """
    fits = sorted(zip(segment["description_relevance"], texts, strict=False), reverse=True)
    known = {text: _z_score(fit, (references or {}).get(text)) for fit, text in fits}
    if any(score is not None for score in known.values()):
        named = [text for text, score in known.items() if score is not None and score >= LEAST_Z_SCORE][:MOST_NAMED]
    else:
        named = [text for _, text in fits[:1]] if segment["label"] != UNSURE else []
    start, end = f"{segment['start']:.1f} s", f"{segment['end']:.1f} s"
    return _sentence(segment["label"], segment["candidates"], start if start == end else f"{start} to {end}", named)


def explain_timeline(result: dict[str, Any], descriptions: Mapping[str, Sequence[str]], config: Any) -> dict[str, Any]:
    """Adds words to what `EmotionTimelinePipeline` says of a video.

    Args:
        result: of the pipeline.
        descriptions: for each label one sentence or more.
        config: of the model.

    Returns:
        The same, with a `sentence` for each segment, and for each person an `explanation`: that of `explain_clip` for
        the time in which the person is there, as plain values.
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
    """Explains the answer for one clip.

    Args:
        label: the predicted label; or the labels that it may be, the most probable one first.
        score: its probability.
        relevance: (T,) shares of the frames in it.
        cosines: (T, M) of each frame with each description of the label; more than M are ignored.
        texts: the M descriptions.
        seconds: (T,) times of the frames; None, or NaN anywhere, where they are unknown.
        frame_mask: (T,) frames that count; all where not given.
        references: for each description, as far as known, mean and standard deviation over clips of its mean cosine
            with the decisive frames.
    """
    likely = [label] if isinstance(label, str) else list(label)
    places = torch.arange(len(relevance)) if frame_mask is None else frame_mask.nonzero().squeeze(1)
    relevance, cosines = relevance[places], cosines[places][:, : len(texts)]
    decisive = decisive_frames(relevance)
    fits = cosines[decisive].mean(0)
    z_scores = [_z_score(fit, (references or {}).get(text)) for fit, text in zip(fits.tolist(), texts, strict=False)]
    gains = [None] * len(texts) if decisive.all() else (fits - cosines[~decisive].mean(0)).tolist()
    # By the cosine and not by the gain: of what a moving face does, the largest change need not be what it shows.
    ranked = sorted(map(Description, texts, fits.tolist(), gains, z_scores), key=lambda one: -one.cosine)
    times = None if seconds is None or bool(seconds[places].isnan().any()) else seconds[places]
    spans = _spans(decisive, relevance, times, places.tolist())
    return Explanation(likely[0] if len(likely) == 1 else UNSURE, score, spans, ranked, likely)


def _z_score(cosine: float, reference: Sequence[float] | None) -> float | None:
    return None if reference is None else (cosine - reference[0]) / reference[1]


def decisive_frames(relevance: Tensor) -> Tensor:
    """The frames that count more than the average frame (T,): mask (T,).

    All frames, where these count little more than the others: the answer then rests on the clip as a whole.
    """
    decisive = relevance > relevance.mean()
    if not decisive.any() or relevance[decisive].mean() < LEAST_LIFT * relevance.mean():
        return torch.ones_like(decisive)
    return decisive


def _spans(decisive: Tensor, relevance: Tensor, seconds: Tensor | None, places: list[int]) -> list[Span]:
    """Runs of decisive frames, the one with most relevance first; their ends lie halfway to the frames around them."""
    # A run ends where time goes on without frames.
    gaps = np.zeros(max(len(decisive) - 1, 0), bool) if seconds is None else find_gaps(seconds.tolist())
    usual = 0.0 if seconds is None or len(seconds) < 2 else float(seconds.diff().median())
    shown = decisive.numpy()
    first = np.flatnonzero(shown & np.append(True, ~shown[:-1] | gaps))
    last = np.flatnonzero(shown & np.append(~shown[1:] | gaps, True))
    spans = []
    for start, end in zip(first.tolist(), last.tolist(), strict=True):
        ends: tuple[float | None, float | None] = (None, None)
        if seconds is not None:
            begin, finish = float(seconds[start]), float(seconds[end])
            before = usual if start > 0 and gaps[start - 1] else begin - float(seconds[max(start - 1, 0)])
            after = usual if end < len(gaps) and gaps[end] else float(seconds[min(end + 1, len(gaps))]) - finish
            # Times are float32 here, and a millisecond is more than they tell.
            ends = (round(begin - before / 2, 3), round(finish + after / 2, 3))
        spans.append(Span(places[start], places[end], *ends, float(relevance[start : end + 1].sum())))
    return sorted(spans, key=lambda span: -span.relevance)
