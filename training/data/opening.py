"""Opening data sets: published ones, local folders, Parquet files, saved data sets, and data sets on the Hub."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

import datasets

from tgdfer.training.data.folders import is_text, read_folder
from tgdfer.training.data.published import PUBLISHED, published_tables, read_listing
from tgdfer.training.data.streams import StreamedTable
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError
from tgdfer.training.files import printable
from tgdfer.training.reading_options import ReadingOptions
from tgdfer.training.revisions import HubName

# Suffixes of tables that can be named themselves.
_TABLE_FILES = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}
# Files that `save_to_disk` of a `DatasetDict` and of a `Dataset` writes.
_SAVED = ("dataset_dict.json", "state.json")


def open_dataset(dataset: str, **options: Unpack[ReadingOptions]) -> Mapping[str, Table]:
    """Opens all splits of a data set.

    Published data sets and folders of clips are read from disk, all others by `datasets`. Splits of a data set that
    is streamed are read when they are accessed.

    Args:
        dataset (`str`): Name of a published data set, Hub id, folder of clips, folder that `save_to_disk` has written,
            folder of tables, or Parquet file.
        **options (`Unpack[ReadingOptions]`): `dataset_config`, `data_root`, `fold`, `split_map` and `streaming`.

    Raises:
        UserError: If the data set does not exist or cannot be read, or `split_map` names a split that it lacks
            or gives two names to one split.
    """
    splits = _open(dataset, options)
    return _Renamed(dataset, splits, renamed) if (renamed := options.get("split_map")) else splits


def name_in_dataset(split: str, split_map: Mapping[str, Any] | None) -> str:
    """Returns the name that a split has in the data set, which `split_map` may rename."""
    return (split_map or {}).get(split, split)


def split_facts(split: str, split_map: Mapping[str, Any] | None) -> dict[str, str]:
    """Describes a split for records: its name, and the one that it has in the data set, if that is another one."""
    name = name_in_dataset(split, split_map)
    return {"split": split, **({"split_in_dataset": name} if name != split else {})}


def is_published(dataset: str, data_root: str | None = None) -> bool:
    """Returns whether a data set is a published one. Without `data_root`, a folder of the same name comes first."""
    return dataset in PUBLISHED and (data_root is not None or not Path(dataset).is_dir())


def _open(dataset: str, options: ReadingOptions) -> Mapping[str, Table]:
    if is_published(dataset, options.get("data_root")):
        return published_tables(read_listing(dataset, options.get("data_root"), options.get("fold")))
    if options.get("data_root") is not None:
        raise UserError(f"data_root is only for the data sets {', '.join(PUBLISHED)}, and {dataset} is none of them.")
    if options.get("fold") is not None:
        raise UserError(f"fold is only for the data sets {', '.join(PUBLISHED)}, and {dataset} is none of them.")
    config = options.get("dataset_config")
    place = Path(dataset).expanduser()
    if place.is_dir():
        # `datasets` cannot find the split folders in a path that ends with "." or "..".
        place = place.resolve()
        if not is_text(str(place)):
            raise UserError(f"{printable(dataset)} is not valid UTF-8: rename the folder.")
        if config is None and not _is_saved(place) and (tables := read_folder(place)) is not None:
            return tables
    try:
        return _read_by_datasets(dataset, place, config, options.get("streaming", False))
    except UserError:
        raise
    except Exception as error:  # Builders, file systems and networks raise all kinds of errors.
        raise _reading_error(dataset, error) from error


def _read_by_datasets(dataset: str, place: Path, config: str | None, streaming: bool) -> Mapping[str, Table]:
    root = place if place.is_dir() else None
    if root is not None and _is_saved(root):
        saved = datasets.load_from_disk(str(root))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        return {split: Table(rows, root=root) for split, rows in splits.items()}
    if place.is_file():
        if place.suffix not in _TABLE_FILES:
            raise UserError(f"{dataset} is a file: give a Parquet file, a folder, or the id of a data set on the Hub.")
        loaded = datasets.load_dataset(
            _TABLE_FILES[place.suffix], data_files=str(place.resolve()), streaming=streaming
        )
    else:
        source = HubName.parse(str(root) if root else dataset)
        # `datasets` confuses folders of the same name, and folders whose files have changed.
        cache = {"cache_dir": _own_cache(root)} if root else {}
        loaded = datasets.load_dataset(source.name, config, streaming=streaming, **source.options, **cache)
    if streaming:
        return StreamedTable.of_splits(loaded)
    return {split: Table(rows, root=root) for split, rows in loaded.items()}


def _own_cache(folder: Path) -> str:
    """Returns the folder for the copies that `datasets` makes of a local folder. It changes with the files."""
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.relative_to(folder)}|{stat.st_size}|{stat.st_mtime_ns}\n".encode("utf-8", "replace"))
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "tgdfer-local" / digest.hexdigest()[:32])


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _reading_error(dataset: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    cause = error.__cause__ or error.__context__
    if isinstance(error, datasets.exceptions.DatasetGenerationError) and cause is not None:
        reason = str(cause).strip().splitlines()[0]
    return UserError(
        f"Cannot read the data set {dataset!r} ({reason.rstrip('.')}): give the id of a data set on the Hub"
        " that you can reach, or a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none."
    )


class _Renamed(Mapping[str, Table]):
    """Splits under other names. Splits that are not renamed keep their name."""

    def __init__(self, dataset: str, splits: Mapping[str, Table], renamed: Mapping[str, Any]) -> None:
        names: dict[str, str] = {}
        for wanted, name in renamed.items():
            if (other := names.setdefault(name, wanted)) != wanted:
                raise UserError(
                    f"split_map has {other}={name} and {wanted}={name}, but each split of {dataset} has one purpose:"
                    " name another split, or leave one of the names out."
                )
            if name not in splits:
                raise UserError(
                    f"split_map has {wanted}={name}, but {dataset} has no split {name!r}: its splits are"
                    f" {', '.join(map(repr, splits))}."
                )
        self.splits = splits
        kept = {name: name for name in splits if name not in renamed.values()}
        self.names = {**kept, **renamed}

    def __getitem__(self, name: str) -> Table:
        return self.splits[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
