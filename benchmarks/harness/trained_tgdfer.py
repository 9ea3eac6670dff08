"""TG-DFER as `tgdfer train` trains it, for rows that show what a user gets."""

from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from tgdfer import modeling_tgdfer
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.files import source_hash
from tgdfer.training.models import load_trained
from tgdfer.training.train import train

# Fields of the configuration that are part of the identity of the data set, or differ between runs of a row.
_ELSEWHERE = ("dataset", "model", "descriptions", "num_frames", "output", "seed", "resume")


def train_tgdfer(
    dataset: BenchmarkDataset, seed: int, folder: Path, **options: Any
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Trains TG-DFER into a folder, from the last checkpoint there if there is one, and loads the best model.

    Args:
        dataset: clips to train on. A part of their people is held out to choose the epoch.
        seed: seed of the training.
        folder: folder of the run.
        options: fields of `TrainingConfig`; the others keep their defaults.
    """
    resume = (folder / "config.yaml").is_file()
    views = dataset.settings.views
    train(dataset.config(output=str(folder), seed=seed, resume=resume, feature_views=views, **options))
    return load_trained(folder)


def tgdfer_config(dataset: BenchmarkDataset, **options: Any) -> dict[str, Any]:
    """Everything that decides the figures of `train_tgdfer`: options of the training and code of the network."""
    config = dataset.config(feature_views=dataset.settings.views, **options)
    training = {name: value for name, value in config.options().items() if name not in _ELSEWHERE}
    return {"training": training, "network": source_hash(modeling_tgdfer)}
