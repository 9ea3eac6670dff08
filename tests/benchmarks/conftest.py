"""Small data sets for tests of the benchmarks."""

import pytest
import yaml

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings, real_dataset
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
