import itertools

import evaluate
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import tgdfer.training.metrics
from tgdfer.training.metrics import load_metric

LABELS = ["anger", "fear", "happiness"]


@pytest.fixture(scope="module")
def recognition():
    return load_metric("expression_recognition")


@pytest.fixture(scope="module")
def localisation():
    return load_metric("frame_localisation")


def test_loads_by_path_as_any_user_of_evaluate_would():
    path = tgdfer.training.metrics.__file__.replace("__init__", "expression_recognition")
    assert evaluate.load(path).compute(predictions=["fear"], references=["fear"], labels=LABELS)["war"] == 1


def test_figures_of_a_confusion_matrix_made_by_hand(recognition):
    figures = recognition.compute(
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
        recognition.compute(references=["contempt"], predictions=["fear"], labels=LABELS)


def test_frame_figures_made_by_hand(localisation):
    figures = localisation.compute(
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
    figures = localisation.compute(predictions=[[0.0] * 5], references=[truth.astype(float)])
    assert figures["random_frame_ap"] == pytest.approx(expected)
    assert figures["pointing"] == pytest.approx(positives / 5), "equal scores point nowhere"


def test_no_clip_with_both_kinds_of_frames_gives_no_figures(localisation):
    figures = localisation.compute(predictions=[[0.3, 0.2]], references=[[0.0, 0.0]])
    assert figures["num_clips"] == 0
    assert figures["frame_ap"] is None and figures["random_frame_ap"] is None


def segment(start, end, label="joy", confidence=None):
    known = {"start": float(start), "end": float(end), "label": label}
    return known if confidence is None else known | {"confidence": confidence}


def test_segments_by_hand() -> None:
    references = [[segment(0, 10), segment(20, 30), segment(40, 50, "fear")], [segment(0, 4)]]
    predictions = [
        # Right at 0.5 and not at 0.7; a second one on the same truth; a wrong label.
        [segment(0, 6, confidence=0.9), segment(0, 10, confidence=0.8), segment(20, 30, "fear", 0.9)],
        [segment(0, 4, confidence=0.5)],
    ]
    found = load_metric("segment_localisation").compute(predictions=predictions, references=references)
    # Joy at 0.5: right, wrong, right of 3; at 0.7 the first is wrong and the second right.
    assert found["map_30"] == found["map_50"] == pytest.approx((1 + 2 / 3) / 3 / 2)
    assert found["map_70"] == pytest.approx((2 / 3 + 2 / 3) / 3 / 2)
    assert found["map"] == pytest.approx((found["map_30"] + found["map_50"] + found["map_70"]) / 3)


def test_segments_that_are_all_right_or_none() -> None:
    truth = [[segment(0, 2), segment(2, 5, "fear")], [segment(1, 2, "fear")]]
    perfect = [[one | {"confidence": 0.5} for one in video] for video in truth]
    metric = load_metric("segment_localisation")
    assert metric.compute(predictions=perfect, references=truth)["map"] == 1
    assert metric.compute(predictions=[[], []], references=truth)["map"] == 0
    assert metric.compute(predictions=perfect, references=[[], []])["map"] is None
