"""Average precision of phrases in rendered videos and among photographs, and the time of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.find.phrases import MIN_SHARE, UNITS, pair_phrase
from benchmarks.find.videos import VISIBLE, IndexedVideo
from tgdfer.processing.search_pipeline_tgdfer import EmotionSearchPipeline
from tgdfer.processing.search_tgdfer import FaceIndex, SearchReference, rank_moments, score_index
from tgdfer.training.metrics.bootstrap import Interval, bootstrap_weights, with_interval
from tgdfer.training.rendered_faces import ACTION_UNITS

# Number of draws of a bootstrap over people.
DRAWS = 200


@dataclass(frozen=True)
class Retrieval:
    """Average precision of a phrase.

    Attributes:
        phrase (`str`): The phrase, or the emotion if the results are named by the phrase.
        chance (`float`): Share of the frames that are right, which is the average precision of a random order.
        precision (`float`): Average precision of the phrase (0 to 1).
        other_words (`float`): Mean average precision of the same search with the phrases of the others.
    """

    phrase: str
    chance: float
    precision: float
    other_words: float

    @property
    def lift(self) -> float:
        """Average precision divided by that of chance."""
        return self.precision / self.chance


def retrievals(scores: np.ndarray, right: np.ndarray, phrases: Mapping[str, str]) -> dict[str, Retrieval]:
    """Computes the average precision of each phrase, and that of the other phrases for the same frames.

    Args:
        scores (`np.ndarray` of shape `(N, P)`): Scores of the phrases.
        right (`np.ndarray` of shape `(N, P)`): Whether each phrase is true of each frame.
        phrases (`Mapping[str, str]`): The P phrases by name. Those that are true of no frame are left out.
    """
    values = np.stack([precisions_of(column, right) for column in scores.T])  # (phrases, truths)
    found = {}
    for place, (name, phrase) in enumerate(phrases.items()):
        if right[:, place].any():
            others = np.delete(values[:, place], place)
            chance, own = float(right[:, place].mean()), float(values[place, place])
            found[name] = Retrieval(phrase, chance, own, float(np.mean(others)))
    return found


def precision_of(scores: np.ndarray, right: np.ndarray) -> float:
    """Returns the average precision (0 to 1) of N frames that are ranked by their scores (N,)."""
    return float(precisions_of(scores, right[:, None])[0])


def precisions_of(scores: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the average precision of one ranking for several truths, as `sklearn.metrics.average_precision_score`.

    The frames are sorted only once, which is much faster for thousands of truths.

    Args:
        scores (`np.ndarray` of shape `(N,)`): Scores of the frames. Equal scores count as one step of the ranking.
        right (`np.ndarray` of shape `(N, Q)`): Whether each frame is right, for each truth.
        weights (`np.ndarray` of shape `(N, Q)`, *optional*): Weights of the frames. By default all are one.

    Returns:
        `np.ndarray` of shape `(Q,)`: Average precision (0 to 1). NaN if no frame is right.
    """
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    counted = np.ones((len(scores), 1)) if weights is None else weights[order]
    hits = np.cumsum(right[order] * counted, axis=0)[steps]
    seen = np.cumsum(counted, axis=0)[steps]
    gained = np.diff(hits, axis=0, prepend=0)
    with np.errstate(invalid="ignore"):
        return (gained * hits / np.maximum(seen, 1e-12)).sum(0) / hits[-1]


def means(found: Mapping[str, Retrieval]) -> dict[str, float]:
    """Returns the means over the phrases, and the lowest average precision as a multiple of chance."""
    return {
        "precision": float(np.mean([one.precision for one in found.values()])),
        "other_words": float(np.mean([one.other_words for one in found.values()])),
        "chance": float(np.mean([one.chance for one in found.values()])),
        "lowest_lift": min(one.lift for one in found.values()),
    }


