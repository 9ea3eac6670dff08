"""Publishes a trained model with its code, its card and its results in one commit on the Hub."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from tgdfer.model_card.hub.adapter_files import adapter_files_to_publish
from tgdfer.model_card.hub.commits import Target, push
from tgdfer.model_card.hub.model_files import files_to_publish
from tgdfer.model_card.hub.patience import one_line
from tgdfer.model_card.hub.record import Files
from tgdfer.training.errors import UserError


def publish(
    run: str | Path,
    repo_id: str,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    pictures: bool = True,
    *,
    license: str | None = None,
    tags: Sequence[str] = (),
    message: str = "Upload TG-DFER model",
    revision: str | None = None,
    create_pr: bool = False,
    adapter: bool = False,
) -> str:
    """Publishes the model of a run with its card in one commit.

    Files that earlier pushes wrote and that are no longer part of the model are deleted in the same commit. What
    people have edited in the card on the Hub is kept.

    Args:
        run (`str` or `Path`): Folder of a run, whose `best` model is used, or of a model.
        repo_id (`str`): Repository as "user/name". It is created if it does not exist.
        private (`bool`, *optional*, defaults to `False`): Whether the repository is visible only to its owner.
        dry_run (`bool`, *optional*, defaults to `False`): Whether to print the files without uploading them.
        token (`str`, *optional*): Access token of the Hub. Defaults to that of `hf auth login` or `HF_TOKEN`.
        pictures (`bool`, *optional*, defaults to `True`): Whether to upload the pictures of the run. A timeline shows
            frames of the clips. Set it to `False` if these must not be published.
        license (`str`, *optional*): Hub id of the licence of the model, such as "cc-by-nc-4.0". Later pushes keep it.
        tags (`Sequence[str]`, *optional*): Further tags of the repository. Later pushes keep them.
        message (`str`, *optional*): Summary of the commit.
        revision (`str`, *optional*): Branch, which is created if it does not exist, or pull request ("refs/pr/1").
            Defaults to the main branch.
        create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request instead of changing the
            branch.
        adapter (`bool`, *optional*, defaults to `False`): Whether to publish the model without its CLIP, with LoRA
            that is not merged. The package loads it by its id.

    Returns:
        `str`: URL of the commit or the pull request, or with `dry_run` of the repository.

    Raises:
        UserError: If the run or the repository id cannot be published, the Hub rejects the upload or cannot be
            reached, or somebody else changes the repository in the meantime.
    """
    require_repo_id(repo_id)
    list_files = adapter_files_to_publish if adapter else files_to_publish
    files = list_files(run, repo_id, pictures)
    is_generated = isinstance(files["README.md"], bytes)

    def card_with_license(license: str) -> str:
        card = list_files(run, repo_id, pictures, license)["README.md"]
        assert isinstance(card, bytes)
        return card.decode()

    target = Target(repo_id, "model", private, message, revision, create_pr, token)
    flags = {"license": license, "tags": list(tags)}
    return push_or_list(target, files, dry_run, flags, card_with_license if is_generated else None)


def publish_dataset(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    *,
    license: str | None = None,
    tags: Sequence[str] = (),
    message: str = "Upload clips",
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Publishes a folder of clips as a data set of Parquet shards with a card, in one commit.

    `tgdfer train --dataset user/name` and `datasets.load_dataset` read it.

    Args:
        folder (`str` or `Path`): Folder of a data set, such as `SPLIT/LABEL/CLIP.mp4`.
        repo_id (`str`): Repository of the data set as "user/name". It is created if it does not exist.
        private (`bool`, *optional*, defaults to `False`): Whether the repository is visible only to its owner.
        dry_run (`bool`, *optional*, defaults to `False`): Whether to print the files without uploading them.
        token (`str`, *optional*): Access token of the Hub. Defaults to that of `hf auth login` or `HF_TOKEN`.
        license (`str`, *optional*): Hub id of the licence of the clips. Later pushes keep it.
        tags (`Sequence[str]`, *optional*): Further tags of the repository. Later pushes keep them.
        message (`str`, *optional*): Summary of the commit.
        revision (`str`, *optional*): Branch, which is created if it does not exist, or pull request ("refs/pr/1").
        create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request.

    Returns:
        `str`: URL of the commit or the pull request, or with `dry_run` of the repository.

    Raises:
        UserError: If the folder is not a data set, the Hub rejects the upload or cannot be reached, or somebody else
            changes the repository in the meantime.
    """
    from tgdfer.model_card.hub.dataset_files import dataset_files_to_publish  # `datasets` is slow to import.

    require_repo_id(repo_id)
    target = Target(repo_id, "dataset", private, message, revision, create_pr, token)
    with TemporaryDirectory() as temporary:
        files = dataset_files_to_publish(folder, repo_id, temporary)
        return push_or_list(target, files, dry_run, {"license": license, "tags": list(tags)})


