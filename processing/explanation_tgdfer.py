"""What a model's answer rests on, in words: which label, when, and which of its descriptions the face fits then.

Shapes: T unmasked frames of a clip, M descriptions of its label.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

# A sentence names no more spans and no more descriptions than this.
MOST_NAMED = 2
# Decisive frames have on average at least so many times the relevance of all.
LEAST_LIFT = 1.25


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
    """

    text: str
    cosine: float
    gain: float | None


@dataclass(frozen=True)
class Explanation:
    """The answer for a clip and what it rests on; printed, a sentence such as `surprise, 0.8 s to 1.4 s: jaw dropped`.

    Attributes:
        label: the predicted label.
        score: its probability.
        spans: when: the frames that carry most of its relevance, the span with most of it first.
        descriptions: all of the label, the one that fits these frames best first.
    """

    label: str
    score: float
    spans: list[Span]
    descriptions: list[Description]

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
        """What the sentence names: of the descriptions that fit these frames better than the others, the best."""
        return [one.text for one in self.descriptions if one.gain is None or one.gain > 0][:MOST_NAMED]

    @property
    def times(self) -> str:
        """The most relevant spans in the order of time."""
        return " and ".join(str(span) for span in sorted(self.spans[:MOST_NAMED], key=lambda span: span.first))

    def __str__(self) -> str:
        # Descriptions have commas of their own.
        return f"{self.label}, {self.times}" + (f": {'; '.join(self.named)}" if self.named else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the sentence with them, to be written as JSON."""
        return {"sentence": str(self), **asdict(self)}


def explain_clip(
    label: str,
    score: float,
    relevance: Tensor,
    cosines: Tensor,
    texts: Sequence[str],
    seconds: Tensor | None = None,
    frame_mask: Tensor | None = None,
) -> Explanation:
    """Explains the answer for one clip.

    Args:
        label: the predicted label.
        score: its probability.
        relevance: (T,) shares of the frames in it.
        cosines: (T, M) of each frame with each description of the label; more than M are ignored.
        texts: the M descriptions.
        seconds: (T,) times of the frames; None, or NaN anywhere, where they are unknown.
        frame_mask: (T,) frames that count; all where not given.
    """
    places = torch.arange(len(relevance)) if frame_mask is None else frame_mask.nonzero().squeeze(1)
    relevance, cosines = relevance[places], cosines[places][:, : len(texts)]
    decisive = decisive_frames(relevance)
    fits = cosines[decisive].mean(0)
    gains = [None] * len(texts) if decisive.all() else (fits - cosines[~decisive].mean(0)).tolist()
    # By the cosine and not by the gain: of what a moving face does, the largest change need not be what it shows.
    ranked = sorted(map(Description, texts, fits.tolist(), gains), key=lambda one: -one.cosine)
    times = None if seconds is None or bool(seconds[places].isnan().any()) else seconds[places]
    return Explanation(label, score, _spans(decisive, relevance, times, places.tolist()), ranked)


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
    edges = torch.diff(decisive.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
    spans = []
    for start, stop in zip(starts, stops, strict=True):
        ends: tuple[float | None, float | None] = (None, None)
        if seconds is not None:
            before, after = max(start - 1, 0), min(stop, len(seconds) - 1)
            ends = float(seconds[[before, start]].mean()), float(seconds[[stop - 1, after]].mean())
        spans.append(Span(places[start], places[stop - 1], *ends, float(relevance[start:stop].sum())))
    return sorted(spans, key=lambda span: -span.relevance)
