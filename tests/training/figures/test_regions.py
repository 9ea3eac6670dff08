"""The figure of where in the face descriptions are seen."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tgdfer.training.figures.regions import FaceRegions, draw_regions, heat_map, plot_regions

FACE = np.full((70, 70, 3), 120, np.uint8)


def places(index: int, value: float = 0.2) -> np.ndarray:
    """Relevance (49,) that is negative but for one place."""
    values = np.full(49, -0.1)
    values[index] = value
    return values


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_only_positive_relevance_is_red() -> None:
    painted = heat_map(FACE, places(2 * 7 + 5), 0.2).astype(int)
    redness = painted[..., 0] - painted[..., 2]
    row, column = np.unravel_index(redness.argmax(), redness.shape)
    assert abs(row - 25) <= 5 and abs(column - 55) <= 5  # the centre of the place
    assert np.array_equal(painted[40:], FACE[40:]) and np.array_equal(painted[:, :40], FACE[:, :40])
    half = heat_map(FACE, places(2 * 7 + 5, 0.1), 0.2).astype(int)
    assert 0 < (half[..., 0] - half[..., 2]).max() < redness.max()
    assert np.array_equal(heat_map(FACE, -np.ones(49), 0.0), FACE)


def test_each_person_has_a_row_with_the_descriptions() -> None:
    figure = draw_regions(
        [
            FaceRegions("Person 1: surprise 85%", FACE, {"brows raised": places(10), "jaw dropped": places(38, 0.1)}),
            FaceRegions("Person 2: neutral 60%", FACE, {}),
            FaceRegions("Person 3: fear 60%", FACE, {"long " * 60: places(3)}),
        ],
        "talk.mp4",
    )
    assert {"talk.mp4", "Person 1: surprise 85%", "brows raised", "jaw dropped", "Person 2: neutral 60%"} <= set(
        texts(figure)
    )
    assert any(text.endswith("…") for text in texts(figure))
    assert len(figure.axes) == 3 + 3  # three faces and three heat maps
    pictures = [np.asarray(axes.images[0].get_array()).astype(int) for axes in figure.axes]
    red = [(picture[..., 0] - picture[..., 2]).max() for picture in pictures]
    assert red[0] == red[3] == red[4] == 0
    assert red[1] > red[2] > 0, "one scale for the descriptions of a person"
    heights = [axes.get_position().y0 for axes in figure.axes]
    assert heights[0] == heights[1] == heights[2] > heights[3] > heights[4] == heights[5] >= 0


def test_is_written_in_the_format_of_its_name(tmp_path: Path) -> None:
    for name in ("a.png", "a.svg"):
        plot_regions([FaceRegions("$x$", FACE, {"$\\y$": places(0)})], tmp_path / "deep" / name)
        assert (tmp_path / "deep" / name).stat().st_size > 1000
