"""The report of the rehearsal."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dfew_rehearsal.folds import EPOCHS, KILLED_IN
from benchmarks.dfew_rehearsal.measure import PIXELS
from benchmarks.dfew_rehearsal.tree import FRAMES, SIDE
from benchmarks.harness.tables import markdown_table, paragraph, write_report

_STEPS = {
    "check": "`tgdfer data check`",
    "convert": "`tgdfer data convert`",
    "evaluate": "`tgdfer evaluate`, five folds",
    "evaluate_parquet": "`tgdfer evaluate`, the first fold of the converted data set",
}


def write_rehearsal(contents: dict[str, Any], path: Path, figures: Path) -> None:
    """Writes the report and its figures.

    Args:
        contents (`dict[str, Any]`): `command`, `provenance` and `sizes`, the results of `rehearse`, smallest first.
        path (`Path`): Markdown file.
        figures (`Path`): JSON file.
    """
    sections = [text if text.startswith(("#", "|")) else paragraph(text) for text in _sections(contents)]
    write_report(path, sections, figures, contents)


def _sections(contents: dict[str, Any]) -> list[str]:
    sizes, largest = contents["sizes"], contents["sizes"][-1]
    smallest, errors = sizes[0], largest["num_errors"]
    facts = contents["provenance"]
    rows = []
    for step, title in _STEPS.items():
        for size in sizes:
            used = size[step]
            clips = size["folds"][0]["num_clips"] if step == "evaluate_parquet" else _clips_of(step, size)
            rows.append(
                [
                    title if size is smallest else "",
                    f"{size['total']:,}",
                    f"{clips:,}",
                    f"{used['cpu_seconds']:.0f}",
                    f"{1000 * used['cpu_seconds'] / clips:.1f}",
                    f"{used['seconds']:.0f}",
                    f"{used['peak_bytes'] / 2**20:,.0f}",
                ]
            )
    growth = []
    for step, title in _STEPS.items():
        before, after = smallest[step], largest[step]
        growth.append(
            [
                title,
                f"{after['cpu_seconds'] / before['cpu_seconds']:.1f}",
                f"{after['peak_bytes'] / before['peak_bytes']:.2f}",
            ]
        )
    folds = largest["folds"]
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in ("war", "uar")}
    fold_rows = [
        [str(number), f"{fold['num_clips']:,}", f"{100 * fold['war']:.1f}", f"{100 * fold['uar']:.1f}"]
        for number, fold in enumerate(folds, 1)
    ]
    all_clips = sum(fold["num_clips"] for fold in folds)
    fold_rows.append(["mean", f"{all_clips:,}", f"{100 * means['war']:.1f}", f"{100 * means['uar']:.1f}"])
    found = ", ".join(f"{kind}: {count:,}" for kind, count in largest["findings"].items()) or "none"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [
        "# Rehearsal of the DFEW protocol",
        f"`{contents['command']}` generates this page. Change the text in `benchmarks/dfew_rehearsal/report.py`."
        f" Measured on {facts['machine']}, which other programs used at the same time, {_commits(sizes)},"
        f" {versions}, with one process and one thread.",
        "DFEW may not be redistributed. Therefore a tree of the same shape is generated: the five folds with the"
        " published sizes, the published number of clips of each class in the first fold, and clips that no list"
        f" names. Each clip has {FRAMES} frames of {SIDE} x {SIDE} pixels with a coloured pattern. The rehearsal shows"
        " that the commands can process the whole data set, and what this costs. It says nothing about recognition,"
        " because there are no faces. Real clips of DFEW have 77 frames of 224 x 224 pixels on average, so checking"
        " and converting them takes longer.",
        "## Result",
        f"The tree has {largest['total']:,} clips. {largest['listed']:,} of them are in the lists. The check found"
        f" {f'{errors} errors' if errors else 'no errors'}. Its other findings, by"
        f" kind and with the number of clips, are {found}. The conversion wrote {largest['shards']} shards with"
        f" {largest['parquet_bytes'] / 1e6:,.0f} MB, in which every fold is a configuration.",
        f"An untrained `clip-tiny-faces`, which reads pictures of {PIXELS} x {PIXELS} pixels here, answers. With"
        f" random patterns, its UAR must be near {100 / 7:.1f} %, which is"
        " chance. The table has percentages.",
        markdown_table(["fold", "test clips", "WAR", "UAR"], fold_rows),
        f"From the converted data set, {100 * largest['same_answers']:.1f} % of the clips of the first fold get the"
        " same answer. The frames are stored byte by byte. FFmpeg and Pillow decode JPEG files slightly differently,"
        " and folders of frames do not say how fast they were, so the times of the frames differ.",
        "## Time and memory",
        "CPU time includes the start of Python and the imports. Milliseconds are CPU time per clip. A check reads all"
        " clips, and the other commands read the listed ones.",
        markdown_table(
            ["command", "clips in the tree", "clips read", "CPU, s", "ms", "elapsed, s", "peak, MiB"], rows
        ),
        f"From {smallest['total']:,} to {largest['total']:,} clips, which is a factor of"
        f" {largest['total'] / smallest['total']:.1f}, time and memory grow by these factors:",
        markdown_table(["command", "CPU time", "peak memory"], growth),
        *(_training_sections(largest["training"]) if "training" in largest else []),
    ]


def _commits(sizes: list[dict[str, Any]]) -> str:
    """Names the commits at which the steps ran. A rehearsal can be continued at a later commit."""
    steps = [size[step] for size in sizes for step in _STEPS]
    steps += [part for size in sizes if "training" in size for part in size["training"]["parts"]]
    names = list(dict.fromkeys(step["commit"] or "unknown" for step in steps))
    return f"{'commit' if len(names) == 1 else 'commits'} {' and '.join(names)}"


def _training_sections(training: dict[str, Any]) -> list[str]:
    """Returns the sections about the training on all folds."""
    parts = training["parts"]
    rows = []
    for part in parts:
        end = f"killed in fold {part['killed_in']}" if part["killed_in"] else "ends with the table"
        cells = [f"{part['cpu_seconds']:.0f}", f"{part['seconds']:.0f}", f"{part['peak_bytes'] / 2**20:,.0f}"]
        rows.append([end, *cells])
    total = [f"{sum(part[name] for part in parts):.0f}" for name in ("cpu_seconds", "seconds")]
    rows.append(["together", *total, f"{max(part['peak_bytes'] for part in parts) / 2**20:,.0f}"])
    tables = training["table"].strip().split("\n\n")
    return [
        "## Training on the folds",
        f"One command trains on frozen features for {EPOCHS} epochs and tests on each fold:"
        " `tgdfer train --recipe dfew --data-root DFEW --folds all --frozen-features`. The process is killed by"
        f" `SIGKILL` after the first epoch of the folds {' and '.join(map(str, KILLED_IN))}, and the same command with"
        " `--resume` continues it. Complete folds are skipped, and the killed one is continued after its last epoch."
        " The model starts from the untrained one of above.",
        markdown_table(["the command", "CPU, s", "elapsed, s", "peak, MiB"], rows),
        "It prints the table that the field uses, which is `folds.md` in the folder of the folds. With patterns"
        f" instead of faces, the UAR must be near {100 / 7:.1f} %.",
        *tables,
    ]


def _clips_of(step: str, size: dict[str, Any]) -> int:
    return size["listed"] if step != "check" else size["total"]