def publish_space(
    repo_id: str,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    *,
    license: str | None = None,
    tags: Sequence[str] = (),
    message: str = "Upload the Space",
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Publishes a Space of the same name as a model, on which people try the model with their own clips.

    Args:
        repo_id (`str`): Repository of the model as "user/name", and of the Space, which is created if it does not
            exist.
        private (`bool`, *optional*, defaults to `False`): Whether the Space is visible only to its owner.
        dry_run (`bool`, *optional*, defaults to `False`): Whether to print the files without uploading them.
        token (`str`, *optional*): Access token of the Hub. Defaults to that of `hf auth login` or `HF_TOKEN`.
        license (`str`, *optional*): Hub id of the licence of the Space. Later pushes keep it.
        tags (`Sequence[str]`, *optional*): Further tags of the Space. Later pushes keep them.
        message (`str`, *optional*): Summary of the commit.
        revision (`str`, *optional*): Branch, which is created if it does not exist, or pull request ("refs/pr/1").
        create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request.

    Returns:
        `str`: URL of the commit or the pull request, or with `dry_run` of the Space.

    Raises:
        UserError: If the Hub rejects the upload or cannot be reached, or somebody else changes the Space in the
            meantime.
    """
    from tgdfer.model_card.space.files import space_files

    require_repo_id(repo_id)
    files = space_files(repo_id)
    target = Target(repo_id, "space", private, message, revision, create_pr, token, space_sdk="gradio")
    return push_or_list(target, files, dry_run, {"license": license, "tags": list(tags)})


def push_or_list(
    target: Target,
    files: Files,
    dry_run: bool,
    flags: dict[str, Any],
    card_with_license: Callable[[str], str] | None = None,
) -> str:
    """Publishes files as `push` does, with the flags that are given. A dry run prints the files instead.

    Returns:
        `str`: URL of the commit or the pull request, or for a dry run of the repository.
    """
    if dry_run:
        Console().print(files_table(files, target.repo_id))
        return target.url
    return push(target, files, {name: value for name, value in flags.items() if value}, card_with_license)


def require_repo_id(repo_id: str) -> None:
    """Checks the id of a repository.

    Raises:
        UserError: If it is not of the form "user/name".
    """
    if repo_id.count("/") != 1:
        raise UserError(f"{repo_id!r} is not a repository id; write it as user/name.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is not a repository id: {one_line(error)}") from error


def files_table(files: Files, repo_id: str) -> Table:
    """Formats the files and their sizes as a table."""
    sizes = {
        path: len(content) if isinstance(content, bytes) else content.stat().st_size for path, content in files.items()
    }
    table = Table("file", title=f"{repo_id} (dry run, nothing is uploaded)", show_footer=True)
    table.columns[0].footer = f"{len(files)} files"
    table.add_column("size", decimal(sum(sizes.values())), justify="right", no_wrap=True)
    for path, size in sizes.items():
        table.add_row(escape(path), decimal(size))
    return table
