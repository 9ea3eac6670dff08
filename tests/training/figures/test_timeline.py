"""The picture of a video with all its people, tested by what the figure contains."""

from pathlib import Path

import numpy as np
import pytest
from made_up_timelines import LABELS, LONG, made_up_person, made_up_result, three_people
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from tgdfer.training.colours import class_colours
from tgdfer.training.figures.timeline import draw_timeline, plot_timeline
from tgdfer.training.figures.timeline_row import RELEVANCE_COLOUR


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def places_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has a colour: rows and columns (N, 2)."""
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return np.argwhere(np.abs(picture - wanted).sum(-1) < 12)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def legends(figure: Figure) -> list[list[str]]:
    found = [axes.get_legend() for axes in figure.axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in found if legend]


def curves(figure: Figure) -> list[dict[str, np.ndarray]]:
    """Times and values (2, N) of each named curve, for each person."""
    people = []
    for axes in figure.axes:
        named = {str(line.get_label()): line.get_xydata().T for line in axes.lines if str(line.get_label())[0] != "_"}
        if named:
            people.append(named)
    return people


def bands(figure: Figure) -> list[list[tuple[float, float, str]]]:
    """Start, end and colour of each segment, for each person."""
    found = []
    for axes in figure.axes:
        if axes.get_ylabel() == "segments":
            boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
            found.append([(b.get_x(), b.get_x() + b.get_width(), to_hex(b.get_facecolor())) for b in boxes])
    return found


def assert_inside(figure: Figure) -> None:
    """No text is cut off at the border of the picture, and no title covers another text of its row."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.bbox.width, figure.bbox.height
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text.axes is None or text in figure.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text.get_text()
    for axes in figure.axes:
        if axes.get_legend():
            box = axes.get_legend().get_window_extent(renderer)
            assert box.x1 <= width + 1 and box.y0 >= -1, "legend"


def drawn(figure: Figure) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    FigureCanvasAgg(figure).draw()
    return figure


def test_every_person_has_a_row_with_number_and_answer() -> None:
    figure = draw_timeline(three_people(), "holiday.mov")
    said = texts(figure)
    assert "holiday.mov   3 people" in said
    numbers = [text for text in said if text in "123"]
    assert numbers == ["1", "3", "2"], "in the order of the result"
    assert any(text.startswith("happiness 3") for text in said) and any(text.startswith("fear 4") for text in said)
    assert "The face is small: less than 32 pixels wide in 80 % of its frames." in said
    assert "in the picture for 18.0 s of 20.0 s" in said and "in the picture for 7.0 s of 20.0 s" in said


def test_everything_that_is_drawn_is_named_and_nothing_else() -> None:
    figure = draw_timeline(three_people())
    colours = class_colours([*LABELS, LONG, "unsure"])
    for named, legend, band in zip(curves(figure), legends(figure), bands(figure), strict=True):
        labels = {" ".join(text.split()).rpartition(" ")[0] if "%" in text else text for text in legend}
        boxes = {label for label, colour in colours.items() if colour in {one[2] for one in band}}
        assert labels == set(named) | boxes | {"relevance (own scale)"}
    assert set(curves(figure)[0]) == {"happiness", "surprise", "anger", "fear", "neutral"}
    assert {line.get_color() for axes in figure.axes for line in axes.lines if line.get_label() == "fear"} == {
        colours["fear"]
    }


def test_segments_have_the_colours_and_times_of_their_classes() -> None:
    colours = class_colours(["neutral", "happiness", "surprise", "unsure", "anger"])
    first = bands(draw_timeline(three_people()))[0]
    assert first == [
        (0.0, 2.5, colours["neutral"]),
        (2.5, 6.0, colours["happiness"]),
        (6.0, 8.0, colours["surprise"]),
        (10.0, 13.0, colours["unsure"]),
        (13.0, 16.5, colours["happiness"]),
        (16.5, 20.0, colours["anger"]),
    ]


