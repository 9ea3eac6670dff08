"""Labelled clips of any data set, and the torch data set that samples and augments them."""

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import yaml
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from tgdfer.processing.descriptions import built_in_descriptions, canonical_label
from tgdfer.processing.video_file_tgdfer import VideoDecodeError, VideoFile
from tgdfer.training.config import TrainingConfig
from tgdfer.training.data.augmentation import Augmentation
from tgdfer.training.errors import UserError, nearest
from tgdfer.training.files import read_yaml, write_text

logger = logging.getLogger(__name__)

# Videos that a user may well have put beside those that the videofolder builder of `datasets` reads.
VIDEO_NAME = re.compile(r"\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)$", re.IGNORECASE)
# Folders that `datasets` takes for a split.
_SPLIT_FOLDERS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}


@dataclass(frozen=True)
class LabelledClips:
    """N clips of one split; labels are canonical names, never integers.

    Attributes:
        rows: the data set's rows, N of them; videos are read on access, as a path or as bytes.
        video_column: the column of `rows` that holds the video.
        files: a name for each clip: its path below the data set's folder, or what the data set calls it.
        labels: label of each clip.
        people: who is seen in each clip, where the data set says so.
        intensity: intensity (0 to 1) of every frame of each clip, where the data set says so. For evaluation alone.
        activity: summed intensity of the action units in every frame of each clip, where the data set has
            `action_units`. For evaluation alone.
        left_out: files on disk that `datasets` did not take.
    """

    rows: datasets.Dataset
    video_column: str
    files: list[str]
    labels: list[str]
    people: list[str] | None = None
    intensity: list[list[float] | None] | None = None
    activity: list[list[float] | None] | None = None
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def video(self, index: int) -> str | bytes:
        """The clip as the video processor reads it: its path, or its bytes where the data set embeds them."""
        video = self.rows[index][self.video_column]
        return video["path"] if video["bytes"] is None else video["bytes"]

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted by name: the order of a model's classes."""
        return sorted(set(self.labels))

    def select(self, indices: Sequence[int]) -> "LabelledClips":
        """The clips at `indices`, in that order."""

        def pick(values: Any) -> Any:
            return None if values is None else [values[index] for index in indices]

        return replace(
            self,
            rows=self.rows.select(indices),
            files=pick(self.files),
            labels=pick(self.labels),
            people=pick(self.people),
            intensity=pick(self.intensity),
            activity=pick(self.activity),
        )

    def fingerprint(self) -> str:
        """Hash that changes with any video: of its bytes where embedded, else of its name, size and time of change."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            video = self.video(index)
            if isinstance(video, str):
                stat = os.stat(video)
                video = f"{self.files[index]}|{stat.st_size}|{stat.st_mtime_ns}".encode()
            digest.update(hashlib.sha256(video).digest())
        return digest.hexdigest()


def load_clips(
    dataset: str,
    split: str,
    dataset_config: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
) -> LabelledClips:
    """Loads the clips of one split by `datasets.load_dataset`.

    Args:
        dataset: Hub id or local folder: a videofolder (`SPLIT/LABEL/CLIP.mp4`, with or without a `metadata.jsonl` in
            every split), or any data set with a `Video` column and labels by name (strings or `ClassLabel`).
        split: name of the split.
        dataset_config: configuration of a Hub data set that has several.
        video_column: by default the only column of type `Video`.
        label_column: by default `label`, or the only `ClassLabel`.

    Raises:
        UserError: if the data set or the split cannot be read, has no videos, no labels, an unlabelled clip, only one
            class, or names a file that is missing or empty.
    """
    rows = open_dataset(dataset, dataset_config)
    if split not in rows:
        raise UserError(f"{dataset} has no split {split!r}: there are {', '.join(map(repr, rows))}.")
    table = rows[split]
    if not len(table):
        raise UserError(f"Split {split!r} of {dataset} is empty: give it clips or name another split.")
    video_column = _find_video_column(dataset, table.features, video_column)
    table = table.cast_column(video_column, datasets.Video(decode=False))
    folder = _split_folder(Path(dataset), split)
    names, paths = _names_and_paths(table, video_column)
    labels = _read_labels(dataset, table, _find_label_column(dataset, table, label_column, names))
    if len(set(labels)) < 2:
        raise UserError(f"Split {split!r} of {dataset} has one class only, {labels[0]!r}: at least two are needed.")
    _require_files(dataset, [path for path in paths if path is not None])
    optional = ("person", "intensity", "action_units")
    columns = {name: list(table[name]) for name in optional if name in table.column_names}
    people = columns.get("person")
    return LabelledClips(
        rows=table.select_columns([video_column]),
        video_column=video_column,
        files=[_short_name(name, dataset, split, index) for index, name in enumerate(names)],
        labels=labels,
        # A clip whose person is unknown counts as somebody of its own.
        people=None
        if people is None
        else [f"clip {i} of {split}" if who is None else str(who) for i, who in enumerate(people)],
        intensity=columns.get("intensity"),
        activity=[_activity(units) for units in columns["action_units"]] if "action_units" in columns else None,
        left_out=_name_left_out(folder, paths),
    )


def _activity(action_units: dict[str, list[float]] | None) -> list[float] | None:
    """Summed intensity of the action units frame by frame, from the intensities of each; None if nothing is known."""
    known = [values for values in (action_units or {}).values() if values]
    return np.sum(known, axis=0).tolist() if known else None


def write_left_out(folder: Path, split: str, clips: LabelledClips) -> None:
    """Lists the files of a split that `datasets` did not take in `folder/left_out_SPLIT.txt`, if there are any."""
    if clips.left_out:
        write_text(folder / f"left_out_{split}.txt", "\n".join(clips.left_out) + "\n")


def open_dataset(dataset: str, dataset_config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set, by `datasets.load_dataset`.

    Raises:
        UserError: if there is no such data set, or it cannot be read.
    """
    if Path(dataset).is_dir():
        # A trailing "." or ".." hides the names of the split folders from `datasets`.
        dataset = str(Path(dataset).resolve())
    try:
        return datasets.load_dataset(dataset, dataset_config)
    except Exception as error:  # whatever a builder, the file system or the network raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        cause = error.__cause__ or error.__context__
        if isinstance(error, datasets.exceptions.DatasetGenerationError) and cause is not None:
            reason = str(cause).strip().splitlines()[0]
        raise UserError(
            f"Cannot read the data set {dataset!r} ({reason.rstrip('.')}): give the id of a data set on the Hub"
            " that you can reach, or a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none."
        ) from error


