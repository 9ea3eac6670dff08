"""What a model makes of an emotion that it was never trained on, and that is given to it by words alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from sklearn.metrics import roc_auc_score

from benchmarks.ablation.heads import TextGuidedHead
from benchmarks.ablation.rows import FULL
from benchmarks.baselines.report import percent
from benchmarks.harness.comparison import mean_and_spread
from benchmarks.harness.fitting import Recipe, predict, train_epochs
from benchmarks.harness.ground import Ground
from benchmarks.harness.row import targets_of
from benchmarks.harness.runner import commit, machine
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.files import write_text
from tgdfer.training.models import start_model

# Set beforehand and not chosen: there is nothing to choose by for an emotion that nobody has labelled.
RECIPE = Recipe(rate=1e-3, epochs=20)

COLUMNS = {
    "untrained": "CLIP, not trained",
    "others": "trained on the six others",
    "all": "trained on all seven",
}


def measure_relabelling(ground: Ground) -> dict[str, dict[str, list[float]]]:
    """How well the clips of each emotion are ranked, by a model that was trained on the others alone.

    Args:
        ground: clips, and a CLIP whose texts fit its pictures.

    Returns:
        For each emotion, by the names of `COLUMNS`, the area under the ROC curve of its probability over the test
        clips, for every seed.
    """
    untrained = _areas(ground, _start(ground, ground.classes))
    found = {label: {"untrained": [untrained[label]], "others": [], "all": []} for label in ground.classes}
    jobs = [(seed, left_out) for seed in ground.settings.seeds for left_out in (None, *ground.classes)]
    for seed, left_out in track(jobs, "Training", console=get_console()):
        areas = _areas(ground, trained_without(ground, left_out, seed))
        if left_out is None:
            for label, area in areas.items():
                found[label]["all"].append(area)
        else:
            found[left_out]["others"].append(areas[left_out])
    return found


def trained_without(ground: Ground, left_out: str | None, seed: int) -> TGDFERForVideoClassification:
    """TG-DFER on frozen features, trained on all labels but one, and then told all of them by words."""
    kept = [label for label in ground.classes if label != left_out]
    torch.manual_seed(seed)
    model = _start(ground, kept)
    # The place of each label among those kept; the clips of the other are never drawn.
    place = torch.tensor([kept.index(label) if label in kept else -1 for label in ground.classes])
    targets = place[targets_of(ground)]
    indices = np.flatnonzero(targets.numpy() >= 0)
    for _ in train_epochs(TextGuidedHead(model), ground.features("train", seed), targets, indices, RECIPE, seed):
        pass
    if left_out is not None:
        model.set_classes(ground.network[1].class_prompts())
    return model


def _start(ground: Ground, labels: Sequence[str]) -> TGDFERForVideoClassification:
    return start_model(ground.config(frozen_features=True, model_options=FULL).model, list(labels))[0]


def _areas(ground: Ground, model: TGDFERForVideoClassification) -> dict[str, float]:
    logits, _ = predict(TextGuidedHead(model), ground.features("test"))
    probabilities = logits.softmax(-1).numpy()
    return {
        label: float(roc_auc_score(np.array(ground.test.labels) == label, probabilities[:, index]))
        for index, label in enumerate(ground.classes)
    }


def write_relabelling_report(
    ground: Ground, found: Mapping[str, Mapping[str, Sequence[float]]], path: Path, command: str
) -> None:
    """Writes the report, with its figures (`.json`) beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run = {"command": command, "commit": commit(), "machine": machine()}
    facts: dict[str, Any] = {"areas": found, "recipe": asdict(RECIPE), "identity": ground.identity, **run}
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    means = {
        name: [float(np.mean(run)) for run in zip(*(of[name] for of in found.values()), strict=True)]
        for name in COLUMNS
    }
    rows = [*found.items(), ("mean", means)]
    lines = [f"| emotion | {' | '.join(COLUMNS.values())} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    lines += [
        f"| {label} | {' | '.join(percent(mean_and_spread(list(of[name]))) for name in COLUMNS)} |"
        for label, of in rows
    ]
    about = (
        "`set_classes` re-labels a model by words. Here TG-DFER is trained on rendered faces of six emotions, and then"
        f" told the seventh by its descriptions alone. How well does it rank the {len(ground.test.labels)} test clips,"
        " of people who are in no training clip, by the probability of that emotion? Area under the ROC curve in"
        " percent, 50 by chance; mean ± standard deviation over seeds."
    )
    how = (
        f"Frozen features, AdamW at {RECIPE.rate:g} for {RECIPE.epochs} epochs, set beforehand. The parameters of a"
        f" class start at the mean of the others for the seventh. Command: `{command}`. Commit: `{run['commit']}`."
        f" Machine: {run['machine']}."
    )
    head = "# An emotion given by words alone\n\nWritten by the command below; change it there."
    write_text(path, "\n\n".join([head, fill(about, 119), "\n".join(lines), fill(how, 119)]) + "\n")
