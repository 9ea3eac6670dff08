"""Rows of neighbouring methods: patches that give the features, heads that start at the full network, and probes."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_backbones import save_resnet

from benchmarks.ablation import neighbours, rows
from benchmarks.ablation.neighbours import NEIGHBOURS, dataset_of, neighbour_head, neighbours_of
from benchmarks.ablation.patches import GlobalConvolutionAttention, PatchDataset
from benchmarks.ablation.probes import linear_probes
from benchmarks.ablation.report import probes_table
from benchmarks.ablation.variants import FULL, Variant, variant_model
from benchmarks.harness.benchmark_dataset import Settings, real_dataset
from benchmarks.harness.feature_dataset import FeatureDataset
from benchmarks.harness.fitting import predict
from benchmarks.harness.heads import TextGuidedHead
from benchmarks.harness.results import Results, read_results
from benchmarks.harness.row import folds_of
from benchmarks.harness.runner import run_rows

ROOT = Path(__file__).parents[3]
BY_NAME = {one.name: one for one in NEIGHBOURS}


@pytest.fixture
def dataset(dataset, clip_folder, tmp_path_factory):
    """The small clips, with a ResNet."""
    torch.manual_seed(0)
    folder = save_resnet(tmp_path_factory.mktemp("backbone") / "resnet", clip_folder)
    return real_dataset(replace(dataset.settings, model=str(folder), epochs=2), dataset.folder)


def head_of(dataset, name):
    neighbour = BY_NAME[name]
    features = dataset_of(dataset, neighbour)
    return neighbour_head(neighbour, features, features.features("train"), np.arange(len(dataset.train)), 0), features


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gca", "patch-adapter", "transport", "s2d-adapter", "ial", "s2d-memory"])
def test_heads_start_at_the_full_network(dataset, name):
    """Of the cached maps of the last block, or of the features of whole frames."""
    full = TextGuidedHead(variant_model(dataset, Variant("full", "", FULL), 0))
    head, features = head_of(dataset, name)
    state = {key.removeprefix("head."): value for key, value in head.state_dict().items()}
    report = full.load_state_dict(state, strict=False)  # the weights of the full network are drawn at random
    assert not report.missing_keys
    ours, theirs = predict(head, features.features("test")), predict(full, dataset.features("test"))
    torch.testing.assert_close(ours[0], theirs[0], atol=0.03, rtol=0.02)  # both were kept in half precision
    torch.testing.assert_close(ours[1], theirs[1], atol=0.03, rtol=0.02)


def test_weights_of_channels_in_closed_form():
    block = GlobalConvolutionAttention(32, 4)
    maps, mask = torch.randn(2, 3, 32, 4), torch.tensor([[True, True, False], [True] * 3])
    assert torch.equal(block(maps, mask), torch.ones(2, 3, 32)), "all channels count alike at the start"
    torch.nn.init.normal_(block.up.weight)
    kernel, bias = block.convolution.weight[:, 0], block.convolution.bias
    values = (maps * kernel).sum(-1) + bias
    own = 2 / (1 + (-block.up(block.down(values).relu())).exp())
    clip = torch.stack([own[0, :2].mean(0), own[1].mean(0)])
    expected = (own * clip.unsqueeze(1)).sqrt()
    torch.testing.assert_close(block(maps, mask)[mask], expected[mask])


def test_transport_trains_the_adapter_of_the_patches(dataset):
    losses = {}
    for name in ("patch-adapter", "transport"):
        head, features = head_of(dataset, name)
        seen = features.features("train")
        bag = (seen.features[0, :4].float(), seen.frame_mask[0, :4], seen.timestamps[0, :4])
        torch.manual_seed(1)
        loss = head.train().loss(*bag, torch.tensor([0, 1, 2, 0]), 0.1)
        loss.backward()
        losses[name] = loss.item()
        assert head.part.up.weight.grad.abs().sum() > 0
    assert losses["transport"] > losses["patch-adapter"]


def test_patches_need_a_resnet(dataset, clip_folder):
    vit = real_dataset(replace(dataset.settings, model=str(clip_folder)), dataset.folder)
    with pytest.raises(ValueError, match="need a ResNet of timm as vision tower, not a CLIPVision"):
        PatchDataset.of(vit).features("test")


def test_probes_read_what_a_part_has(tmp_path):
    """People differ in the first dimensions, labels in the next ones, and the residue has the former alone."""
    rng = np.random.default_rng(0)
    people, labels = 8, 6
    directions = rng.normal(size=(people, 3)), rng.normal(size=(labels, 3))
    arrays = {name: [] for name in ("frame_features", "label", "split", "person", "intensity")}
    for person in range(people):
        for label in range(labels):
            frames = 0.1 * rng.normal(size=(4, 8))
            frames[:, :3] += directions[0][person]
            frames[:, 3:6] += directions[1][label]
            frames[:, 6:] += 4
            row = (frames, f"label {label}", "test", f"person {person}", np.zeros(4))
            for name, value in zip(arrays, row, strict=True):
                arrays[name].append(value)
    np.savez(tmp_path / "clips.npz", **{name: np.array(values) for name, values in arrays.items()})
    dataset = FeatureDataset(tmp_path / "clips.npz", Settings())
    model = torch.nn.Module()
    model.tgdfer = torch.nn.Module()
    model.tgdfer.residue = lambda frames: torch.cat([frames[..., :3], torch.zeros_like(frames[..., 3:])], -1)
    found = linear_probes(model, dataset, 0)
    assert found["residue"]["person"] > 0.9 and found["emotion"]["person"] < 0.5
    assert found["emotion"]["label"] > 0.9 and found["residue"]["label"] < 0.5
    assert found["chance"] == {"person": 1 / people, "label": 1 / labels}


def test_the_report_shows_what_probes_read():
    parts = {name: {"person": 0.5, "label": 0.25} for name in ("frames", "emotion", "residue")}
    runs = [{"predicted": [], "probes": parts | {"chance": {"person": 0.1, "label": value}}} for value in (0.2, 0.4)]
    states = {"full": {"title": "TG-DFER", "parts": {"seed 0": {"predicted": []}}}}
    results = Results("rendered", "", "", {}, None, {}, states, [])
    assert probes_table(results) == []
    states["residue"] = {"title": "+ emotion part", "parts": {"seed 0": runs[0], "seed 1": runs[1]}}
    text = "\n".join(probes_table(results))
    assert "### What linear probes read: emotion part" in text
    assert "| residue | 50.0 ±0.0 | 25.0 ±0.0 |" in text and "| random answers | 10.0 ±0.0 | 30.0 ±14.1 |" in text
    for run in runs:
        run["probes"]["frames"] = {"person": None, "label": 0.25}
    text = "\n".join(probes_table(results))
    assert "| whole frames | 25.0 ±0.0 |" in text and "| part of a frame | label |" in text
    assert "some people have clips of one label only" in " ".join(text.split())


def test_given_features_have_no_patches(dataset, tmp_path):
    assert {one.name for one in neighbours_of(dataset)} == set(BY_NAME)
    arrays = {"frame_features": np.zeros((2, 3, 4)), "label": ["a", "b"], "split": ["train", "test"]}
    np.savez(tmp_path / "x.npz", **arrays, person=["p", "q"], intensity=np.zeros((2, 3)))
    given = FeatureDataset(tmp_path / "x.npz", dataset.settings)
    assert {one.name for one in neighbours_of(given)} == {one.name for one in NEIGHBOURS if not one.patches}


@pytest.mark.slow
def test_every_row_is_measured_by_its_name(dataset, tmp_path, monkeypatch):
    narrow = [replace(one, options={"residue_width": 8}) if one.name == "residue" else one for one in NEIGHBOURS]
    monkeypatch.setattr(neighbours, "NEIGHBOURS", narrow)
    monkeypatch.setattr(rows, "RATES", (1e-3,))
    monkeypatch.setattr(rows, "folds_of", lambda *a: folds_of(*a)[:2])
    names = list(BY_NAME)
    assert run_rows(dataset, rows.rows_of(dataset), tmp_path, "the command", time.monotonic() + 1e6, names)
    (results,) = read_results(tmp_path)
    assert set(results.rows) == set(names)
    part = results.rows["residue"]["parts"]["seed 0"]
    assert set(part["probes"]) == {"frames", "emotion", "residue", "chance"}
    sizes = {name: results.rows[name]["parts"]["seed 0"]["trained_parameters"] for name in names}
    assert sizes["motion"] == sizes["ial"] < sizes["residue"] < sizes["s2d-adapter"] == sizes["s2d"]
    assert sizes["patch-adapter"] == sizes["transport"] > sizes["ial"]


# Rows of the table in docs/reference/neighbours.md, by the names of the rows of the ablation.
DOCUMENTED = {
    "ial": "intensity-aware loss",
    "gca": "global convolution-attention",
    "s2d-adapter": "temporal adapter",
    "s2d-memory": "soft targets from a memory",
    "s2d": "adapter and soft targets",
    "motion": "weights of motion",
    "patch-adapter": "adapter of patches",
    "transport": "transport, with that adapter",
    "residue": "emotion part and residue",
}


def documented(difference: list[float] | None) -> str:
    """Formats the full network minus a row as the row minus the full network, in percentage points."""
    if difference is None:
        return "not measured"
    value, high, low = (round(-100 * number, 1) + 0.0 for number in difference)
    text = f"{value:+.1f} [{low:.1f}, {high:.1f}]".replace("+0.0", "0.0")
    return f"**{text}**" if low > 0 or high < 0 else text


def test_the_table_of_the_documentation_has_the_measured_figures():
    measured = json.loads((ROOT / "benchmarks/results/ablation.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/reference/neighbours.md").read_text(encoding="utf-8")
    for row, name in DOCUMENTED.items():
        cells = []
        for data in ("rendered", "real", "bags"):
            differences = measured[data]["full minus"].get(row, {})
            cells += [documented(differences.get(figure)) for figure in ("uar", "frame_ap")]
        assert f"| {name} | {' | '.join(cells)} |" in page
