"""The findings about a data set: what is wrong with it, and what may be."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data_check.hashes import MIN_LIKENESS, likeness, similar_pairs
from tgdfer.training.data_check.inspection import ClipFacts

Severity = Literal["error", "warning", "note"]
# A clip with fewer frames than a model samples by default gives masked frames.
SHORT = 16


@dataclass(frozen=True)
class Finding:
    """Something that was found out about a data set.

    Attributes:
        severity (`"error"`, `"warning"` or `"note"`): An error makes figures wrong, or loses clips. A warning may. A
            note is for information.
        kind (`str`): Short name of the check, such as "missing".
        message (`str`): One sentence.
        names (`list[str]`): The clips, files or people that are concerned, with details.
    """

    severity: Severity
    kind: str
    message: str
    names: list[str] = field(default_factory=list)


def clip_findings(
    split: str, clips: LabelledClips, facts: Sequence[ClipFacts], extra: Severity = "warning"
) -> list[Finding]:
    """Returns what is wrong with the clips of a split: missing, empty and unreadable ones, and frame counts.

    Args:
        split (`str`): Name of the split.
        clips (`LabelledClips`): Its clips.
        facts (`Sequence[ClipFacts]`): What was found out about each of them.
        extra (`"error"`, `"warning"` or `"note"`, *optional*, defaults to `"warning"`): How severe clips on the disk
            are that are not in the data set.
    """
    found = []
    unreadable = {clips.files[fact.index]: fact.error for fact in facts if fact.error}
    unreadable |= {name: reason for name, reason in clips.quarantined.items() if "empty" in reason}
    missing = {name: reason for name, reason in clips.quarantined.items() if name not in unreadable}
    if missing:
        names = [f"{name}: {reason}" for name, reason in missing.items()]
        found.append(Finding("error", "missing", f"{_clips(len(missing))} of {split!r} cannot be found.", names))
    if unreadable:
        names = [f"{name}: {reason}" for name, reason in unreadable.items()]
        found.append(Finding("error", "unreadable", f"{_clips(len(unreadable))} of {split!r} cannot be read.", names))
    if clips.left_out:
        are = "is" if len(clips.left_out) == 1 else "are"
        message = f"{_clips(len(clips.left_out))} {are} on the disk, but not in {split!r}."
        names = [f"{name}: {reason}" for name, reason in clips.left_out.items()]
        found.append(Finding(extra, "extra", message, names))
    counts = clips.num_frames or [None] * len(clips)
    other = [
        f"{clips.files[fact.index]}: {fact.frames} frames, listed are {counts[fact.index]}"
        for fact in facts
        if not fact.error and counts[fact.index] not in (None, fact.frames)
    ]
    if other:
        has = "has" if len(other) == 1 else "have"
        message = f"{_clips(len(other))} of {split!r} {has} another number of frames than is listed."
        found.append(Finding("warning", "frame count", message, other))
    lengths = [fact.frames for fact in facts if not fact.error]
    if short := sum(length < SHORT for length in lengths):
        message = f"{short:,} of {len(lengths):,} clips of {split!r} have fewer than {SHORT} frames."
        found.append(Finding("note", "short", message))
    return found


def class_findings(counts: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Returns classes that some splits lack.

    Args:
        counts (`Mapping[str, Mapping[str, int]]`): Number of clips of each class, for each split.
    """
    classes = sorted({label for of_split in counts.values() for label in of_split})
    found = []
    for split, of_split in counts.items():
        if lacking := [label for label in classes if not of_split.get(label)]:
            severity: Severity = "error" if split == "train" else "warning"
            message = f"{split!r} has no clip of {', '.join(lacking)}, but another split has."
            found.append(Finding(severity, "class", message))
    return found


