"""The calibration error before and after temperature scaling, never fitted on the clips that it is measured on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupKFold

from tgdfer.training.calibration import fit_temperature
from tgdfer.training.metrics.bootstrap import bootstrap_values, weighted_calibration_error, with_error_interval

# Folds of people, or of clips if the people are unknown. There are fewer if there are fewer people.
FOLDS = 5


def temperature_scaling(
    logits: np.ndarray,
    targets: np.ndarray,
    people: Sequence[str] | None = None,
    own_temperature: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures the expected calibration error without and with temperature scaling (Guo et al., 2017).

    Two temperatures are measured. That of the model was fitted on its validation clips. The other one is
    cross-fitted: the clips are divided into five folds, the people of each fold are in no other fold, and the clips of
    a fold are scaled with the temperature that was fitted on the other folds. It shows what calibration on clips like
    these would give.

    Args:
        logits (`np.ndarray` of shape `(N, K)`): Logits of the clips, before any temperature.
        targets (`np.ndarray` of shape `(N,)`): Indices of the true classes.
        people (`Sequence[str]`, *optional*): Person in each clip. Folds and intervals are over clips without it.
        own_temperature (`float`, *optional*): Temperature of the model. None if it has none, or was calibrated on
            these clips.
        seed (`int`, *optional*, defaults to 0): Seed of the folds.

    Returns:
        `dict[str, Any]`: `before` (temperature 1), `of_the_model` and `cross_fitted`, each with `temperature`, `ece`
        and `interval` (95%, bootstrap; None with one person). The temperature of `cross_fitted` is the mean over its
        `folds`. The last two are missing if there is no temperature, or only one person.
    """
    units = np.arange(len(targets)) if people is None else np.unique(people, return_inverse=True)[1]
    right = (logits.argmax(1) == targets).astype(float)

    def error(scaled: np.ndarray) -> dict[str, Any]:
        shares = torch.from_numpy(scaled).softmax(-1).amax(-1).numpy()
        values = bootstrap_values(
            lambda weights: {"ece": weighted_calibration_error(shares, right, units, weights)}, units.max() + 1
        )
        value, low, high = with_error_interval(values["ece"]) or (np.nan,) * 3
        return {"ece": value, "interval": [max(0.0, low), min(1.0, high)] if units.max() else None}

    found: dict[str, Any] = {"before": {"temperature": 1.0, **error(logits)}}
    if own_temperature is not None:
        found["of_the_model"] = {"temperature": own_temperature, **error(logits / own_temperature)}
    if units.max() > 0:
        temperatures, folds = cross_fitted_temperatures(logits, targets, units, seed)
        found["cross_fitted"] = {
            "temperature": float(temperatures.mean()),
            "folds": folds,
            **error(logits / temperatures[:, None]),
        }
    return found


def cross_fitted_temperatures(
    logits: np.ndarray, targets: np.ndarray, units: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Returns a temperature for each clip (N,), fitted on the folds without the unit of the clip; and the folds."""
    folds = min(FOLDS, int(units.max()) + 1)
    temperatures = np.ones(len(targets))
    for fit, held_out in GroupKFold(folds, shuffle=True, random_state=seed).split(targets, groups=units):
        temperatures[held_out] = fit_temperature(torch.from_numpy(logits[fit]), torch.from_numpy(targets[fit]))
    return temperatures, folds
