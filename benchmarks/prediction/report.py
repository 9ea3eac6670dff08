"""Report on predictions: start-up time, CPU time per second of video, peak memory, targets, and time of each part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.provenance import machine, versions
from benchmarks.harness.tables import markdown_table, paragraph, write_report
from benchmarks.prediction.parts import PARTS
from benchmarks.prediction.runs import ANALYSED, THREADS, Recording, Runs, file_hash
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.provenance import commit

TITLES = {
    "yunet": "`tgdfer predict`, YuNet",
    "mtcnn": "`tgdfer predict`, MTCNN",
    "fer": "`fer`, every frame",
    "fer, as many frames": "`fer`, as many frames as `tgdfer`",
}
# Targets for a clip of a few seconds, in addition to the imports: CPU time in seconds, and memory in MB.
CLIP_SECONDS, CLIP_MEMORY = 2.0, 400.0
# Target for the peak memory of a video of 30 minutes, in MB.
LONG_MEMORY = 1300.0


def figures_of(runs: Runs, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Returns all figures of the report. If a command was run several times, the lowest value counts."""
    tools = [tool for tool in TITLES if any(name.startswith(f"{tool}|") for name in runs.done)]
    figures: dict[str, Any] = {"recordings": {}, "floor": {}, "parts": {}, "minutes": {}}
    for threads in THREADS:
        figures["floor"][threads] = {unit: _lowest(runs, "floor", str(threads), unit=unit) for unit in ("cpu", "peak")}
    for recording in recordings:
        short, long = recording.seconds
        rows: dict[str, Any] = {}
        for tool in tools:
            for threads in THREADS:
                clip, whole = (
                    _lowest(runs, tool, recording.name, length, str(threads)) for length in ("short", "long")
                )
                slope = (whole - clip) / (long - short)
                peak = _lowest(runs, tool, recording.name, "short", str(threads), unit="peak")
                rows.setdefault(tool, {})[threads] = {
                    "clip": clip,
                    "start": clip - slope * short,
                    "per_second": slope,
                    "peak": peak,
                    "above_floor": clip - figures["floor"][threads]["cpu"],
                    "memory_above_floor": peak - figures["floor"][threads]["peak"],
                }
        detector = "yunet" if "yunet" in tools else "mtcnn"
        base = _lowest(runs, detector, recording.name, "long", "1")
        figures["recordings"][recording.name] = {
            "sha256": file_hash(recording.short),
            "seconds": recording.seconds,
            "fps": recording.fps,
            "size": recording.size,
            "tools": rows,
            "others": {name: _lowest(runs, name, recording.name) / base for name in ("annotate", "faces")},
        }
        attempts = [value for name, value in runs.done.items() if name.startswith(f"parts|{recording.name}|")]
        figures["parts"][recording.name] = {part: min(attempt[part] for attempt in attempts) for part in PARTS}
    for name, usage in runs.done.items():
        if name.startswith("minutes|"):
            figures["minutes"][name.split("|")[1]] = usage
    return figures


def _lowest(runs: Runs, *name_parts: str, unit: str = "cpu") -> float:
    """Returns the lowest value over the runs whose name starts with these parts."""
    prefix = "|".join(name_parts) + "|"
    return min(usage[unit] for name, usage in runs.done.items() if name.startswith(prefix))


def write_prediction_report(
    runs: Runs, recordings: Sequence[Recording], command: str, path: Path, figures: Path
) -> None:
    """Writes the report, its chart and its figures.

    Args:
        runs (`Runs`): The finished runs.
        recordings (`Sequence[Recording]`): The measured recordings.
        command (`str`): Command line that is written into both files.
        path (`Path`): Path of the Markdown file. The chart is written beside it.
        figures (`Path`): Path of the JSON file.
    """
    measured = figures_of(runs, recordings)
    chart = path.with_suffix(".png")
    draw_parts(measured["parts"], chart)
    contents = {"command": command, "commit": commit(), "machine": machine(), "versions": versions(), **measured}
    sections = ["# Time and memory of predictions", paragraph(_INTRODUCTION)]
    for name, recording in measured["recordings"].items():
        sections += [f"## {name}", *_section(recording, measured["floor"])]
    sections += ["## CPU time of each part", f"![CPU time of the parts of a prediction]({chart.name})"]
    sections.append(paragraph(_CHART))
    for minutes, usage in measured["minutes"].items():
        sections.append(
            paragraph(
                f"A video of 1920x1080 that lasts {minutes} minutes and shows one face takes"
                f" {usage['cpu']:.0f} CPU seconds on one thread. Its peak memory is {usage['peak'] / 1000:.2f} GB"
                f" (target: at most {LONG_MEMORY / 1000:g} GB for 30 minutes)."
            )
        )
    sections.append(paragraph(f"Command: `{command}`. Commit: `{contents['commit']}`. Machine: {machine()}."))
    write_report(path, sections, figures, contents)


