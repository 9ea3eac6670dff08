"""One commit for each push. The repository is afterwards in the new state or, after a failure, in the old one."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

from tgdfer.model_card.hub.card_edits import Card, keep_edits
from tgdfer.model_card.hub.failures import explain
from tgdfer.model_card.hub.patience import Patience, StillFailing, patient_client, wait
from tgdfer.model_card.hub.record import RECORD, ContentIds, Files, PushRecord, find_stale
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)

# What a failed call raises. huggingface_hub raises a RuntimeError for a failed upload, and a ValueError or a KeyError
# for an answer that it does not understand.
FAILED = (OfflineModeIsEnabled, StillFailing, httpx.HTTPError, ValueError, RuntimeError, LookupError, TypeError)


@dataclass(frozen=True)
class Target:
    """Where and how a push is published.

    Attributes:
        repo_id (`str`): Repository as "user/name". It is created if it does not exist.
        repo_type (`str`, *optional*, defaults to "model"): "model", "dataset" or "space".
        private (`bool`, *optional*, defaults to `False`): Whether the repository is visible only to its owner.
        message (`str`, *optional*): Summary of the commit.
        revision (`str`, *optional*): Branch, which is created if it does not exist, or pull request ("refs/pr/1").
        create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request instead of changing the
            branch.
        token (`str`, *optional*): Access token of the Hub. Defaults to that of `hf auth login` or `HF_TOKEN`.
        space_sdk (`str`, *optional*): SDK of a Space.
    """

    repo_id: str
    repo_type: str = "model"
    private: bool = False
    message: str = "Upload TG-DFER model"
    revision: str | None = None
    create_pr: bool = False
    token: str | None = None
    space_sdk: str | None = None

    @property
    def url(self) -> str:
        """URL of the repository."""
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.repo_id}"


class State(NamedTuple):
    """State of a branch: its last commit, and its files by path."""

    commit: str
    files: dict[str, RepoSibling]


class Change(NamedTuple):
    """What a commit changes: hashes of the files to write, and paths of the files to delete."""

    parent: str
    files: dict[str, ContentIds]
    deleted: list[str]

    def is_in(self, state: State) -> bool:
        """Returns whether a later state contains the change."""
        return (
            state.commit != self.parent
            and all(ids.match(state.files.get(path)) for path, ids in self.files.items())
            and not any(path in state.files for path in self.deleted)
        )


def push(
    target: Target,
    files: Files,
    flags: dict[str, Any] | None = None,
    card_with_license: Callable[[str], str] | None = None,
) -> str:
    """Publishes files in one commit, in which stale files of earlier pushes are deleted.

    Args:
        target (`Target`): Where to publish.
        files (`dict[str, Path | bytes]`): Path or contents of each file.
        flags (`dict[str, Any]`, *optional*): Metadata of the card that the user asked for. They replace what somebody
            has written on the Hub.
        card_with_license (`Callable[[str], str]`, *optional*): Writes the card of `files` again for another licence,
            which is that of the flags or that somebody has chosen on the Hub.

    Returns:
        `str`: URL of the commit or of the pull request.

    Raises:
        UserError: If the Hub refuses the push or cannot be reached.
    """
    token = target.token or get_token()
    if not token:
        raise UserError("You are not logged in to the Hub; run `hf auth login`, or set HF_TOKEN.")
    patience = Patience()
    with patient_client(patience):
        try:
            api = HfApi(token=token, library_name="tgdfer")
            return _Push(target, api, patience).publish(files, flags or {}, card_with_license)
        except UserError:
            raise
        except FAILED as error:
            raise UserError(explain(error, patience.last, target.repo_id, token)) from error


class _Push:
    """A push to one repository."""

    def __init__(self, target: Target, api: HfApi, patience: Patience) -> None:
        self.target, self.api, self.patience = target, api, patience
        self.place: dict[str, Any] = {"repo_id": target.repo_id, "repo_type": target.repo_type}

    def publish(self, files: Files, flags: dict[str, Any], card_with_license: Callable[[str], str] | None) -> str:
        """Publishes files, and returns the URL of the commit."""
        target = self.target
        # None uses the default of the organisation.
        self.api.create_repo(**self.place, private=target.private or None, exist_ok=True, space_sdk=target.space_sdk)
        state = self.prepare_branch()
        record = PushRecord.parse(self.read(RECORD, state)) if RECORD in state.files else None
        remote = self.read("README.md", state).decode("utf-8", "replace") if "README.md" in state.files else None
        # All cards that this package writes have the tag.
        was_pushed = record is not None or "tgdfer" in (Card.parse(remote or "").metadata.get("tags") or [])
        new_record = PushRecord({path: ContentIds.of(file) for path, file in files.items() if path != "README.md"})
        ids = dict(new_record.files)
        files = dict(files)
        if (card := files.get("README.md")) is not None:
            text = (card if isinstance(card, bytes) else card.read_bytes()).decode("utf-8", "replace")
            base = record.card if record else None
            written, edited = self.edit_card(text, remote, base, was_pushed, flags, card_with_license)
            new_record.card, files["README.md"] = written, edited.encode()
        files[RECORD] = new_record.to_json()
        ids |= {path: ContentIds.of(files[path]) for path in ("README.md", RECORD) if path in files}
        stale, changed = find_stale(state.files, set(files), record, was_pushed, target.repo_type == "model")
        for path in changed:
            logger.warning("%s is stale, but is kept because it was changed on the Hub.", path)
        return self.commit(files, Change(state.commit, ids, stale))

    def edit_card(
        self,
        text: str,
        remote: str | None,
        base: dict[str, Any] | None,
        was_pushed: bool,
        flags: dict[str, Any],
        card_with_license: Callable[[str], str] | None,
    ) -> tuple[dict[str, Any], str]:
        """Adds the edits of people to a card. Returns what the record says about the card, and the card."""
        written = Card.parse(text).describe()
        edited = keep_edits(text, remote, base, was_pushed, flags)
        license = Card.parse(edited.text).metadata.get("license")
        if card_with_license and license and license != written["metadata"].get("license"):
            text = card_with_license(str(license))
            # The metadata are recorded without the flags and the licence, so that later pushes keep them as edits.
            written["sections"] = Card.parse(text).describe()["sections"]
            edited.text = keep_edits(text, remote, base, was_pushed, {**flags, "license": license}).text
        if edited.kept:
            logger.warning("README.md keeps what was edited on the Hub: %s.", ", ".join(edited.kept))
        return written, edited.text

    def describe(self, revision: str | None) -> State:
        """Asks for the state of a branch."""
        info = self.api.repo_info(**self.place, revision=revision, files_metadata=True)
        if self.target.private and not info.private:
            raise UserError(
                f"{self.target.repo_id} exists and is public; make it private in its settings, or omit --private."
            )
        if not info.sha:
            raise ValueError("the repository has no commit")
        return State(info.sha, {file.rfilename: file for file in info.siblings or []})

    def prepare_branch(self) -> State:
        """Returns the state of the branch to change, which is created if it does not exist."""
        revision = self.target.revision
        try:
            return self.describe(revision)
        except RevisionNotFoundError:
            if revision is None:
                raise
            if revision.startswith("refs/"):
                raise UserError(
                    f"{self.target.repo_id} has no {revision}; open a pull request with --create-pr, or name a branch."
                ) from None
            self.api.create_branch(**self.place, branch=revision, exist_ok=True)
            return self.describe(revision)

    def read(self, path: str, state: State) -> bytes:
        """Downloads a small file."""
        url = hf_hub_url(
            self.target.repo_id,
            path,
            repo_type=self.target.repo_type,
            revision=state.commit,
            endpoint=self.api.endpoint,
        )
        response = get_session().get(url, headers=build_hf_headers(token=self.api.token, library_name="tgdfer"))
        hf_raise_for_status(response)
        if not ContentIds.of(response.content).match(state.files[path]):
            raise ValueError(f"these are not the contents of {path}")
        return response.content

    def commit(self, files: Files, change: Change) -> str:
        """Makes the commit, and returns its URL or that of its pull request.

        A call that fails is repeated only if its commit has not landed. Calls before the commit do no harm twice.
        """
        operations: list[Any] = [CommitOperationAdd(path, content) for path, content in files.items()]
        operations += [CommitOperationDelete(path) for path in change.deleted]
        waited = 0.0
        for tries in count(1):
            try:
                info = self.api.create_commit(
                    **self.place,
                    operations=operations,
                    commit_message=self.target.message,
                    revision=self.target.revision,
                    create_pr=self.target.create_pr,
                    parent_commit=change.parent,
                )
                return info.pr_url or info.commit_url
            except FAILED as error:
                last = self.patience.last
                if not last.is_commit:
                    raise
                if url := self.find_landed(change):
                    return url
                self.patience.last = last
                if not isinstance(error, StillFailing):
                    raise
                failure = StillFailing(error.cause, tries)
                seconds = self.patience.waiting_time(failure, waited)
                if seconds is None:
                    raise failure from error
                wait(seconds, failure)
                waited += seconds
        raise AssertionError("count never ends")

    def find_landed(self, change: Change) -> str | None:
        """Returns the URL of the commit if it has landed although its call failed, and None if it is not found."""
        try:
            for revision, url in self.possible_places():
                state = self.describe(revision)
                if change.is_in(state):
                    return url or f"{self.target.url}/commit/{state.commit}"
        except FAILED:
            logger.debug("Whether the commit has landed is unknown.", exc_info=True)
        return None

    def possible_places(self) -> Iterator[tuple[str | None, str | None]]:
        """Yields the branches in which the commit may have landed, with the URL of their pull request, if any."""
        if not self.target.create_pr:
            yield self.target.revision, None
            return
        discussions = self.api.get_repo_discussions(
            **self.place, discussion_type="pull_request", discussion_status="open"
        )
        for discussion in discussions:
            if discussion.title == self.target.message:
                yield f"refs/pr/{discussion.num}", discussion.url
