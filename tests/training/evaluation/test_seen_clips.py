"""Clips that a model was trained on: which ones are counted, and when nothing is read."""

import pytest
from published_trees import write_dfew

from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.evaluation import seen_clips
from tgdfer.training.evaluation.seen_clips import seen_facts


@pytest.fixture(scope="module")
def dfew(tmp_path_factory):
    return write_dfew(tmp_path_factory.mktemp("dfew"), clips=35, unlisted=0)


def test_the_test_clips_of_another_fold_were_trained_on(dfew, tmp_path, caplog):
    # The data set has moved since the training.
    options = {"dataset": "dfew", "data_root": str(tmp_path), "fold": 1, "validation_fraction": 0.0}
    run = TrainingConfig.from_options(**options)
    reading = {"data_root": str(dfew), "fold": 2}
    found = seen_facts(run, "test", reading, load_clips("dfew", "test", **reading))
    assert found == {"seen_in_training": True, "num_seen_in_training": 7}
    assert "trained on 7 of the 7 clips of split 'test'" in caplog.text


@pytest.mark.parametrize("reading", [{"fold": 1}, {}])
def test_for_the_test_clips_of_the_own_fold_nothing_is_read(dfew, reading, monkeypatch):
    monkeypatch.setattr(seen_clips, "load_parts", lambda *_: 1 / 0)
    run = TrainingConfig.from_options(dataset="dfew", data_root=str(dfew))
    reading = {"data_root": str(dfew), **reading}
    assert seen_facts(run, "test", reading, load_clips("dfew", "test", **reading)) == {}


def test_training_clips_that_are_gone_are_a_warning(clips_folder, tmp_path, caplog):
    run = TrainingConfig.from_options(dataset=str(tmp_path / "gone"))
    assert seen_facts(run, "train", {}, load_clips(str(clips_folder), "train")) == {}
    assert "trained on these clips is not known. Cannot read the data set" in caplog.text
