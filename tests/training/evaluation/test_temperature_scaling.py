"""Temperature scaling is fitted on other clips than those it is measured on."""

import numpy as np
import pytest

from tgdfer.training.evaluation.temperature_scaling import cross_fitted_temperatures, temperature_scaling


def overconfident(number: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and labels that are drawn from the true probabilities."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(number, 3))
    shares = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    return sharpness * true, np.array([rng.choice(3, p=row) for row in shares])


def test_error_falls_when_the_temperature_is_found_on_other_clips():
    logits, targets = overconfident(400, sharpness=4)
    found = temperature_scaling(logits, targets)
    assert found["cross_fitted"]["temperature"] == pytest.approx(4, rel=0.25) and found["cross_fitted"]["folds"] == 5
    assert found["before"]["ece"] > 0.2 > 0.1 > found["cross_fitted"]["ece"]
    for figures in found.values():
        assert figures["interval"][0] <= figures["ece"] <= figures["interval"][1]
    assert "of_the_model" not in found
    own = temperature_scaling(logits, targets, own_temperature=4.0)["of_the_model"]
    assert own["temperature"] == 4 and own["ece"] < 0.1


def test_label_of_a_clip_does_not_change_the_temperature_of_its_person():
    logits, targets = overconfident(60, sharpness=3)
    units = np.arange(60) // 3
    temperatures, _ = cross_fitted_temperatures(logits, targets, units)
    others = targets.copy()
    others[:3] = (targets[:3] + 1) % 3
    changed, _ = cross_fitted_temperatures(logits, others, units)
    assert (changed[:3] == temperatures[:3]).all()
    assert (changed != temperatures).any(), "people of other folds are scaled with what was fitted on these clips"
    assert len(set(temperatures[:3])) == 1


def test_one_person_cannot_be_cross_fitted():
    logits, targets = overconfident(6, sharpness=1)
    assert list(temperature_scaling(logits, targets, ["anna"] * 6)) == ["before"]
    assert temperature_scaling(logits, targets, ["anna"] * 3 + ["ben"] * 3)["cross_fitted"]["folds"] == 2
