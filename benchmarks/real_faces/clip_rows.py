"""Rows on clips of real faces: rows of the baselines, a trained TG-DFER model, and `fer` on the same frames."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import torch
from rich import get_console
from rich.progress import track

from benchmarks.baselines.rows import rows_of
from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.heads import TOP_SHARE, top_mean
from benchmarks.harness.row import Row, Run, run_result
from benchmarks.harness.trained_model import TrainedModel
from benchmarks.real_faces.fer_environment import CLASSES, VERSION, FerEnvironment
from tgdfer.modeling_tgdfer.layers_tgdfer import masked_mean
from tgdfer.training.data.batches import ClipDataset
from tgdfer.training.measure import frame_scores

# Rows of the baselines that are compared with `fer`.
BASELINES = ("random", "position", "frozen-mean", "frozen-top", "tgdfer", "oracle")


def clip_rows(dataset: BenchmarkDataset, fer: FerEnvironment, trained: TrainedModel | None) -> list[Row]:
    """Returns all rows in the order of the table.

    Args:
        dataset (`BenchmarkDataset`): The clips.
        fer (`FerEnvironment`): Virtual environment of the `fer` package.
        trained (`TrainedModel`, *optional*): A trained TG-DFER model that is measured as an additional row.
    """
    scores = _FerScores(dataset, fer)
    rows = [row for row in rows_of(dataset) if row.name in BASELINES]
    if trained is not None:
        rows.append(
            Row(
                "trained",
                trained.title,
                ("once",),
                partial(_trained, dataset, trained),
                {"model": trained.fingerprint},
            )
        )
    for name, title in (("mean", "mean of the frames"), ("top", "top quarter of the frames")):
        config = {"version": VERSION, "share": TOP_SHARE, "among": dataset.classes}
        rows.append(Row(f"fer-{name}", f"fer, {title}", ("once",), partial(_fer, dataset, scores, name), config))
    return rows


class _FerScores:
    """Predictions of `fer` for the sampled frames of the test clips. Both rows of `fer` share them."""

    def __init__(self, dataset: BenchmarkDataset, fer: FerEnvironment) -> None:
        self.dataset, self.fer = dataset, fer
        self.cached: tuple[torch.Tensor, torch.Tensor] | None = None

    def frames(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the probabilities (N, T, K) of the K classes of the clips, and the mask (N, T) of the frames."""
        if self.cached is None:
            clips, number = self.dataset.test, self.dataset.settings.num_frames
            video_processor = self.dataset.network[1].video_processor
            pictures, counts = [], []
            for index in track(range(len(clips)), "Frames for fer", console=get_console()):
                frames, _ = video_processor.read_clip(clips.video(index), number)
                pictures += [
                    cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
                    for frame in frames.permute(0, 2, 3, 1).contiguous().numpy()
                ]
                counts.append(len(frames))
            indices = [CLASSES.index(label) for label in self.dataset.classes]
            values = torch.from_numpy(self.fer.probabilities(pictures)[:, indices])
            # The clips do not show the other classes of `fer`. Excluding them improves its results slightly.
            values = values / values.sum(1, keepdim=True).clamp(min=1e-9)
            mask = torch.arange(number) < torch.tensor(counts)[:, None]
            scores = torch.zeros(*mask.shape, len(indices))
            scores[mask] = values
            self.cached = scores, mask
        return self.cached


def _fer(
    dataset: BenchmarkDataset, scores: _FerScores, pooling: str, part: str, earlier: Mapping[str, Run], folder: Path
) -> Run:
    """Pools the probabilities of the frames. The score of a frame is its probability of the true class."""
    frames, mask = scores.frames()
    pooled = masked_mean(frames, mask) if pooling == "mean" else top_mean(frames, mask)
    return run_result(dataset, pooled, frames, mask, are_logits=False)


def _trained(
    dataset: BenchmarkDataset, trained: TrainedModel, part: str, earlier: Mapping[str, Run], folder: Path
) -> Run:
    """Predicts the clips with a trained model, among their classes. Frames are scored as in `frame_scores`."""
    model, indices = trained.network[0], trained.class_indices(dataset.classes)
    video_processor = trained.video_processor(reference=dataset.network[1].video_processor)
    data = ClipDataset(dataset.test, trained.classes, video_processor, dataset.settings.num_frames)
    loader = torch.utils.data.DataLoader(data, 16, collate_fn=data.collate)
    probabilities, scores, masks = [], [], []
    for batch in track(loader, "Clips of test", console=get_console()):
        inputs = {name: batch[name] for name in ("pixel_values_videos", "frame_mask", "timestamps")}
        with torch.inference_mode():
            output = model(**inputs)
        probabilities.append(trained.probabilities(output.logits))
        scores.append(frame_scores(output, batch["frame_mask"], model.config).float())
        masks.append(batch["frame_mask"])
    all_classes = torch.cat(probabilities)
    run = run_result(
        dataset, all_classes[:, indices], torch.cat(scores)[..., indices], torch.cat(masks), are_logits=False
    )
    # The calibration is measured with all classes of the model, as users get it.
    return run | trained.confidence(all_classes, dataset.test.labels)
