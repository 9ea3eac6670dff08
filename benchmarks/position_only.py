"""What position and movement alone tell about rendered clips: `python -m benchmarks.position_only`."""

from typing import Annotated

import numpy as np
import typer

from tgdfer.help_pages import run
from tgdfer.training.metrics import localisation_figures
from tgdfer.training.rendered_faces import EMOTIONS, Course, RenderedFaces, sample_course

GRID = np.linspace(0, 1, 20)


def positions(frames: int) -> np.ndarray:
    """Positions of frames between 0 and 1, (frames,)."""
    return np.linspace(0, 1, frames)


def ranks(frames: int, usual: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (frames,) by the position of a frame alone."""
    x = positions(frames)
    # Two frames lie equally near to the middle. The earlier one ranks first.
    middle = -np.abs(x - 0.5 + 1e-4)
    usually = np.interp(x, GRID, usual)
    return {"first": -x, "last": x, "middle": middle, "edges": -middle, "usual intensity": usually}


def sample(intensity: np.ndarray, frames: int) -> np.ndarray:
    """The middle frames of equal parts, as a model samples them; all frames for `frames` of 0."""
    return intensity[((np.arange(frames) + 0.5) * len(intensity) / frames).astype(int)] if frames else intensity


def print_positions(train: list[np.ndarray], test: list[np.ndarray]) -> None:
    """Prints the frame AP of every ranking above that of a random order."""
    usual = np.mean([np.interp(GRID, positions(len(i)), i) for i in train], axis=0)
    for frames in (0, 16):
        truth = [sample(intensity, frames) for intensity in test]
        scores = [ranks(len(intensity), usual) for intensity in truth]
        figures = {name: localisation_figures([s[name] for s in scores], truth) for name in scores[0]}
        random = figures["first"]["random_frame_ap"]
        line = ", ".join(f"{name} {100 * (f['frame_ap'] - random):+.1f}" for name, f in figures.items())
        print(
            f"{f'{frames} frames' if frames else 'all frames'}: frame AP of a random order {100 * random:.1f}; {line}"
        )


def movement(course: Course) -> float:
    """Mean over the frames of the summed change of all action units."""
    return float(np.abs(np.diff(course.action_units, axis=0)).sum(1).mean())


def main(
    courses: Annotated[int, typer.Option(help="Emotional clips to test on, and as many to learn from.", min=1)] = 4000,
) -> None:
    """Rank frames by their position alone, and compare the movement of the labels."""
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
    print("change of action units a frame:", ", ".join(f"{k} {np.mean(v):.3f}" for k, v in moved.items()))


if __name__ == "__main__":
    run(main)
