"""Photographs as a data set, and the rows on them."""

import numpy as np
import pytest
from made_up_results import FAR

from benchmarks.harness.comparison import figures_of, outcomes
from benchmarks.harness.results import read_results
from benchmarks.harness.runner import run_rows
from benchmarks.real_faces.photograph_rows import photograph_rows, shuffled_descriptions
from benchmarks.real_faces.photographs import PhotographDataset, frequent
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import EMOTIONS


def test_only_clear_emotions_count_and_near_duplicates_are_not_trained_on(photographs):
    assert photographs.classes == sorted(EMOTIONS)
    assert {split: len(rows) for split, rows in photographs.rows.items()} == {
        "train": 42,
        "validation": 42,
        "test": 42,
    }
    assert photographs.truth.labels == list(EMOTIONS) * 6 and len(set(photographs.truth.people)) == 42
    assert all(picture.shape == (48, 48) for picture in photographs.pictures("test"))


def test_crops_and_features_are_made_once(photographs, no_detector):
    parts = list(photographs.crops("test"))
    assert [len(part.crops) for part in parts] == [16, 16, 10] and not any(sum((p.found for p in parts), []))
    assert parts[0].clips()[0].shape == (1, 224, 224, 3)
    # The whole picture, enlarged, where no face is found.
    assert abs(parts[0].clips()[0].mean() - photographs.pictures("test")[0].mean()) < 2
    looked = len(no_detector)
    first = photographs.features("test").features
    assert first.shape == (1, 42, 1, 16) and len(no_detector) == looked
    assert (photographs.features("test").features == first).all()
    (photographs.work / "crops").rename(photographs.work / "gone")
    assert (photographs.features("test").features == first).all()


def test_interrupted_crops_go_on_with_the_first_part_that_is_missing(photographs, no_detector):
    crops = photographs.crops("test")
    next(crops)
    crops.close()
    looked = len(no_detector)
    assert len(list(photographs.crops("test"))) == 3
    assert len(no_detector) - looked == looked // 16 * 26


@pytest.mark.parametrize("name", ["image", "near"])
def test_missing_column_is_one_sentence(photographs_file, tmp_path, settings, name):
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(photographs_file).drop_columns([name]), photographs_file)
    with pytest.raises(UserError, match=name):
        PhotographDataset(photographs_file, settings, tmp_path)


def test_other_files_are_one_sentence(tmp_path, settings):
    with pytest.raises(UserError, match="none.parquet is not a file"):
        PhotographDataset(tmp_path / "none.parquet", settings, tmp_path)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UserError, match="cannot be read"):
        PhotographDataset(tmp_path / "text.parquet", settings, tmp_path)


def test_all_rows_on_photographs(photographs, fer, tmp_path):
    rows = photograph_rows(photographs, fer, None)
    assert run_rows(photographs, rows, tmp_path, "the command", FAR)
    results = read_results(tmp_path)[0]
    found = results.rows
    assert set(found) == {"random", "words", "descriptions", "shuffled", "probe", "fer"}
    assert found["random"]["figures"]["uar"][0] == pytest.approx(1 / 7)
    assert found["probe"]["figures"]["war"][0] > 0.9, "the brightness tells the label"
    assert found["probe"]["parts"]["once"]["chosen"]["C"] in (1e-3, 1e-2, 1e-1, 1.0)
    assert len(found["shuffled"]["parts"]) == 20
    right = results.outcomes("fer").right[0]
    labels = np.array(results.truth.labels)
    assert right[np.isin(labels, ["anger", "happiness"])].all() and not right[labels == "fear"].any()
    for name in ("words", "descriptions", "probe", "fer"):
        kept = np.array(found[name]["parts"]["once"]["probabilities"])
        predicted = [results.truth.classes[i] for i in kept.argmax(1)]
        assert predicted == found[name]["parts"]["once"]["predicted"] and (kept >= 0).all()


def test_shuffled_descriptions_are_the_same_in_another_order():
    words = {"a": ["1", "2", "3"], "b": ["4"], "c": ["5", "6"]}
    dealt = shuffled_descriptions(words, 1)
    assert {label: len(texts) for label, texts in dealt.items()} == {"a": 3, "b": 1, "c": 2}
    assert sorted(sum(dealt.values(), [])) == list("123456") and dealt != words
    assert dealt == shuffled_descriptions(words, 1) != shuffled_descriptions(words, 2)


def test_frequent_labels():
    assert frequent(["b", "a", "b", "c", "a"], minimum=2) == ["a", "b"]


def test_answers_are_figures_of_the_harness(photographs):
    run = {"predicted": photographs.truth.labels, "scores": None}
    figures = figures_of(outcomes([run], photographs.truth), photographs.truth)
    assert figures["war"] == figures["uar"] == [1.0] and figures["frame_ap"] == [None]
