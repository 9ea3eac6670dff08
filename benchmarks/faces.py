"""Speed and stability of face crops, compared with CLIP ViT-B/16: `python -m benchmarks.faces --model YUNET.onnx`."""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from matplotlib import cbook
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from tgdfer.help_pages import run
from tgdfer.processing.detectors_tgdfer import find_faces, load_detector
from tgdfer.processing.faces_tgdfer import TEMPLATE, FaceSettings, crop_faces, similarity
from tgdfer.processing.tracks_tgdfer import steady


def fastest(function: Callable[[], Any], repeats: int = 5) -> float:
    """Returns the duration of the fastest run in seconds, after a warm-up run."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def jitter(clip: np.ndarray, detector: Any) -> tuple[float, float]:
    """Measures how far the eyes move in the crops of a still face, in pixels of crops of size 112.

    Args:
        clip (`np.ndarray` of shape `(T, H, W, 3)`): Frames of a face that does not move.
        detector (`Any`): The face detector.

    Returns:
        `tuple[float, float]`: Movement without and with stabilisation.
    """
    faces = np.stack([find_faces(detector, picture)[0] for picture in clip])
    points = faces[:, 4:14].reshape(-1, 5, 2)
    eyes = np.c_[points.mean(0)[:2], np.ones(2)]
    stabilised = steady(points, np.sqrt(faces[:, 2] * faces[:, 3]), np.arange(len(clip)) / 25)
    positions = [np.stack([eyes @ similarity(p, TEMPLATE).T for p in track]) for track in (points, stabilised)]
    before, after = (float(np.abs(eye - eye.mean(0)).max()) for eye in positions)
    return before, after


def main(
    model: Annotated[
        str | None, typer.Option(help="File of the YuNet model. By default it comes from the Hub.")
    ] = None,
) -> None:
    """Measure each detector on 16 frames of 640x480 with one face."""
    clip = noisy_clip()
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()
    vision = CLIPVisionModel(CLIPVisionConfig(patch_size=16)).eval()
    pixels = torch.zeros(16, 3, 224, 224)
    with torch.inference_mode():
        clip_seconds = fastest(lambda: vision(pixels), 3)
    print(f"CLIP ViT-B/16, 16 frames: {clip_seconds:.2f} s on {torch.get_num_threads()} threads")
    for name in ("yunet", "mtcnn"):
        settings = FaceSettings(detector=name, model=model)
        try:
            detector = load_detector(name, model)[1]
        except ValueError as error:
            print(error)
            continue
        seconds = fastest(partial(crop_faces, frames, None, settings))
        before, after = jitter(clip, detector)
        print(
            f"{name}: {seconds / 16 * 1e3:.1f} ms per frame, {100 * seconds / clip_seconds:.0f}% of CLIP; the eyes of"
            f" a still face move by {before:.2f} px in crops of size 112, and by {after:.2f} px with stabilisation"
        )


def noisy_clip() -> np.ndarray:
    """Returns 16 frames (16, 480, 640, 3) of the same photograph with different noise."""
    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        photo = np.asarray(image.convert("RGB"))
    picture = np.full((480, 640, 3), 128, np.uint8)
    picture[:, 115:525] = cv2.resize(photo, (410, 480), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 8, (16, *picture.shape))
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    run(main)
