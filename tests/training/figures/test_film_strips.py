"""Film strips: which frames are drawn, and where."""

import numpy as np

from tgdfer.training.figures.film_strips import MAX_FRAMES, FilmStrip, draw_film_strips, plot_film_strips


def strip(number: int, best: int, seconds: bool = True) -> FilmStrip:
    relevance = np.ones(number)
    relevance[best] = 3
    frames = [np.full((24, 20, 3), index, np.uint8) for index in range(number)]
    return FilmStrip("$x$ called <b>", frames, relevance.tolist(), np.arange(number).tolist() if seconds else None)


def test_few_frames_are_all_drawn_with_bars_of_their_relevance():
    figure = draw_film_strips([strip(3, best=1), strip(2, best=0, seconds=False)])
    pictures, bars = figure.axes[0::2], figure.axes[1::2]
    assert [int(axes.images[0].get_array()[0, 0, 0]) for axes in pictures] == [0, 1, 2, 0, 1]
    assert [round(axes.patches[0].get_width(), 3) for axes in bars] == [0.333, 1, 0.333, 1, 0.333]
    assert [len(axes.texts) for axes in bars] == [1, 1, 1, 0, 0]


def test_most_relevant_frame_of_many_is_drawn():
    figure = draw_film_strips([strip(100, best=51)])
    drawn = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes[0::2]]
    assert len(drawn) == MAX_FRAMES and 51 in drawn and drawn == sorted(set(drawn)) and drawn[0] == 0


def test_texts_are_no_formulas(tmp_path):
    plot_film_strips([strip(2, best=0)], tmp_path / "new" / "strip.png", "a $title$ {", "_^")
    assert (tmp_path / "new" / "strip.png").stat().st_size > 1000
