"""The row of one person in the figure of a video: title, thumbnails, curves, relevance, segments and legend."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from tgdfer.training.colours import class_colours, text_colour
from tgdfer.training.figures.fonts import shortened, text_width, wrapped
from tgdfer.training.figures.presence import TOLERANCE, frame_seconds, segment_at, stretches, video_duration

GREY = "#555555"
RELEVANCE_COLOUR = "#d5dde8"
# Relevance has its own scale: its maximum is drawn at this height, so that it does not hide the curves.
RELEVANCE_HEIGHT = 0.4
UNSURE = "unsure"
_RELEVANCE = "relevance (own scale)"
# Maximum number of curves, because more would hide each other, and the number to which few classes are filled up.
MAX_CURVES, MIN_CURVES = 5, 3
# If there are more frames, curves have no markers.
_MAX_MARKERS = 64
# Inches.
_TITLE, _WARNING, _CURVES, _LOW_CURVES, _BAND, _SPACE, _LEGEND_LINE = 0.27, 0.18, 1.2, 0.8, 0.24, 0.05, 0.165
_MIN_THUMBNAIL, _MAX_THUMBNAIL, _LOW_THUMBNAIL = 0.4, 0.8, 0.55
# Minimum number of letters of a shortened name in the box of a segment. Fewer would not be understood.
_MIN_NAME = 10
# Font sizes and the maximum width of a name in the legend, in points.
_SIZE, _TITLE_SIZE, _LEGEND_WIDTH = 8, 11, 150


class Row:
    """The row of one person in the figure of a video.

    Args:
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline`.
        person (`Mapping[str, Any]`): One of its people.
        room (`float`): Width of curves and legend in inches.
        span (`float`, *optional*, defaults to 0.0): Length in seconds of the spans over which curves and segments are
            averaged. 0 draws every frame.
        truth (`Sequence[Mapping[str, Any]]`, *optional*, defaults to `()`): True segments, which are drawn below the
            predicted ones.
        low (`bool`, *optional*, defaults to `False`): Whether the row is drawn lower, because there are many rows.

    Attributes:
        height (`float`): Height of the row in inches.
        legend_width (`float`): Width of its legend in inches.
        curves (`Axes`): Axes of the curves, after `draw`.
        axes (`list[Axes]`): All axes with a time axis, from top to bottom, after `draw`.
    """

    curves: Axes
    axes: list[Axes]

    def __init__(
        self,
        result: Mapping[str, Any],
        person: Mapping[str, Any],
        room: float,
        span: float = 0.0,
        truth: Sequence[Mapping[str, Any]] = (),
        low: bool = False,
    ):
        self.person, self.span, self.truth = person, span, truth
        self.seconds = frame_seconds(person)
        self.stretches = stretches(result, person)
        self.length = video_duration(result)
        self.segments = _merged(person["segments"], span) if span else person["segments"]
        self.drawn = _drawn_classes(person)
        named = [*self.drawn, *dict.fromkeys(one["label"] for one in (*self.segments, *truth))]
        self.colours = class_colours(named)
        names = {name: _legend_name(name, person["scores"]) for name in self.colours}
        self.legend = {name: "\n".join(wrapped(text, _SIZE, _LEGEND_WIDTH)) for name, text in names.items()}
        lines = [line for text in (*self.legend.values(), _RELEVANCE) for line in text.split("\n")]
        self.legend_width = max(text_width(line, _SIZE) for line in lines) / 72 + 0.5
        self.warnings = warning_lines(person, room - 0.15)
        thumbnails = person.get("thumbnails")
        self.thumbnail = 0.0 if thumbnails is None or not len(thumbnails) else self._thumbnail_side(room, low)
        below = (_SPACE + _BAND) * (bool(self.segments) + bool(truth))
        self.curves_height = max(_LOW_CURVES if low else _CURVES, _LEGEND_LINE * len(lines) + 0.1 - below)
        above = _TITLE + _WARNING * len(self.warnings) + (self.thumbnail + _SPACE if self.thumbnail else 0.0)
        self.height = above + self.curves_height + below

    def draw(self, figure: Figure, left: float, top: float, width: float, limits: tuple[float, float]) -> None:
        """Draws the row.

        Args:
            figure (`Figure`): Figure to draw into.
            left (`float`): Left end of the axes in inches.
            top (`float`): Upper end of the row in inches from the bottom of the figure.
            width (`float`): Width of the axes in inches.
            limits (`tuple[float, float]`): First and last second of the axes.
        """
        full_width, full_height = figure.get_size_inches()

        def axes_below(top: float, height: float) -> Axes:
            return figure.add_axes(
                (left / full_width, (top - height) / full_height, width / full_width, height / full_height),
                xlim=limits,
            )

        person_title(figure, self.person, 0.1, top - 0.17, full_width - 0.2, self._presence())
        top -= _TITLE
        for line in self.warnings:
            figure.text(left / full_width, (top - 0.1) / full_height, line, fontsize=_SIZE, color="#8a4b00")
            top -= _WARNING
        if self.thumbnail:
            self._draw_thumbnails(axes_below(top, self.thumbnail), limits, width)
            top -= self.thumbnail + _SPACE
        self.curves = axes_below(top, self.curves_height)
        self._draw_curves()
        top -= self.curves_height + _SPACE
        self.axes = [self.curves]
        for segments, title in ((self.segments, "segments"), (self.truth, "truth")):
            if segments:
                self.axes.append(axes_below(top, _BAND))
                self._draw_band(self.axes[-1], segments, title, width / (limits[1] - limits[0]))
                top -= _BAND + _SPACE
        for axes in self.axes:
            axes.tick_params(labelbottom=False, bottom=False)

    def _presence(self) -> str:
        """Returns how long the person is present. Empty for a person who is always present."""
        present = sum(stretch.end - stretch.start for stretch in self.stretches)
        always = not self.person["without_face"] and present > self.length - TOLERANCE
        if self.person["person"] is None or always:
            return ""
        return f"in the picture for {_duration(present)} of {_duration(self.length)}"

    def _thumbnail_side(self, room: float, low: bool) -> float:
        """Returns the side of a thumbnail in inches."""
        side = 0.75 * room / len(self.person["thumbnails"])
        return float(np.clip(side, _MIN_THUMBNAIL, _LOW_THUMBNAIL if low else _MAX_THUMBNAIL))

    def _draw_thumbnails(self, axes: Axes, limits: tuple[float, float], width: float) -> None:
        """Draws the thumbnails at their times, framed in the colour of the segment. Overlapping ones are omitted."""
        unit = (limits[1] - limits[0]) / width
        half = self.thumbnail * unit / 2
        pictures, seconds = self.person["thumbnails"], self.person["thumbnail_seconds"]
        free = -np.inf
        for picture, second in zip(pictures, seconds, strict=True):
            middle = float(second)
            if middle - half < free:
                continue
            free = middle + half + 0.04 * unit
            axes.imshow(
                picture,
                extent=(middle - half, middle + half, 0, 1),
                aspect="auto",
                interpolation="antialiased",
                clip_on=False,
            )
            segment = segment_at(self.person, float(second))
            if segment:
                edge = class_colours([segment["label"]])[segment["label"]]
                axes.add_patch(
                    Rectangle(
                        (middle - half, 0), 2 * half, 1, fill=False, edgecolor=edge, linewidth=2.5, clip_on=False
                    )
                )
        axes.set(xlim=limits, ylim=(0, 1))
        axes.axis("off")

    def _draw_curves(self) -> None:
        """Draws relevance as an area, and a curve for each drawn class."""
        axes = self.curves
        groups = self._groups()
        relevance = self._averages(np.asarray(self.person["frame_relevance"], dtype=float), groups)
        shares = np.repeat(RELEVANCE_HEIGHT * relevance / max(float(np.nanmax(relevance)), 1e-9), 2)
        axes.fill_between(
            self._edges(groups).ravel(), shares, where=~np.isnan(shares), color=RELEVANCE_COLOUR, linewidth=0, zorder=1
        )
        times = self._averages(self.seconds, groups)
        marker = "o" if len(self.seconds) <= _MAX_MARKERS else None
        for name in reversed(self.drawn):
            values = self._averages(np.asarray(self.person["frame_scores"][name], dtype=float), groups)
            axes.plot(
                times, values, color=self.colours[name], linewidth=1.7, marker=marker, markersize=3.2, label=name
            )
            isolated = _isolated(values)
            if marker is None and isolated.any():
                axes.plot(times[isolated], values[isolated], ".", color=self.colours[name], markersize=3)
        axes.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylabel("probability", fontsize=_SIZE)
        axes.tick_params(labelsize=_SIZE)
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        self._draw_legend()

    def _draw_legend(self) -> None:
        handles: list[Any] = []
        for name, text in self.legend.items():
            if name in self.drawn:
                handles.append(Line2D([], [], color=self.colours[name], linewidth=4, label=text))
            else:
                handles.append(Patch(label=text, **_fill(name, self.colours[name])))
        handles.append(Patch(color=RELEVANCE_COLOUR, label=_RELEVANCE))
        self.curves.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.03),
            frameon=False,
            fontsize=_SIZE,
            handlelength=1.2,
            labelspacing=0.25,
            borderaxespad=0.3,
        )

    def _draw_band(self, axes: Axes, segments: Sequence[Mapping[str, Any]], title: str, unit: float) -> None:
        """Draws segments as coloured boxes, with their names if they fit. `unit` is inches per second."""
        for segment in segments:
            start, seconds = segment["start"], segment["end"] - segment["start"]
            colour = self.colours[segment["label"]]
            axes.add_patch(Rectangle((start, 0), seconds, 1, **_fill(segment["label"], colour)))
            name = shortened(segment["label"], _SIZE, 72 * (seconds * unit - 0.08))
            if name == segment["label"] or len(name) > _MIN_NAME:
                axes.text(
                    start + seconds / 2,
                    0.46,
                    name,
                    ha="center",
                    va="center",
                    fontsize=_SIZE,
                    color=text_colour(colour),
                    clip_on=True,
                )
        axes.set(ylim=(0, 1), yticks=[])
        axes.set_ylabel(title, fontsize=_SIZE, rotation=0, ha="right", va="center")
        axes.tick_params(labelsize=_SIZE)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set(color="#bbbbbb")

    def _groups(self) -> list[np.ndarray]:
        """Returns the indices of the frames of each point of the curves. An empty group is a gap."""
        if not self.span:
            groups: list[np.ndarray] = []
            for stretch in self.stretches:
                groups += [np.zeros(0, int), *np.arange(stretch.first, stretch.last + 1)[:, None]]
            return groups[1:]
        spans = (self.seconds / self.span).astype(int)
        return [np.flatnonzero(spans == number) for number in range(int(self.length / self.span) + 1)]

    def _averages(self, values: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the mean of each group (G,). NaN for a gap."""
        return np.array([values[group].mean() if len(group) else np.nan for group in groups])

    def _edges(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Returns start and end (G, 2) of each group in seconds. NaN for a gap."""
        if self.span:
            starts = self.span * np.arange(len(groups))
            edges = np.stack([starts, np.minimum(starts + self.span, self.length)], 1)
            edges[[not len(group) for group in groups]] = np.nan
            return edges
        edges = np.zeros((0, 2))
        for stretch in self.stretches:
            within = self.seconds[stretch.first : stretch.last + 1]
            borders = np.r_[stretch.start, (within[1:] + within[:-1]) / 2, stretch.end]
            edges = np.concatenate([edges, [[np.nan, np.nan]], np.stack([borders[:-1], borders[1:]], 1)])
        return edges[1:]


def person_title(
    figure: Figure, person: Mapping[str, Any], left: float, bottom: float, room: float, presence: str = ""
) -> None:
    """Writes the title of a person: the number on a dark background, the answer, and when the person is present.

    Args:
        figure (`Figure`): Figure to write into.
        person (`Mapping[str, Any]`): A person of the result.
        left (`float`): Left end of the title in inches.
        bottom (`float`): Baseline of the title in inches.
        room (`float`): Width of the title in inches.
        presence (`str`, *optional*, defaults to `""`): Text after the answer.
    """
    width, height = figure.get_size_inches()
    right = left + room

    def write(text: str, **options: Any) -> None:
        figure.text(left / width, bottom / height, text, va="baseline", **options)

    if person["person"] is not None:
        left += 0.08
        number = str(person["person"])
        write(
            number, color="white", fontsize=9, weight="bold", bbox={"facecolor": "#222222", "pad": 3, "linewidth": 0}
        )
        left += text_width(number, 9) / 72 + 0.17
    answer = shortened(
        answer_with_score(person), _TITLE_SIZE, 72 * (right - left - text_width(presence, _SIZE) / 72 - 0.15)
    )
    write(answer, fontsize=_TITLE_SIZE)
    left += text_width(answer, _TITLE_SIZE) / 72 + 0.15
    write(presence, fontsize=_SIZE, color=GREY)


def answer_with_score(person: Mapping[str, Any]) -> str:
    """Returns the answer for a person or a segment: the label and its probability, or the candidates if unsure."""
    if person["label"] == UNSURE:
        first, *others = person["candidates"]
        likely = f"{first} ({person['score']:.0%})"
        return f"{UNSURE}: {' or '.join([likely, *others])}"
    return f"{person['label']} {person['score']:.0%}"


def warning_lines(person: Mapping[str, Any], room: float) -> list[str]:
    """Returns the warnings of a person, in lines of at most `room` inches."""
    return [line for text in person["warnings"] for line in wrapped(text, _SIZE, 72 * room)]


def _drawn_classes(person: Mapping[str, Any]) -> list[str]:
    """Chooses the classes with a curve: the candidates, those of the longest segments, then the most probable ones."""
    total: dict[str, float] = {}
    for segment in person["segments"]:
        for name in segment["candidates"]:
            total[name] = total.get(name, 0.0) + segment["end"] - segment["start"]
    scores = person["scores"]
    ranked = [*person["candidates"], *sorted(total, key=lambda name: -total[name])]
    ranked = [name for name in dict.fromkeys(ranked) if name in scores][:MAX_CURVES]
    others = [name for name in sorted(scores, key=lambda name: -scores[name]) if name not in ranked]
    ranked += others[: max(0, MIN_CURVES - len(ranked))]
    return sorted(ranked, key=lambda name: -scores[name])


def _merged(segments: Sequence[Mapping[str, Any]], span: float) -> list[dict[str, Any]]:
    """Merges segments of a long recording. Each span gets the label with the most time, and equal spans are joined."""
    seconds: dict[int, dict[str, float]] = {}
    for segment in segments:
        for number in range(int(segment["start"] / span), int(np.ceil(segment["end"] / span))):
            inside = min(segment["end"], (number + 1) * span) - max(segment["start"], number * span)
            labels = seconds.setdefault(number, {})
            labels[segment["label"]] = labels.get(segment["label"], 0.0) + inside
    joined: list[dict[str, Any]] = []
    for number in sorted(seconds):
        label = max(seconds[number], key=lambda name: seconds[number][name])
        if joined and joined[-1]["label"] == label and joined[-1]["end"] == number * span:
            joined[-1]["end"] = (number + 1) * span
        else:
            joined.append({"label": label, "start": number * span, "end": (number + 1) * span})
    return joined


def _legend_name(name: str, scores: Mapping[str, float]) -> str:
    return f"{name} {scores[name]:.0%}" if name in scores else name


def _fill(label: str, colour: str) -> dict[str, Any]:
    """Returns the style of the box of a segment. Unsure segments are hatched, to differ in more than their colour."""
    if label == UNSURE:
        return {"facecolor": colour, "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0}
    return {"facecolor": colour, "linewidth": 0}


def _isolated(values: np.ndarray) -> np.ndarray:
    """Returns which points have no neighbour to draw a line to."""
    empty = np.isnan(np.r_[np.nan, values, np.nan])
    return ~empty[1:-1] & empty[:-2] & empty[2:]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
