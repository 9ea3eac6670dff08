"""The figures of the search benchmark, on made-up scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks.find.long_search import SearchTime, joined
from benchmarks.find.measure import interval_of_mean, means, precision_of, precisions_of, retrievals
from benchmarks.find.phrases import EMOTIONS, UNITS
from benchmarks.find.report import Measured, retrieval_table, write_find_report
from benchmarks.find.videos import Videos, units_of
from tgdfer.processing.descriptions import built_in_descriptions
from tgdfer.processing.search_tgdfer import FaceIndex
from tgdfer.training.rendered_faces import ACTION_UNITS


def test_every_action_unit_and_emotion_has_a_phrase_of_its_own():
    assert list(UNITS) == list(ACTION_UNITS) and len(set(UNITS.values())) == len(UNITS)
    texts = " ".join(text for texts in built_in_descriptions().values() for text in texts)
    assert len(EMOTIONS) == 8 and not any(phrase in texts for some in EMOTIONS.values() for phrase in some)


def test_average_precision_of_own_and_other_words():
    right = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[4, 0, 0], [3, 1, 0], [2, 4, 0], [1, 2, 0]], float)
    found = retrievals(scores, right, {"a": "x", "b": "y", "c": "z"})
    assert set(found) == {"a", "b"}  # No frame shows the third one.
    assert found["a"].precision == found["b"].precision == 1 and found["a"].chance == 0.5
    # The second phrase ranks the frames of the first last: precision (1/3 + 2/4) / 2. The third one ties.
    assert found["a"].other_words == pytest.approx(((1 / 3 + 2 / 4) / 2 + 0.5) / 2)
    assert means(found)["lowest_lift"] == 2 and means(found)["precision"] == 1
    assert "| a | x | 100.0 |" in retrieval_table("unit", found)


def test_average_precision_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    scores, right, weights = (
        rng.integers(0, 20, 100) / 7,
        rng.uniform(size=(100, 3)) < 0.3,
        rng.integers(0, 3, (100, 3)),
    )
    expected = [average_precision_score(right[:, q], scores, sample_weight=weights[:, q]) for q in range(3)]
    assert precisions_of(scores, right, weights) == pytest.approx(expected)
    assert precision_of(scores, right[:, 0]) == pytest.approx(average_precision_score(right[:, 0], scores))
    assert np.isnan(precision_of(scores, np.zeros(100, bool)))


def test_interval_over_people_contains_the_mean():
    rng = np.random.default_rng(0)
    right = rng.uniform(size=(200, 2)) < 0.3
    scores = right + rng.normal(size=right.shape)
    value, low, high = interval_of_mean(scores, right, np.repeat(np.arange(10), 20))
    assert low < value < high
    whole = retrievals(scores, right, {"a": "x", "b": "y"})
    assert value == pytest.approx(means(whole)["precision"])


def index_of(count: int) -> FaceIndex:
    starts = np.arange(count, dtype=np.float32)
    return FaceIndex(
        np.ones((count, 4), np.float16),
        np.stack([starts, starts + 1], 1),
        starts,
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        np.zeros((count, 4), np.float16),
        float(count),
    )


def test_long_recordings_repeat_short_ones():
    long = joined([index_of(3), index_of(2)], 9)
    assert long.duration == 10 and len(long) == 10
    assert long.people.tolist() == [1] * 3 + [2] * 2 + [3] * 3 + [4] * 2
    assert long.spans[:, 0].tolist() == list(range(10))
    assert FaceIndex.from_tensors(long.to_tensors()).duration == 10


def test_units_are_in_the_order_of_the_renderer():
    row = {"action_units": {name: [place, place + 0.5] for place, name in enumerate(ACTION_UNITS)}}
    assert units_of(row)[1].tolist() == [place + 0.5 for place in range(len(ACTION_UNITS))]


def test_the_report_says_what_is_missed(tmp_path):
    right = np.array([[1, 0], [0, 1], [0, 0], [0, 0]], bool)
    good = retrievals(right.astype(float), right, {"AU01": "x", "AU14": "y"})
    bad = retrievals(1.0 - right, right, {"AU01": "x", "AU14": "y"})
    photographs = {phrase: good["AU01"] for some in EMOTIONS.values() for phrase in some}
    time = SearchTime(10, 288_000, 11.0, 0.5, 0.7, 0.9, 2)
    for units, words in ((good, "is reached"), (bad, "is missed for AU01, AU14")):
        measured = Measured(
            "m", Videos(), units, (0.5, 0.4, 0.6), units, dict.fromkeys(units, 0.5),
            {"AU01": {"moments": 5, "right": 4}, "AU14": {"moments": 0, "right": 0}}, photographs, time,
        )  # fmt: skip
        write_find_report(measured, "python -m benchmarks.find", tmp_path / "find.md", tmp_path / "find.json")
        text = " ".join((tmp_path / "find.md").read_text().split())
        assert words in text and "There is no match for AU14" in text and "4 (80.0 %)" in text
