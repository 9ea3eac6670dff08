"""Trains TG-DFER with `tgdfer train`, for rows that show the results of the default settings."""

from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.files import source_hash
from tgdfer.training.models import load_trained
from tgdfer.training.train import train

# Fields of the configuration that are not part of the config of a row: the identity of the data set contains them, or
# they differ between its runs.
_EXCLUDED_FIELDS = ("dataset", "model", "descriptions", "num_frames", "output", "seed", "resume")


def train_tgdfer(
    dataset: BenchmarkDataset, seed: int, folder: Path, **options: Any
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Trains TG-DFER and loads the best model. An interrupted run in the folder is resumed.

    Args:
        dataset (`BenchmarkDataset`): Clips to train on. Some of their people are held out to select the epoch.
        seed (`int`): Random seed of the training.
        folder (`Path`): Folder of the run.
        **options: Fields of `TrainingConfig` that differ from the defaults.
    """
    resume = (folder / "config.yaml").is_file()
    views = dataset.settings.views
    train(dataset.config(output=str(folder), seed=seed, resume=resume, feature_views=views, **options))
    return load_trained(folder)


def tgdfer_config(dataset: BenchmarkDataset, **options: Any) -> dict[str, Any]:
    """Returns all settings that determine the figures of `train_tgdfer`, and a hash of the code of the network."""
    config = dataset.config(feature_views=dataset.settings.views, **options)
    training = {name: value for name, value in config.options().items() if name not in _EXCLUDED_FIELDS}
    return {"training": training, "network": source_hash(modeling_tgdfer)}
