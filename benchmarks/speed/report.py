"""Report on speed, with tables and a chart of time and memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.tables import paragraph, write_report
from benchmarks.speed.networks import TRAINING_MODES, Sizes
from tgdfer.training.figures.saving import save_figure

# Training mode with which memory is compared: full fine-tuning of the vision tower.
FULL = "vision"

Parts = Mapping[str, Mapping[str, Any]]


def write_speed_report(sizes: Sizes, measured: Mapping[str, Parts], path: Path, figures: Path) -> None:
    """Writes the report, its chart and its figures.

    Args:
        sizes (`Sizes`): Sizes of the networks and of the batches.
        measured (`Mapping[str, Parts]`): Finished parts by name, for each device.
        path (`Path`): Path of the Markdown file. The chart is written beside it.
        figures (`Path`): Path of the JSON file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = {device: _join_memory(parts) for device, parts in measured.items()}
    draw(sizes, joined, path.with_suffix(".png"))
    summary = {device: figures_of(sizes, parts) for device, parts in joined.items()}
    contents = {device: {"figures": summary[device], "parts": parts} for device, parts in measured.items()}
    sections = [_section(sizes, summary[device], parts) for device, parts in joined.items()]
    sections = [_introduction(), *sections, _growth(sizes, joined, path), _methods(sizes, joined)]
    write_report(path, sections, figures, contents)


def _join_memory(parts: Parts) -> Parts:
    """Adds to each timed part its peak memory, which another part measured, and the peak of full fine-tuning."""
    peaks = {name.replace("-memory", ""): part["peak"] for name, part in parts.items() if "peak" in part}
    joined = {name: {**part} for name, part in parts.items() if "seconds" in part}
    for name, part in joined.items():
        if name in peaks:
            part["peak"] = peaks[name]
        if part["part"]["kind"] == "training":
            part["full_peak"] = peaks[f"training-{FULL}-{part['part']['batch']}"]
    return joined


def ratio(part: Mapping[str, Any], numerator: str, denominator: str) -> list[float]:
    """Returns median, lowest and highest ratio of two times that were measured alternately, over all rounds."""
    seconds = part["seconds"]
    ratios = [above / below for above, below in zip(seconds[numerator], seconds[denominator], strict=True)]
    return [median(ratios), min(ratios), max(ratios)]


def figures_of(sizes: Sizes, parts: Parts) -> dict[str, dict[str, Any]]:
    """Computes the figures of each part of a device: seconds, and ratios as median, lowest and highest value."""
    figures: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        kind, seconds = part["part"]["kind"], {key: median(times) for key, times in part["seconds"].items()}
        if kind == "inference":
            figures[name] = {"seconds": seconds, "over_tower": ratio(part, "network", "tower")}
        elif kind == "training":
            figures[name] = {"seconds": seconds, "over_tower": ratio(part, "step", "tower"), "peak": part["peak"]}
            figures[name]["peak_over_full"] = part["peak"] / part["full_peak"]
        elif kind == "epoch":
            steps = sizes.epoch_clips / part["batch"]
            figures[name] = {"seconds": seconds["epoch"], "end_to_end_seconds": steps * seconds["step"]}
            figures[name]["times"] = [steps * value for value in ratio(part, "step", "epoch")]
        else:
            figures[name] = {"seconds": seconds, "peak": part["peak"]}
    return figures


def _introduction() -> str:
    introduction = (
        "This page compares time and memory of the network with those of its own CLIP. The weights are random, and"
        " the shapes are those of `openai/clip-vit-base-patch16`. The main figures are the ratios. Both times of a"
        " ratio are measured alternately in the same process. The tables give the median over the rounds, with the"
        " lowest and the highest value in brackets."
    )
    return f"""# Performance

`make bench-speed` generates this page. Change the text in `benchmarks/speed/report.py`.

{paragraph(introduction)}"""


