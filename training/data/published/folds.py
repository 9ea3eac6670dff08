"""Reading a fold of a published data set, and checking that its folds are what they should be."""

from collections import Counter
from pathlib import Path

from tgdfer.training.data.published.facts import PUBLISHED
from tgdfer.training.data.published.listing import SPLITS, FoldLists, Listing, PublishedDataset
from tgdfer.training.errors import UserError


def read_listing(
    name: str, data_root: str | Path | None, fold: int | None = None, require_valid: bool = True
) -> Listing:
    """Reads the lists of a fold of a published data set, and finds its clips.

    Args:
        name (`str`): Name of the data set, such as "dfew".
        data_root (`str` or `Path`, *optional*): Folder of the data set.
        fold (`int`, *optional*, defaults to 1): Number of the fold, from 1.
        require_valid (`bool`, *optional*, defaults to `True`): Whether lists that contradict each other are an error.

    Raises:
        UserError: If there is no folder or no such fold, or the lists contradict each other.
    """
    dataset = PUBLISHED[name]
    if data_root is None:
        raise UserError(f"{dataset.title} needs its folder, with {dataset.layout}: give it as --data-root.")
    root = Path(data_root).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data_root is {str(data_root)!r}, but must be the folder of {dataset.title}.")
    fold = require_fold(dataset, fold)
    splits = dataset.read_lists(root, fold)
    if require_valid and (faults := _contradictions(dataset, fold, splits)):
        raise UserError(f"{faults[0].removesuffix('.')}: restore the lists of {dataset.title}.")
    return Listing(dataset, root, fold, splits, dataset.find_clips(root))


def require_fold(dataset: PublishedDataset, fold: int | None) -> int:
    """Returns the number of a fold, by default 1.

    Raises:
        UserError: If the data set has no such fold.
    """
    fold = 1 if fold is None else fold
    if not 1 <= fold <= dataset.folds:
        folds = f"folds 1 to {dataset.folds}" if dataset.folds > 1 else "a single split, which is fold 1"
        raise UserError(f"fold is {fold}, but {dataset.title} has {folds}.")
    return fold


def _contradictions(dataset: PublishedDataset, fold: int, splits: FoldLists) -> list[str]:
    """Returns a sentence for each contradiction within the lists of a fold."""
    faults = []
    for split, clips in splits.items():
        twice = [key for key, count in Counter(clip.key for clip in clips).items() if count > 1]
        if twice:
            faults.append(f"The list of {split} clips of fold {fold} of {dataset.title} names {twice[0]!r} twice.")
    if both := {clip.key for clip in splits["train"]} & {clip.key for clip in splits["test"]}:
        faults.append(
            f"{len(both)} clips of fold {fold} of {dataset.title} are in the lists of both splits, the first is"
            f" {min(both)!r}."
        )
    return faults


def fold_faults(listing: Listing) -> tuple[list[str], list[str]]:
    """Compares all folds of a data set with what is published.

    Returns:
        A sentence for each difference in numbers: a fold or a class with another number of clips. And a sentence for
        each contradiction: a clip that is in both lists of a fold, tested in two folds or in none, or whose label
        differs between folds.
    """
    dataset = listing.dataset
    sizes: list[str] = []
    faults: list[str] = []
    tested: Counter[str] = Counter()
    listed: set[str] = set()
    labels: dict[str, str] = {}
    relabelled: set[str] = set()
    for fold in range(1, dataset.folds + 1):
        splits = listing.splits if fold == listing.fold else dataset.read_lists(listing.root, fold)
        faults += _contradictions(dataset, fold, splits)
        for split in SPLITS:
            expected, found = dataset.published_size(fold, split), len(splits[split])
            if expected is not None and expected != found:
                sizes.append(f"Fold {fold} lists {found:,} {split} clips, but {expected:,} are published.")
            if fold == 1 and dataset.class_counts:
                counts = Counter(clip.label for clip in splits[split])
                sizes += [
                    f"Fold 1 lists {counts[label]:,} {split} clips of {label}, but {number:,} are published."
                    for label, number in dataset.class_counts[split].items()
                    if counts[label] != number
                ]
            listed |= {clip.key for clip in splits[split]}
            relabelled |= {clip.key for clip in splits[split] if labels.setdefault(clip.key, clip.label) != clip.label}
        tested.update(clip.key for clip in splits["test"])
    if dataset.folds > 1:
        twice, never = [key for key, count in tested.items() if count > 1], listed - set(tested)
        if twice:
            faults.append(f"{len(twice):,} clips are in two test folds, the first is {min(twice)}.")
        if never:
            faults.append(f"{len(never):,} clips are in no test fold, the first is {min(never)}.")
    if relabelled:
        faults.append(f"The labels of {len(relabelled):,} clips differ between folds, the first is {min(relabelled)}.")
    return sizes, faults
