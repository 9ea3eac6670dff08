"""Calibration of a trained model on validation clips: temperature, the threshold of "unsure", and reference values.

The best epoch is chosen by the same clips, so calibration looks a little better on them than on new ones; `tgdfer
evaluate` measures it on the test split. Only `config.json` changes, the weights do not.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.configuration_tgdfer import UNSURE
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import decisive_frames
from tgdfer.training.files import read_json, write_text
from tgdfer.training.metrics import expected_calibration_error, risk_coverage_curve
from tgdfer.training.models import load_trained
from tgdfer.training.processes import gather_batches, process_state

# An answer is "unsure" for as many clips as it takes to halve the share of wrong answers, but never for more than half
# of the clips. A fixed accuracy would silence a model for a difficult data set and leave one for an easy data set as
# it is; a model that is silent more often than not is of no use.
LESS_RISK = 0.5
LEAST_COVERAGE = 0.5

References = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Calibration:
    """What was chosen on the validation clips, and how the model does on them.

    Attributes:
        num_clips: number of the clips.
        temperature: as in the config of the model.
        unsure_below: as in the config of the model.
        references: `description_references` of the config.
        ece_before: expected calibration error on the clips without temperature.
        ece: the same at the temperature.
        coverage: share of the clips whose answer is not "unsure".
        accuracy: share of right answers among these; None if there are none.
    """

    num_clips: int
    temperature: float
    unsure_below: float | None
    references: References
    ece_before: float
    ece: float
    coverage: float
    accuracy: float | None

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers for `training.json`."""
        return {name: value for name, value in vars(self).items() if name != "references"}

    def __str__(self) -> str:
        unsure = "never unsure" if self.unsure_below is None else f"unsure below {self.unsure_below:.0%}"
        return (
            f"Calibrated on {self.num_clips} validation clips: temperature {self.temperature:.2f}, {unsure}; "
            f"calibration error {self.ece_before:.3f} before and {self.ece:.3f} after."
        )