def people_findings(splits: Mapping[str, LabelledClips]) -> list[Finding]:
    """Returns people who are in several splits."""
    people = {split: set(clips.people or []) for split, clips in splits.items()}
    found = []
    for first, second in _pairs(people):
        if shared := sorted(people[first] & people[second]):
            message = (
                f"{len(shared)} {'person is' if len(shared) == 1 else 'people are'} in {first!r} and in {second!r}."
            )
            found.append(Finding("error", "person", message, shared))
    return found


def duplicate_findings(splits: Mapping[str, LabelledClips], facts: Mapping[str, Sequence[ClipFacts]]) -> list[Finding]:
    """Returns videos that are in two splits, or twice in one, with the same bytes or encoded again."""
    by_content: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for split, of_split in facts.items():
        for fact in of_split:
            if not fact.error:
                by_content[fact.content].append((split, fact.index))

    def name(split: str, index: int) -> str:
        return splits[split].files[index]

    found = []
    same: set[tuple[str, int, str, int]] = set()
    for first, second in _pairs(facts):
        names = []
        for places in by_content.values():
            one, two = ([index for split, index in places if split == wanted] for wanted in (first, second))
            same |= {(first, i, second, j) for i in one for j in two}
            names += [f"{name(first, i)} = {name(second, j)}" for i in one for j in two]
        if names:
            message = f"{_videos(len(names))} in {first!r} and in {second!r}, with the same bytes."
            found.append(Finding("error", "same video", message, names))
        usable = [[fact for fact in facts[split] if not fact.error] for split in (first, second)]
        hashes = [[fact.perceptual for fact in of_split] for of_split in usable]
        pairs = similar_pairs(hashes[0], hashes[1])
        names = [
            f"{name(first, usable[0][i].index)} ~ {name(second, usable[1][j].index)} ({value:.0%} of the bits differ)"
            for i, j, value in pairs
            if _look_alike(usable[0][i], usable[1][j])
            and (first, usable[0][i].index, second, usable[1][j].index) not in same
        ]
        if names:
            message = f"{_videos(len(names))} in {first!r} and in {second!r}, encoded again."
            found.append(Finding("error", "re-encoded", message, names))
    for split in facts:
        names = []
        for places in by_content.values():
            own = [index for other, index in places if other == split]
            names += [f"{name(split, own[0])} = {name(split, index)}" for index in own[1:]]
        if names:
            message = f"{_videos(len(names))} several times in {split!r}."
            found.append(Finding("warning", "twice", message, names))
        if contradictions := _contradictions(split, splits[split], by_content.values()):
            message = f"{_videos(len(contradictions))} several times in {split!r}, with different labels."
            found.append(Finding("error", "two labels", message, contradictions))
    return found


def _contradictions(split: str, clips: LabelledClips, copies: Iterable[Sequence[tuple[str, int]]]) -> list[str]:
    """Returns the videos of a split that have different labels in different places, with these labels."""
    found = []
    for places in copies:
        own = [index for other, index in places if other == split]
        if len({clips.labels[index] for index in own}) > 1:
            found.append(" = ".join(f"{clips.files[index]} ({clips.labels[index]})" for index in own))
    return found


def _look_alike(first: ClipFacts, second: ClipFacts) -> bool:
    """Returns whether two clips with similar hashes also have nearly the same pictures."""
    if first.thumbnails is None or second.thumbnails is None:
        return False
    return likeness(first.thumbnails, second.thumbnails) >= MIN_LIKENESS


def class_counts(clips: LabelledClips) -> dict[str, int]:
    """Returns the number of clips of each class. A clip with several labels counts for each of them."""
    if clips.soft is None or clips.soft.kind == "votes":
        return dict(Counter(clips.labels))
    return {name: int(count) for name, count in zip(clips.soft.names, clips.soft.values.sum(0), strict=True)}


def _pairs(splits: Iterable[str]) -> list[tuple[str, str]]:
    names = list(splits)
    return [(first, second) for at, first in enumerate(names) for second in names[at + 1 :]]


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count:,} clips"


def _videos(count: int) -> str:
    return "1 video is" if count == 1 else f"{count:,} videos are"
