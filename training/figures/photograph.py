"""The figure of a photograph: the face and the class probabilities of each person."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tgdfer.training.colours import class_colours
from tgdfer.training.figures.fonts import shortened, text_width, wrapped
from tgdfer.training.figures.timeline_row import GREY, person_title, warning_lines

# Maximum number of people in a figure.
MAX_FACES = 12
# Number of classes with a bar. They are the most probable ones.
MAX_BARS = 6
# Inches.
_CARD, _COLUMNS, _TOP, _BOTTOM, _GAP, _MARGIN, _FACE = 4.6, 3, 0.55, 0.3, 0.35, 0.15, 1.35
_TITLE, _WARNING = 0.32, 0.18
# Font size and maximum width of the name of a class, in points.
_SIZE, _NAME = 8, 95


def draw_photograph(result: Mapping[str, Any], title: str = "") -> Figure:
    """Draws a card for each person, with number, answer, face and the probabilities of the most probable classes.

    Args:
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline` for one frame.
        title (`str`, *optional*, defaults to `""`): Name of the photograph.
    """
    people = result["people"][:MAX_FACES]
    columns = min(_COLUMNS, len(people))
    lines = max(len(warning_lines(person, _CARD - 2 * _MARGIN)) for person in people)
    card = _TITLE + _WARNING * lines + _FACE
    rows = -(-len(people) // columns)
    width, height = columns * _CARD, _TOP + rows * card + (rows - 1) * _GAP + _BOTTOM
    figure = Figure(figsize=(width, height))
    heading = shortened(title, 12, 72 * 0.85 * (width - 2 * _MARGIN))
    figure.text(_MARGIN / width, 1 - 0.3 / height, heading, va="baseline", fontsize=12, weight="bold")
    for number, person in enumerate(people):
        left = number % columns * _CARD + _MARGIN
        top = height - _TOP - number // columns * (card + _GAP)
        person_title(figure, person, left, top - 0.17, room=_CARD - 2 * _MARGIN)
        top -= _TITLE
        for line in warning_lines(person, _CARD - 2 * _MARGIN):
            figure.text(left / width, (top - 0.1) / height, line, fontsize=_SIZE, color="#8a4b00")
            top -= _WARNING
        _draw_card(figure, person, left, top)
    left_out = len(result["people"]) - len(people)
    if left_out > 0:
        note = f"{left_out} more {'people' if left_out > 1 else 'person'} not drawn"
        figure.text(1 - _MARGIN / width, 0.1 / height, note, ha="right", fontsize=8.5, color=GREY)
    return figure


def _draw_card(figure: Figure, person: Mapping[str, Any], left: float, top: float) -> None:
    """Draws the face, if there is a thumbnail, and the bars next to it. `left` and `top` are in inches."""
    width, height = figure.get_size_inches()
    room = _CARD - 2 * _MARGIN
    thumbnails = person.get("thumbnails")
    if thumbnails is not None and len(thumbnails):
        axes = figure.add_axes((left / width, (top - _FACE) / height, _FACE / width, _FACE / height))
        axes.imshow(thumbnails[0], interpolation="antialiased")
        axes.axis("off")
        left, room = left + _FACE + 0.12, room - _FACE - 0.12
    scores = person["scores"]
    best = sorted(scores, key=lambda name: -scores[name])[:MAX_BARS]
    names = [_two_lines(name) for name in best]
    names_width = max(text_width(line, _SIZE) for name in names for line in name.split("\n")) / 72 + 0.12
    axes = figure.add_axes(
        ((left + names_width) / width, (top - _FACE) / height, (room - names_width) / width, _FACE / height),
        # The number next to the longest bar needs room.
        xlim=(0, 1.25),
        ylim=(MAX_BARS - 0.4, -0.6),
    )
    colours = class_colours(best)
    axes.barh(range(len(best)), [scores[name] for name in best], 0.72, color=[colours[name] for name in best])
    for index, name in enumerate(best):
        axes.text(scores[name] + 0.02, index, f"{scores[name]:.0%}", va="center", fontsize=_SIZE)
    axes.set_yticks(range(len(best)), names, fontsize=_SIZE)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _two_lines(name: str) -> str:
    """Returns the name of a class in at most two lines."""
    first, *others = wrapped(name, _SIZE, _NAME)
    return "\n".join([first, *([shortened(" ".join(others), _SIZE, _NAME)] if others else [])])
