"""The most confident errors: which they are, and that their pictures stay on this machine."""

import csv

from PIL import Image

from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.evaluation.confident_errors import confident_errors
from tgdfer.training.measure import ClipPrediction


def test_most_confident_errors_come_first():
    said = [("a", 0.9), ("b", 0.6), ("a", 0.99), ("b", 0.8)]
    predictions = [ClipPrediction(label, score, [], [], []) for label, score in said]
    assert confident_errors(["a", "a", "b", "a"], predictions) == [2, 3, 1]
    assert confident_errors(["a", "a", "b", "a"], predictions, number=1) == [2]


def test_film_strips_and_list_are_written_and_replaced(random_model, clips_folder, tmp_path):
    data, out = EvaluationData(str(clips_folder)), tmp_path / "out"
    metrics = evaluate_model(random_model, data, output=out, errors=3)
    with open(out / "errors" / "most_confident.csv") as file:
        rows = list(csv.DictReader(file))
    with open(out / "predictions.csv") as file:
        wrong = [row for row in csv.DictReader(file) if row["label"] != row["predicted"]]
    assert len(wrong) == round((1 - metrics["war"]) * 15) > 3
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 3 and scores == sorted(scores, reverse=True)
    assert scores[0] == max(float(row["score"]) for row in wrong)
    with Image.open(out / "errors" / "most_confident.png") as picture:
        assert picture.width > 700 and picture.height > 350
    evaluate_model(random_model, data, output=out, errors=0)
    assert list((out / "errors").iterdir()) == []
