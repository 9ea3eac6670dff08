"""Processes of Python that have their libraries imported already: a server imports them once and forks.

From then on, a fork does what `python ARGUMENTS` does, with its own environment, folder and output. The server itself
computes nothing, so that it has no threads, which a fork would lack.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess


class ForkServer:
    """Starts processes in which these modules are imported. Those of one call must have ended before the next call."""

    def __init__(self, *modules: str) -> None:
        # Without a buffer, `select` knows of every answer.
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        # A session of its own: Ctrl-C reaches the tests alone, and their end is the end of the server.
        self.process = subprocess.Popen(
            [sys.executable, __file__, *modules], env=environment, start_new_session=True, **pipes
        )

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def start(self, *commands: list[str], cwd: Path | None = None, environments: list[dict] | None = None) -> "Forks":
        """Starts a process for each list of arguments, each in a session of its own."""
        environments = environments or [{}] * len(commands)
        return Forks(self.process, list(commands), str(cwd or Path.cwd()), environments)

    def run(self, *arguments: object, seconds: float = 240, cwd: Path | None = None, **environment: str) -> Done:
        """Runs a process until it ends."""
        with self.start([*map(str, arguments)], cwd=cwd, environments=[environment]) as forks:
            return forks.wait(seconds)[0]


class Forks:
    """Processes that were started together.

    Attributes:
        pids: their numbers, which are also those of their process groups.
    """

    def __init__(self, server: subprocess.Popen, commands: list[list[str]], cwd: str, own: list[dict]) -> None:
        assert server.stdin
        self.server, self.commands, self._codes = server, commands, None
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [(self._path(number, "out"), self._path(number, "err")) for number in range(len(commands))]
        jobs = [
            {"arguments": command, "cwd": cwd, "environment": {**os.environ, **environment}, "output": paths}
            for command, environment, paths in zip(commands, own, self._outputs, strict=True)
        ]
        server.stdin.write(json.dumps(jobs).encode() + b"\n")
        self.pids: list[int] = self._answer()

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        if self._codes is None:
            self.signal(signal.SIGKILL)
            self.signal(signal.SIGKILL, to_all=False)  # One that has just started is not in its own group yet.
            self._codes = self._answer()
        self._folder.cleanup()

    def signal(self, number: int, to_all: bool = True) -> None:
        """Sends a signal, also `to_all` processes that they have started."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if to_all else os.kill)(pid, number)

    def have_ended(self) -> bool:
        """Whether all of them have ended."""
        return self._codes is not None or bool(select.select([self.server.stdout], [], [], 0)[0])

    def wait(self, seconds: float = 240) -> list[Done]:
        """Waits for their ends; processes that hang fail the test."""
        if self._codes is None:
            if not select.select([self.server.stdout], [], [], seconds)[0]:
                raise AssertionError(f"hangs: {[Path(err).read_text()[-2000:] for _, err in self._outputs]}")
            self._codes = self._answer()
        said = [[Path(path).read_text() for path in paths] for paths in self._outputs]
        return [Done(*end, *texts) for *end, texts in zip(self.commands, self._codes, said, strict=True)]

    def _path(self, number: int, kind: str) -> str:
        path = Path(self._folder.name, f"{number}.{kind}")
        path.touch()
        return str(path)

    def _answer(self) -> Any:
        assert self.server.stdout
        line = self.server.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)


def serve(modules: list[str]) -> list[str]:
    """Forks until its input ends. In a fork, it returns the arguments of the fork."""
    for name in modules:
        import_module(name)
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        pids = []
        for job in json.loads(line):
            pid = os.fork()
            if pid == 0:
                become(job)
                return job["arguments"]
            pids.append(pid)
        print(json.dumps(pids), flush=True)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
    sys.exit()


def become(job: dict) -> None:
    """Gives this process the environment, the folder, the session and the output of another one."""
    os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.dup2(sys.stdin.fileno(), 0)
    for number, path in enumerate(job["output"], start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)


def run(arguments: list[str]) -> None:
    """What `python ARGUMENTS` does."""
    kind, *rest = arguments
    if kind == "-c":
        sys.argv[:], sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv[:], sys.path[0] = rest, ""
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:], sys.path[0] = arguments, os.path.dirname(kind)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    run(serve(sys.argv[1:]))
