"""A small Hub on the loopback, for tests that publish to one and load from it with the real clients.

It keeps repositories of models, data sets and Spaces in memory and answers the calls that `huggingface_hub` makes to
create a repository, commit to it and read it. Xet must be off (`HF_HUB_DISABLE_XET=1`); LFS is the plain one-part
upload. Metadata of cards is accepted as it is: cards have tests of their own. Every call can be made to fail.
"""

import base64
import copy
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_failures import PAGE, Failure

TOKEN = "hf_test"
READ_TOKEN = "hf_read"

# Run by every child: makes a machine on which this package was never installed.
BLOCKER = """\
import sys

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "tgdfer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker)
"""

# Runs scripts, each with its own arguments, as one process after another would, but imports libraries once.
SEVERAL = """\
import json, sys

sys.stderr = sys.stdout
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    exec(script, {"__name__": "__main__"})
    print("--- end of a script ---")
"""


@dataclass(frozen=True)
class Blob:
    """Content of a file, as git (`lfs` False) or LFS names it."""

    data: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        if self.lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Commit:
    summary: str
    files: dict[str, Blob]
    parent: "Commit | None" = None

    @property
    def oid(self) -> str:
        listing = [self.summary, self.parent.oid if self.parent else ""]
        listing += [f"{path} {blob.oid}" for path, blob in sorted(self.files.items())]
        return hashlib.sha1("\n".join(listing).encode()).hexdigest()