def calibrate(folder: str | Path, batches: Iterable[dict[str, Tensor]], device: Any) -> Calibration:
    """Calibrates a saved model on labelled clips and rewrites its `config.json`, whole or not at all.

    Several processes share the clips; every process calls this function, and the main one writes.

    Args:
        folder: of a model and its processor, as `save_pretrained` writes them.
        batches: of the clips, with their `labels`, as the network takes them; those of this process by `own_batches`.
        device: where the network runs.

    Raises:
        UserError: the model cannot be read.
    """
    model, processor = load_trained(folder, dtype=torch.float32)
    logits, targets, cosines = _outputs(model.to(device), batches)
    names = [name for _, name in sorted(model.config.id2label.items())]
    temperature = fit_temperature(logits, targets)
    right = (logits.argmax(-1) == targets).numpy()
    before, confidences = (_confidences(logits / value) for value in (1.0, temperature))
    # A class of this name could not be told from the answer that the model does not know.
    unsure_below = None if UNSURE in names else choose_threshold(confidences, right)
    kept = confidences >= (unsure_below or 0.0)
    calibration = Calibration(
        num_clips=len(targets),
        temperature=temperature,
        unsure_below=unsure_below,
        references=description_references(cosines, targets, names, processor.descriptions or {}),
        ece_before=expected_calibration_error(before, right),
        ece=expected_calibration_error(confidences, right),
        coverage=float(kept.mean()),
        accuracy=float(right[kept].mean()) if kept.any() else None,
    )
    if process_state().is_main_process:
        _write(Path(folder) / "config.json", calibration)
    return calibration


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature by which the true labels are most likely (Guo et al., 2017).

    If all clips are recognised, as few clips often are, a temperature of zero makes them most likely. The labels are
    therefore smoothed by 1 / (N + 1), as if one more clip had been seen that may be of any class (Platt, 1999, does
    alike for two classes). With many clips it makes no difference.

    Args:
        logits: (N, K).
        targets: (N,) true classes.
    """
    smoothing = 1 / (len(targets) + 1)
    logits, log_sharpness = logits.double(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_sharpness], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(log_sharpness.exp() * logits, targets, label_smoothing=smoothing)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    temperature = math.exp(-float(log_sharpness.detach()))
    # Logits that are all equal have no temperature.
    return temperature if math.isfinite(temperature) and temperature > 0 else 1.0


def choose_threshold(confidences: np.ndarray, right: np.ndarray) -> float:
    """The lowest confidence at which the answers that are given have half the share of errors of all answers.

    Args:
        confidences: (N,) probability of the predicted label.
        right: (N,) whether it is true.

    Returns:
        The threshold; 0 if all answers are right. If the errors cannot be halved with at least half of the clips, the
        threshold at which half of them are given.
    """
    thresholds, coverage, risk = risk_coverage_curve(confidences, right)
    if risk[-1] == 0:
        return 0.0
    enough = (coverage >= LEAST_COVERAGE) & (risk <= LESS_RISK * risk[-1])
    chosen = np.flatnonzero(enough)[-1] if enough.any() else np.flatnonzero(coverage >= LEAST_COVERAGE)[0]
    return float(thresholds[chosen])


def description_references(
    cosines: Tensor, targets: Tensor, names: Sequence[str], descriptions: Mapping[str, Sequence[str]]
) -> References:
    """Mean and standard deviation over clips of what each description has in the frames that decide for its class.

    Every label counts alike, however many clips it has: the descriptions of a frequent class would hardly ever exceed
    a mean over its own clips.

    Args:
        cosines: (N, K, M) mean cosine of each description with the decisive frames of each clip.
        targets: (N,) true classes.
        names: K labels.
        descriptions: for each label at most M descriptions.

    Returns:
        For each label, for each description `[mean, standard deviation]`; those that are the same in all clips are
        left out.
    """
    weights = 1.0 / torch.bincount(targets, minlength=len(names))[targets].double()
    weights = (weights / weights.sum()).view(-1, 1, 1)
    means = (weights * cosines).sum(0)
    deviations = (weights * (cosines - means).square()).sum(0).sqrt()
    return {
        label: {
            text: [float(means[index, place]), float(deviations[index, place])]
            for place, text in enumerate(descriptions.get(label, []))
            if deviations[index, place] > 1e-6
        }
        for index, label in enumerate(names)
    }


def _confidences(logits: Tensor) -> np.ndarray:
    return logits.softmax(-1).amax(-1).numpy()


def _outputs(
    model: TGDFERForVideoClassification, batches: Iterable[dict[str, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K) and true classes (N,) of N clips, and cosines (N, K, M) for `description_references`."""
    found = []
    for batch in batches:
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        for truth in ("intensity", "activity"):
            inputs.pop(truth, None)
        targets = inputs.pop("labels").cpu()
        with torch.inference_mode():
            output = model(**inputs)
        relevance, fits = output.frame_relevance.float().cpu(), output.description_relevance.double().cpu()
        masks = inputs["frame_mask"].bool().cpu()
        of_clips = [_decisive_cosines(relevance[clip, mask], fits[clip, mask]) for clip, mask in enumerate(masks)]
        found.append((output.logits.float().cpu(), targets, torch.stack(of_clips)))
    logits, classes, cosines = (torch.cat(values) for values in zip(*gather_batches(found), strict=True))
    return logits, classes, cosines


def _decisive_cosines(relevance: Tensor, cosines: Tensor) -> Tensor:
    """Of a clip: (T, K) and (T, K, M) -> (K, M), over the frames that `processor.explain` would speak of."""
    return torch.stack(
        [cosines[decisive_frames(of_class), index].mean(0) for index, of_class in enumerate(relevance.unbind(1))]
    )


def _write(path: Path, calibration: Calibration) -> None:
    config = read_json(path) | {
        "temperature": calibration.temperature,
        "unsure_below": calibration.unsure_below,
        "description_references": calibration.references,
    }
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
