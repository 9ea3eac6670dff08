"""Rows of the benchmark of explanations: TG-DFER with three kinds of descriptions, and linear heads."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import yaml

from benchmarks.explanation import named_units, truth
from benchmarks.explanation.truth import Descriptions, explained
from benchmarks.harness import faithfulness as faithfulness_module
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.faithfulness import faithfulness, head_predictor
from benchmarks.harness.linear_rows import fitted_linear_head, linear_config
from benchmarks.harness.provenance import code_hash
from benchmarks.harness.row import Row, Run, seed_of, seed_parts
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.harness.trained_tgdfer import tgdfer_config, train_tgdfer
from tgdfer.processing import explanation_tgdfer
from tgdfer.training import rationale
from tgdfer.training.data.labels import descriptions_for
from tgdfer.training.features import frame_features
from tgdfer.training.files import write_text


def explanation_rows(dataset: BenchmarkDataset, trained: TrainedModel | None = None) -> list[Row]:
    """Returns all rows in the order of the tables.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips.
        trained (`TrainedModel`, *optional*): A trained model that is measured as an additional row.
    """
    texts = descriptions_for(dataset.classes, dataset.settings.descriptions)
    class_names = {label: [label] for label in dataset.classes}
    return [
        _tgdfer_row(dataset, "tgdfer", "TG-DFER", lambda seed: texts),
        *([] if trained is None else [_trained_row(dataset, trained)]),
        _tgdfer_row(dataset, "shuffled", "TG-DFER, shuffled descriptions", lambda seed: shuffled(texts, seed)),
        _tgdfer_row(dataset, "class-words", "TG-DFER, class words", lambda seed: class_names, texts),
        _linear_row(dataset, "mean", "mean of the frames + linear"),
        _linear_row(dataset, "top", "top quarter of the frames + linear"),
    ]


def shuffled(descriptions: Descriptions, seed: int) -> dict[str, list[str]]:
    """Exchanges the descriptions of the labels, so that each label has descriptions of other labels.

    The first descriptions of all labels are exchanged in a random cycle, then the second ones, and so on. No
    description keeps its label, and the descriptions of one label go to different labels if possible. Neutral keeps
    its descriptions, because they describe no movement.
    """
    labels = [label for label in sorted(descriptions) if label != "neutral"]
    rng = np.random.default_rng(seed)
    result = {label: list(texts) for label, texts in descriptions.items()}
    for position in range(max(len(descriptions[label]) for label in labels)):
        order = [labels[index] for index in rng.permutation(len(labels))]
        cycle = [label for label in order if len(descriptions[label]) > position]
        for source, target in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            result[target][position] = descriptions[source][position]
    return result


def _tgdfer_row(
    dataset: BenchmarkDataset,
    name: str,
    title: str,
    descriptions_of: Callable[[int], Descriptions],
    explained_by: Descriptions | None = None,
) -> Row:
    """Returns a row of TG-DFER.

    Args:
        dataset (`BenchmarkDataset`): Rendered clips.
        name (`str`): Name of the row.
        title (`str`): Name in reports.
        descriptions_of (`Callable`): Returns the descriptions for training, given the seed.
        explained_by (`Descriptions`, *optional*): Descriptions for the explanations. None uses the descriptions of the
            training.
    """

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        seed = seed_of(part)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "descriptions.yaml"
        write_text(file, yaml.safe_dump({label: list(texts) for label, texts in descriptions_of(seed).items()}))
        options = {"descriptions": str(file), "frozen_features": True}
        return explained(dataset, *train_tgdfer(dataset, seed, folder / "run", **options), explained_by)

    descriptions = {str(seed): descriptions_of(seed) for seed in dataset.settings.seeds}
    config = tgdfer_config(dataset, frozen_features=True) | {"words": descriptions, "explained_by": explained_by}
    return Row(name, title, seed_parts(dataset), run, config | {"measure": _measurement_hash()})


def _trained_row(dataset: BenchmarkDataset, trained: TrainedModel) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        trained.class_indices(dataset.classes)  # Raises an error if the model lacks a class.
        model, processor = trained.network
        video_processor = trained.video_processor(reference=dataset.network[1].video_processor)
        model.config.num_frames = dataset.settings.num_frames  # The ground truth is that of these frames.
        features = frame_features(model, video_processor, dataset.test)
        return explained(dataset, model, processor, features=features)

    return Row(
        "trained", trained.title, ("once",), run, {"model": trained.fingerprint, "measure": _measurement_hash()}
    )


def _linear_row(dataset: BenchmarkDataset, pooling: str, title: str) -> Row:
    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        head, result = fitted_linear_head(dataset, seed_of(part), pooling)
        test = dataset.features("test")
        bags = test.features[0].float(), test.frame_mask[0], test.timestamps[0]
        return result | {"faithful": faithfulness(head_predictor(head), *bags)}

    config = {"pooling": pooling, **linear_config(dataset), "measure": _measurement_hash()}
    return Row(f"linear-{pooling}", title, seed_parts(dataset), run, config)


def _measurement_hash() -> str:
    """Returns a hash of the code that explains and measures."""
    return code_hash(explanation_tgdfer, named_units, faithfulness_module, rationale, truth)
