"""Labels of a data set and of a model: what matches, what is left out, and what cannot be measured."""

import json
import logging
import shutil

import pytest

from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import EvaluationData, evaluate_model
from tgdfer.training.evaluation.shared_labels import match_labels, restricted_answers
from tgdfer.training.measure import ClipPrediction


def test_names_and_aliases_match():
    match = match_labels(
        ["anger", "contempt", "contempt", "happiness"], ["Angry", "happiness", "fear"], "split 'test'"
    )
    assert match.matched == {"anger": "Angry", "happiness": "happiness"}
    assert match.left_out == {"contempt": 2} and match.only_model == ["fear"] and not match.is_complete
    assert str(match) == (
        "2 labels are in the data set and in the model: happiness, anger (in the model: Angry). 2 clips are left out,"
        " because the model does not have their label (contempt: 2). The data set has no clips of fear."
    )
    assert match_labels(["fear", "anger"], ["anger", "fear"], "x").is_complete
    assert not match_labels(["fear", "anger"], ["Angry", "fear"], "x").is_complete


def test_exact_name_comes_before_an_alias():
    assert match_labels(["happiness", "fear"], ["joy", "happiness", "fear"], "x").matched["happiness"] == "happiness"
    with pytest.raises(UserError, match="'joy' and 'happy' of the model both mean 'happiness', a label of x"):
        match_labels(["happiness", "fear"], ["joy", "happy", "fear"], "x")


def test_one_shared_label_is_not_enough():
    with pytest.raises(
        UserError, match=r"the model has only 'fear', but at least two are needed: its classes are fear"
    ):
        match_labels(["fear", "anger"], ["fear", "bliss"], "split 'test'")
    with pytest.raises(UserError, match=r"the model has none"):
        match_labels(["fear", "anger"], ["calm", "bliss"], "split 'test'")


def test_answers_are_the_best_of_the_allowed_classes():
    prediction = ClipPrediction("b", 0.9, [], [], [], logits=[0.0, 3.0, 1.0])
    assert [answer.label for answer in restricted_answers([prediction], ["a", "b", "c"], ["a", "c"])] == ["c"]


def test_clips_of_other_labels_are_left_out_and_counted(random_model, clips_folder, tmp_path, caplog):
    """The three labels of the clips become one that the model has under another name, one shared, and one unknown."""
    folder = shutil.copytree(clips_folder, tmp_path / "other")
    rows = [json.loads(line) for line in (folder / "test" / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["label"] = {"happy": "Joyful", "Sadness": "contempt"}.get(row["label"], row["label"])
    (folder / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.WARNING):
        metrics = evaluate_model(random_model, EvaluationData(str(folder)), output=tmp_path / "out", errors=0)
    assert "5 clips are left out" in caplog.text and "contempt: 5" in caplog.text
    shared = metrics["shared_labels"]
    assert shared["matched"] == {"happiness": "happiness", "neutral": "neutral"}
    assert (shared["left_out"], shared["num_left_out"], shared["only_model"]) == ({"contempt": 5}, 5, ["sadness"])
    assert metrics["num_clips"] == 10 == sum(map(sum, metrics["confusion_matrix"]))
    assert metrics["war"] <= shared["war"] <= 1 and shared["intervals"]["war"][0] <= shared["war"]
    assert "shared_labels" not in evaluate_model(random_model, EvaluationData(str(clips_folder)), errors=0)
