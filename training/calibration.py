"""Calibration of a trained model on validation clips: temperature, threshold of "unsure", and references.

The references are the cosines of the descriptions, for explanations, and the distribution of the frame embeddings, for
searches.

The same clips select the best epoch. Therefore calibration looks slightly better on them than on new clips. `tgdfer
evaluate` measures it on the test split. Calibration changes `config.json` and `processor_config.json`, but not the
weights.
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
from tgdfer.processing.search_tgdfer import SearchReference
from tgdfer.training.files import read_json, write_text
from tgdfer.training.metrics import expected_calibration_error, risk_coverage_curve
from tgdfer.training.models import load_trained
from tgdfer.training.processes import gather_batches, process_state

# The threshold of "unsure" halves the share of wrong answers, but at most half of the clips get the answer "unsure". A
# fixed target accuracy would not work: on a difficult data set the model would hardly ever answer, and on an easy one
# nothing would change.
MAX_RELATIVE_RISK = 0.5
MIN_COVERAGE = 0.5
# Number of frames of each clip in the reference for searches. Adjacent frames are almost equal.
REFERENCE_FRAMES = 4
# Below this number of validation clips, a message says that the calibration is rough.
_FEW = 50

References = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Calibration:
    """Values that were fitted on the validation clips, and the figures of the model on these clips.

    Attributes:
        num_clips (`int`): Number of validation clips.
        temperature (`float`): `temperature` of the model config.
        unsure_below (`float`, *optional*): `unsure_below` of the model config.
        references (`References`): `description_references` of the model config.
        search_reference (`SearchReference`, *optional*): Distribution of the frame embeddings, for the processor. None
            if there are too few frames.
        ece_before (`float`): Expected calibration error at temperature 1.
        ece (`float`): Expected calibration error at `temperature`.
        coverage (`float`): Share of the clips whose answer is not "unsure".
        accuracy (`float`, *optional*): Share of correct answers among these clips. None if there are none.
    """

    num_clips: int
    temperature: float
    unsure_below: float | None
    references: References
    search_reference: SearchReference | None
    ece_before: float
    ece: float
    coverage: float
    accuracy: float | None

    @property
    def facts(self) -> dict[str, Any]:
        """The values for `training.json`."""
        return {name: value for name, value in vars(self).items() if name not in ("references", "search_reference")}

    def __str__(self) -> str:
        unsure = "never unsure" if self.unsure_below is None else f"unsure below {self.unsure_below:.0%}"
        sentence = (
            f"Calibrated on {self.num_clips} validation clips: temperature {self.temperature:.2f}, {unsure}; "
            f"calibration error {self.ece_before:.3f} before and {self.ece:.3f} after."
        )
        if self.num_clips < _FEW:
            sentence += (
                " So few clips give a rough calibration, which may be worse than none: with more validation clips, the"
                " probabilities are more reliable."
            )
        return sentence


def calibrate(folder: str | Path, batches: Iterable[dict[str, Tensor]], device: Any) -> Calibration:
    """Calibrates a saved model on labelled clips, and rewrites its `config.json` and `processor_config.json`.

    Several processes share the clips. Every process must call this function, and the main process writes the files.

    Args:
        folder (`str` or `Path`): Folder of a model and its processor, as written by `save_pretrained`.
        batches (`Iterable[dict[str, Tensor]]`): Inputs of the network with `labels`. Each process gives the batches
            that `own_batches` assigns to it.
        device (`Any`): Device of the network.

    Returns:
        The fitted values, the same in every process.

    Raises:
        UserError: If the model cannot be read.
    """
    model, processor = load_trained(folder, dtype=torch.float32)
    logits, targets, cosines, frames = _outputs(model.to(device), batches)
    names = model.config.class_names
    temperature = fit_temperature(logits, targets)
    correct = (logits.argmax(-1) == targets).numpy()
    before, confidences = (_confidences(logits / value) for value in (1.0, temperature))
    # A class with this name could not be distinguished from the answer "unsure".
    unsure_below = None if UNSURE in names else choose_threshold(confidences, correct)
    answered = confidences >= (unsure_below or 0.0)
    calibration = Calibration(
        num_clips=len(targets),
        temperature=temperature,
        unsure_below=unsure_below,
        references=description_references(cosines, targets, names, processor.descriptions or {}),
        search_reference=search_reference(frames, targets),
        ece_before=expected_calibration_error(before, correct),
        ece=expected_calibration_error(confidences, correct),
        coverage=float(answered.mean()),
        accuracy=float(correct[answered].mean()) if answered.any() else None,
    )
    if process_state().is_main_process:
        _write_config(Path(folder), calibration)
    return calibration


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Fits the temperature that maximises the likelihood of the true labels (Guo et al., 2017).

    If the model classifies all clips correctly, which is common with few clips, the likelihood is highest at a
    temperature of zero. Therefore the labels are smoothed by 1 / (N + 1). This corresponds to one additional clip of
    unknown class, and has no noticeable effect with many clips. Platt (1999) does the same for two classes.

    Args:
        logits (`Tensor` of shape `(N, K)`): Logits of the clips.
        targets (`Tensor` of shape `(N,)`): Indices of the true classes.
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
    # If all logits are equal, every temperature gives the same likelihood.
    return temperature if math.isfinite(temperature) and temperature > 0 else 1.0


def choose_threshold(confidences: np.ndarray, correct: np.ndarray) -> float:
    """Chooses the lowest confidence threshold at which the error rate is half of that of all answers.

    Args:
        confidences (`np.ndarray` of shape `(N,)`): Probability of the predicted label.
        correct (`np.ndarray` of shape `(N,)`): Whether the predicted label is correct.

    Returns:
        The threshold, or 0 if all answers are correct. If halving the error rate would leave less than half of the
        clips, the threshold is the one at which half of the clips get an answer.
    """
    thresholds, coverage, risk = risk_coverage_curve(confidences, correct)
    if risk[-1] == 0:
        return 0.0
    acceptable = (coverage >= MIN_COVERAGE) & (risk <= MAX_RELATIVE_RISK * risk[-1])
    chosen = np.flatnonzero(acceptable)[-1] if acceptable.any() else np.flatnonzero(coverage >= MIN_COVERAGE)[0]
    return float(thresholds[chosen])


def description_references(
    cosines: Tensor, targets: Tensor, names: Sequence[str], descriptions: Mapping[str, Sequence[str]]
) -> References:
    """Computes mean and standard deviation, over clips, of the cosine of each description with the decisive frames.

    All classes have the same total weight. Otherwise the descriptions of a frequent class would be compared with a
    mean over mostly its own clips, which they would hardly ever exceed.

    Args:
        cosines (`Tensor` of shape `(N, K, M)`): Mean cosine of each description with the decisive frames of each clip.
        targets (`Tensor` of shape `(N,)`): Indices of the true classes.
        names (`Sequence[str]`): The K labels.
        descriptions (`Mapping[str, Sequence[str]]`): At most M descriptions of each label.

    Returns:
        `[mean, standard deviation]` for each description of each label. Descriptions with the same cosine in all clips
        are omitted.
    """
    weights = _balanced_weights(targets).view(-1, 1, 1)
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


def search_reference(frames: Tensor, targets: Tensor) -> SearchReference | None:
    """Computes the distribution of frame embeddings over clips, with the same total weight for all classes.

    Args:
        frames (`Tensor` of shape `(N, F, D)`): Embeddings of F frames of each clip.
        targets (`Tensor` of shape `(N,)`): Indices of the true classes.

    Returns:
        The distribution, or None if there are too few frames or all of them are equal.
    """
    weights = _balanced_weights(targets).repeat_interleave(frames.shape[1])
    try:
        return SearchReference.fit(frames.flatten(0, 1), weights, f"frames of {len(targets)} validation clips")
    except ValueError:
        return None


def _balanced_weights(targets: Tensor) -> Tensor:
    """Returns weights of clips with sum one, so that all classes have the same total weight: (N,) -> (N,)."""
    weights = 1.0 / torch.bincount(targets)[targets].double()
    return weights / weights.sum()


def _confidences(logits: Tensor) -> np.ndarray:
    """Returns the probability of the most probable class: (N, K) -> (N,)."""
    return logits.softmax(-1).amax(-1).numpy()


def _outputs(
    model: TGDFERForVideoClassification, batches: Iterable[dict[str, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns logits (N, K), classes (N,), cosines (N, K, M) for `description_references`, and frames (N, F, D)."""
    outputs = []
    for batch in batches:
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        for truth in ("intensity", "activity"):
            inputs.pop(truth, None)
        targets = inputs.pop("labels").cpu()
        with torch.inference_mode():
            if "pixel_values_videos" in inputs:
                pixels = inputs.pop("pixel_values_videos")
                inputs["frame_features"] = model.get_frame_features(pixels, inputs["frame_mask"])
            output = model(**inputs)
        relevance = output.frame_relevance.float().cpu()
        cosines = output.description_relevance.double().cpu()
        masks = inputs["frame_mask"].bool().cpu()
        decisive = [_decisive_cosines(relevance[clip, mask], cosines[clip, mask]) for clip, mask in enumerate(masks)]
        frames = _reference_frames(inputs["frame_features"].float().cpu(), masks)
        outputs.append((output.logits.float().cpu(), targets, torch.stack(decisive), frames))
    logits, classes, cosines, frames = (torch.cat(values) for values in zip(*gather_batches(outputs), strict=True))
    return logits, classes, cosines, frames


