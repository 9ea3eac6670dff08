"""`tgdfer data convert`: writes any data set as Parquet shards with a card, ready to be pushed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tgdfer.model_card.hub.dataset_files import CONVERTED, conversion_record, dataset_card, unpublished_id
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips
from tgdfer.training.data.opening import is_published, open_dataset
from tgdfer.training.data.published import PUBLISHED, PublishedDataset
from tgdfer.training.data.quarantine import warn_about_quarantine, without_unreadable, write_quarantine
from tgdfer.training.data.shards import Shard, Shards, Split, split_of, write_shard
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops.workers import run_jobs
from tgdfer.training.files import read_json, require_writable, write_text
from tgdfer.training.interruption import reporting_interruption
from tgdfer.training.reading_options import ReadingOptions


def convert_dataset(
    dataset: str,
    output: str | Path,
    workers: int = 1,
    shard_size: int | None = None,
    **options: Unpack[ReadingOptions],
) -> dict[str, Any]:
    """Writes a data set as Parquet shards with a card.

    Folders of frames are packed into videos without encoding the frames again. A published data set whose folds
    partition it is written once, with a configuration of the card for each fold. An interrupted conversion continues
    with the first shard that is not complete.

    Args:
        dataset (`str`): As in `load_clips`.
        output (`str` or `Path`): Folder to write. Its name is that of the data set in the card.
        workers (`int`, *optional*, defaults to 1): Number of processes.
        shard_size (`int`, *optional*): Maximum number of bytes of the videos in a shard. By default that of `shards`.
        **options (`Unpack[ReadingOptions]`): As in `load_clips`. Clips that cannot be read are put into quarantine,
            unless `strict` is set.

    Returns:
        `num_clips`, `num_quarantined`, `num_shards` and `num_new_shards`.

    Raises:
        UserError: If the data set cannot be read, or the folder contains something else.
    """
    folder = Path(output)
    require_writable(folder / CONVERTED)
    options = {"strict": False, **options}
    splits, configs = _splits(dataset, options)
    for split in splits.values():
        split.clips.require_at_hand()
    shards = Shards(splits, folder / "data", shard_size)
    plan = _plan(dataset, splits, shards)
    done = _finished(folder, plan, shards)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    todo = shards.without(done or set())
    if done is None or todo:
        write_text(folder / CONVERTED, json.dumps(conversion_record(folder, plan)) + "\n")
    _write(todo, len(shards), folder, workers)
    published = PUBLISHED[dataset] if is_published(dataset, options.get("data_root")) else None
    notes, use = _notes(published, configs)
    card = dataset_card(unpublished_id(folder), splits, None, configs, notes, use)
    write_text(folder / "README.md", card)
    for name, split in splits.items():
        write_quarantine(folder, name, split.clips)
        warn_about_quarantine(f"{name!r}", split.clips)
    record = conversion_record(folder, plan, [path for path, _, _ in shards.places])
    write_text(folder / CONVERTED, json.dumps(record) + "\n")
    return {
        "num_clips": sum(len(split.clips) for split in splits.values()),
        "num_quarantined": sum(len(split.clips.quarantined) for split in splits.values()),
        "num_shards": len(shards),
        "num_new_shards": len(todo),
    }


def _write(todo: Shards, total: int, folder: Path, workers: int) -> None:
    columns = (TextColumn("Writing shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    written = total - len(todo)
    with (
        reporting_interruption(
            lambda: f"Interrupted: {written} of {total} shards are in {folder}. Resume with the same command."
        ),
        Progress(*columns, console=get_console(), transient=True) as bar,
    ):
        task = bar.add_task("", total=total, completed=written)
        for _ in run_jobs(write_shard, todo, workers, _crashed):
            written += 1
            bar.advance(task)


def _crashed(shard: Shard) -> Path:
    raise UserError(
        f"The process that wrote {shard.path.name} was killed: use fewer --workers, which need less memory."
    )


def _splits(dataset: str, options: ReadingOptions) -> tuple[dict[str, Split], list[dict[str, Any]] | None]:
    """Returns the groups of clips that have shards of their own, and the configurations of the card.

    The groups are the splits or, for a published data set with several folds, the test clips of each fold.
    """
    published = PUBLISHED[dataset] if is_published(dataset, options.get("data_root")) else None
    if published is None or published.folds == 1:
        tables = open_dataset(dataset, **options)
        return {name: _load(dataset, name, tables, options) for name in tables}, None
    if options.get("fold") is not None:
        raise UserError(f"All {published.folds} folds of {published.title} are converted: leave out --fold.")
    groups = {}
    folds = range(1, published.folds + 1)
    for fold in folds:
        of_fold: ReadingOptions = {**options, "fold": fold}
        groups[f"fold_{fold}"] = _load(dataset, "test", open_dataset(dataset, **of_fold), of_fold)
    configs = [
        {
            "config_name": f"fold_{fold}",
            "data_files": [
                {"split": "train", "path": [f"data/fold_{other}-*" for other in folds if other != fold]},
                {"split": "test", "path": f"data/fold_{fold}-*"},
            ],
        }
        for fold in folds
    ]
    return groups, configs


def _load(dataset: str, split: str, tables: Mapping[str, Any], options: ReadingOptions) -> Split:
    clips: LabelledClips = load_clips(dataset, split, tables=tables, **options)
    place = f"Split {split!r} of {dataset}"
    clips = without_unreadable(clips, place, options.get("strict", True))
    return split_of(replace(clips, left_out={}), tables[split])


def _plan(dataset: str, splits: Mapping[str, Split], shards: Shards) -> str:
    """Returns a hash of everything that the shards depend on."""
    digest = hashlib.sha256(dataset.encode())
    for name, split in splits.items():
        digest.update(f"{name} {split.clips.fingerprint()} {split.clips.labels} {split.columns}".encode())
    digest.update(repr([(path.name, rows) for path, _, rows in shards.places]).encode())
    return digest.hexdigest()


def _finished(folder: Path, plan: str, shards: Shards) -> set[Path] | None:
    """Returns the shards that an interrupted conversion has written. None if nothing has been written yet."""
    record = folder / CONVERTED
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: choose another --output.")
        return None
    if read_json(record).get("plan") != plan:
        raise UserError(f"{folder} contains the conversion of other data or other options: choose another --output.")
    # Shards are renamed only when they are complete.
    return {path for path, _, _ in shards.places if path.is_file()}


def _notes(published: PublishedDataset | None, configs: list[dict[str, Any]] | None) -> tuple[list[str], str | None]:
    if published is None:
        return [], None
    title = published.title
    notes = [f"**{title} may not be redistributed. Keep this repository private.**"]
    if published.name in ("crema_d", "ravdess"):
        notes = [f"The clips are those of {title}. Its licence applies."]
    if configs is None:
        return notes, None
    return [*notes, f"Each of the {len(configs)} folds of {title} is a configuration."], configs[0]["config_name"]
