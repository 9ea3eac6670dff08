"""The report: start, cost per second of video and peak memory, the targets, and where the time goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.provenance import commit, machine, versions
from benchmarks.harness.tables import markdown_table, paragraph, write_report
from benchmarks.prediction.parts import PARTS
from benchmarks.prediction.runs import ANALYSED, THREADS, Recording, Runs, key_of
from tgdfer.training.figures.saving import save_figure

TITLES = {
    "yunet": "`tgdfer predict`, YuNet",
    "mtcnn": "`tgdfer predict`, MTCNN",
    "fer": "`fer`, every frame",
    "fer, as many frames": "`fer`, as many frames as `tgdfer`",
}
# What a clip of a few seconds may cost above the imports, in CPU seconds and MB.
CLIP_SECONDS, CLIP_MEMORY = 2.0, 400.0
LONG_MEMORY = 1300.0


def figures_of(runs: Runs, recordings: Sequence[Recording]) -> dict[str, Any]:
    """All figures of the report: of several runs of one command the least."""
    tools = [tool for tool in TITLES if any(name.startswith(f"{tool}|") for name in runs.done)]
    found: dict[str, Any] = {"recordings": {}, "floor": {}, "parts": {}, "minutes": {}}
    for threads in THREADS:
        found["floor"][threads] = {unit: _least(runs, "floor", str(threads), unit=unit) for unit in ("cpu", "peak")}
    for recording in recordings:
        short, long = recording.seconds
        rows: dict[str, Any] = {}
        for tool in tools:
            for threads in THREADS:
                clip, whole = (
                    _least(runs, tool, recording.name, length, str(threads)) for length in ("short", "long")
                )
                slope = (whole - clip) / (long - short)
                peak = _least(runs, tool, recording.name, "short", str(threads), unit="peak")
                rows.setdefault(tool, {})[threads] = {
                    "clip": clip,
                    "start": clip - slope * short,
                    "per_second": slope,
                    "peak": peak,
                    "above_floor": clip - found["floor"][threads]["cpu"],
                    "memory_above_floor": peak - found["floor"][threads]["peak"],
                }
        one = "yunet" if "yunet" in tools else "mtcnn"
        base = _least(runs, one, recording.name, "long", "1")
        found["recordings"][recording.name] = {
            "sha256": key_of(recording.short),
            "seconds": recording.seconds,
            "fps": recording.fps,
            "size": recording.size,
            "tools": rows,
            "others": {name: _least(runs, name, recording.name) / base for name in ("annotate", "faces")},
        }
        parts = [value for name, value in runs.done.items() if name.startswith(f"parts|{recording.name}|")]
        found["parts"][recording.name] = {part: min(one[part] for one in parts) for part in PARTS}
    for name, spent in runs.done.items():
        if name.startswith("minutes|"):
            found["minutes"][name.split("|")[1]] = spent
    return found


def _least(runs: Runs, *words: str, unit: str = "cpu") -> float:
    """The least of what was measured in the runs of one command."""
    start = "|".join(words) + "|"
    return min(spent[unit] for name, spent in runs.done.items() if name.startswith(start))


def write_prediction_report(
    runs: Runs, recordings: Sequence[Recording], command: str, path: Path, figures: Path
) -> None:
    """Writes the report with its chart beside it, and its figures.

    Args:
        runs: what was measured.
        recordings: on what.
        command: the command, which is written into both files.
        path: the Markdown file.
        figures: the JSON file.
    """
    found = figures_of(runs, recordings)
    picture = path.with_suffix(".png")
    draw_parts(found["parts"], picture)
    facts = {"command": command, "commit": commit(), "machine": machine(), "versions": versions(), **found}
    sections = ["# Time and memory of predictions", paragraph(_ABOUT)]
    for name, one in found["recordings"].items():
        sections += [f"## {name}", *_section(one, found["floor"])]
    sections += ["## Where the time goes", f"![Processor time of the parts of a prediction]({picture.name})"]
    sections.append(paragraph(_CHART))
    for minutes, spent in found["minutes"].items():
        sections.append(
            paragraph(
                f"A video of 1920x1080 that lasts {minutes} minutes and shows one face takes"
                f" {spent['peak'] / 1000:.2f} GB of memory at most (target: {LONG_MEMORY / 1000:g} GB for 30 minutes)"
                f" and {spent['cpu']:.0f} CPU seconds on one thread."
            )
        )
    sections.append(paragraph(f"Command: `{command}`. Commit: `{facts['commit']}`. Machine: {machine()}."))
    write_report(path, sections, figures, facts)


_ABOUT = (
    "CPU seconds and peak memory of whole commands, each in a process of its own that starts from the file: decoding,"
    " finding faces and the model. `fer` is the package of PyPI with its own video analysis and its default detector;"
    " it writes no pictures here. A recording is measured as it is and repeated until it is longer; the difference"
    " gives the cost of a second of video, and the rest is the start. The commands are run in turn, each several"
    " times, and the least is shown, because other programs ran on the machine."
)
_CHART = (
    "Each recording is repeated and annotated with `--annotate` on one thread. Decoding includes that for the"
    " annotated video; drawing includes encoding it."
)


def _section(one: dict[str, Any], floor: dict[int, dict[str, float]]) -> list[str]:
    """Table and sentences about a recording."""
    short, long = one["seconds"]
    width, height = one["size"]
    head = ["command", "threads", f"{short:.1f} s of video", "start", "per second", "of `fer`", "peak memory"]
    rows = []
    for tool, by_threads in one["tools"].items():
        for threads, row in by_threads.items():
            rival = {"yunet": "fer", "mtcnn": "fer"}.get(tool)
            share = f"{row['per_second'] / one['tools'][rival][threads]['per_second']:.2f}" if rival else ""
            cells = [f"{row[name]:.2f}" for name in ("clip", "start", "per_second")]
            rows.append([TITLES[tool], str(threads), *cells, share, f"{row['peak']:.0f} MB"])
    ours = {tool: rows for tool, rows in one["tools"].items() if not tool.startswith("fer")}
    equal = ", ".join(
        f"{row['per_second'] / one['tools']['fer, as many frames'][threads]['per_second']:.2f}"
        f" ({tool}, {threads} thread{'s' if threads > 1 else ''})"
        for tool, by_threads in ours.items()
        for threads, row in by_threads.items()
    )
    above = ", ".join(
        f"{by_threads[1]['above_floor']:.2f} CPU seconds and {by_threads[1]['memory_above_floor']:.0f} MB ({tool})"
        for tool, by_threads in ours.items()
    )
    others = one["others"]
    return [
        f"{width}x{height}, {one['fps']:.0f} frames a second; repeated: {long:.1f} s. In CPU seconds:",
        markdown_table(head, rows),
        paragraph(
            f"With as many analysed frames ({ANALYSED} a second), a second of video takes, as a share of `fer`:"
            f" {equal} (target: below 1; with every frame of `fer` at most 0.20)."
        ),
        paragraph(
            f"The recording takes {above} above importing torch, torchvision, `CLIPModel`, cv2 and av alone"
            f" ({floor[1]['cpu']:.2f} CPU seconds and {floor[1]['peak']:.0f} MB), on one thread. The target for a clip"
            f" of 2.4 seconds is {CLIP_SECONDS:g} CPU seconds and {CLIP_MEMORY:.0f} MB."
        ),
        paragraph(
            f"`--annotate` takes {others['annotate']:.2f} times the CPU time of the same prediction, and `tgdfer"
            f" faces` {others['faces']:.2f} times (repeated recording, one thread; target: at most 2)."
        ),
    ]


def draw_parts(parts: dict[str, dict[str, float]], path: Path) -> None:
    """Draws the processor time of the parts as a bar for each recording.

    Args:
        parts: for each recording the seconds of `PARTS`.
        path: picture to write.
    """
    figure = Figure(figsize=(9.0, 1.6 + 0.6 * len(parts)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(parts)
    colours = ["#bdbdbd", "#8c8c8c", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#e0e0e0"]
    for part, colour in zip(PARTS, colours, strict=True):
        widths = [one[part] for one in parts.values()]
        axes.barh(list(parts), widths, left=left, label=part, color=colour, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("CPU seconds")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(PARTS), fontsize=8, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    save_figure(figure, path)
