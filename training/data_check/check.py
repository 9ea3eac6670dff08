"""`tgdfer data check`: reads all clips of a data set, and reports what is wrong with it."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.opening import is_published, open_dataset
from tgdfer.training.data.published import PUBLISHED, Listing, published_tables, read_listing
from tgdfer.training.data.published.folds import fold_faults
from tgdfer.training.data_check.findings import (
    Finding,
    class_counts,
    class_findings,
    clip_findings,
    duplicate_findings,
    people_findings,
)
from tgdfer.training.data_check.inspection import inspect_clips
from tgdfer.training.errors import UserError
from tgdfer.training.figures.label_distribution import plot_label_distribution
from tgdfer.training.files import require_writable, write_text
from tgdfer.training.reading_options import ReadingOptions

REPORT, FIGURE = "check.json", "labels.png"


def check_dataset(
    dataset: str, output: str | Path | None = None, workers: int = 1, **options: Unpack[ReadingOptions]
) -> dict[str, Any]:
    """Reads all clips of a data set, and reports what is wrong with it.

    Args:
        dataset (`str`): As in `load_clips`.
        output (`str` or `Path`, *optional*): Folder for the report (`check.json`) and a picture of the labels
            (`labels.png`). By default nothing is written.
        workers (`int`, *optional*, defaults to 1): Number of processes.
        **options (`Unpack[ReadingOptions]`): As in `load_clips`.

    Returns:
        `findings` with `severity`, `kind`, `message` and `names`; `clips` by split and class; `sizes`, the `found`,
        `usable` and `published` number of clips of each split; `num_errors`, the number of findings that are errors;
        and `seconds`.

    Raises:
        UserError: If the data set cannot be opened at all.
    """
    start = time.perf_counter()
    if output is not None:
        require_writable(Path(output) / REPORT)
    options = {**options, "strict": False}
    listing = None
    if is_published(dataset, options.get("data_root")):
        listing = read_listing(dataset, options.get("data_root"), options.get("fold"), require_valid=False)
        splits, findings = _load(dataset, published_tables(listing), options)
        sizes, faults = fold_faults(listing)
        findings += [Finding("error", "fold", fault) for fault in faults]
        if sizes:
            findings.append(Finding("error", "fold size", "The lists have other numbers than are published.", sizes))
    else:
        splits, findings = _load(dataset, open_dataset(dataset, **options), options)
    for clips in splits.values():
        clips.require_at_hand()
    facts = inspect_clips(splits, workers)
    for split, clips in splits.items():
        # Some published data sets have more clips than their lists, by design.
        findings += clip_findings(split, clips, facts[split], "warning" if listing is None else "note")
    usable = {
        split: clips.select([fact.index for fact in facts[split] if not fact.error]) for split, clips in splits.items()
    }
    counts = {split: class_counts(clips) for split, clips in usable.items()}
    findings += class_findings(counts) + people_findings(splits) + duplicate_findings(splits, facts)
    findings.sort(key=lambda finding: ("error", "warning", "note").index(finding.severity))
    published = _published_counts(listing)
    report = {
        "dataset": dataset,
        "fold": None if listing is None else listing.fold,
        "sizes": _sizes(splits, usable, listing),
        "clips": counts,
        "published_clips": published,
        "num_errors": sum(finding.severity == "error" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
        "seconds": round(time.perf_counter() - start, 2),
    }
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")
        plot_label_distribution(counts, folder / FIGURE, published)
    return report


def _load(
    dataset: str, tables: Mapping[str, Any], options: ReadingOptions
) -> tuple[dict[str, LabelledClips], list[Finding]]:
    """Loads the splits that can be loaded, and says why the others cannot."""
    splits, findings = {}, []
    for split in tables:
        try:
            splits[split] = load_clips(dataset, split, tables=tables, **options)
        except UserError as error:
            findings.append(Finding("error", "split", str(error)))
    if not splits:
        raise UserError(findings[0].message if findings else f"{dataset} has no split: give another data set.")
    return splits, findings


def _sizes(
    splits: Mapping[str, LabelledClips], usable: Mapping[str, LabelledClips], listing: Listing | None
) -> dict[str, dict[str, int | None]]:
    sizes: dict[str, dict[str, int | None]] = {}
    for split, clips in splits.items():
        found = len(clips) + len(clips.quarantined)
        published = None if listing is None else listing.dataset.published_size(listing.fold, split)
        sizes[split] = {"found": found, "usable": len(usable[split]), "published": published}
    return sizes


def _published_counts(listing: Listing | None) -> dict[str, dict[str, int]] | None:
    """Returns the published number of clips by split and class, if it is known for the fold."""
    if listing is None or listing.fold != 1 or not PUBLISHED[listing.dataset.name].class_counts:
        return None
    return {split: dict(counts) for split, counts in listing.dataset.class_counts.items()}
