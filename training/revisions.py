"""Revisions of Hub repositories: `user/model@v1.0` names a branch, a tag or a commit."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from tgdfer.training.errors import UserError
from tgdfer.training.reading_options import PUBLISHED_NAMES

_PINNED = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)@(?P<revision>[^@\s]+)")


class HubName(NamedTuple):
    """A Hub id or a path, and a revision.

    Attributes:
        name (`str`): Hub id, folder or name of a model in the package.
        revision (`str`, *optional*): Branch, tag, commit or pull request ("refs/pr/1"). None for the main branch, and
            for folders.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> "HubName":
        """Splits "user/name@revision". Existing files and folders are not split."""
        found = None if os.path.exists(os.path.expanduser(text)) else _PINNED.fullmatch(str(text))
        return cls(**found.groupdict()) if found else cls(str(text))

    @property
    def options(self) -> dict[str, Any]:
        """The revision as an option of `from_pretrained`. Empty without a revision."""
        return {} if self.revision is None else {"revision": self.revision}


def dataset_commit(dataset: str) -> str | None:
    """Returns the commit of a data set on the Hub.

    Args:
        dataset (`str`): Hub id, with or without a revision, or folder.

    Returns:
        `str`, *optional*: The commit. If the Hub cannot be reached, the revision as it was given. None for folders.
    """
    if os.path.exists(os.path.expanduser(dataset)) or dataset in PUBLISHED_NAMES:
        return None
    # The import takes time, and this module is imported for every command.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    source = HubName.parse(dataset)
    try:
        return HfApi().dataset_info(source.name, revision=source.revision).sha
    except (httpx.HTTPError, HFValidationError, OSError):  # Offline mode is an OSError.
        return source.revision


def with_revision(name: str, revision: str | None) -> str:
    """Adds a revision, such as that of `--revision`, to a Hub id.

    Args:
        name (`str`): Hub id, or name of another model if there is no revision.
        revision (`str`, *optional*): Branch, tag, commit or pull request.

    Raises:
        UserError: If the name has another revision or is a folder.
    """
    if revision is None:
        return name
    if os.path.exists(os.path.expanduser(name)):
        raise UserError(f"{name} is a folder, which has no revision {revision}; name a model on the Hub.")
    pinned = HubName.parse(name)
    if pinned.revision not in (None, revision):
        raise UserError(f"{name} names another revision than {revision}; give only one of them.")
    full = f"{pinned.name}@{revision}"
    if HubName.parse(full).revision != revision:
        raise UserError(f"{revision!r} is not a revision of {pinned.name!r}; give a branch, a tag or a commit.")
    return full
