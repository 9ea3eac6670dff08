"""The report on pointing: the accuracy of each method and of each movement, and a picture of faces with heat maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure as Picture

from benchmarks.harness.provenance import machine
from benchmarks.harness.tables import interval, markdown_table, paragraph, percent_with_interval, write_report
from benchmarks.regions.faces import CHANGED, MOVEMENTS, TOLERANCE, MovedFace
from benchmarks.regions.measure import CENTRE, FIXED, MODEL, OTHER_PART, OTHER_WORDS, Pointing, points_of
from tgdfer.modeling_tgdfer.regions_tgdfer import GRID
from tgdfer.training.figures.regions import heat_map
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.provenance import commit

TITLES = {
    MODEL: "region relevance of the description",
    OTHER_WORDS: "the same with the description of a random other movement",
    OTHER_PART: "the same with the description of a movement in another part of the face",
    FIXED: "the place that is right most often for the train people",
    CENTRE: "centre of the picture",
}
# Movements in the picture.
SHOWN = ("AU01+02", "AU04", "AU43", "AU09", "AU12", "AU15", "AU25+26")


class Example(NamedTuple):
    """A face in the picture, and its region relevance (K, P) for the descriptions of all movements."""

    face: MovedFace
    relevance: np.ndarray


def method_table(pointing: Pointing) -> str:
    """Formats the pointing accuracy of each method in percent."""
    rows = [
        [
            title,
            percent_with_interval(pointing.accuracy(method)),
            interval(None if method == MODEL else pointing.accuracy(MODEL, method)),
        ]
        for method, title in TITLES.items()
    ]
    return markdown_table(["where the point comes from", "pointing accuracy", "region relevance minus this"], rows)


def movement_table(pointing: Pointing) -> str:
    """Formats the pointing accuracy of each part of the face and of each movement in percent."""
    rows = []
    for part in dict.fromkeys(movement.part for movement in MOVEMENTS):
        rows.append([f"**{part}**", "", *_cells(pointing.of_part(part))])
        for index, movement in enumerate(MOVEMENTS):
            if movement.part == part:
                rows.append([movement.name, movement.text, *_cells(pointing.of_movement(index))])
    head = ["movement", "description", "region relevance", "other movement", "other part", "fixed place", "centre"]
    return markdown_table(head, rows)


def not_found(pointing: Pointing) -> list[str]:
    """Returns the names of the movements to which region relevance does not point better than with other words."""
    found = map(pointing.of_movement, range(len(MOVEMENTS)))
    means = [(one.right[MODEL].mean(), one.right[OTHER_WORDS].mean()) for one in found]
    return [one.name for one, (own, other) in zip(MOVEMENTS, means, strict=True) if own <= other]


def better_fixed(pointing: Pointing) -> list[str]:
    """Returns the parts of the face in which a fixed place is right more often than region relevance."""
    parts = {movement.part: pointing.of_part(movement.part) for movement in MOVEMENTS}
    return [part for part, one in parts.items() if one.right[FIXED].mean() > one.right[MODEL].mean()]


def write_regions_report(
    pointing: Pointing, examples: Sequence[Example], model: str, path: Path, figures: Path, command: str
) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        pointing (`Pointing`): Outcomes of the test faces.
        examples (`Sequence[Example]`): Faces of train people for the picture.
        model (`str`): Name of the model.
        path (`Path`): The Markdown file.
        figures (`Path`): The JSON file.
        command (`str`): Command line that is written into both files.
    """
    people = len(np.unique(pointing.people))
    run = {"command": command, "commit": commit(), "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    save_figure(draw(examples), picture)
    about = (
        "Rendered faces move in one way each, such as raised eyebrows. The region of the movement is where the picture"
        " differs from the same face at rest. A point is right if it lies in this region, or at most 15 of 224 pixels"
        ' away from it. This is the tolerance of the pointing game (Zhang et al., 2018, "Top-down neural attention by'
        ' excitation backprop"). The point of a description is the place with the highest region relevance'
        " (`model.get_region_relevance`): if it is hidden, the cosine of picture and description falls most. Written"
        f" by `{command}`; change it there."
    )
    caption = (
        f"People of the train split. Red: the region relevance of the description above, in {GRID} x {GRID} places."
        " White line: the region of the movement. Circle: the point, green if it is right."
    )
    table = (
        f"`{model}` on {len(pointing.people)} faces of {people} test people; every person shows each of the"
        f" {len(MOVEMENTS)} movements. Percent of the points that are right, with 95 % intervals by a bootstrap over"
        " people. Descriptions of other movements are often right as well: hiding what has moved changes the cosine"
        " with many descriptions, and some movements are in the same place. The fixed place is at the mouth, where"
        f" {sum(movement.part == 'mouth' for movement in MOVEMENTS)} of the movements are."
    )
    better = ", ".join(better_fixed(pointing)) or "none"
    movements = (
        "The same for the parts of the face and for single movements. The fixed place is right more often than region"
        f" relevance in these parts: {better}. Region relevance is no better with the description of the movement than"
        f" with that of another one for {', '.join(not_found(pointing)) or 'no movement'}."
    )
    how = (
        "Pose, light, background and noise differ from picture to picture. A pixel belongs to the region if its"
        f" smoothed change is at least {100 * CHANGED:.0f} % of the largest one; the tolerance is"
        f" {100 * TOLERANCE:.1f} % of the side. The method was chosen on train people"
        " ([experiments](../experiments.md#where-in-the-face)), and the test people were read once. Command:"
        f" `{command}`. Commit: `{run['commit'] or 'unknown'}`. Machine: {run['machine']}."
    )
    sections = [
        "# Where in the face?",
        paragraph(about),
        f"![Faces with heat maps]({picture.name})",
        paragraph(caption),
        paragraph(table),
        method_table(pointing),
        paragraph(movements),
        movement_table(pointing),
        "## How it is measured",
        paragraph(how),
    ]
    contents = {
        "run": run | {"model": model, "people": people, "tolerance": TOLERANCE, "grid": GRID},
        "methods": {method: pointing.accuracy(method) for method in TITLES},
        "differences": {method: pointing.accuracy(MODEL, method) for method in TITLES if method != MODEL},
        "movements": {
            one.name: {
                "description": one.text,
                "part": one.part,
                **{method: pointing.of_movement(index).accuracy(method) for method in TITLES},
            }
            for index, one in enumerate(MOVEMENTS)
        },
    }
    write_report(path, sections, figures, contents)


def draw(examples: Sequence[Example]) -> Picture:
    """Draws a row for each person and a column for each of the movements `SHOWN`."""
    people = list(dict.fromkeys(example.face.person for example in examples))
    picture = Picture(figsize=(1.6 * len(SHOWN), 1.6 * len(people) + 0.5), layout="constrained")
    axes = picture.subplots(len(people), len(SHOWN), squeeze=False)
    for face, relevance in examples:
        movement = MOVEMENTS[face.movement]
        if movement.name not in SHOWN:
            continue
        panel = axes[people.index(face.person), SHOWN.index(movement.name)]
        values = relevance[face.movement]
        panel.imshow(heat_map(face.picture, values, float(values.max())))
        panel.contour(face.region, [0.5], colors="white", linewidths=0.8)
        row, column = points_of(values, len(face.region)).tolist()
        panel.plot(column, row, "o", ms=5, mec="black", mew=0.8, color="lime" if face.near[row, column] else "orange")
        panel.set_axis_off()
        if face.person == people[0]:
            panel.set_title(movement.text.replace(" and ", "\nand "), fontsize=8)
    return picture


def _cells(pointing: Pointing) -> list[str]:
    values = [pointing.accuracy(method) for method in TITLES]
    return [f"{100 * value[0]:.0f}" for value in values if value is not None]
