"""Whether the words and the frames that an answer is explained by are true of the face: rendered faces know.

A description names action units, and of every rendered frame it is known which are active. Rows are trained on the
frozen features of a ground; those with words are measured by what they name, all by the frames that they rest on.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.baselines.rows import HEAD_RATES, fitted_linear_head, tgdfer_facts, train_tgdfer
from benchmarks.explanation import faithfulness as faithfulness_module
from benchmarks.explanation import named_units
from benchmarks.explanation.faithfulness import SHARE, Answer, answer_of_head, faithfulness
from benchmarks.explanation.named_units import rendered_units
from benchmarks.harness.fitting import Recipe, predict
from benchmarks.harness.ground import THRESHOLD, Ground
from benchmarks.harness.row import Row, Run, answers, rounded
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.temporal_tgdfer import top_frames
from tgdfer.processing import explanation_tgdfer
from tgdfer.processing.explanation_tgdfer import Explanation
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_reading_tgdfer import sample_indices
from tgdfer.training.data.labels import words_for
from tgdfer.training.data.splits import FOLDS
from tgdfer.training.files import write_text
from tgdfer.training.rendered_faces import ACTION_UNITS, INDEX

# An action unit is active from this intensity on, as where captions call it surely true.
ACTIVE = 0.35

Words = Mapping[str, Sequence[str]]


def moved_units(ground: Ground) -> list[np.ndarray]:
    """Which action units move in the sampled frames of each test clip, (T, A) bool in the order of `ACTION_UNITS`.

    Movement on top of the resting face: lip corners that always hang are not an action.
    """
    lines = (ground.folder / "test" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {f"test/{row['file_name']}": row["action_units"] for row in map(json.loads, lines)}
    found = []
    for file in ground.test.files:
        units = np.array([rows[file][name] for name in ACTION_UNITS]).T
        found.append(units[sample_indices(len(units), ground.settings.num_frames)] >= ACTIVE)
    return found


def truth_of_words(
    explanations: Sequence[Explanation], active: Sequence[np.ndarray], words: Words
) -> dict[str, float]:
    """Whether the action units that descriptions name are active in the frames that decide.

    Of a description it is the share of its units that are active, mean over the frames. Descriptions of no unit (the
    situations) take no part, nor those of neutral, which say what is not there, nor clips that are called so.

    Args:
        explanations: of N clips.
        active: of each clip which action units are active in the frames that decide, (T, A) bool.
        words: descriptions of all labels.

    Returns:
        Means over the clips: of the description that is named first (`explained`; a random one where none is), of the
        one with the highest cosine (`cosine`), of the one with the largest gain (`gain`), of a random one of the label
        (`same_class`), of a random one of any label (`any_class`), and of the best that there is for the label
        (`best`). And the number of `clips`.
    """
    kinds: dict[str, list[float]] = {}
    named = {text: rendered_units(text) for label, texts in words.items() if label != "neutral" for text in texts}
    for explanation, shown in zip(explanations, active, strict=True):
        true = {text: float(shown[:, [INDEX[u] for u in units]].mean()) for text, units in named.items() if units}
        ours = [one for one in explanation.descriptions if one.text in true]
        if not ours:
            continue
        random = float(np.mean([true[one.text] for one in ours]))
        risen = [one for one in ours if one.gain is None or one.gain > 0]
        figures = {
            "explained": true[risen[0].text] if risen else random,
            "cosine": true[ours[0].text],
            "gain": true[max(ours, key=lambda one: one.gain or 0.0).text],
            "same_class": random,
            "any_class": float(np.mean(list(true.values()))),
            "best": max(true[one.text] for one in ours),
        }
        for name, value in figures.items():
            kinds.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in kinds.items()}
    return means | {"clips": len(kinds.get("best", []))}


def truth_of_frames(
    explanations: Sequence[Explanation], labels: Sequence[str], intensity: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Whether the frames of the spans show the expression, in the clips that are not neutral and rightly labelled.

    Args:
        explanations: of N clips.
        labels: true label of each.
        intensity: of the frames of each, 0 to 1.

    Returns:
        Means over the clips: the share of the spans' frames that show it (`right`), the share of the frames that show
        it which are in a span (`found`), and the share of all frames that show it (`chance`). And the number of
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
    ground: Ground, model: TGDFERForVideoClassification, processor: TGDFERProcessor, words: Words | None = None
) -> Run:
    """What a trained model says of the test clips, and how true its explanations are.

    Args:
        ground: rendered clips.
        model: trained on any words for the labels of the ground.
        processor: of the model.
        words: descriptions to explain by in place of those that the model was trained on.
    """
    seen, labels = ground.features("test"), ground.test.labels
    frames, mask, seconds = seen.features[0].float(), seen.frame_mask[0], seen.timestamps[0]
    found: Run = {"faithful": faithfulness(answer_of(model), frames, mask, seconds)}
    with torch.no_grad():
        output = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
        if words is not None:
            # Frames do not depend on the words that they are compared with: the answer stays that of the model.
            processor.descriptions = {label: list(texts) for label, texts in words.items()}
            model.set_classes(processor.class_prompts())
            other = model(frame_features=frames, frame_mask=mask, timestamps=seconds)
            output.description_relevance = other.description_relevance
    explanations = processor.explain(output, seconds, mask)
    names = ground.classes
    predicted = [names.index(explanation.label) for explanation in explanations]
    clips = range(len(labels))
    relevance = output.frame_relevance[clips, :, predicted]  # (N, T)
    top = top_frames(relevance, mask, SHARE)
    active = [units[frames] for units, frames in zip(moved_units(ground), top.numpy(), strict=True)]
    true = [names.index(label) for label in labels]
    return found | {
        "predicted": [explanation.label for explanation in explanations],
        "scores": [
            [rounded(score) for score in output.frame_relevance[clip, mask[clip], label].tolist()]
            for clip, label in enumerate(true)
        ],
        "words": truth_of_words(explanations, active, processor.descriptions or {}),
        "frames": truth_of_frames(explanations, labels, ground.truth.intensity),
        "sentences": [str(explanation) for explanation in explanations],
    }


def answer_of(model: TGDFERForVideoClassification) -> Answer:
    """A model as `faithfulness` takes it: frames count by their relevance."""

    def answer(frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        output = model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps)
        return output.logits, output.frame_relevance

    return answer


def explanation_rows(ground: Ground) -> list[Row]:
    """TG-DFER with its descriptions, with those of other labels and with class words; and heads with a frame score."""
    words = words_for(ground.classes, ground.settings.descriptions)
    class_words = {label: [label] for label in ground.classes}
    return [
        _tgdfer_row(ground, "tgdfer", "TG-DFER", lambda seed: words),
        _tgdfer_row(ground, "shuffled", "TG-DFER, shuffled descriptions", lambda seed: shuffled(words, seed)),
        _tgdfer_row(ground, "class-words", "TG-DFER, class words", lambda seed: class_words, words),
        _linear_row(ground, "mean", "mean of the frames + linear"),
        _linear_row(ground, "top", "top quarter of the frames + linear"),
    ]


def shuffled(words: Words, seed: int) -> dict[str, list[str]]:
    """Descriptions of other labels in place of each label's own; neutral, which shows nothing, keeps its own.

    The first descriptions change places, the second, and so on, each in a round of its own: no two of a label come
    from one place unless they must, and none stays.
    """
    labels = [label for label in sorted(words) if label != "neutral"]
    rng = np.random.default_rng(seed)
    mixed = {label: list(texts) for label, texts in words.items()}
    for place in range(max(len(words[label]) for label in labels)):
        having = [labels[index] for index in rng.permutation(len(labels)) if len(words[labels[index]]) > place]
        for giver, taker in zip(having, [*having[1:], having[0]], strict=True):
            mixed[taker][place] = words[giver][place]
    return mixed


def _tgdfer_row(
    ground: Ground, name: str, title: str, words_of: Callable[[int], Words], explained_by: Words | None = None
) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        seed = int(part.removeprefix("seed "))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "descriptions.yaml"
        write_text(file, yaml.safe_dump({label: list(texts) for label, texts in words_of(seed).items()}))
        options = {"descriptions": str(file), "frozen_features": True}
        return explained(ground, *train_tgdfer(ground, seed, folder / "run", **options), explained_by)

    words = {str(seed): words_of(seed) for seed in ground.settings.seeds}
    facts = tgdfer_facts(ground, frozen_features=True) | {"words": words, "explained_by": explained_by}
    return Row(name, title, _seeds(ground), run, facts | {"measure": _measure()})


def _linear_row(ground: Ground, pooling: str, title: str) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        head, choice = fitted_linear_head(ground, int(part.removeprefix("seed ")), pooling)
        unseen = ground.features("test")
        mask = unseen.frame_mask[0]
        found = answers(ground, *predict(head, unseen), mask)
        faithful = faithfulness(answer_of_head(head), unseen.features[0].float(), mask, unseen.timestamps[0])
        chosen = {"rate": choice.recipe.rate, "epochs": choice.recipe.epochs, "held_out_uar": choice.uar}
        return found | {"faithful": faithful, "chosen": chosen}

    settings = ground.settings
    recipe = asdict(Recipe(epochs=settings.epochs))
    config = {"pooling": pooling, "views": settings.views, "folds": FOLDS, "rates": HEAD_RATES, "recipe": recipe}
    return Row(f"linear-{pooling}", title, _seeds(ground), run, config | {"measure": _measure()})


def _seeds(ground: Ground) -> tuple[str, ...]:
    return tuple(f"seed {seed}" for seed in ground.settings.seeds)


def _measure() -> str:
    """Hash of the code that explains and measures."""
    modules = (explanation_tgdfer, named_units, faithfulness_module, sys.modules[__name__])
    return hashlib.sha256("".join(map(inspect.getsource, modules)).encode()).hexdigest()
