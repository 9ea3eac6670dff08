"""Figures of `tgdfer evaluate` in the model card: intervals, shared labels, views and groups."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tgdfer.model_card.card import build_card

from .test_card import edit_config, edit_metrics

MEASURED = {
    "intervals": {
        "over": "people",
        "units": 5,
        "draws": 2000,
        "war": [0.41, 0.72],
        "uar": [0.42, 0.71],
        "recall": {"anger": [0.21, 0.79], "happiness": [0.6, 1.0], "neutral": [0.11, 0.69]},
    },
    "per_class": {
        "anger": {"precision": 0.625, "f1": 0.556},
        "happiness": {"precision": 0.6, "f1": 0.72},
        "neutral": {"precision": None, "f1": 0.471},
    },
    "shared_labels": {
        "matched": {"anger": "anger", "happiness": "happiness"},
        "left_out": {"and/or": 3, "calm": 4},
        "num_left_out": 7,
        "only_model": ["neutral"],
        "war": 0.7,
        "uar": 0.68,
        "intervals": {"over": "people", "units": 5, "draws": 2000, "war": [0.5, 0.8], "uar": [0.51, 0.79]},
    },
    "views": {"windows": 2, "crops": 10},
    "temperature_scaling": {
        "before": {"temperature": 1.0, "ece": 0.25, "interval": [0.2, 0.3]},
        "cross_fitted": {"temperature": 1.4, "folds": 5, "ece": 0.05, "interval": [0.0, 0.1]},
    },
    "ece": 0.07,
    "groups": {
        "age": {
            "adult": {"num_clips": 20, "war": 0.7, "uar": 0.65, "intervals": {"war": [0.5, 0.9], "uar": [0.4, 0.8]}},
            "child": {"num_clips": 10, "war": 0.4, "uar": 0.45, "intervals": {"war": [0.2, 0.6], "uar": [0.3, 0.7]}},
        }
    },
}


def test_renamed_split_has_both_names(run):
    edit_metrics(run, split="test", split_in_dataset="eval")
    card = build_card(run, "user/smile")
    assert "split `test` (`eval` in the data set) of `" in card.text
    assert {result.dataset_split for result in card.data.eval_results} == {"eval"}


def test_results_on_training_clips_are_called_so_and_are_not_in_the_metadata(run):
    edit_metrics(run, seen_in_training=True, num_seen_in_training=4, num_clips=5)
    card = build_card(run, "user/smile")
    assert "**The model was trained on 4 of these 5 clips.** These results say little" in card.text
    assert not card.data.eval_results


def test_intervals_labels_and_views_are_those_that_evaluate_measured(run):
    edit_metrics(run, **MEASURED)
    edit_config(run, temperature=1.2)
    text = build_card(run, "user/smile").text
    assert "| class | clips | recall | 95% interval | precision | F1 |" in text
    assert "| anger | 10 | 50.0% | 21.0% to 79.0% | 62.5% | 55.6% |" in text
    assert "| neutral | 10 | 40.0% | 11.0% to 69.0% |  | 47.1% |" in text
    assert "interval of the WAR is 41.0% to 72.0%, and that of the UAR is 42.0% to 71.0%" in text
    assert "bootstrap intervals over 5 people" in text and "treat the clips as independent" not in text
    assert "7 clips were left out, because the model does not have their label (and/or: 3, calm: 4)" in text
    assert "UAR is 68.0% (95% interval 51.0% to 79.0%)" in text and "There are no clips of neutral." in text
    assert "averaged over 2 windows and 10 crops" in text
    assert "| child | 10 | 40.0% | 20.0% to 60.0% | 45.0% | 30.0% to 70.0% |" in text
    assert "Calibration error without temperature scaling: 25.0% (95% interval 20.0% to 30.0%)" in text
    assert "It finds 40% (4 of 10) of the neutral clips (95% interval 11.0% to 69.0%)." in text


def test_clips_with_several_labels_have_their_own_figures(run):
    several = {
        "war": None,
        "uar": None,
        "frame_ap": None,
        "pointing": None,
        "activity_gain": None,
        "confusion_matrix": None,
        "num_clips": 40,
        "clips_with": {"anger": 30, "happiness": 20, "neutral": 0},
        "average_precision": {"anger": 0.55, "happiness": 0.9, "neutral": None},
        "f1": {"anger": 0.5, "happiness": 0.8, "neutral": None},
        "map": 0.725,
        "macro_f1": 0.65,
        "micro_f1": 0.712,
        "exact_match": 0.4,
        "baseline": None,
    }
    edit_metrics(run, **several)
    card = build_card(run, "user/smile")
    assert "| this model | 72.5% | 65.0% | 71.2% | 40.0% |" in card.text and "mAP is the mean" in card.text
    assert "| label | clips | average precision | F1 |" in card.text and "| neutral | 0 |  |  |" in card.text
    assert "| anger | 30 | 55.0% | 50.0% |" in card.text and "WAR" not in card.text
    assert "- The average precision of anger is 55.0%. 75% (30 of 40) of the clips have this label." in card.text
    assert "average precision of happiness is" not in card.text, "only the weak ones"
    results = [(result.metric_name, result.metric_type, result.metric_value) for result in card.data.eval_results]
    assert results == [
        ("mAP", "average_precision", 0.725),
        ("macro F1", "f1", 0.65),
        ("micro F1", "f1", 0.712),
    ]


def test_the_card_of_a_model_for_several_labels(run):
    text = " ".join(build_card(run, "user/smile").text.split())
    assert "one label each" in text and "torch.tensor([0])" in text
    edit_config(run, problem_type="multi_label_classification")
    text = " ".join(build_card(run, "user/smile").text.split())
    assert "clips with several labels. They predict the probability of each label for the clip" in text
    assert "labels[0, 0] = 1.0" in text and "sigmoid() >= 0.5" in text and "--label-kind multiple" in text
    assert "one label each" not in text and "argmax" not in text and "torch.tensor([0])" not in text


def places(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in nested dictionaries and lists of dictionaries."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if isinstance(values, dict):
            yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@pytest.mark.slow
def test_a_card_leaves_out_what_is_missing(run):
    """Whichever field of the results is missing or null."""
    stage = {
        "lora": {"layers": 2, "rank": 4, "alpha": 8, "dropout": 0.1},
        "sources": [{"name": "faces", "num_clips": 3, "terms": "ask"}],
        "shared_people": {"test": {"train": 2}},
        "hardware": {"device": "cpu", "processes": 1, "mixed_precision": "no"},
        "calibration": {"num_clips": 3},
        "continued_from": {"dataset": "user/old", "num_clips": 3},
    }
    several = {
        "clips_with": {"anger": 30, "neutral": 0},
        "average_precision": {"anger": 0.5, "neutral": None},
        "f1": {"anger": 0.5, "neutral": None},
        "map": 0.5,
        "num_clips": 40,
    }
    more = {"seen_in_training": True, "votes": {"kl_divergence": 0.5, "top_vote_accuracy": 0.8}}
    edit_metrics(run, **MEASURED, **more, training=stage, also_measured=[several])
    complete = (run / "metrics.json").read_text()
    build_card(run, "user/smile")
    for place in places(json.loads(complete)):
        for is_null in (False, True):
            metrics = json.loads(complete)
            holder = metrics
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = None
            if not is_null:
                del holder[place[-1]]
            (run / "metrics.json").write_text(json.dumps(metrics))
            try:
                build_card(run, "user/smile")
            except Exception as error:
                raise AssertionError(f"{place} is {'null' if is_null else 'missing'}") from error


def test_votes_are_compared_with_the_probabilities(run):
    edit_metrics(run, votes={"kl_divergence": 0.525, "top_vote_accuracy": 0.81})
    text = " ".join(build_card(run, "user/smile").text.split())
    assert "from the votes is 0.53 nats. In 81.0% of the clips no label has more votes than the most" in text