def test_curves_and_relevance_are_empty_where_the_person_is_absent() -> None:
    figure = draw_timeline(three_people())
    times, values = curves(figure)[0]["happiness"]
    shown = times[~np.isnan(values)]
    assert ((shown < 8) | (shown > 10)).all() and np.isnan(values).sum() == 3, "two cuts and one gap"
    for axes, spans in zip(
        [axes for axes in figure.axes if axes.get_ylabel() == "probability"],
        ([(0, 6), (6, 8), (10, 13), (13, 20)], [(0, 6), (13, 20)], [(6, 13)]),
        strict=True,
    ):
        relevance = [path.vertices[:, 0] for path in axes.collections[0].get_paths()]
        assert [(part.min(), part.max()) for part in relevance] == spans


def test_relevance_has_its_colour_where_it_is(tmp_path: Path) -> None:
    """The relevance colour is where relevance is, and the thumbnails are there in order."""
    every = np.array([0.5, 1.5, 2.5, 3.5])
    person = made_up_person(1, every, [(0.0, 4.0, "fear")], every, ("anger", "fear"), thumbnails=4)
    person["frame_relevance"] = [0.0, 0.0, 0.0, 1.0]
    shades = np.array([0, 80, 160, 240], np.uint8)
    person["thumbnails"] = np.broadcast_to(shades[:, None, None, None], (4, 20, 20, 3))
    plot_timeline(made_up_result([person], every, 4.0), tmp_path / "t.png", title="clip.mp4")
    picture = pixels(tmp_path / "t.png")
    width = picture.shape[1]
    relevant = places_of(picture, RELEVANCE_COLOUR)[:, 1]
    assert (relevant < 0.62 * width).sum() == 0 and (relevant > 0.62 * width).sum() > 100
    row = picture[round(0.35 * len(picture)), :, 0]
    seen = [shade for shade in row if (np.abs(shades.astype(int) - shade) <= 1).any()]
    order = [value for index, value in enumerate(seen) if index == 0 or value != seen[index - 1]]
    assert [order.index(shade) for shade in (0, 80, 160, 240)] == sorted(order.index(s) for s in (0, 80, 160, 240))


def test_an_unsure_answer_names_what_it_may_be() -> None:
    every = np.array([0.5, 1.5])
    person = made_up_person(1, every, [(0.0, 2.0, "unsure")], every)
    person["score"] = 0.45
    figure = draw_timeline(made_up_result([person], every, 2.0))
    assert "unsure: fear (45%) or surprise" in texts(figure)
    assert {"fear", "surprise"} <= set(curves(figure)[0])


def test_thumbnails_are_at_their_times_and_do_not_overlap() -> None:
    result = three_people(thumbnails=12)
    figure = draw_timeline(result)
    for person, axes in zip(result["people"], [axes for axes in figure.axes if axes.findobj(AxesImage)], strict=True):
        ends = sorted(image.get_extent()[:2] for image in axes.get_images())
        assert all(one[1] < other[0] for one, other in zip(ends, ends[1:], strict=False))
        middles = [(left + right) / 2 for left, right in ends]
        assert all(min(abs(middle - second) for second in person["thumbnail_seconds"]) < 1e-6 for middle in middles)
        assert 3 <= len(middles) <= 12


def test_cuts_are_thin_lines_or_ticks_where_there_are_many() -> None:
    figure = draw_timeline(three_people())
    lines = [line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 0.7]
    assert sorted({line.get_xdata()[0] for line in lines}) == [6.0, 13.0]  # type: ignore[index]
    assert "dotted lines: 2 cuts" in texts(figure)
    every = np.arange(0.5, 200)
    person = made_up_person(1, every, [(0.0, 200.0, "fear")], every)
    figure = draw_timeline(made_up_result([person], every, 200.0, cuts=np.arange(1.0, 101).tolist()))
    assert not [line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 0.7]
    assert "ticks below the segments: 100 cuts" in texts(figure)


