"""The rows of the temporal benchmark: models of single frames, models of time, and what the true curves allow."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier

from benchmarks.ablation.rows import rows_of
from benchmarks.harness.feature_dataset import ClipTable
from benchmarks.harness.row import Row, Run, run_result, seed_of, seed_parts
from benchmarks.temporal.dataset import PairDataset
from benchmarks.temporal.pairs import KINDS

# Rows of the ablation that are measured here.
FROM_ABLATION = ("frozen-top", "no-short", "full", "long", "long-only", "dfer-clip")
# A forest has no rate or number of epochs that would have to be chosen.
TREES = 500


def temporal_rows(dataset: PairDataset) -> list[Row]:
    """All rows, in the order of the table."""
    rows = {row.name: row for row in rows_of(dataset)}
    return [*(rows[name] for name in FROM_ABLATION), _curves_row(dataset)]


def _curves_row(dataset: PairDataset) -> Row:
    """A classifier that is given the true intensity of every frame. It is the upper bound."""

    def run(part: str, earlier: Mapping[str, Run], folder: Path) -> Run:
        forest = RandomForestClassifier(TREES, random_state=seed_of(part))
        forest.fit(_curves(dataset, "train"), dataset.train.labels)
        probabilities = forest.predict_proba(_curves(dataset, "test"))
        mask = dataset.features("test").frame_mask[0]
        no_scores = torch.full((*mask.shape, len(dataset.classes)), torch.nan)
        return run_result(dataset, torch.from_numpy(probabilities), no_scores, mask)

    return Row("curves", "random forest, given the true curves", seed_parts(dataset), run, {"trees": TREES})


def _curves(dataset: PairDataset, split: str) -> np.ndarray:
    """Intensities of all frames, their absolute changes from frame to frame, and the kind of the pair: (N, 2 T)."""
    clips: ClipTable = getattr(dataset, split)
    curves = np.array(clips.intensity)
    kinds = [list(KINDS).index(pair.kind) for pair in dataset.pairs(split) for _ in pair.clips]
    return np.hstack([curves, np.abs(np.diff(curves)), np.array(kinds)[:, None]])