def unit_scores(search: EmotionSearchPipeline, videos: Sequence[IndexedVideo]) -> tuple[np.ndarray, np.ndarray]:
    """Scores the frames of all videos for the phrases of all action units.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Scores (N, A), and whether each unit is visible (N, A).
    """
    scores = frame_scores(search, [video.index for video in videos], [UNITS[name] for name in ACTION_UNITS])
    return scores, np.concatenate([video.units for video in videos]) >= VISIBLE


def frame_scores(search: EmotionSearchPipeline, indexes: Sequence[FaceIndex], phrases: Sequence[str]) -> np.ndarray:
    """Returns the scores (N, P) of phrases in all frames of videos."""
    reference = reference_of(search)
    embeds = search.encode(phrases)
    return np.concatenate([score_index(one, embeds, reference) for one in indexes])


def reference_of(search: EmotionSearchPipeline) -> SearchReference:
    """Returns the reference of a model."""
    return SearchReference.from_dict(search.processor.search_reference)


def interval_of_mean(scores: np.ndarray, right: np.ndarray, people: np.ndarray) -> Interval:
    """Computes the mean average precision over action units, with its 95 % interval by a bootstrap over people.

    Args:
        scores (`np.ndarray` of shape `(N, A)`): Scores.
        right (`np.ndarray` of shape `(N, A)`): Whether each unit is visible.
        people (`np.ndarray` of shape `(N,)`): Index of the person in each frame, from 0.
    """
    weights = bootstrap_weights(int(people.max()) + 1, DRAWS, 0)[:, people].T  # (N, 1 + draws)
    columns = zip(scores.T, right.T, strict=True)
    values = [precisions_of(column, truth[:, None], weights) for column, truth in columns if truth.any()]
    # An action unit may be missing in a draw.
    return with_interval(np.nanmean(values, axis=0))


def pair_retrievals(
    search: EmotionSearchPipeline, videos: Sequence[IndexedVideo]
) -> tuple[dict[str, Retrieval], dict[str, float]]:
    """Measures the search for two action units at once, for all pairs that occur often enough.

    Returns:
        `tuple[dict[str, Retrieval], dict[str, float]]`: The pairs, searched by a phrase that joins both; and the
        average precision of the lower one of the scores of the two single phrases.
    """
    single, right = unit_scores(search, videos)
    names = list(ACTION_UNITS)
    pairs = [
        (first, second)
        for first, second in combinations(range(len(names)), 2)
        if (right[:, first] & right[:, second]).mean() >= MIN_SHARE
    ]
    both = np.stack([right[:, first] & right[:, second] for first, second in pairs], axis=1)
    phrases = {f"{names[a]}+{names[b].removeprefix('AU')}": pair_phrase(names[a], names[b]) for a, b in pairs}
    scores = frame_scores(search, [video.index for video in videos], list(phrases.values()))
    lower = {
        name: precision_of(np.minimum(single[:, a], single[:, b]), both[:, place])
        for place, (name, (a, b)) in enumerate(zip(phrases, pairs, strict=True))
    }
    return retrievals(scores, both, phrases), lower


def moment_precision(
    search: EmotionSearchPipeline, videos: Sequence[IndexedVideo], limit: int = 5
) -> dict[str, dict[str, Any]]:
    """Measures how often a moment that a search returns with its defaults shows the action unit.

    Returns:
        `dict[str, dict[str, Any]]`: For each action unit, the number of moments that are returned (at most `limit`)
        and the number of them whose best frame shows it.
    """
    scores, right = unit_scores(search, videos)
    lengths = np.cumsum([0, *(len(video.index) for video in videos)])
    found = {}
    for place, name in enumerate(ACTION_UNITS):
        moments = [
            (
                moment["score"],
                bool(right[start + int(np.flatnonzero(video.index.frames == moment["frame"])[0]), place]),
            )
            for start, video in zip(lengths, videos, strict=False)
            for moment in rank_moments(scores[start : start + len(video.index), place], video.index, limit=limit)
        ]
        best = sorted(moments, reverse=True)[:limit]
        found[name] = {"moments": len(best), "right": sum(is_right for _, is_right in best)}
    return found