@dataclass(frozen=True)
class Part:
    """Some of the clips of a split: those at `indices`."""

    clips: LabelledClips
    indices: list[int]


def load_parts(config: TrainingConfig) -> tuple[Part, Part | None, str | None]:
    """The clips that a run trains on and those that pick its best epoch.

    Returns:
        The clips to train on; those to validate on, None if all are trained on; and how they were told apart: "by
        split", "by person", "by clip" or None.

    Raises:
        UserError: as `load_clips` and `hold_out`, or if the test split were to pick the best epoch.
    """
    columns = (config.dataset_config, config.video_column, config.label_column)
    clips = load_clips(config.dataset, config.train_split, *columns)
    split = config.validation_split
    if split is None and "validation" in open_dataset(config.dataset, config.dataset_config):
        split = None if "validation" in (config.train_split, config.test_split) else "validation"
    if split is not None and split == config.test_split:
        raise UserError(f"The test split {split!r} must not pick the best epoch: name another --validation-split.")
    everything = Part(clips, list(range(len(clips))))
    if split is not None:
        validation = load_clips(config.dataset, split, *columns)
        return everything, Part(validation, list(range(len(validation)))), "by split"
    if not config.num_folds:
        return everything, None, None
    train, held_out = hold_out(clips, config.num_folds, config.fold, config.seed)
    if clips.people is None:
        logger.warning(
            "%s does not say who is seen in a clip (no column 'person'), so validation is held out by clip: people in"
            " both parts make it look better than it is.",
            config.dataset,
        )
    return Part(clips, train), Part(clips, held_out), "by clip" if clips.people is None else "by person"


