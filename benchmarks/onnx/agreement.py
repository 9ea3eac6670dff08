"""How well exported files agree with the model in PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track

from benchmarks.onnx.timing import FILES, session

SIZES = ((1, 1), (1, 16), (2, 7), (4, 16), (8, 3))


@torch.no_grad()
def largest_errors(model: Any, folder: Path, side: int) -> dict[str, float]:
    """Returns the largest error of each output in fp32, over batches of several sizes with masks that have holes."""
    opened = session(folder / "model.onnx")
    errors = {"logits": 0.0, "frame_logits": 0.0, "frame_relevance": 0.0}
    generator = torch.Generator().manual_seed(0)
    for batch, frames in SIZES:
        mask = torch.rand(batch, frames, generator=generator) > 0.3
        mask[:, -1] = True
        clip = {
            "pixel_values_videos": torch.randn(batch, frames, 3, side, side, generator=generator),
            "frame_mask": mask,
            "timestamps": torch.rand(batch, frames, generator=generator).cumsum(1),
        }
        expected = model(**clip)
        found = opened.run(list(errors), {name: value.numpy() for name, value in clip.items()})
        for name, value in zip(errors, found, strict=True):
            difference = np.abs(value - expected[name].numpy())
            if difference.ndim == 3:  # masked frames have meaningless values
                difference = difference[mask.numpy()]
            errors[name] = max(errors[name], float(difference.max()))
    return errors


@torch.no_grad()
def same_labels(model: Any, processor: Any, folder: Path, videos: Sequence[Path]) -> dict[str, Any]:
    """Compares the most probable labels of clips of cropped faces.

    Returns:
        `dict`: `clips`, their number, and for each file the number of clips with the `same` label, and the largest
        (`worst`) error of a logit.
    """
    sessions = {name: session(folder / file) for name, file in FILES.items()}
    same, worst = dict.fromkeys(FILES, 0), dict.fromkeys(FILES, 0.0)
    for video in track(videos, "Clips", console=get_console()):
        clip = processor(videos=[str(video)], face_crop="none", return_tensors="pt")
        expected = model(**clip).logits.numpy()
        arrays = {name: value.numpy() for name, value in clip.items()}
        for name, opened in sessions.items():
            (found,) = opened.run(["logits"], arrays)
            same[name] += int(found.argmax() == expected.argmax())
            worst[name] = max(worst[name], float(np.abs(found - expected).max()))
    return {"clips": len(videos), "same": same, "worst": worst}
