"""The rows about explanations: TG-DFER with three kinds of descriptions, and linear heads that score frames."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import yaml

from benchmarks.explanation import named_units, truth
from benchmarks.explanation.truth import Words, explained
from benchmarks.harness import faithfulness as faithfulness_module
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.faithfulness import faithfulness, head_predictor
from benchmarks.harness.linear_rows import fitted_linear_head, linear_config
from benchmarks.harness.provenance import code_hash
from benchmarks.harness.row import Row, Run, seed_of, seed_parts
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.harness.trained_tgdfer import tgdfer_config, train_tgdfer
from tgdfer.processing import explanation_tgdfer
from tgdfer.training.data.labels import words_for
from tgdfer.training.features import frame_features
from tgdfer.training.files import write_text


def explanation_rows(dataset: BenchmarkDataset, trained: TrainedModel | None = None) -> list[Row]:
    """All rows, in the order of the tables.

    Args:
        dataset: rendered clips.
        trained: a trained model to be measured as it is; without it there is no such row.
    """
    words = words_for(dataset.classes, dataset.settings.descriptions)
    class_words = {label: [label] for label in dataset.classes}
    return [
        _tgdfer_row(dataset, "tgdfer", "TG-DFER", lambda seed: words),
        *([] if trained is None else [_trained_row(dataset, trained)]),
        _tgdfer_row(dataset, "shuffled", "TG-DFER, shuffled descriptions", lambda seed: shuffled(words, seed)),
        _tgdfer_row(dataset, "class-words", "TG-DFER, class words", lambda seed: class_words, words),
        _linear_row(dataset, "mean", "mean of the frames + linear"),
        _linear_row(dataset, "top", "top quarter of the frames + linear"),
    ]


def shuffled(words: Words, seed: int) -> dict[str, list[str]]:
    """Gives each label descriptions of other labels. Neutral, which describes no movement, keeps its own.

    The first descriptions of all labels change places, then the second, and so on, each in a random cycle. No
    description keeps its label, and those of a label go to different labels where they can.
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
    dataset: BenchmarkDataset,
    name: str,
    title: str,
    words_of: Callable[[int], Words],
    explained_by: Words | None = None,
) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        seed = seed_of(part)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "descriptions.yaml"
        write_text(file, yaml.safe_dump({label: list(texts) for label, texts in words_of(seed).items()}))
        options = {"descriptions": str(file), "frozen_features": True}
        return explained(dataset, *train_tgdfer(dataset, seed, folder / "run", **options), explained_by)

    words = {str(seed): words_of(seed) for seed in dataset.settings.seeds}
    facts = tgdfer_config(dataset, frozen_features=True) | {"words": words, "explained_by": explained_by}
    return Row(name, title, seed_parts(dataset), run, facts | {"measure": _measure()})


def _trained_row(dataset: BenchmarkDataset, trained: TrainedModel) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        trained.class_indices(dataset.classes)  # which it must know
        model, processor = trained.network
        video_processor = trained.video_processor(reference=dataset.network[1].video_processor)
        model.config.num_frames = dataset.settings.num_frames  # those whose action units are known
        seen = frame_features(model, video_processor, dataset.test)
        return explained(dataset, model, processor, seen=seen)

    return Row("trained", trained.title, ("once",), run, {"model": trained.fingerprint, "measure": _measure()})


def _linear_row(dataset: BenchmarkDataset, pooling: str, title: str) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        head, found = fitted_linear_head(dataset, seed_of(part), pooling)
        unseen = dataset.features("test")
        bags = unseen.features[0].float(), unseen.frame_mask[0], unseen.timestamps[0]
        return found | {"faithful": faithfulness(head_predictor(head), *bags)}

    config = {"pooling": pooling, **linear_config(dataset), "measure": _measure()}
    return Row(f"linear-{pooling}", title, seed_parts(dataset), run, config)


def _measure() -> str:
    """Hash of the code that explains and measures."""
    return code_hash(explanation_tgdfer, named_units, faithfulness_module, truth)
