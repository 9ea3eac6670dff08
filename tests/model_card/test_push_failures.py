"""Every call of a push fails in every way. The Hub is then in the old or the new state, and one sentence says why."""

import shutil
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
from hub_client import HubClient
from hub_failures import FAILURES, FAULTS, NO_ANSWERS, PASSING, REFUSALS, Failure
from hub_server import TOKEN, Hub

from .conftest import write_run

pytestmark = pytest.mark.slow

CALLS = (
    "create_repo",
    "repo_info",
    "resolve",
    "validate_yaml",
    "preupload",
    "lfs_batch",
    "lfs_upload",
    "lfs_verify",
    "commit",
)
# huggingface_hub goes on if the repository exists although it may not be created.
IGNORED = {("create_repo", name) for name in ("401", "402", "403", "403 page", "storage limit")}
# It does not read these answers.
IGNORED |= {("lfs_verify", "no JSON"), ("lfs_verify", "other JSON"), ("validate_yaml", "other JSON")}
# What the sentence about a failure says besides the reason of the server.
ADVICE = {
    "401": "run `hf auth login`, or set HF_TOKEN to a valid token",
    "402": "free some space",
    "403": "has no permission to ",
    "404": "check that the ",
    "409": "wait until the other change is finished",
    "413": "smaller files",
    "storage limit": "free some space",
    "429": "after 6 tries); push again later",
    "500": "after 6 tries); this is a fault of the server",
    "503": "after 6 tries); this is a fault of the server",
    "503 page": "(503, after 6 tries); this is a fault of the server",
    "long wait": "push again in 24 hours",
    "broken connection": "but the connection was lost",
    "page": "a web page came (200); check HF_ENDPOINT",
    "403 page": "a web page came (403); check HF_ENDPOINT",
    "no JSON": "its answer cannot be used",
    "other JSON": "its answer cannot be used",
}
EXPIRED = "push again, because permissions to upload expire"


class Place(NamedTuple):
    """A repository that was pushed once, and a run that has changed since.

    Attributes:
        client: process that pushes.
        run: the run.
        old: state of the Hub.
        new: files of the repository after a push that succeeds.
    """

    client: HubClient
    run: Path
    old: tuple
    new: dict

    @property
    def hub(self) -> Hub:
        return self.client.hub


@pytest.fixture(scope="module")
def shared(shared_hub_client, tmp_path_factory) -> Place:
    client, hub, home = shared_hub_client, shared_hub_client.hub, tmp_path_factory.mktemp("home")
    run = home / "smile"
    shutil.copytree(write_run(home / "runs" / "smile") / "best", run)
    (run / "README.md").write_text("---\ntags: [tgdfer]\n---\n# Smile\n\n## Results\nGood.\n")
    (run / "LICENSE").write_text("Mine.\n")
    assert client.publish(run).code == 0
    old = hub.state()
    hub.restore(old)
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-4] + b"\0\1\2\3")
    (run / "LICENSE").unlink()
    assert client.publish(run).code == 0
    assert tuple(dict.fromkeys(hub.calls)) == CALLS
    new = hub.model("user/smile").head.files
    assert set(old[0]["models", "user/smile"].head.files) - set(new) == {"LICENSE"}
    return Place(client, run, old, new)


@pytest.fixture
def place(shared) -> Place:
    shared.hub.restore(shared.old)
    return shared


def commits(place: Place) -> int:
    return len(place.hub.model("user/smile").pushed)


def assert_in_old_state(place: Place) -> None:
    assert place.hub.model("user/smile") == place.old[0]["models", "user/smile"]


def assert_in_new_state(place: Place) -> None:
    assert place.hub.model("user/smile").head.files == place.new
    assert commits(place) == 2


def is_one_sentence(text: str) -> bool:
    return len(text.splitlines()) == 1 and text.rstrip().endswith(".") and len(text) < 400


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("call", CALLS)
def test_one_call_fails(place, call, name):
    failure = FAILURES[name]
    place.hub.failures = {call: failure}
    done = place.client.publish(place.run)
    assert TOKEN not in done.out + done.errors
    if failure.passes or (call, name) in IGNORED:
        assert done.code == 0, done.errors
        assert_in_new_state(place)
        head = place.hub.model("user/smile").head
        assert done.out == f"{place.hub.url}/user/smile/commit/{head.oid}\n"
        return
    assert done.code == 2, done.errors
    assert_in_old_state(place)
    assert is_one_sentence(done.errors), done.errors
    if call == "lfs_upload" and name in ("no JSON", "other JSON"):
        assert "(400: The object was not uploaded whole)" in done.errors  # The upload was never made.
        return
    assert failure.reason in done.errors
    expected = EXPIRED if call in ("lfs_upload", "lfs_verify") and name in ("401", "403", "404") else ADVICE[name]
    assert expected in done.errors
    assert ("store model.safetensors" in done.errors) == call.startswith(("lfs_upload", "lfs_verify"))


@pytest.mark.parametrize("name", [*REFUSALS, *FAULTS, *NO_ANSWERS])
@pytest.mark.parametrize("call", ["lfs_upload", "commit"])
def test_the_command_prints_one_line(place, call, name):
    place.hub.failures = {call: FAILURES[name]}
    done = place.client.tgdfer("push", place.run, "user/smile")
    assert (done.code, done.out) == (2, "")
    assert done.errors.startswith("error: ") and is_one_sentence(done.errors), done.errors


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("call", ["create_branch", "commit"])
def test_a_branch_in_spite_of_failures(place, call, name):
    place.hub.failures = {call: PASSING[name]}
    assert place.client.publish(place.run, revision="next").code == 0
    repo = place.hub.model("user/smile")
    assert repo.branches["next"][-1].files == place.new
    assert len(repo.branches["next"]) == 3 and commits(place) == 1


