"""Faces that differ in one respect, and figures by group."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.fairness import __main__ as command
from benchmarks.fairness.faces import FACTORS, Picture, rendered_groups
from benchmarks.fairness.measure import Predictions, figures_by_group, predict_pictures
from benchmarks.fairness.report import weaker_groups
from tgdfer.training import models
from tgdfer.training.config import ModelConfig
from tgdfer.training.errors import UserError
from tgdfer.training.models import start_model
from tgdfer.training.rendered_faces import EMOTIONS


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return list(rendered_groups(people=1))


def test_every_group_shows_the_same_expressions_of_the_same_people(pictures):
    groups = sum(map(len, FACTORS.values()))
    assert len(pictures) == groups * len(EMOTIONS)
    assert set(Counter((one.factor, one.group) for one in pictures).values()) == {len(EMOTIONS)}
    again = next(iter(rendered_groups(people=1)))
    assert (again.image == pictures[0].image).all() and again.image.shape == (112, 112, 3)


def test_groups_differ_from_their_reference_and_references_do_not_differ(pictures):
    images = {(one.factor, one.group): one.image.astype(int) for one in pictures if one.label == "happiness"}
    first = {factor: images[factor, next(iter(groups))] for factor, groups in FACTORS.items()}
    references = list(first.values())
    assert all((one == references[0]).all() for one in references)
    for factor, groups in FACTORS.items():
        for group in list(groups)[1:]:
            assert np.abs(images[factor, group] - first[factor]).max() > 10, (factor, group)


def test_skin_is_darker_beside_the_background(pictures):
    """The exposure of the camera follows the skin, so that the background changes, too."""
    images = [one.image.astype(float) for one in pictures if one.factor == "skin colour" and one.label == "neutral"]
    shares = [image[40:70, 45:65].mean() / image[:8, :8].mean() for image in images]
    assert shares == sorted(shares, reverse=True) and shares[0] > 1.5 * shares[-1]


def made_up(people: int = 20) -> Predictions:
    """In group b the first label is wrong for half of the people; confidence is 0.9 throughout."""
    facts = [(group, person, label) for group in "ab" for person in range(people) for label in ("x", "y")]
    groups, who, labels = (np.array(column) for column in zip(*facts, strict=True))
    wrong = (groups == "b") & (labels == "x") & (who % 2 == 0)
    predicted = np.where(wrong, "y", labels)
    return Predictions(np.full(len(facts), "f"), groups, who, labels, predicted, np.full(len(facts), 0.9))


def test_figures_by_group_by_hand():
    found = figures_by_group(made_up(), "f", ["a", "b"])
    assert found["a"].uar == (1.0, 1.0, 1.0) and found["a"].uar_difference is None
    assert found["a"].ece == pytest.approx((0.1, 0.1, 0.1))
    assert found["b"].recall == {"x": 0.5, "y": 1.0} and found["b"].pictures == 40
    value, low, high = found["b"].uar_difference
    assert value == -0.25 and low < -0.25 < high < 0
    # The binomial share of people of whom one label is wrong, halved.
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 20) ** 0.5 / 2, rel=0.15)
    assert found["b"].ece[0] == pytest.approx(0.15) and found["b"].ece_difference[0] == pytest.approx(0.05)
    assert weaker_groups({"f": found}) == ["f, b: " + f"-25.0 [{100 * low:+.1f}, {100 * high:+.1f}] compared with a"]


def test_answers_do_not_depend_on_batches(pictures, clip_folder, monkeypatch):
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), sorted(EMOTIONS))
    one = predict_pictures(model, processor.video_processor, pictures[:5])
    monkeypatch.setattr("benchmarks.fairness.measure._BATCH", 2)
    other = predict_pictures(model, processor.video_processor, pictures[:5])
    assert one.labels.tolist() == [picture.label for picture in pictures[:5]]
    assert one.confidence == pytest.approx(other.confidence) and (one.predicted == other.predicted).all()


def test_trained_model_is_measured_with_its_calibration(pictures, clip_folder, tmp_path):
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), sorted(EMOTIONS))
    plain = predict_pictures(model, processor.video_processor, pictures[:5])
    model.config.temperature = 0.5
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, processor = command._network(str(tmp_path))
    assert model.config.temperature == 0.5
    calibrated = predict_pictures(model, processor.video_processor, pictures[:5])
    assert (calibrated.predicted == plain.predicted).all() and (calibrated.confidence > plain.confidence).all()


def test_trained_model_without_the_emotions_is_one_sentence(clip_folder, tmp_path):
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), ["anger", "neutral"])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="lacks the classes disgust, fear"):
        command._network(str(tmp_path))


@pytest.mark.slow
def test_model_in_the_package_is_measured_by_default(clip_folder, tmp_path, monkeypatch):
    model, processor = start_model(ModelConfig(model=str(clip_folder), frozen_features=True), sorted(EMOTIONS))
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    monkeypatch.setitem(models.BUNDLED, "tgdfer-tiny", tmp_path / "model")
    monkeypatch.delenv("TGDFER_TRAINED", raising=False)
    files = ["--out", str(tmp_path / "fairness.md"), "--figures", str(tmp_path / "fairness.json")]
    answer = CliRunner().invoke(command.app, ["--people", "2", *files])
    assert answer.exit_code == 0, answer.output
    facts = json.loads((tmp_path / "fairness.json").read_text())
    assert facts["model"] == "tgdfer-tiny" and "--model" not in facts["command"]


@pytest.mark.slow
def test_report_is_written_only_when_asked(clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", str(clip_folder), "--people", "2"]
    answer = CliRunner().invoke(command.app, arguments)
    assert answer.exit_code == 0 and "glasses" in answer.output
    assert not list(Path(".").rglob("*"))
    files = ["--out", "docs/fairness.md", "--figures", "figures/fairness.json"]
    assert CliRunner().invoke(command.app, [*arguments, *files]).exit_code == 0
    text = Path("docs/fairness.md").read_text()
    assert "## Head pose" in text and "| even |" in text and str(clip_folder) not in text
    facts = json.loads(Path("figures/fairness.json").read_text())
    assert set(facts["groups"]) == set(FACTORS) and "--model clip --people 2" in facts["command"]


def test_unknown_model_is_one_sentence(tmp_path):
    answer = CliRunner().invoke(command.app, ["--model", str(tmp_path)])
    assert answer.exit_code == 2 and "checkpoint of another program" in answer.output