def people_of(dataset: str, split: str, dataset_config: str | None = None) -> set[str]:
    """Who is seen in a split, of which nothing else is looked at; nobody where the data set does not say.

    Raises:
        UserError: if the data set cannot be read.
    """
    rows = open_dataset(dataset, dataset_config)
    if split not in rows or "person" not in rows[split].column_names:
        return set()
    return {str(who) for who in rows[split].unique("person") if who is not None}


def hold_out(clips: LabelledClips, num_folds: int, fold: int, seed: int) -> tuple[list[int], list[int]]:
    """Splits training clips for validation: by people where they are known, else by clip.

    Args:
        clips: the training clips.
        num_folds: into how many parts they are cut.
        fold: which part is held out.
        seed: decides the cut.

    Returns:
        Indices to train on and indices held out.

    Raises:
        UserError: if there are too few people or clips for a part of each class to be left to train on.
    """
    groups = clips.people or [str(index) for index in range(len(clips))]
    what = "people" if clips.people else "clips"
    train: list[int] = []
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    # sklearn warns of classes with few clips and refuses too few people: what matters is checked below.
    with warnings.catch_warnings(action="ignore"), suppress(ValueError):
        train, held_out = (part.tolist() for part in list(folds.split(groups, clips.labels, groups))[fold])
    lost = set(clips.classes) - {clips.labels[index] for index in train}
    if lost:
        raise UserError(
            f"Too few {what} to hold out one of {num_folds} folds for validation ({', '.join(sorted(lost))} would have"
            " none left to train on): name a --validation-split, or set --validation-fraction 0."
        )
    return train, held_out


def require_readable(clips: LabelledClips, video_processor: Any) -> None:
    """Looks at the head of every file, so that a broken one is found before training and not hours into it.

    Raises:
        UserError: if a clip cannot be read, with the name of the first.
    """

    def broken(index: int) -> str | None:
        video = clips.video(index)
        try:
            opened = video_processor.open_video(video)
            if not isinstance(opened, VideoFile) or not opened.has_video():
                video_processor.read_clip(video, num_frames=1)  # It says what is there instead.
        except VideoDecodeError as error:
            return str(error).replace("The video of", f"{clips.files[index]}, the video of", 1)
        return None

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = [sentence for sentence in pool.map(broken, range(len(clips))) if sentence]
    if found:
        raise UserError(f"{len(found)} of {len(clips)} clips cannot be read: {found[0]}")


