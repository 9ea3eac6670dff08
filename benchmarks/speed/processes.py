"""Runs each part of the speed benchmark in a new process, and stores the finished parts."""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich import get_console

from benchmarks.harness.provenance import code_hash, machine, versions
from benchmarks.speed import meters, networks, parts
from benchmarks.speed.meters import MEMORY_ENVIRONMENT
from benchmarks.speed.parts import Sizes, parts_of
from tgdfer import modeling_tgdfer
from tgdfer.training.files import source_hash, write_text
from tgdfer.training.provenance import commit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "peft")


def measure_parts(sizes: Sizes, work: Path, devices: list[str], end: float = math.inf) -> dict[str, dict[str, Any]]:
    """Measures every part that is not measured yet.

    Args:
        sizes (`Sizes`): Sizes of the networks and of the batches.
        work (`Path`): Folder of the finished parts, one JSON file each.
        devices (`list[str]`): "cpu", "cuda" or both.
        end (`float`, *optional*, defaults to `math.inf`): Value of `time.monotonic()` after which no part is started.

    Returns:
        `dict[str, dict[str, Any]]`: The finished parts of each device, by name.
    """
    work.mkdir(parents=True, exist_ok=True)
    measured: dict[str, dict[str, Any]] = {}
    for device in devices:
        measured[device] = {}
        for name, arguments in parts_of(sizes).items():
            path = work / f"{device}-{name}.json"
            key = _key(sizes, device, arguments)
            part = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if part.get("key") != key:
                if time.monotonic() > end:
                    continue
                part = _measure_in_process(sizes, {"device": device, **arguments})
                part |= {"key": key, "part": arguments, "commit": commit(), "versions": versions(PACKAGES)}
                part |= {"machine": _machine(device, sizes)}
                write_text(path, json.dumps(part) + "\n")
                get_console().print(f"{device} {name} {_summary(part)}", highlight=False)
            measured[device][name] = part
    return measured


def _measure_in_process(sizes: Sizes, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a part in a new process, so that earlier parts have no effect on its memory and caches."""
    spec = json.dumps({"sizes": dataclasses.asdict(sizes), "arguments": arguments})
    command = [sys.executable, "-m", "benchmarks.speed.parts", spec]
    extra = dict(MEMORY_ENVIRONMENT) if arguments["kind"].endswith("memory") else {}
    if arguments["device"] == "cpu":
        extra["ACCELERATE_USE_CPU"] = "true"  # By default, the training loop uses a GPU if there is one.
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | extra)
    return json.loads(done.stdout.splitlines()[-1])


def _summary(part: Mapping[str, Any]) -> str:
    """Summarises a part in one line."""
    if "seconds" in part:
        return ", ".join(f"{name} {median(times):.3g} s" for name, times in part["seconds"].items())
    peaks = part["peak"] if isinstance(part["peak"], dict) else {"peak": part["peak"]}
    return ", ".join(f"{name} {peak:.0f} MiB" for name, peak in peaks.items())


def _key(sizes: Sizes, device: str, arguments: Mapping[str, Any]) -> str:
    """Returns a hash of everything that determines the figures of a part: sizes, code, versions and machine."""
    inputs = [
        dataclasses.asdict(sizes),
        arguments,
        code_hash(parts, networks, meters),
        source_hash(modeling_tgdfer),
        versions(PACKAGES),
        _machine(device, sizes),
    ]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _machine(device: str, sizes: Sizes) -> str:
    """Describes the machine and the precision of a part."""
    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}, bf16"
    return f"{machine().removesuffix(' and a GPU')}, {sizes.threads} threads, fp32"