def _section(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> str:
    """Returns the chapter about a device."""
    machine = next(iter(parts.values()))["machine"]
    chapters = [f"## On {machine}", *_inference(summary, parts), *_training(sizes, summary, parts)]
    return "\n\n".join([*chapters, *_cached_features(sizes, summary)])


def _inference(summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    introduction = (
        "The ratio is the time of the network from pixels, with cached class texts, relative to CLIP's vision tower"
        " alone on the same frames. The target is at most 1.03."
    )
    rows = [
        f"| {part['part']['batch']} | {part['part']['frames']} | {_number(summary[name]['seconds']['tower'])} |"
        f" {_number(summary[name]['seconds']['network'])} | {_spread(summary[name]['over_tower'])} |"
        for name, part in parts.items()
        if part["part"]["kind"] == "inference"
    ]
    head = ["| clips | frames | tower, s | TG-DFER, s | ratio |", "| ---: | ---: | ---: | ---: | ---: |"]
    return ["### Inference", paragraph(introduction), "\n".join([*head, *rows])]


def _training(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    introduction = (
        f"The ratio is the time of a training step on clips of {sizes.train_frames} frames (forward pass, backward"
        " pass, AdamW), relative to a forward pass of CLIP's vision tower alone on the same frames without gradients."
        " The peak memory is that of the process, including weights and optimizer, minus the memory of the imported"
        " libraries. For LoRA, the targets are a ratio of at most 1.6, and at most half of the memory of training the"
        " full vision tower."
    )
    head = [
        "| clips | trained | step, s | ratio | peak, MiB | relative to full vision tower |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    table = "\n".join([*head, *_training_rows(summary, parts)])
    return ["### Training end to end", paragraph(introduction), table, "\n".join(_context_lines(sizes, summary))]


def _cached_features(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    introduction = (
        f"The table compares an epoch on cached features with an end-to-end epoch with LoRA. Both have"
        f" {sizes.epoch_clips} clips of {sizes.train_frames} frames. On cached features, only the part after CLIP is"
        f" trained, with {sizes.epoch_batch} clips per step. The end-to-end time is computed from steps of"
        f" {_count(max(sizes.batches), 'clip')}, without reading videos. The target is a speedup of at least 50."
    )
    rows = [
        f"| {title} | {_number(row['seconds'])} | {_number(row['end_to_end_seconds'])} | {_spread(row['times'], 0)} |"
        for name, title in (("epoch-lora", "all except context"), ("epoch-context", "with learnable context"))
        if (row := summary.get(name))
    ]
    head = ["| trained after CLIP | epoch, s | end to end, s | speedup |", "| --- | ---: | ---: | ---: |"]
    return ["### Training on cached features", paragraph(introduction), "\n".join([*head, *rows])]


def _training_rows(summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    rows = []
    for name, part in parts.items():
        if part["part"]["kind"] == "training":
            row = summary[name]
            rows.append(
                f"| {part['part']['batch']} | {TRAINING_MODES[part['part']['way']].title} |"
                f" {_number(row['seconds']['step'])} | {_spread(row['over_tower'])} | {row['peak']:,.0f} |"
                f" {row['peak_over_full']:.2f} |"
            )
    return rows


def _context_lines(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a list item for each batch size: the cost of a learnable context, and the effect of checkpointing."""
    lines = []
    for batch in sizes.batches:
        rows = {mode: row for mode in TRAINING_MODES if (row := summary.get(f"training-{mode}-{batch}"))}
        if len(rows) < len(TRAINING_MODES):
            lines.append(f"- {_count(batch, 'clip').capitalize()} per step: some training modes are not measured yet.")
            continue
        over = {mode: row["over_tower"][0] for mode, row in rows.items()}
        saved = {mode: 1 - rows[f"{mode}-checkpointing"]["peak"] / rows[mode]["peak"] for mode in ("lora", FULL)}
        lines.append(
            paragraph(
                f"- {_count(batch, 'clip').capitalize()} per step: with a learnable context, the text tower runs in"
                f" every step. This adds {over['context'] - over['lora']:.2f} of the time of a forward pass of the"
                " vision tower. If the prompts were padded to 77 tokens, it would add"
                f" {over['context-uncut'] - over['lora']:.2f}. Gradient checkpointing reduces the peak memory of LoRA"
                f" by {saved['lora']:.0%}, and that of training the full vision tower by {saved[FULL]:.0%}.",
                indent="  ",
            )
        )
    return lines


def _growth(sizes: Sizes, measured: Mapping[str, Parts], path: Path) -> str:
    parts = next(iter(measured.values()))
    grown = [part for part in parts.values() if part["part"]["kind"] == "growth"]
    rows = []
    for part in grown:
        ends = (next(iter(part["seconds"])), next(reversed(part["seconds"])))
        first, last = (median(part["seconds"][size]) for size in ends)
        kind = "training step" if part["part"]["training"] else "inference"
        peaks = part["peak"]
        rows.append(
            f"| {part['part']['axis']}, {ends[0]} to {ends[1]} | {kind} | {1000 * first:.1f} to {1000 * last:.1f} |"
            f" {peaks[ends[0]]:,.0f} to {peaks[ends[1]]:,.0f} |"
        )
    usual = ", ".join(f"{number} {axis}" for axis, number in sizes.usual.items())
    introduction = (
        f"The part of the network after CLIP is measured on features of {_count(grown[0]['batch'], 'clip')}. The"
        " number of frames, of classes or of descriptions per class grows, and the others keep their default"
        f" ({usual}). The dotted line is CLIP's vision tower on the frames of these clips."
    )
    return "\n".join(
        [
            "## Growth of time and memory after CLIP",
            "",
            paragraph(introduction),
            "",
            f"![Time and memory over frames, classes and descriptions]({path.with_suffix('.png').name})",
            "",
            f"On {grown[0]['machine']}:",
            "",
            "| growing size | measured | time, ms | peak, MiB |",
            "| --- | --- | ---: | ---: |",
            *rows,
        ]
    )


def draw(sizes: Sizes, measured: Mapping[str, Parts], path: Path) -> None:
    """Draws time and memory of the part after CLIP over the growing size, in one column per axis."""
    grown = [(device, part) for device, parts in measured.items() for part in parts.values() if "axis" in part["part"]]
    axes_names = list(dict.fromkeys(part["part"]["axis"] for _, part in grown))
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    grid = figure.subplots(2, len(axes_names), sharex="col", sharey="row")
    for column, axis in enumerate(axes_names):
        above, below = grid[0][column], grid[1][column]
        for device, part in grown:
            if part["part"]["axis"] == axis:
                colour = f"C{list(measured).index(device)}"
                _draw_part(above, below, part, device, colour)
                if part["part"]["training"]:
                    tower = _tower_seconds(measured[device], part["batch"])
                    frames = sizes.growth[axis] if axis == "frames" else [sizes.usual["frames"]] * 2
                    ends = (min(sizes.growth[axis]), max(sizes.growth[axis]))
                    costs = (tower * min(frames), tower * max(frames))
                    above.plot(ends, costs, color=colour, linestyle=":", label=f"CLIP's vision tower, {device}")
        _style_axes(above, below, axis, sizes.growth[axis])
    grid[0][0].set_ylabel("seconds")
    grid[1][0].set_ylabel("MiB")
    grid[0][-1].legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def _tower_seconds(parts: Parts, batch: int) -> float:
    """Returns the seconds that CLIP's vision tower takes for one frame of each clip of a batch."""
    matching = [
        part for part in parts.values() if part["part"]["kind"] == "inference" and part["part"]["batch"] == batch
    ]
    return median(matching[-1]["seconds"]["tower"]) / matching[-1]["part"]["frames"]


def _draw_part(above: Axes, below: Axes, part: Mapping[str, Any], device: str, colour: str) -> None:
    grown = [int(size) for size in part["seconds"]]
    training = part["part"]["training"]
    style: dict[str, Any] = {
        "color": colour,
        "linestyle": "-" if training else "--",
        "marker": "o" if training else "s",
    }
    style |= {"markersize": 4, "label": f"{'training step' if training else 'inference'}, {device}"}
    above.plot(grown, [median(times) for times in part["seconds"].values()], **style)
    below.plot(grown, list(part["peak"].values()), **style)


def _style_axes(above: Axes, below: Axes, axis: str, grown: Sequence[int]) -> None:
    for axes in (above, below):
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    ticks = sorted(grown)[::-2]  # Every second size, because there is no space for all of them.
    below.set_xticks(ticks, [str(tick) for tick in ticks])
    below.minorticks_off()
    below.set_xlabel("descriptions per class" if axis == "descriptions" else axis)


def _methods(sizes: Sizes, measured: Mapping[str, Parts]) -> str:
    parts = [part for device_parts in measured.values() for part in device_parts.values()]
    commits = sorted({f"`{part['commit']}`" for part in parts if part["commit"]}) or ["unknown"]
    versions = ", ".join(f"{name} {number}" for name, number in parts[0]["versions"].items())
    lines = [
        "`make bench-speed` stores finished parts in `runs/speed`. A part is measured again only if sizes, code,"
        " versions or machine have changed.",
        f"Each part runs in a new process. After a warm-up round, it is timed {_count(sizes.repetitions, 'time')}. The"
        f" part after CLIP alone is timed {4 * sizes.repetitions} times.",
        "There are seven classes with five built-in descriptions each. The prompts have one random token for every"
        " word and punctuation mark.",
        "LoRA has rank 8 and adapts queries, keys, values and outputs of the attention. The part after CLIP is always"
        " trained as well. Without a learnable context, the class texts are encoded only once.",
        "Memory on the CPU is the peak of the resident memory of a new process during two steps, minus the memory"
        " after its imports. For the part after CLIP, the memory after a first pass of size one is subtracted. Free"
        " tensors are returned to the system immediately, so an allocator with a reserve uses more memory. On a GPU,"
        " memory is the peak that torch has allocated.",
        f"Commits: {', '.join(commits)}. Versions: {versions}.",
    ]
    listed = (paragraph(line, "- ", "  ") for line in lines)
    return "\n".join(["## Methods", "", *listed])


def _count(number: int, noun: str) -> str:
    """Writes a number with a noun, such as "two clips"."""
    names: Sequence[str] = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
    return f"{names[number] if number < len(names) else number} {noun}{'' if number == 1 else 's'}"


def _number(seconds: float) -> str:
    """Formats seconds with three significant digits."""
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:,.0f}"


def _spread(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} [{low}–{high}]"
