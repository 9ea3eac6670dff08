"""Predicts hundreds of damaged and unusual videos in a worker process: `python -m benchmarks.broken_files`.

Each file must give a prediction, or an error message of one sentence, within 10 s and 1 GB. The exit code is 1 if a
file takes more time or memory, raises an error other than `VideoDecodeError`, or crashes the worker.
"""

import tempfile
from collections import Counter
from pathlib import Path

import typer

from benchmarks.broken_files.damaged_videos import FILES
from benchmarks.broken_files.worker import SECONDS, Worker
from tgdfer.help_pages import run

# Highest permitted growth of memory, in bytes.
BYTES = 2**30


def main() -> None:
    """Predict hundreds of damaged and unusual videos, and print a summary."""
    worker, failures = Worker(), []
    results: Counter[str] = Counter()
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FILES.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(make())
            result, seconds, growth = worker.predict(path)
            slowest, largest = max(slowest, (seconds, name)), max(largest, (growth, name))
            expected = result in ("prediction", "sentence")
            results[result if expected else "failure"] += 1
            if not expected or seconds > SECONDS or growth > BYTES:
                failures.append(f"{name}: {result} ({seconds:.1f} s, {growth / 2**20:.0f} MiB)")
            if not worker.process.is_alive():
                worker = Worker()
            path.unlink()
    worker.close()
    print(
        f"{len(FILES)} files: {results['prediction']} predictions, {results['sentence']} error messages, "
        f"{len(failures)} failures"
    )
    print(f"slowest: {slowest[0]:.2f} s ({slowest[1]}); most memory: {largest[0] / 2**20:.0f} MiB ({largest[1]})")
    print("\n".join(failures))
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main)
