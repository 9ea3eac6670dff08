"""What the calibration of a model makes of its logits: probabilities, the answer "unsure", and known words.

The config of a model from before there was calibration lacks these fields: it counts as not calibrated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

# The answer of a clip whose best class is not probable enough.
UNSURE = "unsure"


def at_temperature(logits: Tensor, config: Any = None) -> Tensor:
    """Logits (..., K) of clips, divided by the temperature of the model (Guo et al., 2017), for a softmax.

    Args:
        logits: as the network gives them.
        config: of the model; None for one without calibration.
    """
    return logits / getattr(config, "temperature", 1.0)


def candidates(scores: Sequence[float], names: Sequence[str], config: Any = None) -> list[str]:
    """The labels that a clip may have, the most probable one first.

    Args:
        scores: K calibrated probabilities.
        names: K labels.
        config: of the model; None for one that is never unsure.

    Returns:
        One label, or the best two if the best is less probable than `config.unsure_below`.
    """
    ranked = sorted(range(len(names)), key=lambda index: -scores[index])  # stable, so ties go like argmax
    below = getattr(config, "unsure_below", None)
    unsure = below is not None and scores[ranked[0]] < below
    return [names[index] for index in ranked[: 2 if unsure else 1]]


def references_of(label: str, config: Any = None) -> Mapping[str, Sequence[float]]:
    """For each description of a label the mean and standard deviation of its cosine; empty if unknown."""
    return (getattr(config, "description_references", None) or {}).get(label, {})
