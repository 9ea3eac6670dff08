"""Sentences about failed calls to the Hub: what failed, why according to the server, and what to do."""

import json
import re
from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from tgdfer.model_card.hub.patience import Answer, StillFailing, asked_time, one_line

# What a call does, by a pattern of the path of its URL.
CALLS = {
    r"/api/repos/create$": "create the repository {repo}",
    r"/api/validate-yaml$": "check the metadata of README.md",
    r"/api/\w+/[^/]+/[^/]+(/revision/[^/]+)?$": "show the state of {repo}",
    r"/branch/[^/]+$": "create the branch in {repo}",
    r"/discussions": "list the pull requests of {repo}",
    r"/resolve/": "send a file of {repo}",
    r"/preupload/": "accept the files for {repo}",
    r"/info/lfs/objects/batch$": "accept the large files for {repo}",
    r"/xet-write-token/": "accept the large files for {repo}",
    r"/api/\w+/[^/]+/[^/]+/commit/": "make the commit in {repo}",
}
UPLOAD = "store {file}"
STORAGE = re.compile(r"storage|quota|billing|payment|disk space", re.IGNORECASE)
LONGEST_REASON = 300


def explain(error: BaseException, last: Answer, repo_id: str, token: str | None = None) -> str:
    """Explains a failed call in one sentence.

    Args:
        error (`BaseException`): What was raised.
        last (`Answer`): The last call, which has failed if `error` does not name another one.
        repo_id (`str`): Repository as "user/name".
        token (`str`, *optional*): Access token, which is removed from the sentence.
    """
    causes = list(chain(error))
    file = next((found[1] for cause in causes if (found := re.search(r"uploading '(.+?)' to", str(cause)))), None)
    response = next((one.response for one in causes if isinstance(one, HfHubHTTPError | StillFailing)), None)
    tries = next((one.tries for one in causes if isinstance(one, StillFailing)), 1)
    failures = [one.cause if isinstance(one, StillFailing) else one for one in causes]
    lost = next((one for one in failures if isinstance(one, httpx.TransportError | OfflineModeIsEnabled)), None)
    path = last.path if response is None else response.request.url.path
    doing = action(path, repo_id, file)
    if isinstance(error, ValueError) and "Invalid metadata in README.md" in str(error):
        sentence = f"The Hub refused the metadata of README.md: {one_line(error)}"
    elif lost is not None and response is None:
        sentence = lost_connection(lost, doing, tries)
    else:
        response = response or last.response
        if response is not None and (response.status_code >= 400 or Answer(path, response).is_page):
            sentence = refusal(response, path, doing, repo_id, tries)
        else:
            sentence = (
                f"The Hub was asked to {doing}, but its answer cannot be used ({one_line(error)}); check HF_ENDPOINT"
                " and your proxy, or update huggingface_hub."
            )
    return sentence.replace(token, "(token)") if token else sentence


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def action(path: str, repo_id: str, file: str | None) -> str:
    """Returns what a call does, for "The Hub refused to ..."."""
    found = next((text for pattern, text in CALLS.items() if re.search(pattern, path)), UPLOAD)
    return found.format(repo=repo_id, file=file or "a large file")


def lost_connection(error: BaseException, doing: str, tries: int) -> str:
    """Explains a call that was not answered."""
    hub = f"The Hub at {constants.ENDPOINT}"
    if isinstance(error, httpx.ConnectError | OfflineModeIsEnabled):
        return f"{hub} cannot be reached ({one_line(error)}); check your connection, HF_ENDPOINT and HF_HUB_OFFLINE."
    return (
        f"{hub} was asked {times(tries)} to {doing}, but the connection was lost ({one_line(error)}); check your"
        " connection, and push again."
    )


def refusal(response: httpx.Response, path: str, doing: str, repo_id: str, tries: int) -> str:
    """Explains an answer other than success."""
    status, said = response.status_code, reason(response)
    details = f"{status}: {said}" if said else str(status)
    if Answer(path, response).is_page and status < 500:
        return (
            f"Instead of an answer of the Hub to a request to {doing}, a web page came ({status}); check HF_ENDPOINT,"
            " your proxy, and whether your network asks you to log in."
        )
    if status == 402 or STORAGE.search(said):
        return (
            f"The Hub refused to {doing} ({details}); free some space or raise the limit of the account in"
            f" {constants.ENDPOINT}/settings/billing, or use a repository of another account."
        )
    if status in (401, 403, 404) and is_upload(path):
        return f"The Hub refused to {doing} ({details}); push again, because permissions to upload expire."
    if status == 401:
        return (
            f"The Hub rejected your access token ({details}); run `hf auth login`, or set HF_TOKEN to a valid token."
        )
    if status == 412:
        return f"Somebody else has changed {repo_id} during this push ({details}); look at the change, and push again."
    if status == 403 and response.request.method == "GET":
        return f"Your access token has no permission to read {repo_id} ({details}); use another token or repository."
    if status == 403:
        return (
            f"Your access token has no permission to write to {repo_id} ({details}); use a token with write"
            " permission, or a repository under your own user name."
        )
    after = f", after {tries} tries" if tries > 1 else ""
    return f"The Hub refused to {doing} ({details}{after}); {advice(response, repo_id, doing)}."


def is_upload(path: str) -> bool:
    """Returns whether a path belongs to the storage of large files. Its addresses contain permissions that expire."""
    return not any(re.search(pattern, path) for pattern in CALLS)


def advice(response: httpx.Response, repo_id: str, doing: str) -> str:
    """Returns what to do after a refusal."""
    status, path = response.status_code, response.request.url.path
    if status == 404:
        if path.endswith("/create"):
            return f"check that the user or organisation {repo_id.split('/')[0]!r} exists and that you belong to it"
        return "check that the repository and the branch exist, and that your token may see them"
    if status == 409:
        return "wait until the other change is finished, and push again"
    if status == 413:
        if ".safetensors" in doing:
            return "save the model in several smaller files with `save_pretrained(folder, max_shard_size=...)`"
        return "publish fewer or smaller files, for example with --no-pictures"
    if status == 429:
        seconds = asked_time(response)
        return f"push again in {duration(seconds)}" if seconds else "push again later"
    if status >= 500 or status == 408:
        return f"this is a fault of the server, so push again later{hub_status()}"
    return "correct this, and push again"


def reason(response: httpx.Response) -> str:
    """Returns what the server says about a refusal, in one line. Empty if it says nothing, or in a web page."""
    header = response.headers.get("x-error-message", "")
    try:
        response.read()
        content = json.loads(response.text)
    except (ValueError, RuntimeError, httpx.HTTPError):
        page = "text/html" in response.headers.get("content-type", "").lower()
        content = {} if page else {"error": getattr(response, "_content", b"").decode("utf-8", "replace")}
    found = content.get("error") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(content.get("errors"), list):
        found = "; ".join(str(one.get("message")) for one in content["errors"] if isinstance(one, dict))
    text = " ".join(str(header or found or "").split()).rstrip(".")
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "..."


def times(tries: int) -> str:
    """Returns a number of tries in words."""
    return "once" if tries == 1 else f"{tries} times"


def duration(seconds: float) -> str:
    """Returns a duration in the largest unit that fits."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def hub_status() -> str:
    """Returns where the state of the public Hub is shown. Empty for other Hubs."""
    return " (see https://status.huggingface.co)" if constants.ENDPOINT == "https://huggingface.co" else ""
