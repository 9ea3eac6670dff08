"""The report of the speed benchmark: tables and a picture of time and memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.tables import paragraph, write_report
from benchmarks.speed.networks import WAYS, Sizes
from tgdfer.training.figures.saving import save_figure

# The way that memory is compared with: full fine-tuning of the vision tower. With the text tower it needs more.
FULL = "vision"

Parts = Mapping[str, Mapping[str, Any]]


def write_speed_report(sizes: Sizes, measured: Mapping[str, Parts], path: Path, figures: Path) -> None:
    """Writes the report, with its picture beside it, and its figures.

    Args:
        sizes: how much was measured.
        measured: parts by name, for each device.
        path: the Markdown file.
        figures: the JSON file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    joined = {device: _joined(parts) for device, parts in measured.items()}
    draw(sizes, joined, path.with_suffix(".png"))
    summary = {device: figures_of(sizes, parts) for device, parts in joined.items()}
    facts = {device: {"figures": summary[device], "parts": parts} for device, parts in measured.items()}
    sections = [_section(sizes, summary[device], parts) for device, parts in joined.items()]
    sections = [_head(), *sections, _growth(sizes, joined, path), _how(sizes, joined)]
    write_report(path, sections, figures, facts)


def _joined(parts: Parts) -> Parts:
    """The parts that were timed, with the memory that was measured apart, and that of full fine-tuning."""
    peaks = {name.replace("-memory", ""): part["peak"] for name, part in parts.items() if "peak" in part}
    joined = {name: {**part} for name, part in parts.items() if "seconds" in part}
    for name, part in joined.items():
        if name in peaks:
            part["peak"] = peaks[name]
        if part["part"]["kind"] == "training":
            part["full_peak"] = peaks[f"training-{FULL}-{part['part']['batch']}"]
    return joined


def ratio(part: Mapping[str, Any], above: str, below: str) -> list[float]:
    """Median, lowest and highest of the ratios of two things that were timed in turns, round by round."""
    seconds = part["seconds"]
    rounds = [over / under for over, under in zip(seconds[above], seconds[below], strict=True)]
    return [median(rounds), min(rounds), max(rounds)]


def figures_of(sizes: Sizes, parts: Parts) -> dict[str, dict[str, Any]]:
    """What the parts of a device come to, by part: seconds, and ratios as median, lowest and highest."""
    found: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        kind, seconds = part["part"]["kind"], {way: median(times) for way, times in part["seconds"].items()}
        if kind == "inference":
            found[name] = {"seconds": seconds, "over_tower": ratio(part, "network", "tower")}
        elif kind == "training":
            found[name] = {"seconds": seconds, "over_tower": ratio(part, "step", "tower"), "peak": part["peak"]}
            found[name]["peak_over_full"] = part["peak"] / part["full_peak"]
        elif kind == "epoch":
            steps = sizes.epoch_clips / part["batch"]
            found[name] = {"seconds": seconds["epoch"], "end_to_end_seconds": steps * seconds["step"]}
            found[name]["times"] = [steps * value for value in ratio(part, "step", "epoch")]
        else:
            found[name] = {"seconds": seconds, "peak": part["peak"]}
    return found


def _head() -> str:
    about = (
        "What the network costs beside its own CLIP, with random weights at the shapes of"
        " `openai/clip-vit-base-patch16`. What counts is the ratios: both sides of each were timed in turns in the"
        " same process. A ratio is the median over the rounds, with the lowest and the highest in brackets."
    )
    return f"""# Performance

Written by `make bench-speed`; change it in `benchmarks/speed/report.py`.

{paragraph(about)}"""


