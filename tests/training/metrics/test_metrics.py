"""The metrics, as plain functions and as the modules that users load with `evaluate.load`."""

import itertools
from collections.abc import Callable
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import tgdfer.training.metrics
from tgdfer.training.metrics import (
    expected_calibration_error,
    localisation_figures,
    mean_average_precision,
    recognition_figures,
    risk_coverage_area,
    risk_coverage_curve,
)

LABELS = ["anger", "fear", "happiness"]


FOLDER = Path(tgdfer.training.metrics.__file__).parent


def ways(function: Callable, module: str):
    """A fixture that gives the plain function, then the module as any user of evaluate would load it."""

    @pytest.fixture(scope="module", params=[function.__name__, module])
    def way(request):
        return evaluate.load(str(FOLDER / f"{module}.py")).compute if request.param == module else function

    return way


recognition = ways(recognition_figures, "expression_recognition")
localisation = ways(localisation_figures, "frame_localisation")
segments = ways(mean_average_precision, "segment_localisation")


def test_a_clip_that_is_right(recognition):
    assert recognition(predictions=["fear"], references=["fear"], labels=LABELS)["war"] == 1


def test_figures_of_a_confusion_matrix_made_by_hand(recognition):
    figures = recognition(
        references=["anger"] * 4 + ["happiness"] * 2,
        predictions=["anger", "anger", "anger", "fear", "happiness", "anger"],
        labels=LABELS,
    )
    assert figures["confusion_matrix"] == [[3, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert figures["war"] == pytest.approx(4 / 6)
    assert figures["recall"] == {"anger": 0.75, "fear": None, "happiness": 0.5}
    assert figures["uar"] == pytest.approx(0.625)


def test_label_outside_the_classes_is_refused(recognition):
    with pytest.raises(ValueError, match="contempt"):
        recognition(references=["contempt"], predictions=["fear"], labels=LABELS)


def test_frame_figures_made_by_hand(localisation):
    figures = localisation(
        # Ranks of the two apex frames: 1 and 3, so AP = (1/1 + 2/3) / 2; then the only one on rank 4 of 4.
        predictions=[[0.9, 0.1, 0.5, 0.4], [0.4, 0.3, 0.2, 0.1], [1.0, 0.0], [0.0, 1.0]],
        references=[[1.0, 0.2, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0], [0.0, 0.4], [0.9, 0.5]],
    )
    assert figures["num_clips"] == 2
    assert figures["frame_ap"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 4) / 2)
    assert figures["pointing"] == 0.5
    assert figures["random_pointing"] == pytest.approx((2 / 4 + 1 / 4) / 2)


@pytest.mark.parametrize("positives", [1, 2, 4])
def test_random_reference_is_the_mean_over_all_orders(localisation, positives):
    truth = np.arange(5) < positives
    expected = np.mean([average_precision_score(truth, order) for order in itertools.permutations(range(5))])
    figures = localisation(predictions=[[0.0] * 5], references=[truth.astype(float)])
    assert figures["random_frame_ap"] == pytest.approx(expected)
    assert figures["pointing"] == pytest.approx(positives / 5), "equal scores point nowhere"


def test_no_clip_with_both_kinds_of_frames_gives_no_figures(localisation):
    figures = localisation(predictions=[[0.3, 0.2]], references=[[0.0, 0.0]])
    assert figures["num_clips"] == 0
    assert figures["frame_ap"] is None and figures["random_frame_ap"] is None


def segment(start, end, label="joy", confidence=None):
    known = {"start": float(start), "end": float(end), "label": label}
    return known if confidence is None else known | {"confidence": confidence}


def test_segments_by_hand(segments) -> None:
    references = [[segment(0, 10), segment(20, 30), segment(40, 50, "fear")], [segment(0, 4)]]
    predictions = [
        # Right at 0.5 and not at 0.7; a second one on the same truth; a wrong label.
        [segment(0, 6, confidence=0.9), segment(0, 10, confidence=0.8), segment(20, 30, "fear", 0.9)],
        [segment(0, 4, confidence=0.5)],
    ]
    found = segments(predictions=predictions, references=references)
    # Joy at 0.5: right, wrong, right of 3; at 0.7 the first is wrong and the second right.
    assert found["map_30"] == found["map_50"] == pytest.approx((1 + 2 / 3) / 3 / 2)
    assert found["map_70"] == pytest.approx((2 / 3 + 2 / 3) / 3 / 2)
    assert found["map"] == pytest.approx((found["map_30"] + found["map_50"] + found["map_70"]) / 3)


def test_segments_that_are_all_right_or_none(segments) -> None:
    truth = [[segment(0, 2), segment(2, 5, "fear")], [segment(1, 2, "fear")]]
    perfect = [[one | {"confidence": 0.5} for one in video] for video in truth]
    assert segments(predictions=perfect, references=truth)["map"] == 1
    assert segments(predictions=[[], []], references=truth)["map"] == 0
    assert segments(predictions=perfect, references=[[], []])["map"] is None


def test_segments_of_no_length_and_of_other_videos_overlap_nothing() -> None:
    found, truth = [[segment(1, 1, confidence=0.9)], [segment(0, 2, confidence=0.8)]], [[segment(0, 2)], []]
    assert mean_average_precision(found, truth)["map"] == 0
    assert mean_average_precision([[segment(1, 1, confidence=0.9)]], [[segment(1, 1)]])["map"] == 0


def overlap(one: dict, other: dict) -> float:
    shared = max(0.0, min(one["end"], other["end"]) - max(one["start"], other["start"]))
    return shared / (one["end"] - one["start"] + other["end"] - other["start"] - shared)


def average_precision_by_loops(
    found: list[list[dict]], truth: list[list[dict]], label: str, threshold: float
) -> float:
    free = [[one for one in video if one["label"] == label] for video in truth]
    total = sum(map(len, free))
    ranked = [(video, one) for video, ones in enumerate(found) for one in ones if one["label"] == label]
    correct = []
    for video, one in sorted(ranked, key=lambda pair: -pair[1]["confidence"]):
        overlaps = [overlap(one, true) for true in free[video]]
        correct.append(max(overlaps, default=0) >= threshold)
        if correct[-1]:
            del free[video][int(np.argmax(overlaps))]
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    return sum(precision[place:].max() for place in np.flatnonzero(correct)) / total


def test_segments_agree_with_a_loop_over_them_one_by_one() -> None:
    rng = np.random.default_rng(0)

    def videos() -> list[list[dict]]:
        starts, lengths, confidences = rng.uniform(0, [[[20]], [[9]], [[1]]], (3, 3, 6)).round(1)
        return [
            [segment(a, a + b + 1, rng.choice(["joy", "fear"]), c) for a, b, c in zip(*one, strict=True)]
            for one in zip(starts, lengths, confidences, strict=True)
        ]

    for _ in range(20):
        found, truth = videos(), videos()
        expected = [average_precision_by_loops(found, truth, label, 0.3) for label in ("fear", "joy")]
        assert mean_average_precision(found, truth, [0.3])["map_30"] == pytest.approx(np.mean(expected))


# Confidence.


def test_calibration_error_made_by_hand():
    # Bins of a fifteenth: (0.6, 0.667] holds two clips of which one is right, (0.867, 0.933] one that is right.
    error = expected_calibration_error([0.62, 0.64, 0.9], [True, False, True])
    assert error == pytest.approx((2 * abs(0.5 - 0.63) + abs(1 - 0.9)) / 3)
    assert expected_calibration_error([0.5, 0.5], [True, False]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


def test_calibration_error_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    confidences, correct = rng.random(500), rng.random(500) < 0.7
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidences > low) & (confidences <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
    assert expected_calibration_error(confidences, correct) == pytest.approx(expected)


def test_edges_of_bins_belong_to_the_bin_below():
    assert expected_calibration_error([0.5, 0.7], [True, False], bins=2) == pytest.approx((0.5 + 0.7) / 2)
    assert expected_calibration_error([0.5, 0.3], [True, False], bins=2) == pytest.approx(abs(1 - 0.8) / 2)
    assert expected_calibration_error([0.0], [False]) == 0


def test_risk_coverage_made_by_hand():
    thresholds, coverage, risk = risk_coverage_curve([0.3, 0.9, 0.6, 0.6], [False, True, True, False])
    assert thresholds.tolist() == [0.9, 0.6, 0.3] and coverage.tolist() == [0.25, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert risk_coverage_area([0.3, 0.9, 0.6, 0.6], [False, True, True, False]) == pytest.approx(
        0.25 * 0 + 0.5 / 3 + 0.25 / 2
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_order_of_equally_confident_clips_means_nothing(order):
    confidences, correct = np.array([0.6, 0.6, 0.6, 0.9])[list(order)], np.array([1, 0, 1, 1])[list(order)]
    assert risk_coverage_area(confidences, correct) == pytest.approx(0.75 / 4)
