"""How a model is measured on an emotion that it was never trained on."""

import json
from dataclasses import replace

import pytest
import torch
import yaml

from benchmarks.harness.benchmark_dataset import BenchmarkDataset, Settings, rendered_dataset
from benchmarks.harness.fitting import Recipe
from benchmarks.relabelling import left_out_emotions as relabelling
from benchmarks.relabelling.left_out_emotions import measure_relabelling, trained_without
from benchmarks.relabelling.report import rendered_figures, write_relabelling_report
from tgdfer import built_in_descriptions
from tgdfer.modeling_tgdfer.configuration_tgdfer import BASIC_EMOTIONS
from tgdfer.training.errors import UserError
from tgdfer.training.rendered_faces import RenderedFaces

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(clip_folder, tmp_path_factory) -> BenchmarkDataset:
    """Small rendered clips, and one description a label."""
    words = tmp_path_factory.mktemp("words") / "descriptions.yaml"
    words.write_text(yaml.safe_dump({label: texts[:1] for label, texts in built_in_descriptions().items()}))
    faces = RenderedFaces(size=32, supersampling=1, frames=(8, 12))
    settings = Settings(str(clip_folder), str(words), faces, 5, 1, num_frames=4, views=1, seeds=(0, 1))
    return rendered_dataset(settings, tmp_path_factory.mktemp("work"))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(relabelling, "RECIPE", Recipe(epochs=2))


def test_clips_of_the_emotion_that_is_left_out_are_never_seen(dataset, monkeypatch):
    """They are no numbers here: one step with any of them would leave no number in the model."""
    seen = dataset.features("train", 0)
    spoilt = replace(seen, features=seen.features.clone())
    spoilt.features[:, [label == "fear" for label in dataset.train.labels]] = torch.nan
    monkeypatch.setattr(BenchmarkDataset, "features", lambda self, split, seed=0: spoilt)
    model = trained_without(dataset, "fear", 0)
    bias = model.bias.detach()
    assert list(model.config.id2label.values()) == list(BASIC_EMOTIONS)
    assert all(weight.isfinite().all() for weight in model.parameters())
    others = [index for index, label in enumerate(BASIC_EMOTIONS) if label != "fear"]
    new = BASIC_EMOTIONS.index("fear")
    assert bias[others].abs().min() > 0, "it has learnt"
    assert bias[new] == pytest.approx(bias[others].mean().item(), abs=1e-6)
    with pytest.raises(UserError, match="The loss is nan"):
        trained_without(dataset, None, 0)


def test_report_has_a_row_for_each_emotion_and_their_mean(dataset, tmp_path):
    found = measure_relabelling(dataset)
    for areas in found.values():
        assert [len(areas[name]) for name in ("untrained", "others", "all")] == [1, 2, 2]
    path = tmp_path / "docs" / "relabelling.md"
    write_relabelling_report(rendered_figures(dataset, found, "the command"), path, tmp_path / "relabelling.json")
    text, facts = path.read_text(), json.loads((tmp_path / "relabelling.json").read_text())
    assert facts["areas"] == found and "the command" in text
    for label in BASIC_EMOTIONS:
        assert f"| {label} | {100 * found[label]['untrained'][0]:.1f} |" in text
    mean = sum(areas["untrained"][0] for areas in found.values()) / len(found)
    assert f"| mean | {100 * mean:.1f} |" in text