@dataclass
class Repo:
    """A repository: the commits of each branch and pull request ("refs/pr/1"), and the titles of pull requests."""

    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": [Commit("initial commit", {})]})
    pull_requests: list[str] = field(default_factory=list)

    @property
    def commits(self) -> list[Commit]:
        return self.branches["main"]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def pushed(self) -> list[Commit]:
        """Commits made by a client: all but the empty one that a repository is created with."""
        return self.commits[1:]

    def edit(self, **files: bytes | None) -> None:
        """Commits as a person does on the website: changes of files, or None to delete one. "__" stands for a dot."""
        changed = dict(self.head.files)
        for name, data in files.items():
            path = name.replace("__", ".")
            changed.pop(path, None)
            if data is not None:
                changed[path] = Blob(data, lfs=False)
        self.commits.append(Commit("Edit by hand", changed, parent=self.head))

    def at(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((c for commits in self.branches.values() for c in commits if c.oid == revision), None)


class Hub:
    """State of the server: repositories by ("models" or "datasets", "user/name"), and the requests it was sent.

    Attributes:
        failures: how a call fails, by its name in `ROUTES`.
        before: what happens, once, just before a call is answered, by the name of the call.
        calls: names of the calls so far.
        clients: what clients call themselves in the header `X-Client`.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures: dict[str, Failure] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.calls: list[str] = []
        self.clients: set[str | None] = set()
        self.lock = threading.RLock()
        self.url = ""

    def state(self) -> tuple[Any, ...]:
        """A copy of everything that is stored."""
        return copy.deepcopy((self.repos, self.uploads))

    def restore(self, state: tuple[Any, ...] = ({}, {})) -> None:
        """Goes back to a state. All calls succeed again."""
        self.repos, self.uploads = copy.deepcopy(state)
        self.requests, self.calls, self.clients, self.failures, self.before = [], [], set(), {}, {}

    def failure(self, call: str) -> Failure | None:
        """How this call fails, if it does. It then fails one time less."""
        self.calls.append(call)
        self.before.pop(call, lambda: None)()
        failure = self.failures.get(call)
        if failure is None or failure.times == 0:
            return None
        self.failures[call] = replace(failure, times=failure.times - 1)
        return failure

    def model(self, repo_id: str) -> Repo:
        return self.repos["models", repo_id]

    def dataset(self, repo_id: str) -> Repo:
        return self.repos["datasets", repo_id]

    def space(self, repo_id: str) -> Repo:
        return self.repos["spaces", repo_id]

    def environment(self, home: Path, token: str | None = TOKEN, tgdfer: bool = True) -> dict[str, str]:
        """Variables of a child process that sees this Hub and none other, and only `home` as its cache.

        With `tgdfer` False the child cannot import this package.
        """
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        variables |= {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home / "hf")}
        variables |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
        variables |= {"NO_PROXY": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
        if token:
            variables["HF_TOKEN"] = token
        if not tgdfer:
            site = home / "without_tgdfer"
            site.mkdir(parents=True, exist_ok=True)
            (site / "sitecustomize.py").write_text(BLOCKER)
            variables["PYTHONPATH"] = str(site)
        return variables

    def python(self, script: str, *args: object, home: Path, **environment: Any) -> str:
        """Run a script in a process of its own and return what it printed.

        Raises:
            AssertionError: The script failed; the message is the end of what it printed.
        """
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, args)],
            env=self.environment(home, **environment),
            cwd=home,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    def python_scripts(self, *scripts: Sequence[object], home: Path, **environment: Any) -> list[str]:
        """Run scripts in their order in one process, because importing transformers takes seconds.

        Args:
            scripts: Each script, followed by its arguments.

        Returns:
            What each script printed, its standard error included.
        """
        calls = json.dumps([list(map(str, script)) for script in scripts])
        return self.python(SEVERAL, calls, home=home, **environment).split("--- end of a script ---\n")[:-1]


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub on a free port of the loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class HubError(Exception):
    """An answer other than success, with the error code that the client turns into an exception of its own."""

    def __init__(self, status: HTTPStatus, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message or code or status.phrase


def not_found(code: str) -> HubError:
    return HubError(HTTPStatus.NOT_FOUND, code)


class HangUp(Exception):
    """The connection ends without an answer."""


API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
FILES = r"/(?P<kind>datasets/|spaces/)?(?P<repo_id>[^/]+/[^/]+)"
ROUTES = {
    "POST": {
        r"/api/repos/create": "create_repo",
        r"/api/validate-yaml": "validate_yaml",
        API + r"/preupload/(?P<revision>[^/]+)": "preupload",
        API + r"/commit/(?P<revision>[^/]+)": "commit",
        API + r"/paths-info/(?P<revision>[^/]+)": "paths_info",
        API + r"/branch/(?P<branch>[^/]+)": "create_branch",
        FILES + r"\.git/info/lfs/objects/batch": "lfs_batch",
        r"/lfs/(?P<oid>[0-9a-f]{64})/verify": "lfs_verify",
    },
    "PUT": {r"/lfs/(?P<oid>[0-9a-f]{64})": "lfs_upload"},
    "GET": {
        r"/api/whoami-v2": "whoami",
        API: "repo_info",
        API + r"/revision/(?P<revision>[^/]+)": "repo_info",
        API + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?": "tree",
        API + r"/discussions": "discussions",
        FILES + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)": "resolve",
    },
}


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    # Small answers go out at once: without it every one waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def answer(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.body = self.read_body()
        self.muted = False
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {unquote(url.path)}")
            self.hub.clients.add(self.headers.get("X-Client"))
            try:
                self.route(method, url.path)
            except HubError as error:
                self.muted = False
                self.send_error_answer(error)
            except HangUp:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    def send_error_answer(self, error: HubError) -> None:
        headers = {"X-Error-Code": error.code} if error.code else {}
        body = json.dumps({"error": error.message}).encode()
        self.send(body, error.status, headers | {"X-Error-Message": error.message})

    def fail(self, failure: Failure) -> None:
        """Gives the answer of a failure."""
        if failure.status is None:
            raise HangUp
        body = failure.body or (PAGE if failure.page else json.dumps({"error": failure.reason}).encode())
        headers = {"Content-Type": "text/html" if failure.page else "application/json", **failure.headers}
        if failure.reason:
            headers["X-Error-Message"] = failure.reason
        self.send(body, failure.status, headers)

    def route(self, method: str, path: str) -> None:
        for pattern, name in ROUTES[method].items():
            if match := re.fullmatch(pattern, path):
                found = {key: unquote(value) if value else value for key, value in match.groupdict().items()}
                if "kind" in found:
                    found["kind"] = (found["kind"] or "models").rstrip("/")
                failure = self.hub.failure(name)
                if failure is None or failure.after:
                    self.muted = failure is not None
                    getattr(self, name)(**found)
                    self.muted = False
                if failure is not None:
                    self.fail(failure)
                return
        raise not_found("")

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send(self, body: bytes, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        if self.muted:
            return
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, content: Any) -> None:
        self.send(json.dumps(content).encode(), headers={"Content-Type": "application/json"})

    def check_may_write(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READ_TOKEN):
            raise HubError(HTTPStatus.UNAUTHORIZED, message="Invalid username or password.")
        if token == READ_TOKEN:
            raise HubError(HTTPStatus.FORBIDDEN, message="This token may only read.")

    def repo(self, kind: str, repo_id: str) -> Repo:
        repo = self.hub.repos.get((kind, repo_id))
        allowed = repo and (not repo.private or self.headers.get("Authorization"))
        if not repo or not allowed:
            raise not_found("RepoNotFound")
        return repo

    def files(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, Blob]]:
        commit = self.repo(kind, repo_id).at(revision)
        if commit is None:
            raise not_found("RevisionNotFound")
        return commit.oid, commit.files

    # Writing

    def create_repo(self) -> None:
        self.check_may_write()
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'user'}/{asked['name']}"
        key = (asked.get("type", "model") + "s", repo_id)
        url = f"{self.hub.url}/{prefix(key[0])}{repo_id}"
        if key in self.hub.repos:
            body = json.dumps({"error": "You already created this repo", "url": url}).encode()
            self.send(body, HTTPStatus.CONFLICT)
            return
        self.hub.repos[key] = Repo(private=asked.get("visibility") == "private")
        self.send_json({"url": url})

    def validate_yaml(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        self.check_may_write()
        _, files = self.files(kind, repo_id, revision)
        answers = []
        for asked in json.loads(self.body)["files"]:
            # What git cannot compare line by line is kept outside it.
            binary = b"\0" in base64.b64decode(asked["sample"]) or asked["size"] > 10_000_000
            answer = {"path": asked["path"], "uploadMode": "lfs" if binary else "regular", "shouldIgnore": False}
            if asked["path"] in files:
                answer["oid"] = files[asked["path"]].oid
            answers.append(answer)
        self.send_json({"files": answers})

    def lfs_batch(self, kind: str, repo_id: str) -> None:
        self.check_may_write()
        self.repo(kind, repo_id)
        objects = json.loads(self.body)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.hub.uploads:
                href = f"{self.hub.url}/lfs/{wanted['oid']}"
                wanted["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        self.send_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(HTTPStatus.BAD_REQUEST, message="The content does not match its oid.")
        self.hub.uploads[oid] = self.body
        self.send(b"")

    def lfs_verify(self, oid: str) -> None:
        if len(self.hub.uploads.get(oid, b"")) != json.loads(self.body)["size"]:
            raise HubError(HTTPStatus.BAD_REQUEST, message="The object was not uploaded whole.")
        self.send_json({})

    def create_branch(self, kind: str, repo_id: str, branch: str) -> None:
        self.check_may_write()
        repo = self.repo(kind, repo_id)
        if branch in repo.branches:
            raise HubError(HTTPStatus.CONFLICT, message=f"Reference already exists: refs/heads/{branch}")
        repo.branches[branch] = list(repo.commits)
        self.send_json({})

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        self.check_may_write()
        repo = self.repo(kind, repo_id)
        if revision not in repo.branches:
            raise not_found("RevisionNotFound")
        parent = repo.branches[revision][-1]
        files, header = dict(parent.files), {}
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                header = value
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                files[value["path"]] = Blob(self.hub.uploads[value["oid"]], lfs=True)
            elif key == "deletedFile":
                if value["path"] not in files:
                    raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", "A file with this name doesn't exist")
                del files[value["path"]]
            else:
                raise HubError(HTTPStatus.BAD_REQUEST, message=f"Unknown operation {key!r}.")
        if header.get("parentCommit", parent.oid) != parent.oid:
            raise HubError(
                HTTPStatus.PRECONDITION_FAILED,
                message="A commit has happened since. Please refresh and try again.",
            )
        commit = Commit(header["summary"], files, parent=parent)
        url = f"{self.hub.url}/{prefix(kind)}{repo_id}"
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{commit.oid}"}
        if self.query.get("create_pr") == "1":
            repo.pull_requests.append(header["summary"])
            number = len(repo.pull_requests)
            repo.branches[f"refs/pr/{number}"] = [*repo.branches[revision], commit]
            answer |= {"pullRequestUrl": f"{url}/discussions/{number}"}
        else:
            repo.branches[revision].append(commit)
        self.send_json(answer)

    # Reading

    def whoami(self) -> None:
        self.check_may_write()
        self.send_json({"name": "user", "type": "user", "orgs": []})

    def repo_info(self, kind: str, repo_id: str, revision: str = "main") -> None:
        oid, files = self.files(kind, repo_id, revision)
        siblings = [{"rfilename": path} for path in files]
        if "blobs" in self.query:
            known = {entry["path"]: entry for entry in entries(files)}
            for sibling in siblings:
                entry = known[sibling["rfilename"]]
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    sibling["lfs"] = {"sha256": entry["lfs"]["oid"], **entry["lfs"]}
        info = {"id": repo_id, "sha": oid, "private": self.repo(kind, repo_id).private, "siblings": siblings}
        self.send_json({**info, "tags": [], "downloads": 0, "likes": 0})

    def discussions(self, kind: str, repo_id: str) -> None:
        repo = self.repo(kind, repo_id)
        found = [
            {
                "title": title,
                "num": number,
                "author": {"name": "user"},
                "createdAt": "2026-01-01T00:00:00.000Z",
                "status": "open",
                "repo": {"name": repo_id, "type": kind.removesuffix("s")},
                "isPullRequest": True,
            }
            for number, title in enumerate(repo.pull_requests, start=1)
        ]
        self.send_json({"discussions": found[::-1], "count": len(found), "start": 0})

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        _, files = self.files(kind, repo_id, revision)
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        known = {entry["path"]: entry for entry in entries(files)}
        self.send_json([known[path] for path in paths if path in known])

    def tree(self, kind: str, repo_id: str, revision: str, path: str | None = None) -> None:
        _, files = self.files(kind, repo_id, revision)
        listing = entries(files)
        if path:
            listing = [entry for entry in listing if entry["path"].startswith(f"{path}/")]
            if not listing:
                raise not_found("EntryNotFound")
        if self.query.get("recursive", "").lower() not in ("1", "true"):
            parent = PurePosixPath(path or ".")
            listing = [entry for entry in listing if PurePosixPath(entry["path"]).parent == parent]
        self.send_json(listing)

    def resolve(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        oid, files = self.files(kind, repo_id, revision)
        if path not in files:
            raise not_found("EntryNotFound")
        data = files[path].data
        headers = {"ETag": f'"{files[path].oid}"', "X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            if start >= len(data):
                raise HubError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            self.send(data[start : end + 1], HTTPStatus.PARTIAL_CONTENT, headers)
        else:
            self.send(data, headers=headers)


def prefix(kind: str) -> str:
    """What the addresses of repositories of a kind start with."""
    return "" if kind == "models" else f"{kind}/"


def entries(files: dict[str, Blob]) -> list[dict[str, Any]]:
    """Files and folders as the Hub lists them, sorted by path."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    found = [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders]
    for path, blob in files.items():
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.data)}
        if blob.lfs:
            entry["lfs"] = {"oid": blob.oid, "size": len(blob.data), "pointerSize": 134}
        found.append(entry)
    return sorted(found, key=lambda entry: entry["path"])