def words_for(
    labels: Sequence[str], descriptions: str | None = None, known: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """The descriptions of each label: of the user's file, else of the model to start from, else the built-in ones.

    Args:
        labels: canonical names.
        descriptions: YAML file of `label: [description, ...]`.
        known: descriptions that come with the model.

    Raises:
        UserError: if a label has none, with a template of the file to write; or if the file holds something else.
    """
    own = {canonical_label(str(label)): texts for label, texts in _read_words(descriptions).items()}
    built_in = _built_in(labels)
    words = {label: own.get(label) or (known or {}).get(label) or built_in.get(label) for label in labels}
    missing = sorted(label for label, texts in words.items() if not texts)
    if missing:
        template = yaml.safe_dump(
            {
                label: [
                    f"what brows, eyes and mouth do when a face shows {label}",
                    f"another sign of {label}, or the situation that it comes from",
                ]
                for label in missing
            },
            width=119,
        )
        raise UserError(
            f"No description of {', '.join(map(repr, missing))}: fill in these lines, save them as a YAML file and"
            f" give it with --descriptions FILE.\n\n{template}\n"
        )
    return {label: texts for label, texts in words.items() if texts}


def augmentation(options: dict[str, Any]) -> Augmentation:
    """How training clips are changed, by fields of `Augmentation`.

    Raises:
        UserError: a field is unknown, or its value cannot be used.
    """
    known = {field.name for field in fields(Augmentation)}
    for name in options:
        if name not in known:
            raise UserError(f"augmentation has the unknown field {name!r}{nearest(name, known)}")
    try:
        return Augmentation(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"augmentation cannot be {options!r}: {error}") from error


class Clips(torch.utils.data.Dataset):
    """Frames of labelled clips, sampled and batched by the video processor.

    In training the frames are a random one of each segment, augmented; both follow from (seed, epoch, index) alone, so
    that a run can be resumed and workers do not matter. In evaluation they are the middle frames.
    """

    def __init__(
        self,
        clips: LabelledClips,
        classes: Sequence[str],
        video_processor: Any,
        num_frames: int,
        training: bool = False,
        seed: int = 0,
        augment: Augmentation | None = None,
    ) -> None:
        self.clips = clips
        self.augment = augment or Augmentation()
        self.video_processor = video_processor
        self.num_frames = num_frames
        self.training = training
        self.seed = seed
        self.epoch = 0
        ids = {label: index for index, label in enumerate(classes)}
        self.targets = [ids[label] for label in clips.labels]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {"index": index, "video": self.clips.video(index), "timestamps": None}
        if self.training:
            seed = derived_seed(self.seed, self.epoch, index)
            generator = torch.Generator().manual_seed(seed)
            frames, item["timestamps"] = self.video_processor.read_clip(item["video"], self.num_frames, generator)
            item["video"] = self.augment(frames, seed)
        return item

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Batches clips.

        Returns:
            `pixel_values_videos` (B, T, 3, S, S), `frame_mask` (B, T), `timestamps` (B, T), `labels` (B,); in
            evaluation also the `intensity` and the `activity` (B, T) of the sampled frames, NaN where unknown.
        """
        batch = self.video_processor(
            [item["video"] for item in items],
            timestamps=[item["timestamps"] for item in items],
            num_frames=self.num_frames,
            return_metadata=True,
            return_tensors="pt",
        )
        metadata = batch.pop("video_metadata")
        batch.pop("faces", None)  # Where they were cut out: nothing that a model takes.
        batch = dict(batch, labels=torch.tensor([self.targets[item["index"]] for item in items]))
        if not self.training:
            truths = {"intensity": self.clips.intensity, "activity": self.clips.activity}
            for name, of_clips in truths.items():
                batch[name] = torch.full(batch["frame_mask"].shape, torch.nan)
                for row, item, clip in zip(batch[name], items, metadata, strict=True):
                    truth = of_clips[item["index"]] if of_clips else None
                    if truth:
                        # Lists that miss a frame or two are stretched over the clip.
                        indices = [i * len(truth) // clip.total_num_frames for i in clip.frames_indices]
                        row[: len(indices)] = torch.tensor(truth)[indices]
        return batch


class EpochSampler(torch.utils.data.Sampler[int]):
    """A new order of the clips in every epoch, which follows from (seed, epoch) alone.

    Args:
        targets: class of each clip.
        seed: decides the orders.
        balanced: draw every class equally often, with replacement, instead of every clip once.
    """

    def __init__(self, targets: Sequence[int], seed: int, balanced: bool = False) -> None:
        self.targets = torch.tensor(targets)
        self.seed = seed
        self.balanced = balanced
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self):
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        if self.balanced:
            weights = 1.0 / torch.bincount(self.targets)[self.targets]
            return iter(torch.multinomial(weights, len(self), replacement=True, generator=generator).tolist())
        return iter(torch.randperm(len(self), generator=generator).tolist())


def derived_seed(*numbers: int) -> int:
    """A seed that follows from all the numbers, without patterns between neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _read_words(path: str | None) -> dict[str, list[str]]:
    words = read_yaml(path) if path else {}
    for label, texts in words.items():
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise UserError(f"{path}: {label!r} must have a list of descriptions, such as `{label}: [a frown]`.")
    return words


def _built_in(labels: Sequence[str]) -> dict[str, list[str]]:
    """The built-in descriptions of those labels that have some."""
    found: dict[str, list[str]] = {}
    for label in labels:
        try:
            found |= built_in_descriptions([label])
        except ValueError:  # not built in
            continue
    return found


def _find_video_column(dataset: str, features: datasets.Features, named: str | None) -> str:
    videos = [name for name, feature in features.items() if isinstance(feature, datasets.Video)]
    if named is not None and named not in videos:
        raise UserError(f"{dataset} has no video column {named!r}: of type Video are {videos or 'none'}.")
    if named is None and len(videos) != 1:
        what = "several video columns" if videos else "no column of type Video"
        raise UserError(f"{dataset} has {what} among {', '.join(features)}: name one with --video-column.")
    return named or videos[0]


def _find_label_column(dataset: str, table: datasets.Dataset, named: str | None, files: list[str | None]) -> str:
    names = table.column_names
    if named is not None:
        if named not in names:
            raise UserError(f"{dataset} has no column {named!r}: it has {', '.join(names)}.")
        return named
    class_labels = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    if "label" in names:
        return "label"
    if len(class_labels) == 1:
        return class_labels[0]
    folders = {Path(file).parent.name for file in files if file}
    if names == ["video"] and len(folders) == 1:
        raise UserError(f"{dataset} has one class only, {folders.pop()!r}: at least two label folders are needed.")
    if names == ["video"]:
        raise UserError(f"{dataset} has no labels: its clips must lie one folder deep, as SPLIT/LABEL/CLIP.mp4.")
    raise UserError(f"{dataset} has no column 'label' among {', '.join(names)}: name one with --label-column.")


def _read_labels(dataset: str, table: datasets.Dataset, column: str) -> list[str]:
    feature = table.features[column]
    values = list(table[column])
    unlabelled = [index for index, value in enumerate(values) if value in (None, -1, "")]
    if unlabelled:
        raise UserError(
            f"{dataset} has {len(unlabelled)} clips without a label, row {unlabelled[0]} the first: remove them."
        )
    if isinstance(feature, datasets.ClassLabel):
        return [canonical_label(feature.int2str(value)) for value in values]
    if not isinstance(values[0], str):
        raise UserError(
            f"Column {column!r} of {dataset} holds {type(values[0]).__name__}s: labels are read by name, so make it"
            " strings or a ClassLabel."
        )
    return [canonical_label(value) for value in values]


def _names_and_paths(table: datasets.Dataset, column: str) -> tuple[list[str | None], list[str | None]]:
    """What each video is called, and where it lies: None if its bytes are embedded, which stay on disk here."""
    names, paths = [], []
    for chunk in table.data.column(column).chunks:
        called = chunk.field("path").to_pylist()
        embedded = chunk.field("bytes").is_valid().to_pylist()
        names += called
        paths += [None if held else path for path, held in zip(called, embedded, strict=True)]
    return names, paths


def _require_files(dataset: str, paths: list[str]) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"{dataset} lists {len(missing)} clips that are not there, {missing[0]} the first: add them, or remove"
            " their rows from the metadata."
        )
    empty = [path for path in paths if not os.path.getsize(path)]
    if empty:
        raise UserError(f"{dataset} has {len(empty)} empty files, {empty[0]} the first: replace or remove them.")


