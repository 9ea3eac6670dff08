"""What TG-DFER costs beside its own CLIP, in time and memory: `python -m benchmarks.speed [--repetitions 5]`.

Each part runs in a process of its own and is kept in a folder as soon as it is done, so that a run that was stopped
goes on. At the end the figures are written to `docs/results/performance.md`, `.json` and `.png`.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.harness.runner import commit, machine
from benchmarks.speed import parts as speed_parts
from benchmarks.speed.parts import Sizes, measure, parts
from benchmarks.speed.report import write_report
from tgdfer import modeling_tgdfer
from tgdfer.training.files import source_hash, write_text

ROOT = Path(__file__).resolve().parents[2]


def run(sizes: Sizes, work: Path, devices: list[str], end: float = math.inf) -> dict[str, dict[str, Any]]:
    """Measures what is not measured yet, and begins nothing after `end`; the parts of each device by name."""
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for device in devices:
        found[device] = {}
        for name, arguments in parts(sizes).items():
            path = work / f"{device}-{name}.json"
            key = _key(sizes, device, arguments)
            part = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if part.get("key") != key:
                if time.monotonic() > end:
                    continue
                print(f"{device} {name}", end=" ", flush=True)
                part = _in_a_process(sizes, {"device": device, **arguments})
                part |= {"key": key, "part": arguments, "commit": commit(), "versions": _versions()}
                part |= {"machine": _machine(device, sizes)}
                write_text(path, json.dumps(part) + "\n")
                print(_shown(part))
            found[device][name] = part
    return found


def _in_a_process(sizes: Sizes, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a part in a process of its own: whatever ran before neither takes its memory nor warms its caches."""
    spec = json.dumps({"sizes": dataclasses.asdict(sizes), "arguments": arguments})
    command = [sys.executable, "-m", "benchmarks.speed", "--part", spec]
    extra = speed_parts.MEMORY_ENVIRONMENT if arguments["kind"].endswith("memory") else {}
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | extra)
    return json.loads(done.stdout.splitlines()[-1])


def _shown(part: Mapping[str, Any]) -> str:
    """A part in a line."""
    if "seconds" in part:
        return ", ".join(f"{way} {median(times):.3g} s" for way, times in part["seconds"].items())
    peaks = part["peak"] if isinstance(part["peak"], dict) else {"peak": part["peak"]}
    return ", ".join(f"{way} {peak:.0f} MiB" for way, peak in peaks.items())


def _key(sizes: Sizes, device: str, arguments: Mapping[str, Any]) -> str:
    """Changes with all that decides the figures of a part: sizes, code, versions and machine."""
    source = Path(speed_parts.__file__).read_text(encoding="utf-8")
    facts = [
        dataclasses.asdict(sizes),
        arguments,
        source,
        source_hash(modeling_tgdfer),
        _versions(),
        _machine(device, sizes),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    names = ("tgdfer", "torch", "transformers", "peft")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _machine(device: str, sizes: Sizes) -> str:
    """What a part runs on, in words."""
    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}, bf16"
    return f"{machine().removesuffix(' and a GPU')}, {sizes.threads} threads, fp32"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=Sizes.repetitions, help="how often each thing is timed")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "speed", help="where parts that are done are kept"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "performance.md")
    parser.add_argument("--minutes", type=float, default=100, help="begin nothing after so many minutes")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part:
        spec = json.loads(arguments.part)
        print(json.dumps(measure(Sizes(**spec["sizes"]), **spec["arguments"])))
        return
    sizes = Sizes(repetitions=arguments.repetitions)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    measured = run(sizes, arguments.work, devices, time.monotonic() + 60 * arguments.minutes)
    left = [part for found in measured.values() for name, part in parts(sizes).items() if name not in found]
    if left:
        print(f"The time is over, {len(left)} parts are left: the same command goes on where this one stopped.")
    # What trainings take comes last, and can be left out of the report.
    if all(part["kind"] == "training" for part in left):
        write_report(sizes, measured, arguments.output)


if __name__ == "__main__":
    main()
