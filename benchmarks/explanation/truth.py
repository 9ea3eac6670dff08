"""Whether the words and the frames that explain a prediction are true of the face, measured on rendered faces.

A description names action units, and for every rendered frame it is known which are active.
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
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_reading_tgdfer import sample_indices
from tgdfer.training.features import FrameFeatures
from tgdfer.training.rendered_faces import ACTION_UNITS, INDEX

# An action unit is active from this intensity on. Captions name it for sure from there on, too.
ACTIVE = 0.35

Words = Mapping[str, Sequence[str]]


def moved_units(dataset: BenchmarkDataset) -> list[np.ndarray]:
    """Active action units in the sampled frames of each test clip, (T, A) bool in the order of `ACTION_UNITS`.

    Only movement on top of the resting face counts: lip corners that always hang are not an action.
    """
    lines = (dataset.folder / "test" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {f"test/{row['file_name']}": row["action_units"] for row in map(json.loads, lines)}
    found = []
    for file in dataset.test.files:
        units = np.array([rows[file][name] for name in ACTION_UNITS]).T
        found.append(units[sample_indices(len(units), dataset.settings.num_frames)] >= ACTIVE)
    return found


def truth_of_words(
    explanations: Sequence[Explanation], active: Sequence[np.ndarray], words: Words
) -> dict[str, float]:
    """Whether the action units that descriptions name are active in the frames that decide.

    The figure of a description is the share of its units that are active, averaged over the frames. Left out are
    descriptions without action units (the situations), those of neutral, which say what a face does not do, and clips
    that are predicted as neutral.

    Args:
        explanations: explanations of N clips.
        active: active action units in the deciding frames of each clip, (T, A) bool.
        words: descriptions of all labels.

    Returns:
        Means over the clips for the description that is named first (`explained`; a random one if none is named), the
        one with the highest cosine (`cosine`), the one with the largest gain (`gain`), a random one of the label
        (`same_class`), a random one of any label (`any_class`), and the best one of the label (`best`); the number of
        `clips`, and the share of them in which one is `named`. Over the clips in which one is named, the means for
        it (`precision`) and for a random one of any label (`base_rate`).
    """
    kinds: dict[str, list[float]] = {}
    named = {text: rendered_units(text) for label, texts in words.items() if label != "neutral" for text in texts}
    for explanation, shown in zip(explanations, active, strict=True):
        true = {text: float(shown[:, [INDEX[u] for u in units]].mean()) for text, units in named.items() if units}
        ours = [one for one in explanation.descriptions if one.text in true]
        if not ours:
            continue
        random = float(np.mean([true[one.text] for one in ours]))
        shown_ones = [true[one.text] for one in ours if one.is_shown]
        any_class = float(np.mean(list(true.values())))
        figures = {
            "explained": shown_ones[0] if shown_ones else random,
            "cosine": true[ours[0].text],
            "gain": true[max(ours, key=lambda one: one.gain or 0.0).text],
            "same_class": random,
            "any_class": any_class,
            "best": max(true[one.text] for one in ours),
            "named": float(bool(shown_ones)),
        }
        if shown_ones:
            figures |= {"precision": shown_ones[0], "base_rate": any_class}
        for name, value in figures.items():
            kinds.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in kinds.items()}
    return means | {"clips": len(kinds.get("best", []))}


def truth_of_frames(
    explanations: Sequence[Explanation], labels: Sequence[str], intensity: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Whether the frames of the spans show the expression, in clips that are not neutral and predicted rightly.

    Args:
        explanations: explanations of N clips.
        labels: true label of each clip.
        intensity: intensity of the frames of each clip, 0 to 1.

    Returns:
        Means over the clips: the share of the spans' frames that show it (`right`), the share of the frames that show
        it which are in a span (`found`), and the share of all frames that show it (`chance`); and the number of
        `clips`.
    """
    figures = []
    for explanation, label, values in zip(explanations, labels, intensity, strict=True):
        shows = np.array(values) >= THRESHOLD
        if label == "neutral" or label != explanation.label or not shows.any():
            continue
        named: np.ndarray = np.zeros(len(shows), bool)
        for span in explanation.spans:
            named[span.first : span.last + 1] = True
        figures.append((shows[named].mean(), named[shows].mean(), shows.mean()))
    if not figures:
        return {"clips": 0}
    means = np.mean(figures, axis=0).tolist()
    return dict(zip(("right", "found", "chance"), means, strict=True)) | {"clips": len(figures)}


def explained(
    dataset: BenchmarkDataset,
    model: TGDFERForVideoClassification,
    processor: TGDFERProcessor,
    words: Words | None = None,
    seen: FrameFeatures | None = None,
) -> Run:
    """The predictions of a trained model on the test clips, and how true its explanations are.

    Explanations are those of the product, but for the answer "unsure": the most probable label is explained.

    Args:
        dataset: rendered clips.
        model: trained model with any texts for the labels of the data set.
        processor: processor of the model.
        words: descriptions to explain with, in place of those that the model was trained on.
        seen: features of the test clips, if the model does not see them by the frozen CLIP of the data set.
    """
    seen, labels = seen or dataset.features("test"), dataset.test.labels
    frames, mask, seconds = seen.features[0].float(), seen.frame_mask[0], seen.timestamps[0]
    found: Run = {"faithful": faithfulness(model_predictor(model), frames, mask, seconds)}
    with torch.no_grad():
        output = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
        if words is not None:
            # Frame features do not depend on the texts, so the prediction remains that of the model.
            processor.descriptions = {label: list(texts) for label, texts in words.items()}
            model.set_classes(processor.class_prompts())
            other = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
            output.description_relevance = other.description_relevance
    config = copy.copy(model.config)
    config.unsure_below = None
    explanations = processor.post_process_explanation(output, seconds, mask, config=config)
    names = [name for _, name in sorted(model.config.id2label.items())]
    predicted = [names.index(explanation.label) for explanation in explanations]
    clips = range(len(labels))
    relevance = output.frame_relevance[clips, :, predicted]  # (N, T)
    top = top_frames(relevance, mask, SHARE)
    active = [units[frames] for units, frames in zip(moved_units(dataset), top.numpy(), strict=True)]
    true = [names.index(label) for label in labels]
    return found | {
        "predicted": [explanation.label for explanation in explanations],
        "scores": [
            [rounded(score) for score in output.frame_relevance[clip, mask[clip], label].tolist()]
            for clip, label in enumerate(true)
        ],
        "words": truth_of_words(explanations, active, processor.descriptions or {}),
        "frames": truth_of_frames(explanations, labels, dataset.truth.intensity),
        "sentences": [str(explanation) for explanation in explanations],
    }