_INTRODUCTION = (
    "These are the CPU time and the peak memory of complete commands, which decode the file, find the faces and run"
    " the model. Each command runs in a new process. `fer` is a package on PyPI. It is measured with its own video"
    " analysis and its default detector, and without writing pictures. Each recording is measured once as it is, and"
    " once repeated to a longer video. The difference gives the time per second of video, and the remaining time is"
    " the start-up. The commands take turns and each is run several times. The lowest values are shown, because other"
    " programs were running on the machine."
)
_CHART = (
    "The repeated recordings are predicted with `--annotate` on one thread. Decoding includes reading the video a"
    " second time for the annotated video, and drawing includes encoding it."
)


def _section(recording: dict[str, Any], floor: dict[int, dict[str, float]]) -> list[str]:
    """Returns the table and the paragraphs about a recording."""
    short, long = recording["seconds"]
    width, height = recording["size"]
    head = [
        "command",
        "threads",
        f"{short:.1f} s of video",
        "start-up",
        "per second",
        "relative to `fer`",
        "peak memory",
    ]
    rows = []
    for tool, by_threads in recording["tools"].items():
        for threads, row in by_threads.items():
            rival = {"yunet": "fer", "mtcnn": "fer"}.get(tool)
            share = f"{row['per_second'] / recording['tools'][rival][threads]['per_second']:.2f}" if rival else ""
            cells = [f"{row[name]:.2f}" for name in ("clip", "start", "per_second")]
            rows.append([TITLES[tool], str(threads), *cells, share, f"{row['peak']:.0f} MB"])
    ours = {tool: rows for tool, rows in recording["tools"].items() if not tool.startswith("fer")}
    equal = ", ".join(
        f"{row['per_second'] / recording['tools']['fer, as many frames'][threads]['per_second']:.2f}"
        f" ({tool}, {threads} thread{'s' if threads > 1 else ''})"
        for tool, by_threads in ours.items()
        for threads, row in by_threads.items()
    )
    above = ", ".join(
        f"{by_threads[1]['above_floor']:.2f} CPU seconds and {by_threads[1]['memory_above_floor']:.0f} MB ({tool})"
        for tool, by_threads in ours.items()
    )
    others = recording["others"]
    return [
        f"{width}x{height}, {recording['fps']:.0f} frames per second; {long:.1f} s when repeated. Times are CPU"
        " seconds:",
        markdown_table(head, rows),
        paragraph(
            f"If `fer` analyses as many frames as `tgdfer` ({ANALYSED} per second), the time of `tgdfer` per second of"
            f" video relative to `fer` is {equal}. The target is below 1. If `fer` analyses every frame, the target is"
            " at most 0.20."
        ),
        paragraph(
            f"On one thread, the recording takes {above} more than importing torch, torchvision, `CLIPModel`, cv2 and"
            f" av ({floor[1]['cpu']:.2f} CPU seconds and {floor[1]['peak']:.0f} MB). The target for a clip of 2.4"
            f" seconds is {CLIP_SECONDS:g} CPU seconds and {CLIP_MEMORY:.0f} MB."
        ),
        paragraph(
            f"On the repeated recording and one thread, `--annotate` takes {others['annotate']:.2f} times the CPU time"
            f" of a prediction without it, and `tgdfer faces` {others['faces']:.2f} times. The target is at most 2."
        ),
    ]


def draw_parts(parts: dict[str, dict[str, float]], path: Path) -> None:
    """Draws the CPU time of the parts as a stacked bar for each recording.

    Args:
        parts (`dict[str, dict[str, float]]`): For each recording, the CPU time of each of `PARTS` in seconds.
        path (`Path`): Path of the picture.
    """
    figure = Figure(figsize=(9.0, 1.6 + 0.6 * len(parts)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(parts)
    colours = ["#bdbdbd", "#8c8c8c", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#e0e0e0"]
    for part, colour in zip(PARTS, colours, strict=True):
        widths = [seconds[part] for seconds in parts.values()]
        axes.barh(list(parts), widths, left=left, label=part, color=colour, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("CPU seconds")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(PARTS), fontsize=8, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    save_figure(figure, path)
