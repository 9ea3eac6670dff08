"""The expressions of people over the last seconds, predicted in a window that slides over their faces.

Each face is encoded once. A window is predicted from the features of its faces, and never from pictures.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tgdfer.model_card.space.clips import with_classes
from tgdfer.processing.explanation_tgdfer import explain_segment, references_of
from tgdfer.processing.frame_sampling_tgdfer import windows
from tgdfer.processing.pipeline_tgdfer import EmotionTimelinePipeline
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.segments_tgdfer import Presence, find_moments

# Seconds that the curves show. Nothing older is kept.
HISTORY = 20.0
# An answer needs this share of a window.
MIN_SHARE = 1 / 4
# Seconds of the current segment whose descriptions and probabilities are shown.
NOW = 1.0


class _WindowPipeline(EmotionTimelinePipeline):
    """Encodes faces, and predicts windows of their features."""

    def encode(self, crops: torch.Tensor) -> np.ndarray:
        """Encodes the crops (N, 3, S, S), and returns features (N, D)."""
        batch = self.video_processor([crops], do_sample_frames=False, face_crop="none", return_tensors="pt")
        pixels, mask = (batch[name].to(self.device) for name in ("pixel_values_videos", "frame_mask"))
        with self.get_inference_context()():
            features = self.model.get_frame_features(pixels.to(self.dtype), mask)
        return features[0].float().cpu().numpy()

    def predict_windows(
        self, features: np.ndarray, seconds: np.ndarray, parts: Sequence[np.ndarray]
    ) -> list[dict[str, np.ndarray]]:
        """Predicts windows, given by their indices, from the features (N, D) of frames at some seconds (N,)."""
        return self._predict_bags(features, seconds, list(parts))


@dataclass
class _History:
    """What is known about one person: T frames, K classes, M descriptions.

    The values of a frame are sums over the windows that contain it, as `EmotionTimelinePipeline` averages them.

    Attributes:
        seconds (`np.ndarray` of shape `(T,)`): Times of the frames.
        features (`np.ndarray` of shape `(T, D)`): Their features.
        sums (`dict[str, np.ndarray]`): `frame_scores` (T, K), `relevance` (T, K) and `descriptions` (T, K, M).
        counts (`np.ndarray` of shape `(T,)`): Number of windows that contain a frame.
    """

    seconds: np.ndarray
    features: np.ndarray
    sums: dict[str, np.ndarray]
    counts: np.ndarray

    @classmethod
    def empty(cls, width: int) -> "_History":
        return cls(np.zeros(0), np.zeros((0, width), np.float32), {}, np.zeros(0))

    def append(self, second: float, features: np.ndarray) -> None:
        self.seconds = np.append(self.seconds, second)
        self.features = np.concatenate([self.features, features[None]])
        self.counts = np.append(self.counts, 0.0)
        for name, rows in self.sums.items():
            self.sums[name] = np.concatenate([rows, np.zeros((1, *rows.shape[1:]), rows.dtype)])

    def forget_before(self, second: float) -> None:
        old = int(np.searchsorted(self.seconds, second))
        if old:
            self.seconds, self.features, self.counts = self.seconds[old:], self.features[old:], self.counts[old:]
            self.sums = {name: rows[old:] for name, rows in self.sums.items()}

    def forget_answers(self) -> None:
        self.sums, self.counts = {}, np.zeros(len(self.seconds))

    def add(self, part: np.ndarray, prediction: Mapping[str, np.ndarray]) -> None:
        """Adds the prediction of the window of the frames `part`."""
        relevance = prediction["relevance"] * len(part) * prediction["scores"]
        for name, rows in {**prediction, "relevance": relevance}.items():
            if name != "scores":
                whole = self.sums.setdefault(name, np.zeros((len(self.seconds), *rows.shape[1:]), np.float32))
                whole[part] += rows
        self.counts[part] += 1

    def means(self) -> dict[str, np.ndarray]:
        """Returns the means over windows. They are 0 for a frame that is in no window."""
        counts = np.maximum(self.counts, 1)
        return {name: rows / counts.reshape(-1, *[1] * (rows.ndim - 1)) for name, rows in self.sums.items()}


class Expressions:
    """The expressions of people over the last `HISTORY` seconds.

    The classes can be replaced while frames arrive. All methods may be called from several threads.

    Args:
        network (`TGDFERForVideoClassification`): The network. It is never changed.
        processor (`TGDFERProcessor`): Its processor.
    """

    def __init__(self, network: Any, processor: TGDFERProcessor):
        self.network, self.processor = network, processor
        self.lock = threading.Lock()
        self.seconds: deque[float] = deque()
        self.people: dict[int | None, _History] = {}
        self.forget_classes()

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities estimate how often answers are right."""
        return bool(getattr(self.pipeline.model.config, "is_calibrated", False))

    def set_classes(self, descriptions: Mapping[str, Sequence[str]]) -> None:
        """Replaces the classes, and answers again for the last seconds.

        Args:
            descriptions (`Mapping[str, Sequence[str]]`): The descriptions of each class.

        Raises:
            UserError: If the classes cannot be used.
        """
        self._use(with_classes(self.network, self.processor, descriptions), descriptions, own_classes=True)

    def forget_classes(self) -> None:
        """Returns to the classes of the model."""
        self._use(self.network, self.processor.descriptions or {}, own_classes=False)

    def _use(self, network: Any, descriptions: Mapping[str, Sequence[str]], own_classes: bool) -> None:
        video_processor = self.processor.video_processor
        pipeline = _WindowPipeline(network, video_processor=video_processor, device=network.device)
        # The first prediction encodes the class texts, which takes longer than a window.
        size = video_processor.face_size
        pipeline.predict_windows(
            pipeline.encode(torch.zeros(1, 3, size, size, dtype=torch.uint8)), np.zeros(1), [np.arange(1)]
        )
        with self.lock:
            self.pipeline, self.descriptions, self.own_classes = pipeline, dict(descriptions), own_classes
            for history in self.people.values():
                history.forget_answers()
            self._predict(self.people.values(), whole=True)

    def add(self, second: float, crops: Mapping[int | None, torch.Tensor]) -> None:
        """Adds the faces of a frame, and predicts the windows that end with them.

        Args:
            second (`float`): Time of the frame. It must be later than that of the frame before.
            crops (`Mapping[int | None, torch.Tensor]`): The crop (3, S, S) of each person, uint8, by number.
        """
        pipeline = self.pipeline
        features = pipeline.encode(torch.stack(list(crops.values()))) if crops else np.zeros((0, 0))
        with self.lock:
            self.seconds.append(second)
            while second - self.seconds[0] > HISTORY:
                self.seconds.popleft()
            for person, row in zip(crops, features, strict=True):
                self.people.setdefault(person, _History.empty(len(row))).append(second, row)
            for history in self.people.values():
                history.forget_before(self.seconds[0])
            self.people = {person: history for person, history in self.people.items() if len(history.seconds)}
            self._predict([self.people[person] for person in crops])

    def _predict(self, histories: Iterable[_History], whole: bool = False) -> None:
        """Predicts the window that ends with the last frame of some people, or all windows of all their frames."""
        found: list[tuple[_History, np.ndarray]] = []
        for history in histories:
            stretches = _presence(history.seconds).stretches()
            for stretch in stretches if whole else stretches[-1:]:
                length = stretch.stop - stretch.start
                least, usual = self._window_frames(history.seconds[stretch])
                if length >= least:
                    parts = list(windows(length, usual))
                    found += [(history, stretch.start + part) for part in (parts if whole else parts[-1:])]
        if not found:
            return
        # The windows of all people are predicted together.
        starts = np.cumsum([0, *(len(part) for _, part in found)])
        features = np.concatenate([history.features[part] for history, part in found])
        seconds = np.concatenate([history.seconds[part] - history.seconds[part[0]] for history, part in found])
        joined = [np.arange(start, stop) for start, stop in zip(starts, starts[1:], strict=False)]
        predictions = self.pipeline.predict_windows(features, seconds, joined)
        for (history, part), prediction in zip(found, predictions, strict=True):
            history.add(part, prediction)

    def _window_frames(self, seconds: np.ndarray) -> tuple[int, int]:
        """Returns the least and the usual number of frames of a window, for frames at some seconds (T,).

        A window is never longer in seconds than that of the model. If there is no time to analyse enough frames, it
        has fewer of them, so that an expression that is over does not stay.
        """
        config = self.pipeline.model.config
        least = max(1, math.ceil(MIN_SHARE * config.num_frames))
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else config.frame_interval
        return least, int(np.clip(round(config.num_frames * config.frame_interval / step), least, config.num_frames))

    def result(self) -> dict[str, Any]:
        """Returns the answers for the last `HISTORY` seconds, in the form of `EmotionTimelinePipeline`.

        Times count from `HISTORY` seconds before the last frame. The answer of a person is that of the segment that
        the last frame belongs to. There are these other keys: `second`, the time of the last frame; `own_classes`,
        whether somebody has replaced the classes; and for each person `is_there`, whether the last frame shows the
        person, and `words`, the descriptions that fit now.
        """
        with self.lock:
            last = self.seconds[-1] if self.seconds else None
            start = (last or 0.0) - HISTORY
            people = [self._person(number, history, start) for number, history in self.people.items()]
            return {
                "second": last,
                "duration": HISTORY,
                "cuts": [],
                "timestamps": [second - start for second in self.seconds],
                "people": [person for person in people if person is not None],
                "own_classes": self.own_classes,
                "calibrated": self.calibrated,
            }

    def _person(self, number: int | None, history: _History, start: float) -> dict[str, Any] | None:
        """Returns the answer of a person, or None if there is none yet."""
        known = np.flatnonzero(history.counts)
        if not len(known):
            return None
        config = self.pipeline.model.config
        names = [config.id2label[index] for index in range(config.num_labels)]
        seconds = history.seconds[known] - start
        presence = _presence(seconds)
        means = {name: rows[known] for name, rows in history.means().items()}
        segments = find_moments(means["frame_scores"], names, presence, getattr(config, "unsure_below", None))
        current = segments[-1]
        best = names.index(current["candidates"][0])
        first, last = current["frames"]
        recent = slice(max(first, int(np.searchsorted(seconds, seconds[last] - NOW))), last + 1)
        relevance = means["relevance"][:, best]
        return {
            "person": number,
            "is_there": bool(history.seconds[-1] == self.seconds[-1]),
            "label": current["label"],
            "score": current["score"],
            "candidates": current["candidates"],
            "scores": dict(zip(names, means["frame_scores"][first : last + 1].mean(0).tolist(), strict=True)),
            "words": self._words(current, means["descriptions"][recent, best]),
            "segments": segments,
            "timestamps": seconds.tolist(),
            "frame_scores": dict(zip(names, means["frame_scores"].T.tolist(), strict=True)),
            "frame_relevance": (relevance / max(float(relevance.sum()), 1e-30)).tolist(),
        }

    def _words(self, segment: Mapping[str, Any], cosines: np.ndarray) -> str:
        """Returns the descriptions that fit, separated by semicolons, from the cosines (t, M) of the last frames."""
        label = segment["candidates"][0]
        texts = self.descriptions.get(label, [])
        now = {**segment, "description_relevance": cosines.mean(0)[: len(texts)].tolist()}
        return explain_segment(now, texts, references_of(label, self.pipeline.model.config)).partition(": ")[2]


def _presence(seconds: np.ndarray) -> Presence:
    """Returns the presence of a person in their own frames. It has a gap only where they were away for some time."""
    edges = np.concatenate([seconds[:1], (seconds[1:] + seconds[:-1]) / 2, seconds[-1:]])
    return Presence(np.arange(len(seconds)), edges, (), seconds)