def _reference_frames(features: Tensor, masks: Tensor) -> Tensor:
    """Selects evenly spaced unmasked frames of clips: features (B, T, D), masks (B, T) -> (B, F, D)."""
    chosen = []
    for clip, mask in zip(features, masks, strict=True):
        frames = clip[mask]
        # A clip may have fewer frames. Some of them are then repeated.
        chosen.append(frames[torch.linspace(0, len(frames) - 1, REFERENCE_FRAMES).round().long()])
    return torch.stack(chosen)


def _decisive_cosines(relevance: Tensor, cosines: Tensor) -> Tensor:
    """Averages the cosines of a clip over the decisive frames of each class, as explanations do.

    Args:
        relevance: (T, K) Relevance of the frames.
        cosines: (T, K, M) Cosines of the frames with the descriptions.

    Returns:
        Mean cosines (K, M).
    """
    return torch.stack(
        [cosines[decisive_frames(shares), index].mean(0) for index, shares in enumerate(relevance.unbind(1))]
    )


def _write_config(folder: Path, calibration: Calibration) -> None:
    path = folder / "config.json"
    config = read_json(path) | {
        "temperature": calibration.temperature,
        "unsure_below": calibration.unsure_below,
        "description_references": calibration.references,
    }
    # The keys of `id2label` are texts here. Sorted as texts, 10 would come before 2.
    write_text(path, json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    path, reference = folder / "processor_config.json", calibration.search_reference
    config = read_json(path) | {"search_reference": None if reference is None else reference.to_dict()}
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
