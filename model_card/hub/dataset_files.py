"""The files of a data set on the Hub: a folder of clips as Parquet shards, which contain the videos, and a card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgdfer.model_card.hub.card_edits import Card, metadata_block
from tgdfer.model_card.hub.record import Files
from tgdfer.model_card.markdown import code_block, escape, table
from tgdfer.training.data.loading import load_clips, open_dataset
from tgdfer.training.data.shards import Shards, Split, label_counts, split_of, write_shard
from tgdfer.training.errors import UserError
from tgdfer.training.files import read_json

TAGS = ("tgdfer", "facial-expression-recognition", "video")
# Numbers of rows that the Hub distinguishes.
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
# Written by `tgdfer data convert` when all shards are complete.
CONVERTED = "conversion.json"


def dataset_files_to_publish(folder: str | Path, repo_id: str, temporary: str | Path) -> Files:
    """Writes the clips of a data set as Parquet shards, and lists the files of a commit.

    The shards that `tgdfer data convert` has written are published as they are, and the card with its new id.

    Args:
        folder (`str` or `Path`): Folder of a data set, as for training: `SPLIT/LABEL/CLIP.mp4`, or any other folder
            that `datasets` reads. Its `README.md` becomes the text of the card.
        repo_id (`str`): Repository as "user/name".
        temporary (`str` or `Path`): Folder for the shards.

    Returns:
        `dict[str, Path | bytes]`: Path or contents of each file.

    Raises:
        UserError: If the folder is not a data set of labelled clips.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a data set, such as SPLIT/LABEL/CLIP.mp4.")
    if (folder / CONVERTED).is_file():
        return _converted_files(folder, repo_id)
    tables = open_dataset(str(folder))
    splits = {
        name: split_of(load_clips(str(folder), name, tables=tables), rows)
        for name, rows in tables.items()
        if len(rows)
    }
    if not splits:
        raise UserError(f"{folder} has no clips; give a folder of SPLIT/LABEL/CLIP.mp4.")
    files: Files = {}
    for shard in Shards(splits, Path(temporary)):
        files[f"data/{shard.path.name}"] = write_shard(shard)
    for path in (folder / "LICENSE", folder / "LICENSE.txt", folder / "LICENSE.md"):
        if path.is_file():
            files[path.name] = path
    own = folder / "README.md"
    text = own.read_text(encoding="utf-8", errors="replace") if own.is_file() else None
    files["README.md"] = dataset_card(repo_id, splits, text).encode()
    return dict(sorted(files.items()))


def conversion_record(folder: Path, plan: str, shards: Sequence[Path] | None = None) -> dict[str, Any]:
    """Returns what `conversion.json` says about a conversion.

    Args:
        folder (`Path`): Folder of the converted data set.
        plan (`str`): Hash of everything that the shards depend on.
        shards (`Sequence[Path]`, *optional*): The shards, if all of them are complete.
    """
    if shards is None:
        return {"plan": plan, "complete": False}
    sizes = {path.name: path.stat().st_size for path in shards}
    return {"plan": plan, "complete": True, "repo_id": unpublished_id(folder), "shards": sizes}


def unpublished_id(folder: Path) -> str:
    """Returns the id that the card of a converted data set has until it is published."""
    return f"your-name/{folder.resolve().name}"


def _converted_files(folder: Path, repo_id: str) -> Files:
    """Lists the files that `tgdfer data convert` has written. The card gets the id of the repository.

    Raises:
        UserError: If it has not finished, or the shards are not those that it has written.
    """
    record = read_json(folder / CONVERTED)
    if not (record.get("complete") and (folder / "README.md").is_file()):
        raise UserError(f"The conversion to {folder} is not finished: run `tgdfer data convert` again first.")
    shards = sorted((folder / "data").glob("*.parquet"))
    sizes = {path.name: path.stat().st_size for path in shards}
    recorded = record.get("shards", sizes)  # Older conversions have not recorded them.
    if sizes != recorded:
        others = sorted(name for name, _ in sizes.items() ^ recorded.items())
        raise UserError(
            f"{folder / 'data'} has changed since the conversion ({', '.join(dict.fromkeys(others))}); remove these"
            " files if they exist, and run `tgdfer data convert` again."
        )
    card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    card = card.replace(record.get("repo_id", unpublished_id(folder)), repo_id)
    return {"README.md": card.encode(), **{f"data/{shard.name}": shard for shard in shards}}


def dataset_card(
    repo_id: str,
    splits: Mapping[str, Split],
    text: str | None = None,
    configs: Sequence[dict[str, Any]] | None = None,
    notes: Sequence[str] = (),
    use: str | None = None,
) -> str:
    """Writes the card of a data set.

    Args:
        repo_id (`str`): Repository as "user/name".
        splits (`Mapping[str, Split]`): The splits, or other groups of clips.
        text (`str`, *optional*): Card that the user has written. Its text and its metadata are kept.
        configs (`Sequence[dict[str, Any]]`, *optional*): Configurations in the metadata. By default a single one, with
            all splits.
        notes (`Sequence[str]`, *optional*): Paragraphs below the number of clips.
        use (`str`, *optional*): Name of the configuration in the examples.
    """
    labels = sorted({label for split in splits.values() for label in split.clips.classes})
    own = Card.parse(text or "")
    total = sum(len(split.clips) for split in splits.values())
    metadata: dict[str, Any] = {
        "pretty_name": repo_id.split("/")[1],
        "task_categories": ["video-classification"],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
    }
    metadata |= own.metadata
    metadata["tags"] = [*TAGS, *(tag for tag in own.metadata.get("tags") or [] if tag not in TAGS)]
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    metadata["configs"] = list(configs or [{"config_name": "default", "data_files": data_files}])
    header = metadata_block(metadata) + "\n"
    if text and "".join(own.sections.values()).strip():
        return header + "".join(own.sections.values()).lstrip("\n")
    counts = label_counts(splits)
    rows = [[label, *(str(counts[name][label]) for name in splits)] for label in labels]
    rows.append(["all", *(str(len(split.clips)) for split in splits.values())])
    people = {name: len(set(split.clips.people)) for name, split in splits.items() if split.clips.people}
    python, flag = (f', "{use}"', f" --dataset-config {use}") if use else ("", "")
    load = f'from datasets import load_dataset\n\nclips = load_dataset("{repo_id}"{python})\nprint(clips)'
    train = f"tgdfer train --dataset {repo_id}{flag} --output runs/mine"
    parts = [
        f"# {escape(metadata['pretty_name'])}",
        f"{total:,} clips of faces, each with {_what(splits)} of {len(labels)} labels.",
        *notes,
        "## Clips",
        table(["label", *splits], rows, list(range(1, len(splits) + 1))),
        *([f"People: {', '.join(f'{number} in {name}' for name, number in people.items())}."] if people else []),
        "## How to use",
        code_block("python", load),
        code_block("bash", train),
        "## Licence and consent",
        "The owner of this repository has to state here the licence of the clips, and that the people in them have"
        " agreed to their publication.",
    ]
    return header + "\n\n".join(parts) + "\n"


def _what(splits: Mapping[str, Split]) -> str:
    soft = next(iter(splits.values())).clips.soft
    return "one" if soft is None else "several" if soft.kind == "multiple" else "the votes for each"
