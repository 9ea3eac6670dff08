"""CREMA-D and RAVDESS: clips whose file names say everything. Their folds are by actor."""

import re
from collections.abc import Iterator
from pathlib import Path

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.published.listing import ClipsOnDisk, FoldLists, ListedClip
from tgdfer.training.data.published.on_disk import videos_below
from tgdfer.training.errors import UserError

CREMA_D_CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
RAVDESS_CLASSES = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
# First and last actor of each test fold.
CREMA_D_FOLDS = ((1001, 1018), (1019, 1036), (1037, 1054), (1055, 1072), (1073, 1091))
RAVDESS_FOLDS = tuple((first, first + 3) for first in range(1, 25, 4))

_CREMA_D_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_([A-Z]{1,2})", re.IGNORECASE)
_RAVDESS_NAME = re.compile(r"(0[12])-(0[12])-(0[1-8])-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_NO_NAME = "its name is not that of a clip of this data set"


def crema_d_lists(root: Path, fold: int) -> FoldLists:
    """Reads the clips of a fold of CREMA-D (Cao et al., 2014) from the names of the files."""
    return _by_actor(_crema_d(root), CREMA_D_FOLDS[fold - 1])


def crema_d_clips(root: Path) -> ClipsOnDisk:
    """Finds the clips of CREMA-D: `ACTOR_SENTENCE_EMOTION_LEVEL` in any folder."""
    paths = videos_below(root)
    known = {path.stem.upper(): path for path in paths if _CREMA_D_NAME.fullmatch(path.stem)}
    return ClipsOnDisk(known, _ignored(root, paths, known, {}))


def ravdess_lists(root: Path, fold: int) -> FoldLists:
    """Reads the speech clips of a fold of RAVDESS (Livingstone & Russo, 2018) from the names of the files."""
    return _by_actor(_ravdess(root), RAVDESS_FOLDS[fold - 1])


def ravdess_clips(root: Path) -> ClipsOnDisk:
    """Finds the speech clips of RAVDESS: `02-01-EMOTION-..-ACTOR`.

    Each recording exists with sound (01) and without (02). The pictures are the same, so only one of them is used.
    """
    paths = videos_below(root)
    reasons = {}
    known: dict[str, Path] = {}
    for path in paths:
        match = _RAVDESS_NAME.fullmatch(path.stem)
        if match is None:
            continue
        if match[2] == "02":
            reasons[path] = "it is a song, and the protocol uses speech"
        elif match[1] == "02" or match[0][3:] not in known:
            known[match[0][3:]] = path
    used = set(known.values())
    twins = {path: "it is the same recording with sound" for path in paths if _RAVDESS_NAME.fullmatch(path.stem)}
    return ClipsOnDisk(
        known, _ignored(root, paths, known, {p: r for p, r in (twins | reasons).items() if p not in used})
    )


def _crema_d(root: Path) -> Iterator[tuple[int, ListedClip]]:
    for key in crema_d_clips(root).paths:
        actor, _, emotion, _ = key.split("_")
        yield int(actor), ListedClip(key, canonical_label(emotion), person=actor)


def _ravdess(root: Path) -> Iterator[tuple[int, ListedClip]]:
    for key in ravdess_clips(root).paths:
        parts = key.split("-")
        yield int(parts[-1]), ListedClip(key, RAVDESS_CLASSES[int(parts[1]) - 1], person=f"Actor_{parts[-1]}")


def _by_actor(clips: Iterator[tuple[int, ListedClip]], test: tuple[int, int]) -> FoldLists:
    splits: FoldLists = {"train": [], "test": []}
    for actor, clip in sorted(clips, key=lambda item: item[1].key):
        splits["test" if test[0] <= actor <= test[1] else "train"].append(clip)
    if not splits["train"] and not splits["test"]:
        raise UserError("There are no clips of this data set below --data-root: give its folder.")
    return splits


def _ignored(root: Path, paths: list[Path], known: dict[str, Path], reasons: dict[Path, str]) -> dict[str, str]:
    used = set(known.values())
    return {path.relative_to(root).as_posix(): reasons.get(path, _NO_NAME) for path in paths if path not in used}
