"""When a fold is complete: its training is finished, and its results are those of its models on its test clips."""

import json

import pytest

from tgdfer.training.config import TrainingConfig
from tgdfer.training.folds import is_complete
from tgdfer.training.saved_weights import weights_sha256


@pytest.fixture
def folder(tmp_path):
    """The files of a complete fold that say what it is about."""
    options = {"dataset": "dfew", "data_root": str(tmp_path), "fold": 2, "split_map": {"test": "exam"}}
    facts = {"dataset": "dfew", "fold": 2, "validation": "by clip", "calibration": {}}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    TrainingConfig.from_options(**options).save(tmp_path / "config.yaml")
    for which, results in (("best", tmp_path), ("last", tmp_path / "last_epoch")):
        (tmp_path / which).mkdir()
        (tmp_path / which / "config.json").write_text("{}")
        (tmp_path / which / "model.safetensors").write_text(which)
        results.mkdir(exist_ok=True)
        metrics = {"dataset": "dfew", "fold": 2, "split": "test", "split_in_dataset": "exam", "model": which}
        metrics["weights_sha256"] = weights_sha256(tmp_path / which)
        (results / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("results", [".", "last_epoch"])
@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "mafw"},
        {"fold": 1},
        {"split": "train"},
        {"split_in_dataset": "train"},
        {"views": {"windows": 2, "crops": 1}},
        {"model": "other"},
        {"weights_sha256": "0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_results_of_something_else_are_no_test_of_a_fold(folder, results, change):
    assert is_complete(folder)
    edit(folder / results / "metrics.json", **change)
    assert not is_complete(folder)


def test_a_fold_whose_training_is_not_finished_is_not_complete(folder):
    facts = {"dataset": "dfew", "fold": 2, "validation": "by clip"}
    (folder / "training.json").write_text(json.dumps(facts))
    assert not is_complete(folder), "its best model is not calibrated"
    edit(folder / "training.json", validation=None)
    (folder / "last_epoch" / "metrics.json").unlink()
    assert is_complete(folder), "there is nothing to calibrate on, and the last epoch is the best"
    (folder / "last" / "config.json").unlink()
    assert not is_complete(folder)
