"""Checks on rendered faces whether the descriptions and the frames of explanations are true.

Descriptions mention action units, and the active action units of every rendered frame are known.
"""

import copy
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from benchmarks.explanation.named_units import rendered_units
from benchmarks.harness.benchmark_dataset import THRESHOLD, BenchmarkDataset
from benchmarks.harness.faithfulness import SHARE, faithfulness, model_predictor
from benchmarks.harness.row import Run, rounded
from tgdfer.modeling_tgdfer.layers_tgdfer import top_frames
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import Explanation
from tgdfer.processing.frame_sampling_tgdfer import sample_indices
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.features import FrameFeatures
from tgdfer.training.measure import frame_scores
from tgdfer.training.rationale import RationaleVerifier
from tgdfer.training.rendered_faces import ACTION_UNITS, INDEX

# Lowest intensity at which an action unit counts as active. Captions always mention it from the same intensity on.
ACTIVE = 0.35

Descriptions = Mapping[str, Sequence[str]]


def active_units(dataset: BenchmarkDataset) -> list[np.ndarray]:
    """Returns the active action units in the sampled frames of each test clip.

    Intensities are relative to the resting face. For example, lip corners that always hang are not an action.

    Returns:
        `list[np.ndarray]`: For each clip a boolean array (T, A), in the order of `ACTION_UNITS`.
    """
    lines = (dataset.folder / "test" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {f"test/{row['file_name']}": row["action_units"] for row in map(json.loads, lines)}
    active = []
    for file in dataset.test.files:
        units = np.array([rows[file][name] for name in ACTION_UNITS]).T
        active.append(units[sample_indices(len(units), dataset.settings.num_frames)] >= ACTIVE)
    return active


def check_descriptions(
    explanations: Sequence[Explanation], active: Sequence[np.ndarray], descriptions: Descriptions
) -> dict[str, float]:
    """Checks whether the action units that descriptions mention are active in the relevant frames.

    The score of a description is the share of its action units that are active, averaged over the frames. Three kinds
    are excluded: descriptions of situations, which mention no action units; descriptions of neutral, which say what a
    face does not do; and clips that are predicted as neutral.

    Args:
        explanations (`Sequence[Explanation]`): Explanations of N clips.
        active (`Sequence[np.ndarray]`): For each clip, the active action units in its relevant frames as a boolean
            array (T, A).
        descriptions (`Descriptions`): Descriptions of all labels.

    Returns:
        `dict[str, float]`: Mean scores over the clips. `explained` is the score of the description that is named
        first, or the mean over the label if none is named. `cosine` is that of the description with the highest
        cosine, and `gain` that of the description with the largest gain. `same_class` is the mean over the
        descriptions of the predicted label, `any_class` the mean over all descriptions, and `best` the highest score
        among the descriptions of the label. `clips` is the number of clips, and `named` the share of clips for which a
        description is named. `precision` and `base_rate` are the means of `explained` and `any_class` over only these
        clips.
    """
    scores: dict[str, list[float]] = {}
    units_of = {
        text: rendered_units(text) for label, texts in descriptions.items() if label != "neutral" for text in texts
    }
    for explanation, frames in zip(explanations, active, strict=True):
        score = {text: float(frames[:, [INDEX[u] for u in units]].mean()) for text, units in units_of.items() if units}
        candidates = [description for description in explanation.descriptions if description.text in score]
        if not candidates:
            continue
        same_class = float(np.mean([score[description.text] for description in candidates]))
        named = [score[description.text] for description in candidates if description.is_shown]
        any_class = float(np.mean(list(score.values())))
        figures = {
            "explained": named[0] if named else same_class,
            "cosine": score[candidates[0].text],
            "gain": score[max(candidates, key=lambda description: description.gain or 0.0).text],
            "same_class": same_class,
            "any_class": any_class,
            "best": max(score[description.text] for description in candidates),
            "named": float(bool(named)),
        }
        if named:
            figures |= {"precision": named[0], "base_rate": any_class}
        for name, value in figures.items():
            scores.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return means | {"clips": len(scores.get("best", []))}


def check_frames(
    explanations: Sequence[Explanation], labels: Sequence[str], intensity: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Checks whether the frames in the spans of explanations show the expression.

    Only clips that are not neutral and that are predicted correctly are counted.

    Args:
        explanations (`Sequence[Explanation]`): Explanations of N clips.
        labels (`Sequence[str]`): True label of each clip.
        intensity (`Sequence[Sequence[float]]`): Intensity (0 to 1) of the frames of each clip.

    Returns:
        `dict[str, float]`: Means over the clips. `right` is the share of the frames in spans that show the expression,
        `found` is the share of the frames with the expression that are in a span, and `chance` is the share of all
        frames that show the expression. `clips` is the number of clips.
    """
    figures = []
    for explanation, label, values in zip(explanations, labels, intensity, strict=True):
        has_expression = np.array(values) >= THRESHOLD
        if label == "neutral" or label != explanation.label or not has_expression.any():
            continue
        in_span: np.ndarray = np.zeros(len(has_expression), bool)
        for span in explanation.spans:
            in_span[span.first : span.last + 1] = True
        figures.append((has_expression[in_span].mean(), in_span[has_expression].mean(), has_expression.mean()))
    if not figures:
        return {"clips": 0}
    means = np.mean(figures, axis=0).tolist()
    return dict(zip(("right", "found", "chance"), means, strict=True)) | {"clips": len(figures)}


def check_rationales(
    explanations: Sequence[Explanation], labels: Sequence[str], verifier: RationaleVerifier
) -> dict[str, float | None]:
    """Checks whether the sentences of explanations support the answers, for right and for wrong answers.

    Clips whose explanation names no description are excluded.

    Args:
        explanations (`Sequence[Explanation]`): Explanations of N clips.
        labels (`Sequence[str]`): True label of each clip.
        verifier (`RationaleVerifier`): The verifier.

    Returns:
        `dict[str, float | None]`: Shares (0 to 1) of consistent explanations: `right` and `wrong` for these answers,
        and `wrong_for_truth`, the share of the explanations of wrong answers that support the true label. `described`
        is the share of all clips whose explanation names a description. `reliability` is the share of the descriptions
        that the verifier assigns to their own label. Shares of no clips are None.
    """
    consistent: dict[str, list[bool | None]] = {"right": [], "wrong": [], "wrong_for_truth": []}
    for explanation, label in zip(explanations, labels, strict=True):
        checked = verifier.verify(explanation)
        consistent["right" if checked.label == label else "wrong"].append(checked.is_consistent)
        if checked.label != label:
            consistent["wrong_for_truth"].append(verifier.verify(explanation, label).is_consistent)
    known = {name: [value for value in values if value is not None] for name, values in consistent.items()}
    figures = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    described = (len(known["right"]) + len(known["wrong"])) / max(len(explanations), 1)
    return figures | {"described": described, "reliability": verifier.own_reliability()}


def explained(
    dataset: BenchmarkDataset,
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    descriptions: Descriptions | None = None,
    features: FrameFeatures | None = None,
) -> Run:
    """Predicts and explains the test clips with a trained model, and checks the explanations.

    The explanations are those that users get, except that the label "unsure" is replaced by the most probable label.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips.
        model (`TGDFERForVideoClassification`): Trained model for the labels of the data set.
        processor (`TGDFERProcessor`): Processor of the model.
        descriptions (`Descriptions`, *optional*): Descriptions for the explanations. None uses those of the processor.
        features (`FrameFeatures`, *optional*): Frame features of the test clips. None uses the frozen CLIP of the data
            set.
    """
    features, labels = features or dataset.features("test"), dataset.test.labels
    frames, mask, seconds = features.features[0].float(), features.frame_mask[0], features.timestamps[0]
    result: Run = {"faithful": faithfulness(model_predictor(model), frames, mask, seconds)}
    with torch.no_grad():
        output = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
        if descriptions is not None:
            # The prediction is already computed, so the new texts change only the explanation.
            processor.descriptions = {label: list(texts) for label, texts in descriptions.items()}
            model.set_classes(processor.class_prompts())
            other = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
            output.description_relevance = other.description_relevance
    config = copy.copy(model.config)
    config.unsure_below = None
    explanations = processor.post_process_explanation(output, seconds, mask, config=config)
    names = model.config.class_names
    predicted = [names.index(explanation.label) for explanation in explanations]
    clips = range(len(labels))
    scores = frame_scores(output, mask, model.config)
    top = top_frames(scores[clips, :, predicted], mask, SHARE)
    active = [units[frames] for units, frames in zip(active_units(dataset), top.numpy(), strict=True)]
    targets = [names.index(label) for label in labels]
    return result | {
        "predicted": [explanation.label for explanation in explanations],
        "scores": [
            [rounded(score) for score in scores[clip, mask[clip], label].tolist()]
            for clip, label in enumerate(targets)
        ],
        "words": check_descriptions(explanations, active, processor.descriptions or {}),
        "rationale": check_rationales(explanations, labels, RationaleVerifier(model, processor)),
        "frames": check_frames(explanations, labels, dataset.truth.intensity),
        "sentences": [str(explanation) for explanation in explanations],
    }
