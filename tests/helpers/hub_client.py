"""A process that publishes again and again to the Hub of the tests, so that imports take their time once.

The address of the Hub is read when `huggingface_hub` is imported, so whatever talks to it is a process of its own.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hub_server import TOKEN, Hub

LOOP = """
import contextlib, io, json, os, sys, traceback
from huggingface_hub import set_client_factory
from huggingface_hub.utils import httpx
from tgdfer.command_line import main
from tgdfer.model_card.hub import patience
from tgdfer.model_card.publish import publish
from tgdfer.training.errors import UserError

patience.FIRST_WAIT = 0.0
# Certificates take a tenth of a second to load, and the Hub of the tests has none. A client of the user stays in use.
set_client_factory(lambda: httpx.Client(verify=False, headers={"X-Client": "of the user"}))
answers = os.fdopen(os.dup(1), "w")

def call(token, **options):
    own = os.environ.pop("HF_TOKEN")
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        print(publish(**options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        os.environ["HF_TOKEN"] = own
    return 0

for line in sys.stdin:
    command = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            code = main(command) if isinstance(command, list) else call(**command)
        except BaseException:
            traceback.print_exc()
            code = 99
    print(json.dumps([code, out.getvalue(), errors.getvalue()]), file=answers, flush=True)
"""


class Done(NamedTuple):
    """A finished command: its exit code (99 for a traceback), and what it printed."""

    code: int
    out: str
    errors: str


class HubClient:
    """Runs commands in the process.

    Attributes:
        hub: the Hub that the process sees.
    """

    def __init__(self, hub: Hub, process: "subprocess.Popen[str]") -> None:
        self.hub, self.process = hub, process

    def tgdfer(self, *arguments: object) -> Done:
        """Runs a command."""
        return self._send(list(map(str, arguments)))

    def publish(self, run: Path, repo_id: str = "user/smile", token: str | None = TOKEN, **options: object) -> Done:
        """Calls `publish` with a token of the Hub, and prints the address of the commit."""
        return self._send({"run": str(run), "repo_id": repo_id, "token": token, **options})

    def _send(self, command: object) -> Done:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(command), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the process has ended"
        return Done(*json.loads(answer))


@contextmanager
def client_of(hub: Hub, home: Path) -> Iterator[HubClient]:
    """A process that sees this Hub and no other."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP],
        env=hub.environment(home) | {"COLUMNS": "10000"},
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield HubClient(hub, process)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait()
