"""A generated tree of the shape and size of DFEW. Its frames are coloured patterns, so it measures no recognition."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tgdfer.training.data.published import PUBLISHED
from tgdfer.training.files import write_text

DFEW = PUBLISHED["dfew"]
LISTED, UNLISTED = DFEW.num_clips, 4675
TOTAL = LISTED + UNLISTED
FRAMES, SIDE = 8, 64
# Written last, so that a tree that is not complete is not used.
DONE = "complete.txt"


def write_tree(root: Path, total: int = TOTAL, seed: int = 0) -> Path:
    """Writes a tree like DFEW with five folds. A complete one is kept.

    Args:
        root (`Path`): Folder of the tree.
        total (`int`, *optional*, defaults to 16,372): Number of clips. With the default, folds and classes have the
            published sizes. Otherwise they have the same shares.
        seed (`int`, *optional*, defaults to 0): Seed of the pictures and of the order of the clips.
    """
    if (root / DONE).is_file():
        return root
    rng = np.random.default_rng(seed)
    labels, folds = labels_and_folds(total, rng)
    for number in range(1, total + 1):
        _write_clip(root / "Clip" / "clip_224x224" / f"{number:05d}", rng)
    # Listed and unlisted clips are mixed, as in DFEW.
    numbers = sorted(rng.permutation(np.arange(1, total + 1))[: len(labels)].tolist())
    for fold in range(1, DFEW.folds + 1):
        for split in ("train", "test"):
            rows = [
                f"{number},{DFEW.classes.index(label) + 1}"
                for number, label, tested in zip(numbers, labels, folds, strict=True)
                if (tested == fold) == (split == "test")
            ]
            path = root / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / f"set_{fold}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, "\n".join(["video_name,label", *rows]) + "\n")
    write_text(root / DONE, f"{total}\n")
    return root


def labels_and_folds(total: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Returns the label and the test fold of each listed clip, in a random order.

    The first fold has the published number of test clips of each class, scaled to `total`. The other clips are
    shuffled and cut into folds of the published sizes.
    """
    share = total / TOTAL
    first = {label: max(1, round(share * count)) for label, count in DFEW.class_counts["test"].items()}
    rest = {label: max(4, round(share * count)) for label, count in DFEW.class_counts["train"].items()}
    others = rng.permutation([label for label, count in rest.items() for _ in range(count)]).tolist()
    sizes = [test for _, test in DFEW.fold_sizes[1:]]
    ends = np.round(np.cumsum(sizes) / sum(sizes) * len(others)).astype(int)
    pairs = [(label, 1) for label, count in first.items() for _ in range(count)]
    pairs += [(label, 2 + int(np.searchsorted(ends, place, side="right"))) for place, label in enumerate(others)]
    order: Sequence[int] = rng.permutation(len(pairs)).tolist()
    return [pairs[place][0] for place in order], [pairs[place][1] for place in order]


def _write_clip(folder: Path, rng: np.random.Generator) -> None:
    """Writes frames of a coloured pattern that moves a little."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = cv2.resize(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number + 1:05d}.jpg"), np.roll(pattern, number, axis=1))
