"""Frames a second of the renderer, encoding included: `python benchmarks/render_speed.py [--workers 2]`."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from tgdfer.training.rendered_faces import write_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20, help="clips of each of seven labels")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        out = write_dataset(Path(folder) / "faces", clips={"train": arguments.clips}, workers=arguments.workers)
        seconds = time.perf_counter() - begin
        rows = [json.loads(line) for line in (out / "train" / "metadata.jsonl").read_text("utf-8").splitlines()]
        size = sum(path.stat().st_size for path in out.rglob("*.mp4"))
    frames = sum(len(row["intensity"]) for row in rows)
    print(f"{frames} frames in {len(rows)} clips, {arguments.workers} workers: {frames / seconds:.0f} frames/s")
    print(f"{size / frames / 1024:.1f} KiB a frame on disk")


if __name__ == "__main__":
    main()