def half_an_hour(people: int) -> dict:
    """Thirty minutes at four frames a second; the label changes every three seconds."""
    every = np.arange(0.125, 1800, 0.25)
    spans = [(3.0 * i, 3.0 * i + 3, ("neutral", "happiness")[i // 40 % 2]) for i in range(600)]
    spans[5:7] = [(15.0, 18.0, "unsure"), (18.0, 21.0, "sadness")]
    found = [made_up_person(number + 1, every, spans, every, thumbnails=8) for number in range(people)]
    return made_up_result(found, every, 1800.0)


def test_long_recordings_are_averaged() -> None:
    figure = draw_timeline(half_an_hour(1))
    assert "averages over 15 s" in texts(figure)
    for times, _ in curves(figure)[0].values():
        assert len(times) <= 150
    band = bands(figure)[0]
    assert len(band) < 20, "short segments are joined with what is around them"
    assert band[0][0] == 0 and band[-1][1] == 1800
    assert len(figure.findobj()) < 700, "few artists"
    assert {"0:00", "30:00"} <= set(texts(drawn(figure)))


def test_the_less_prominent_people_are_counted() -> None:
    every = np.arange(0.5, 4)
    people = [made_up_person(number, every, [(0.0, 4.0, "fear")], every) for number in range(1, 9)]
    figure = draw_timeline(made_up_result(people, every, 4.0))
    assert len(curves(figure)) == 6
    assert "2 less prominent people not drawn" in texts(figure)


@pytest.mark.parametrize("label", [LONG, "x" * 200, " ".join(["sehr"] * 60), "$\\frac{"])
def test_no_text_is_cut_off(label: str) -> None:
    every = np.arange(0.5, 4)
    people = [
        made_up_person(
            number, every, [(0.0, 2.0, label), (2.0, 4.0, "unsure")], every, (label, "fear"), unsure=(label, "fear")
        )
        for number in (1, 2)
    ]
    people[0]["warnings"] = ["The face is turned away. " * 20]
    assert_inside(drawn(draw_timeline(made_up_result(people, every, 4.0), "clip.mp4")))
    one = np.zeros(1)
    photographed = [made_up_person(n, one, [(0.0, 0.1, label)], one, (label, "fear"), thumbnails=1) for n in (1, 2)]
    assert_inside(drawn(draw_timeline(made_up_result(photographed, one, None), "me.jpg")))


def test_a_person_without_segments() -> None:
    every = np.arange(6.0)
    person = made_up_person(None, every, [(0.0, 6.0, "fear")], every, thumbnails=3)
    person.update(segments=[])
    figure = draw_timeline(made_up_result([person], every, None), "frames")
    assert figure.axes[-1].get_xlabel() == "seconds"
    assert curves(figure)[0]["fear"][0].tolist() == list(range(6))
    assert bands(figure) == [] and "frames" in texts(figure)
    assert len(figure.findobj(AxesImage)) == 3


@pytest.mark.parametrize("has_segments", [True, False])
def test_a_photograph_is_drawn_as_bars(has_segments: bool) -> None:
    one = np.zeros(1)
    people = [made_up_person(number, one, [(0.0, 0.1, "fear")], one, thumbnails=1) for number in (1, 2)]
    for person in people:
        person.update(segments=person["segments"] if has_segments else [])
    figure = draw_timeline(made_up_result(people, one, None), "me.jpg")
    faces = figure.findobj(AxesImage)
    assert len(faces) == 2
    for axes, person in zip([axes for axes in figure.axes if axes.patches], people, strict=True):
        lengths = [patch.get_width() for patch in axes.patches]
        assert lengths == sorted(person["scores"].values(), reverse=True)[:6]
        assert to_hex(axes.patches[0].get_facecolor()) == class_colours(["fear"])["fear"]
    assert {"me.jpg", "1", "2", "fear", f"{people[0]['scores']['fear']:.0%}"} <= set(texts(figure))


def test_true_segments_are_drawn_below() -> None:
    result = three_people()
    figure = draw_timeline(result, truth=[{"label": "contempt", "start": 1.0, "end": 2.0}])
    truth = [axes for axes in figure.axes if axes.get_ylabel() == "truth"]
    assert len(truth) == 1 and [patch.get_x() for patch in truth[0].patches] == [1.0]
    assert "contempt" in legends(figure)[0]
