"""A process that runs `tgdfer` again and again against the Hub of the tests, so that imports take their time once.

The address of the Hub is read when `huggingface_hub` is imported, so whatever talks to it is a process of its own.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hub_server import Hub

LOOP = """
import contextlib, io, json, os, sys, traceback
from tgdfer.command_line import main
from tgdfer.model_card.hub import patience

patience.FIRST_WAIT = 0.0
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    command = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        os.environ.update(command["environment"])
        try:
            code = main(command["arguments"])
        except BaseException:
            traceback.print_exc()
            code = 99
    print(json.dumps([code, out.getvalue(), errors.getvalue()]), file=answers, flush=True)
"""


class Done(NamedTuple):
    """A finished command: its exit code, and what it printed."""

    code: int
    out: str
    errors: str


class HubClient:
    """Runs commands in the process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def tgdfer(self, *arguments: object, **environment: str) -> Done:
        """Runs a command, with further variables that stay."""
        assert self.process.stdin and self.process.stdout
        command = {"arguments": list(map(str, arguments)), "environment": environment}
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
        yield HubClient(process)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait()
