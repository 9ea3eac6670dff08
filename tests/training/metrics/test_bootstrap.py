"""Calibration error and risk against coverage, each on what is known by hand."""

import numpy as np
import pytest

from tgdfer.training.metrics import expected_calibration_error, risk_coverage_curve
from tgdfer.training.metrics.bootstrap import weighted_calibration_error


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    right = np.array([True, True, True, False, True, False])
    # Two bins: |0.9 - 0.75| for four of six, |0.6 - 0.5| for the other two.
    assert weighted_calibration_error(confidence, right) == pytest.approx([(4 * 0.15 + 2 * 0.1) / 6])
    assert weighted_calibration_error(np.ones(3), np.ones(3, bool)) == pytest.approx([0])


def test_calibration_error_with_weights_is_that_of_the_repeated_people():
    rng = np.random.default_rng(0)
    confidence, right, people = rng.uniform(0.2, 1, 40), rng.uniform(size=40) < 0.5, np.repeat(np.arange(10), 4)
    weights = rng.integers(0, 3, (5, 10)).astype(float)
    found = weighted_calibration_error(confidence, right, people, weights)
    for row, value in zip(weights, found, strict=True):
        again = np.repeat(np.arange(40), row[people].astype(int))
        assert value == pytest.approx(weighted_calibration_error(confidence[again], right[again])[0])


def test_risk_and_coverage_by_hand():
    _, coverage, risk = risk_coverage_curve(np.array([0.2, 0.9, 0.5]), np.array([False, True, False]))
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1]) and risk == pytest.approx([0, 0.5, 2 / 3])


def test_without_weights_it_is_the_error_of_the_metrics():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(200), rng.random(200) < 0.6
    np.testing.assert_allclose(
        weighted_calibration_error(confidence, right), [expected_calibration_error(confidence, right)]
    )
