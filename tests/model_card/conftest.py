"""Runs that cards are made of, and a local Hub to publish them on."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_client import HubClient, client_of
from hub_server import Hub, serve
from safetensors.numpy import save_file
from small_clips import write_clip

LABELS = ["anger", "happiness", "neutral"]
METRICS = {
    "dataset": "rendered-faces",
    "split": "test",
    "num_clips": 30,
    "num_people": 5,
    "model": "best",
    "command": "tgdfer evaluate runs/smile --split test",
    "labels": LABELS,
    "war": 0.6123,
    "uar": 0.6,
    "recall": {"anger": 0.5, "happiness": 0.9, "neutral": 0.4},
    "confusion_matrix": [[5, 3, 2], [0, 9, 1], [3, 3, 4]],
    "frame_ap": 0.83,
    "pointing": 0.8,
    "random_frame_ap": 0.491,
    "random_pointing": 0.455,
    "position_frame_ap": None,
    "position_pointing": None,
    "baseline": {"name": "mean of frozen frame features + linear layer", "war": 0.5, "uar": 0.48, "frame_ap": 0.6},
    "training": {
        "dataset": "user/clips",
        "split": "train",
        "num_clips": 600,
        "validation": "by person",
        "epochs": 20,
        "best_epoch": 17,
        "seed": 0,
        "seconds": 240.4,
        "trainable_parameters": 123456,
        "base_model": "openai/clip-vit-base-patch16",
    },
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty Hub on the loopback."""
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def shared_hub_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    """A process that publishes to a Hub, which tests of a file share."""
    with serve() as hub, client_of(hub, tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.fixture
def hub_client(shared_hub_client: HubClient) -> HubClient:
    """A process that publishes to an empty Hub, which is `hub_client.hub`."""
    shared_hub_client.hub.restore()
    return shared_hub_client


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as `write_run` makes it."""
    return write_run(tmp_path / "runs" / "smile")


def write_run(folder: Path) -> Path:
    """Write a run folder with files of the right names, whose contents are only as real as publishing reads them."""
    model = folder / "best"
    model.mkdir(parents=True)
    save_file({"weight": np.arange(4000, dtype=np.float32)}, model / "model.safetensors")
    classes = {"id2label": dict(enumerate(LABELS))}
    write_json(model / "config.json", classes | {"auto_map": {"AutoConfig": "configuration_x.XConfig"}})
    (model / "configuration_x.py").write_text("from .helpers_x import XConfig\n")
    (model / "helpers_x.py").write_text("class XConfig:\n    pass\n")
    (model / "processing_x.py").write_text("class XProcessor:\n    pass\n")
    descriptions = {"anger": ["the brows lower"], "happiness": ["the cheeks rise", "a smile"], "neutral": ["at rest"]}
    processor = {"descriptions": descriptions, "auto_map": {"AutoProcessor": "processing_x.XProcessor"}}
    write_json(model / "processor_config.json", processor)
    write_json(model / "tokenizer.json", {})
    write_json(folder / "metrics.json", METRICS)
    config = {"dataset": "user/clips", "model": "openai/clip-vit-base-patch16", "batch_size": 16, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "figures").mkdir()
    for name in ("confusion_matrix", "timeline_1"):
        (folder / "figures" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0" + name.encode())
    return folder


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoded video of a second."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return write_clip(path, colour=(220, 60, 60), num_frames=25)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A run that was trained in two stages, the second with LoRA, and evaluated.

    Everything lies below a folder `jane-doe`, of which nobody else should hear.
    """
    from tgdfer.training.config import TrainingConfig
    from tgdfer.training.evaluate import evaluate_model
    from tgdfer.training.train import train

    home = tmp_path_factory.mktemp("homes") / "jane-doe"
    for seed, split in enumerate(("train", "test")):
        for label in LABELS:
            (home / "patients-of-may" / "clips" / split / label).mkdir(parents=True)
            for index in range(5):
                path = home / "patients-of-may" / "clips" / split / label / f"{index}.mp4"
                write_clip(path, num_frames=12, seed=100 * seed + index)
    words = home / "patients-of-may" / "words.yaml"
    words.write_text("anger: [the brows lower]\nhappiness: [a smile]\nneutral: [at rest]\n")
    options = {"dataset": home / "patients-of-may" / "clips", "descriptions": words, "epochs": 1, "num_frames": 4}
    first, second = home / "studies-of-may" / "first", home / "studies-of-may" / "second"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TGDFER_CACHE", str(home / "features"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", home / "datasets")
        train(
            TrainingConfig.from_options(
                **options, model=clip_folder, output=first, frozen_features=True, feature_views=1
            )
        )
        train(
            TrainingConfig.from_options(
                **options, model=first / "best", output=second, model_options={"lora_layers": 1}
            )
        )
        evaluate_model(second)
    return second


@pytest.fixture(scope="module")
def clip_rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Ten encoded videos, of five people and two labels: rows of a data set."""
    rows, folder = [], tmp_path_factory.mktemp("rows")
    for label in ("anger", "happiness"):
        for person in "abcde":
            path = folder / f"{label}_{person}.mp4"
            write_clip(path, num_frames=12, seed=len(rows))
            rows.append({"video": str(path), "label": label, "person": person})
    return rows


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A tiny model with random weights and its processor, as `save_pretrained` writes them."""
    import torch

    from tgdfer import TGDFERForVideoClassification, TGDFERProcessor

    folder = tmp_path_factory.mktemp("model")
    descriptions = {"anger": ["the brows lower"], "happiness": ["the cheeks rise", "a smile"], "neutral": ["at rest"]}
    processor = TGDFERProcessor.from_clip(str(clip_folder), descriptions, num_frames=4)
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), processor.class_prompts(), num_frames=4)
    torch.manual_seed(1)
    for parameter in model.parameters():
        # As if trained: what starts at zero takes part, too.
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
