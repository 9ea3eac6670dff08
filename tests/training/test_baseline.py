"""The baseline on made-up features, whose right answers are known."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tgdfer.model_card.card import CardData
from tgdfer.training import baseline as room
from tgdfer.training import evaluate
from tgdfer.training.baseline import NAME, clip_means, fit_classifier, mean_baseline
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.splits import Part, load_parts
from tgdfer.training.errors import UserError
from tgdfer.training.evaluate import evaluate_model
from tgdfer.training.features import FrameFeatures
from tgdfer.training.measure import ClipPrediction
from tgdfer.training.runs.run_folder import first_model, read_run_config, training_facts
from tgdfer.training.train import train

LABELS = ["happiness", "neutral", "sadness"]
NAN = float("nan")


def made_up(clips, views=1, apex=2):
    """Frames point any way, but that of a label only in the frame of the apex."""
    features = torch.randn(views, len(clips), 4, 6, generator=torch.Generator().manual_seed(views))
    features[..., :3] = 0
    for index, label in enumerate(clips.labels):
        features[:, index, apex, LABELS.index(label)] = 9
    mask = torch.ones(features.shape[:3], dtype=torch.bool)
    return FrameFeatures(features.half(), mask, torch.zeros(mask.shape))


@pytest.fixture
def parts(clips_folder):
    """All that a run is trained on, and the test clips."""
    clips = load_clips(str(clips_folder), "train")
    return Part(clips, list(range(len(clips)))), load_clips(str(clips_folder), "test")


def truth(clips, apex=2):
    shown = [float(frame == apex) for frame in range(4)]
    return [ClipPrediction("", 0.0, [], shown, [NAN] * 4) for _ in range(len(clips))]


def figures(options, parts, monkeypatch, views=2, apex=2):
    monkeypatch.setattr(
        room, "frame_features", lambda model, processor, clips, views, **_: made_up(clips, views.number)
    )
    config = TrainingConfig.from_options(**options, feature_views=views)
    return mean_baseline(config, options["model"], *parts, truth(parts[1], apex))


def test_separable_features_are_separated_and_the_apex_found(options, parts, monkeypatch):
    found = figures(options, parts, monkeypatch)
    assert found["name"] == NAME
    assert (found["war"], found["uar"], found["frame_ap"], found["pointing"]) == (1, 1, 1, 1)
    assert found["activity_gain"] is None


def test_frames_at_rest_are_not_taken_for_the_apex(options, parts, monkeypatch):
    """The score is that of the true class: where the truth is another frame, the apex still comes first."""
    found = figures(options, parts, monkeypatch, apex=1)
    assert found["uar"] == 1 and found["pointing"] == 0 and found["frame_ap"] < 0.6


def test_fits_on_the_clips_of_the_run_alone(options, parts, monkeypatch):
    everything, test = parts
    clips = everything.clips
    wrong = [i for i, label in enumerate(clips.labels) if label == "sadness"][2:]
    swapped = replace(clips, labels=["happiness" if i in wrong else label for i, label in enumerate(clips.labels)])
    kept = [index for index in range(len(clips)) if index not in wrong]
    monkeypatch.setattr(
        room, "frame_features", lambda *args, **_: made_up(clips if args[2] is swapped else args[2], 1)
    )
    run = TrainingConfig.from_options(**options)
    mislabelled = Part(swapped, list(range(len(clips))))
    assert mean_baseline(run, options["model"], mislabelled, test, truth(test))["uar"] < 1
    assert mean_baseline(run, options["model"], Part(swapped, kept), test, truth(test))["uar"] == 1


def test_no_person_is_on_both_sides_of_a_fold(monkeypatch):
    """Person p is written into the features, so that rows and groups are compared as scikit-learn sees them."""
    labels, people = ["a", "a", "b", "b"] * 5, [f"p{index % 10}" for index in range(20)]
    means = np.zeros((3, 20, 2))
    means[..., 0] = [int(person[1:]) for person in people]
    means[..., 1] = [label == "b" for label in labels]
    asked = []

    class Spy(room.GridSearchCV):
        def fit(self, rows, targets):
            asked.append((rows, targets, self.cv))
            return super().fit(rows, targets)

    monkeypatch.setattr(room, "GridSearchCV", Spy)
    assert fit_classifier(means, labels, people, seed=0).score(means[0], labels) == 1
    (rows, targets, folds), *_ = asked
    assert len(rows) == 60 and len(folds) == 5
    assert [label == "b" for label in targets] == rows[:, 1].tolist()
    for kept, checked in folds:
        assert not set(rows[kept, 0]) & set(rows[checked, 0])
        assert sorted([*kept, *checked]) == list(range(60))


@pytest.mark.parametrize("people", [1, 2, 3, 4, None])
def test_few_people_are_no_obstacle(people):
    labels = ["a", "b"] * 4
    who = None if people is None else [f"p{index // 2 % people}" for index in range(8)]
    means = np.zeros((2, 8, 3))
    means[..., 1] = [label == "b" for label in labels]
    assert fit_classifier(means, labels, who, seed=0).score(means[0], labels) == 1


def test_a_class_of_one_person_is_in_every_fit():
    labels = ["a"] * 6 + ["b"] * 6 + ["c"]
    who = [f"p{index % 6}" for index in range(12)] + ["p0"]
    means = np.stack([[[float(label == name) for name in "abc"] for label in labels]])
    assert fit_classifier(means, labels, who, seed=0).classes_.tolist() == ["a", "b", "c"]


def test_mean_leaves_out_padding():
    features = torch.tensor([[[[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]]])
    mask = torch.tensor([[[True, True, False]]])
    np.testing.assert_allclose(clip_means(FrameFeatures(features, mask, mask)), [[[0.5, 0.5]]])


@pytest.mark.slow
def test_run_with_few_people_is_measured_beside_the_clips_it_trained_on(options, tmp_path, folder_writer, monkeypatch):
    folder = folder_writer(tmp_path / "few", people=3)
    run = train(
        TrainingConfig.from_options(**options | {"dataset": str(folder), "validation_fraction": 0.34, "epochs": 1})
    )
    seen, original = [], evaluate.mean_baseline
    monkeypatch.setattr(evaluate, "mean_baseline", lambda *args: seen.append(args[2]) or original(*args))
    metrics = evaluate_model(run, baseline=True)
    assert 0 <= metrics["baseline"]["uar"] <= 1 and json.loads((run / "metrics.json").read_text()) == metrics
    config = TrainingConfig.from_options(**options | {"dataset": str(folder), "validation_fraction": 0.34})
    assert seen[0].indices == load_parts(config.data, config.run.seed)[0].indices and len(seen[0].indices) == 6


def test_the_first_model_is_found_from_any_folder(tmp_path, clip_folder, monkeypatch):
    facts = {"base_model": Path(clip_folder).name}
    for name, model in (("first", clip_folder), ("second", tmp_path / "first"), ("third", tmp_path / "second/last")):
        for kind in ("best", "last"):
            (tmp_path / name / kind).mkdir(parents=True)
            (tmp_path / name / kind / "config.json").touch()
        TrainingConfig.from_options(dataset="clips", model=str(model)).save(tmp_path / name / "config.yaml")
        (tmp_path / name / "training.json").write_text(json.dumps(facts))
        assert first_model(read_run_config(tmp_path / name), facts) == str(clip_folder)
    monkeypatch.chdir(tmp_path)
    config = TrainingConfig.from_options(dataset="clips", model="user/clip", revision="main")
    assert first_model(config, {"base_model": "user/clip", "base_model_revision": "1a"}) == "user/clip@1a"
    assert first_model(config, {"base_model": "clip-tiny-faces"}) == "clip-tiny-faces"


@pytest.mark.parametrize("model", ["backbones/clip-l14", "./backbones/clip-l14", "{here}/backbones/clip-l14"])
def test_of_a_folder_only_the_last_part_is_recorded(tmp_path, monkeypatch, clip_folder, model):
    (tmp_path / "backbones").mkdir()
    (tmp_path / "backbones" / "clip-l14").symlink_to(clip_folder)
    monkeypatch.chdir(tmp_path)
    config = TrainingConfig.from_options(dataset="dfew", data_root="x", model=model.format(here=tmp_path))
    part = SimpleNamespace(indices=[0], clips=SimpleNamespace(quarantined={}))
    facts = training_facts(config, part, None, 1)
    assert facts["base_model"] == "clip-l14"
    card = CardData("x", "user/x", ["a", "b"], metrics={"training": facts})
    assert card.metadata().base_model is None and "](" not in card.key_facts()["Base model"]


@pytest.mark.slow
def test_base_model_that_is_gone_costs_the_baseline_alone(options):
    run = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    facts = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps(facts | {"base_model": "nobody/nothing"}))
    with pytest.raises(
        UserError, match="The baseline failed, all other results are in .*Cannot read the model 'nobody/nothing'"
    ):
        evaluate_model(run, baseline=True)
    assert "baseline" not in json.loads((run / "metrics.json").read_text())
    assert (run / "predictions.csv").is_file() and (run / "figures" / "confusion_matrix.png").is_file()


@pytest.mark.slow
def test_trained_model_as_base_is_said_in_the_name(options, tmp_path):
    first = train(TrainingConfig.from_options(**options | {"epochs": 1}))
    (first / "best").rename(tmp_path / "published")  # as from the Hub: nobody knows what it was trained from
    changes = {"model": str(tmp_path / "published"), "output": str(tmp_path / "second"), "epochs": 1}
    metrics = evaluate_model(train(TrainingConfig.from_options(**options | changes)), baseline=True)
    assert metrics["training"]["base_model"] == "published"
    assert metrics["baseline"]["name"] == f"{NAME}, on the CLIP of the trained model published"
