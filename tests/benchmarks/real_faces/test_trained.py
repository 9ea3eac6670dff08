"""A trained model on photographs and on clips, and `fer` on the same frames."""

import numpy as np
import pytest
import torch
from made_up_results import FAR

from benchmarks.harness.results import read_results
from benchmarks.harness.runner import run_rows
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.clip_rows import clip_rows
from benchmarks.real_faces.photograph_rows import photograph_rows
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.config import ModelConfig
from tgdfer.training.errors import UserError
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS


def saved(folder, clip_folder, classes):
    """An untrained model, saved as a trained one is."""
    torch.manual_seed(3)
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), classes)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return TrainedModel(str(folder))


def test_trained_model_on_photographs(photographs, fer, clip_folder, tmp_path):
    trained = saved(tmp_path / "model", clip_folder, sorted(EMOTIONS))
    rows = [row for row in photograph_rows(photographs, fer, trained) if row.name == "trained"]
    assert rows[0].title == "TG-DFER, model" and str(tmp_path) not in str(rows[0].config)
    assert run_rows(photographs, rows, tmp_path, "", FAR)
    run = read_results(tmp_path)[0].rows["trained"]["parts"]["once"]
    assert np.array(run["probabilities"]).sum(1) == pytest.approx(np.ones(42)) and run["faces_found"] == 0


def test_trained_model_without_the_classes_is_one_sentence(photographs, fer, clip_folder, tmp_path):
    trained = saved(tmp_path / "model", clip_folder, ["anger", "neutral"])
    row = next(row for row in photograph_rows(photographs, fer, trained) if row.name == "trained")
    with pytest.raises(UserError, match="lacks the classes disgust, fear"):
        row.run("once", {}, tmp_path)


def test_clip_is_no_trained_model(clip_folder):
    with pytest.raises(UserError, match="not of a trained"):
        _ = TrainedModel(str(clip_folder)).fingerprint


def test_trained_model_and_fer_on_clips(dataset, fer, clip_folder, tmp_path):
    trained = saved(tmp_path / "model", clip_folder, sorted(EMOTIONS))
    rows = clip_rows(dataset, fer, trained)
    assert [row.name for row in rows] == [
        *("random", "position", "frozen-mean", "frozen-top", "tgdfer", "oracle"),
        *("trained", "fer-mean", "fer-top"),
    ]
    assert run_rows(
        dataset, [row for row in rows if row.name in ("trained", "fer-mean", "fer-top")], tmp_path, "", FAR
    )
    found = read_results(tmp_path)[0].rows
    run = found["trained"]["parts"]["once"]
    assert set(run["predicted"]) <= set(dataset.classes), "only classes of the clips are answers"
    assert len(run["confidence"]) == len(run["right"]) == len(dataset.test.labels) and run["unsure_below"] is None
    for name in ("trained", "fer-mean", "fer-top"):
        scores = found[name]["parts"]["once"]["scores"]
        assert [len(of_clip) for of_clip in scores] == [4] * len(dataset.test.labels)
    assert found["fer-mean"]["parts"]["once"]["scores"] == found["fer-top"]["parts"]["once"]["scores"]
    happy = dataset.test.labels.index("happiness")
    assert found["fer-mean"]["parts"]["once"]["scores"][happy] == pytest.approx([0.7 / 0.8] * 4)


def test_probabilities_are_those_at_the_temperature(photographs, dataset, fer, trained):
    model = trained.network[0]
    logits = torch.randn(5, 7)
    assert torch.allclose(trained.probabilities(logits), (logits / 0.2).softmax(-1))
    for data, rows in ((photographs, photograph_rows), (dataset, clip_rows)):
        row = next(row for row in rows(data, fer, trained) if row.name == "trained")
        calibrated = row.run("once", {}, None)
        model.config.temperature = 1.0
        plain = row.run("once", {}, None)
        model.config.temperature = 0.2
        assert calibrated["predicted"] == plain["predicted"] and calibrated["right"] == plain["right"]
        assert (np.array(calibrated["confidence"]) > plain["confidence"]).all() and calibrated["unsure_below"] == 0.3


def test_other_calibration_or_words_are_another_row(trained):
    first = trained.fingerprint
    trained.network[0].config.temperature = 0.3
    del trained.fingerprint
    second = trained.fingerprint
    trained.network[1].descriptions["fear"] = ["afraid"]
    del trained.fingerprint
    assert len({first, second, trained.fingerprint}) == 3


def test_all_rows_see_the_same_frames_of_a_clip(dataset, fer, trained, monkeypatch, tmp_path):
    """Those of `fer`, of the features of the frozen CLIP and of the trained model, which does not crop them again."""
    decoded: list[list[int]] = []
    read = TGDFERVideoProcessor._read

    def noted(self, *arguments, **options):
        clip = read(self, *arguments, **options)
        decoded.append([int(index) for index in clip.metadata.frames_indices])
        return clip

    monkeypatch.setenv("TGDFER_CACHE", str(tmp_path / "cache"))  # in which no features are yet
    monkeypatch.setattr(TGDFERVideoProcessor, "_read", noted)
    monkeypatch.setattr("tgdfer.processing.detectors_tgdfer._detector", lambda *a: pytest.fail("cropped again"))
    rows = {row.name: row for row in clip_rows(dataset, fer, trained)}
    seen = {}
    for name in ("trained", "fer-mean", "frozen-mean"):
        decoded.clear()
        if name == "frozen-mean":
            dataset.features("test")  # which the oracle has, too
        else:
            rows[name].run("once", {}, None)
        seen[name] = list(decoded)
    assert seen["trained"] == seen["fer-mean"] == seen["frozen-mean"] == [[1, 3, 5, 7]] * len(dataset.test.labels)
    assert trained.network[1].video_processor.face_crop == "largest", "it is as it was"