def _short_name(name: str | None, dataset: str, split: str, index: int) -> str:
    if not name:
        return f"{split}/{index}"
    if Path(dataset).is_dir() and Path(name).is_relative_to(Path(dataset).resolve()):
        return Path(name).relative_to(Path(dataset).resolve()).as_posix()
    return Path(name).name


def _split_folder(dataset: Path, split: str) -> Path | None:
    """Where the files of a split lie in a local folder; None for a Hub id or where that cannot be told."""
    if not dataset.is_dir():
        return None
    folders = {folder.name.lower(): folder for folder in dataset.resolve().iterdir() if folder.is_dir()}
    for name in _SPLIT_FOLDERS.get(split, {split}):
        if name in folders:
            return folders[name]
    has_splits = any(name in folders for names in _SPLIT_FOLDERS.values() for name in names)
    return None if has_splits or split != "train" else dataset.resolve()


def _name_left_out(folder: Path | None, paths: list[str | None]) -> list[str]:
    """Names the videos below `folder` that `datasets` did not take, and says so in a warning."""
    if folder is None or None in paths:
        return []
    taken = {os.path.realpath(path) for path in paths if path}
    left_out = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if VIDEO_NAME.search(path.name) and os.path.realpath(path) not in taken
    )
    if left_out:
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        logger.warning(
            "%d videos in %s are not used, because folders are read for .mkv .mp4 .avi .mpeg .mov only,"
            " or because metadata.jsonl does not list them: %s%s",
            len(left_out),
            folder,
            ", ".join(left_out[:10]),
            more,
        )
    return left_out
