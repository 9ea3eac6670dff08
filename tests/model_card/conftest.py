import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

sys.path.append(str(Path(__file__).parents[1]))

from hub_server import Hub, serve  # noqa: E402

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


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with files of the right names, whose contents are only as real as publishing reads them."""
    folder = tmp_path / "runs" / "smile"
    model = folder / "best"
    model.mkdir(parents=True)
    save_file({"weight": np.arange(4000, dtype=np.float32)}, model / "model.safetensors")
    config = {"id2label": dict(enumerate(LABELS)), "auto_map": {"AutoConfig": "configuration_x.XConfig"}}
    write_json(model / "config.json", config)
    (model / "configuration_x.py").write_text("from .helpers_x import XConfig\n")
    (model / "helpers_x.py").write_text("class XConfig:\n    pass\n")
    (model / "processing_x.py").write_text("class XProcessor:\n    pass\n")
    descriptions = {"anger": ["the brows lower"], "happiness": ["the cheeks rise", "a smile"], "neutral": ["at rest"]}
    processor = {"descriptions": descriptions, "auto_map": {"AutoProcessor": "processing_x.XProcessor"}}
    write_json(model / "processor_config.json", processor)
    write_json(folder / "metrics.json", METRICS)
    (folder / "config.yaml").write_text(yaml.safe_dump({"dataset": "user/clips", "batch_size": 16, "seed": 0}))
    (folder / "figures").mkdir()
    for name in ("confusion_matrix", "timeline_1"):
        (folder / "figures" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0" + name.encode())
    return folder


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))
