"""Tests whether position or movement alone reveals emotion in rendered clips: `python -m benchmarks.position_only`.

If the position of a frame predicted its intensity, a method could find the emotional frames without looking at them.
"""

from typing import Annotated

import numpy as np
import typer

from tgdfer.help_pages import run
from tgdfer.training.metrics import localisation_figures
from tgdfer.training.rendered_faces import EMOTIONS, Course, RenderedFaces, sample_course

GRID = np.linspace(0, 1, 20)


def positions(frames: int) -> np.ndarray:
    """Returns evenly spaced positions of frames from 0 to 1, (frames,)."""
    return np.linspace(0, 1, frames)


def position_scores(frames: int, mean_intensity: np.ndarray) -> dict[str, np.ndarray]:
    """Returns several scores (frames,) that depend only on the position of a frame.

    Args:
        frames (`int`): Number of frames.
        mean_intensity (`np.ndarray`): Mean intensity of the training clips at the positions `GRID`.
    """
    x = positions(frames)
    # With an even number of frames, two are equally close to the middle. The earlier one gets the higher score.
    middle = -np.abs(x - 0.5 + 1e-4)
    expected = np.interp(x, GRID, mean_intensity)
    return {"first": -x, "last": x, "middle": middle, "edges": -middle, "mean intensity": expected}


def sample(intensity: np.ndarray, frames: int) -> np.ndarray:
    """Samples the middle frames of equal segments, as a model does. All frames are returned if `frames` is 0."""
    return intensity[((np.arange(frames) + 0.5) * len(intensity) / frames).astype(int)] if frames else intensity


def print_positions(train: list[np.ndarray], test: list[np.ndarray]) -> None:
    """Prints how much the frame AP of each score exceeds the frame AP of a random order.

    Args:
        train (`list[np.ndarray]`): Intensities of the frames of the training clips.
        test (`list[np.ndarray]`): Intensities of the frames of the test clips.
    """
    mean_intensity = np.mean([np.interp(GRID, positions(len(i)), i) for i in train], axis=0)
    for frames in (0, 16):
        truth = [sample(intensity, frames) for intensity in test]
        scores = [position_scores(len(intensity), mean_intensity) for intensity in truth]
        figures = {name: localisation_figures([s[name] for s in scores], truth) for name in scores[0]}
        random = figures["first"]["random_frame_ap"]
        line = ", ".join(f"{name} {100 * (f['frame_ap'] - random):+.1f}" for name, f in figures.items())
        print(
            f"{f'{frames} frames' if frames else 'all frames'}: frame AP of a random order {100 * random:.1f}; {line}"
        )


def movement(course: Course) -> float:
    """Returns the summed change of all action units per frame, averaged over the frames."""
    return float(np.abs(np.diff(course.action_units, axis=0)).sum(1).mean())


def main(
    courses: Annotated[
        int, typer.Option(help="Number of emotional test clips, and of emotional training clips.", min=1)
    ] = 4000,
) -> None:
    """Rank frames by their position alone, and compare how much the face moves for each label."""
    faces, emotions = RenderedFaces(), [label for label in EMOTIONS if label != "neutral"]
    halves: list[list[np.ndarray]] = []
    moved: dict[str, list[float]] = {label: [] for label in EMOTIONS}
    for half in range(2):
        halves.append([])
        for number in range(courses):
            label = emotions[number % len(emotions)]
            course = sample_course(label, faces, np.random.default_rng([half, number]))
            halves[-1].append(course.intensity)
            moved[label].append(movement(course))
    for number in range(courses // len(emotions)):
        moved["neutral"].append(movement(sample_course("neutral", faces, np.random.default_rng([2, number]))))
    print_positions(*halves)
    print("change of action units per frame:", ", ".join(f"{k} {np.mean(v):.3f}" for k, v in moved.items()))


if __name__ == "__main__":
    run(main)