@pytest.mark.parametrize("name", [*REFUSALS, *FAULTS, *NO_ANSWERS])
def test_a_branch_that_cannot_be_created(place, name):
    place.hub.failures = {"create_branch": FAILURES[name]}
    done = place.client.publish(place.run, revision="next")
    if name in ("409", "no JSON", "other JSON"):  # It exists, it is said; but it does not.
        assert "check that the repository and the branch exist" in done.errors
    else:
        assert ADVICE[name] in done.errors
    assert done.code == 2 and is_one_sentence(done.errors)
    assert_in_old_state(place)


@pytest.mark.parametrize("name", FAILURES)
def test_one_pull_request_in_spite_of_failures(place, name):
    place.hub.failures = {"commit": FAILURES[name]}
    done = place.client.publish(place.run, create_pr=True, message="Better smiles")
    repo = place.hub.model("user/smile")
    assert commits(place) == 1
    if FAILURES[name].passes:
        assert repo.pull_requests == ["Better smiles"]
        assert repo.branches["refs/pr/1"][-1].files == place.new
        assert done.out == f"{place.hub.url}/user/smile/discussions/1\n"
    else:
        assert done.code == 2 and ADVICE[name] in done.errors and not repo.pull_requests


def test_a_pull_request_of_the_same_title_is_another_one(place):
    assert place.client.publish(place.run, create_pr=True).code == 0
    (place.run / "merges.txt").write_text("a b\n")
    place.hub.failures = {"commit": PASSING["done, then broken connection"]}
    done = place.client.publish(place.run, create_pr=True)
    (place.run / "merges.txt").unlink()
    assert done.out == f"{place.hub.url}/user/smile/discussions/2\n"
    assert len(place.hub.model("user/smile").pull_requests) == 2


@pytest.mark.parametrize(
    "failure",
    [
        Failure(HTTPStatus.OK, page=True, times=1, after=True),
        Failure(HTTPStatus.OK, body=b"][", times=1, after=True),
        Failure(HTTPStatus.GATEWAY_TIMEOUT, page=True, times=1, after=True),
        Failure(HTTPStatus.FORBIDDEN, "It is odd", times=1, after=True),
    ],
    ids=["page", "no JSON", "504", "403"],
)
def test_a_commit_has_landed_whatever_is_said(place, failure):
    place.hub.failures = {"commit": failure}
    assert place.client.publish(place.run).code == 0
    assert_in_new_state(place)


def test_a_commit_has_landed_and_then_the_hub_is_gone(place):
    """Whether it has landed is then unknown. To push again is right in both cases."""
    broken = FAULTS["broken connection"]
    place.hub.before["commit"] = lambda: place.hub.failures.update(repo_info=broken, commit=broken)
    done = place.client.publish(place.run)
    assert done.code == 2 and "make the commit" in done.errors and "push again" in done.errors
    place.hub.failures = {}
    assert place.client.publish(place.run).code == 0
    assert_in_new_state(place)


@pytest.mark.parametrize("call", ["validate_yaml", "lfs_upload", "commit"])
def test_somebody_else_pushes_in_between(place, call):
    place.hub.before[call] = lambda: place.hub.model("user/smile").edit(notes__txt=b"mine")
    done = place.client.publish(place.run)
    assert done.code == 2 and is_one_sentence(done.errors)
    assert done.errors.startswith("Somebody else has changed user/smile during this push (412: A commit has happened")
    assert place.hub.model("user/smile").head.files["notes.txt"].data == b"mine"
    assert commits(place) == 2
    assert place.client.publish(place.run).code == 0
    head = place.hub.model("user/smile").head.files
    assert head["notes.txt"].data == b"mine" and {**head, "notes.txt": None} == {**place.new, "notes.txt": None}


def test_the_first_push_of_a_repository(place):
    """After each failure, the repository is empty or complete."""
    for call in set(CALLS) - {"resolve"}:
        place.hub.restore()
        place.hub.failures = {call: FAULTS["500"]}
        assert place.client.publish(place.run).code == 2
        assert not place.hub.repos or not place.hub.model("user/smile").pushed
        place.hub.failures = {call: PASSING["done, then 500"]}
        assert place.client.publish(place.run).code == 0
        assert set(place.hub.model("user/smile").head.files) == set(place.new)


def test_a_busy_hub_is_not_asked_for_ever(place):
    """huggingface_hub would ask again and again without a pause."""
    busy = "Cannot create repo: another conflicting operation is in progress"
    place.hub.failures = {"create_repo": Failure(HTTPStatus.CONFLICT, busy)}
    done = place.client.publish(place.run, repo_id="user/other")
    assert done.code == 2 and f"(409: {busy}, after 6 tries)" in done.errors
    assert place.hub.calls.count("create_repo") == 6


def test_the_reason_never_contains_the_token(place):
    place.hub.failures = {"commit": Failure(HTTPStatus.BAD_REQUEST, f"What is Bearer {TOKEN}?")}
    done = place.client.publish(place.run)
    assert "What is Bearer (token)?" in done.errors and TOKEN not in done.errors


def test_the_client_of_the_user_stays_in_use(place):
    assert place.client.publish(place.run).code == 0
    assert place.hub.clients == {"of the user"}
