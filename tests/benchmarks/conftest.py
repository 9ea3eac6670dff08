"""Small data sets and made-up photographs for tests of the benchmarks."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up_photographs import picture

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings, real_dataset
from benchmarks.real_faces import cropped_photographs
from benchmarks.real_faces.photographs import PhotographDataset
from tgdfer.training.rendered_faces import EMOTIONS, RenderedFaces


@pytest.fixture
def dataset(clips_folder, clip_folder, descriptions_file) -> BenchmarkDataset:
    """The small clips as real clips."""
    settings = Settings(
        model=str(clip_folder), descriptions=str(descriptions_file), num_frames=4, views=2, lora_views=2, seeds=(0,)
    )
    return real_dataset(settings, clips_folder)


@pytest.fixture(scope="session")
def settings(clip_folder, tmp_path_factory) -> Settings:
    """Few small rendered clips, and few epochs."""
    words = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    words.write_text(yaml.safe_dump({label: [f"shows {label}", "a face"] for label in EMOTIONS}))
    return Settings(
        model=str(clip_folder),
        descriptions=str(words),
        faces=RenderedFaces(size=32, supersampling=1, frames=(8, 12)),
        clips=5,
        test_clips=1,
        num_frames=4,
        views=2,
        lora_views=1,
        seeds=(0,),
        epochs=2,
        lora_epochs=1,
    )


@pytest.fixture
def photographs_file(tmp_path):
    """Six photographs of each emotion in every split, and some that do not count."""
    rows = [
        {"image": {"bytes": picture(label, 100 * part + n), "path": ""}, "label": label, "split": split, "near": ""}
        for part, split in enumerate(("train", "validation", "test"))
        for n in range(6)
        for label in EMOTIONS
    ]
    extra = {"image": {"bytes": picture("anger", 0), "path": ""}, "label": "anger", "split": "train", "near": ""}
    rows += [
        extra | {"label": "contempt"},
        extra | {"label": ""},
        extra | {"near": "test"},
        extra | {"near": "realclips"},
        extra | {"near": "test", "split": "validation"},
    ]
    path = tmp_path / "photographs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def no_detector(monkeypatch):
    """Finds no faces, and counts the photographs that it was given."""
    seen = []

    def nothing(name, model):
        return lambda picture: seen.append(picture.shape) or np.zeros((0, 15))

    monkeypatch.setattr("tgdfer.processing.detectors_tgdfer._detector", nothing)
    return seen


@pytest.fixture
def photographs(photographs_file, clip_folder, tmp_path, no_detector, monkeypatch) -> PhotographDataset:
    """The photographs as a data set, in files of at most 16 crops."""
    monkeypatch.setattr(cropped_photographs, "_PART", 16)
    return PhotographDataset(photographs_file, Settings(model=str(clip_folder)), tmp_path / "work")