def _section(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> str:
    """The chapter about a device."""
    machine = next(iter(parts.values()))["machine"]
    chapters = [f"## On {machine}", *_inference(summary, parts), *_training(sizes, summary, parts)]
    return "\n\n".join([*chapters, *_cached_features(sizes, summary)])


def _inference(summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    about = (
        "From pixels, with the class texts cached, over CLIP's vision tower alone on the same frames. The aim is at"
        " most 1.03."
    )
    rows = [
        f"| {part['part']['batch']} | {part['part']['frames']} | {_number(summary[name]['seconds']['tower'])} |"
        f" {_number(summary[name]['seconds']['network'])} | {_spread(summary[name]['over_tower'])} |"
        for name, part in parts.items()
        if part["part"]["kind"] == "inference"
    ]
    head = ["| clips | frames | tower, s | TG-DFER, s | ratio |", "| ---: | ---: | ---: | ---: | ---: |"]
    return ["### Inference", paragraph(about), "\n".join([*head, *rows])]


def _training(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    about = (
        f"A step on clips of {sizes.train_frames} frames (forward, back, AdamW) over the forward of CLIP's vision"
        " tower alone, without gradient, on the same frames; and the peak memory of the process beyond its libraries,"
        " with weights and optimizer. The aims for LoRA are at most 1.6, and at most half of the memory of the vision"
        " tower trained whole."
    )
    head = [
        "| clips | trained | step, s | ratio | peak, MiB | of vision tower whole |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    table = "\n".join([*head, *_training_rows(summary, parts)])
    return ["### Training end to end", paragraph(about), table, "\n".join(_context_words(sizes, summary))]


def _cached_features(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    about = (
        f"An epoch of {sizes.epoch_clips} clips of {sizes.train_frames} frames, {sizes.epoch_batch} a step, with"
        " everything after CLIP trained; beside the end-to-end epoch with LoRA, as its steps of"
        f" {_count(max(sizes.batches), 'clip')} come to without reading any video. The aim is at least 50 times."
    )
    rows = [
        f"| {title} | {_number(row['seconds'])} | {_number(row['end_to_end_seconds'])} | {_spread(row['times'], 0)} |"
        for name, title in (("epoch-lora", "all but context"), ("epoch-context", "with learnable context"))
        if (row := summary.get(name))
    ]
    head = ["| trained after CLIP | epoch, s | end to end, s | times |", "| --- | ---: | ---: | ---: |"]
    return ["### On cached features", paragraph(about), "\n".join([*head, *rows])]


def _training_rows(summary: Mapping[str, Mapping[str, Any]], parts: Parts) -> list[str]:
    rows = []
    for name, part in parts.items():
        if part["part"]["kind"] == "training":
            row = summary[name]
            rows.append(
                f"| {part['part']['batch']} | {WAYS[part['part']['way']].title} | {_number(row['seconds']['step'])} |"
                f" {_spread(row['over_tower'])} | {row['peak']:,.0f} | {row['peak_over_full']:.2f} |"
            )
    return rows


def _context_words(sizes: Sizes, summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a learnable context adds, and what gradient checkpointing saves, batch by batch."""
    words = []
    for batch in sizes.batches:
        of = {way: row for way in WAYS if (row := summary.get(f"training-{way}-{batch}"))}
        if len(of) < len(WAYS):
            words.append(f"- {_count(batch, 'clip')} a step: some ways are not timed yet.")
            continue
        over = {way: row["over_tower"][0] for way, row in of.items()}
        saved = {way: 1 - of[f"{way}-checkpointing"]["peak"] / of[way]["peak"] for way in ("lora", FULL)}
        words.append(
            paragraph(
                f"- {_count(batch, 'clip')} a step: with a learnable context the text tower runs in every step, which"
                f" adds {over['context'] - over['lora']:.2f} of a tower's forward, and would add"
                f" {over['context-uncut'] - over['lora']:.2f} were the prompts not cut to the longest one. Gradient"
                f" checkpointing takes {saved['lora']:.0%} off the peak memory of LoRA and {saved[FULL]:.0%} off that"
                " of the vision tower trained whole.",
                indent="  ",
            )
        )
    return words


def _growth(sizes: Sizes, measured: Mapping[str, Parts], path: Path) -> str:
    parts = next(iter(measured.values()))
    grown = [part for part in parts.values() if part["part"]["kind"] == "growth"]
    said = []
    for part in grown:
        ends = (next(iter(part["seconds"])), next(reversed(part["seconds"])))
        first, last = (median(part["seconds"][size]) for size in ends)
        what = "training step" if part["part"]["training"] else "inference"
        peaks = part["peak"]
        said.append(
            f"| {part['part']['axis']}, {ends[0]} to {ends[1]} | {what} | {1000 * first:.1f} to {1000 * last:.1f} |"
            f" {peaks[ends[0]]:,.0f} to {peaks[ends[1]]:,.0f} |"
        )
    usual = ", ".join(f"{number} {axis}" for axis, number in sizes.usual.items())
    about = (
        f"Everything after CLIP, on features of {_count(grown[0]['batch'], 'clip')}, while the frames, the classes or"
        f" the descriptions of each class grow from what is usual ({usual}). The dotted line is CLIP's vision tower on"
        " the frames of these clips."
    )
    return "\n".join(
        [
            "## How the cost after CLIP grows",
            "",
            paragraph(about),
            "",
            f"![Time and memory over frames, classes and descriptions]({path.with_suffix('.png').name})",
            "",
            f"On {grown[0]['machine']}:",
            "",
            "| grows | | ms | MiB |",
            "| --- | --- | ---: | ---: |",
            *said,
        ]
    )


def draw(sizes: Sizes, measured: Mapping[str, Parts], path: Path) -> None:
    """Draws time and memory after CLIP over what grows: a column an axis, a colour a device."""
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
        _dress(above, below, axis, sizes.growth[axis])
    grid[0][0].set_ylabel("seconds")
    grid[1][0].set_ylabel("MiB")
    grid[0][-1].legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def _tower_seconds(parts: Parts, batch: int) -> float:
    """Seconds of CLIP's vision tower for a frame of each clip of a batch."""
    of_batch = [
        part for part in parts.values() if part["part"]["kind"] == "inference" and part["part"]["batch"] == batch
    ]
    return median(of_batch[-1]["seconds"]["tower"]) / of_batch[-1]["part"]["frames"]


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


def _dress(above: Axes, below: Axes, axis: str, grown: Sequence[int]) -> None:
    for axes in (above, below):
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    ticks = sorted(grown)[::-2]  # half of them, for there is no room for all
    below.set_xticks(ticks, [str(tick) for tick in ticks])
    below.minorticks_off()
    below.set_xlabel("descriptions a class" if axis == "descriptions" else axis)


def _how(sizes: Sizes, measured: Mapping[str, Parts]) -> str:
    parts = [part for of_device in measured.values() for part in of_device.values()]
    commits = sorted({f"`{part['commit']}`" for part in parts if part["commit"]}) or ["unknown"]
    versions = ", ".join(f"{name} {number}" for name, number in parts[0]["versions"].items())
    lines = [
        "`make bench-speed`. A part that is done is kept in `runs/speed`, and measured again only where sizes, code,"
        " versions or machine have changed.",
        f"Each part runs in a process of its own and is timed {_count(sizes.repetitions, 'time')} (what comes after"
        f" CLIP alone {4 * sizes.repetitions} times) after a first round that does not count.",
        "Seven classes of five built-in descriptions; a prompt has a token for every word and mark, on random ids.",
        "LoRA of rank 8 on queries, keys, values and outputs of the attention, with all that comes after CLIP; without"
        " a learnable context the class texts are read once. What is trained whole has the same parts after CLIP.",
        "Memory on the CPU: the highest resident memory of a fresh process in two steps, less that after its imports;"
        " of what comes after CLIP, less that after a first pass of size one. Tensors are given back to the system as"
        " soon as they are free; an allocator that keeps some in reserve holds more. On a GPU: the most that torch has"
        " allocated.",
        f"{', '.join(commits)}; {versions}.",
    ]
    listed = (paragraph(line, "- ", "  ") for line in lines)
    return "\n".join(["## How it is measured", "", *listed])


def _count(number: int, of: str) -> str:
    words: Sequence[str] = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
    return f"{words[number] if number < len(words) else number} {of}{'' if number == 1 else 's'}"


def _number(seconds: float) -> str:
    """Three figures."""
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:,.0f}"


def _spread(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} [{low}–{high}]"
