"""Measures the parts of the speed benchmark, each in a process of its own, and keeps what is done."""

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

from benchmarks.harness.provenance import code_hash, commit, machine, versions
from benchmarks.speed import meters, networks, parts
from benchmarks.speed.meters import MEMORY_ENVIRONMENT
from benchmarks.speed.parts import Sizes, parts_of
from tgdfer import modeling_tgdfer
from tgdfer.training.files import source_hash, write_text

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "peft")


def measure_parts(sizes: Sizes, work: Path, devices: list[str], end: float = math.inf) -> dict[str, dict[str, Any]]:
    """Measures every part that is not measured yet.

    Args:
        sizes: how much is measured.
        work: folder of the parts, one JSON file each.
        devices: "cpu", "cuda" or both.
        end: value of `time.monotonic()` after which no part is begun.

    Returns:
        The parts of each device by name.
    """
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for device in devices:
        found[device] = {}
        for name, arguments in parts_of(sizes).items():
            path = work / f"{device}-{name}.json"
            key = _key(sizes, device, arguments)
            part = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if part.get("key") != key:
                if time.monotonic() > end:
                    continue
                part = _in_a_process(sizes, {"device": device, **arguments})
                part |= {"key": key, "part": arguments, "commit": commit(), "versions": versions(PACKAGES)}
                part |= {"machine": _machine(device, sizes)}
                write_text(path, json.dumps(part) + "\n")
                get_console().print(f"{device} {name} {_shown(part)}", highlight=False)
            found[device][name] = part
    return found


def _in_a_process(sizes: Sizes, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a part in its own process, where nothing that ran before takes memory or warms caches."""
    spec = json.dumps({"sizes": dataclasses.asdict(sizes), "arguments": arguments})
    command = [sys.executable, "-m", "benchmarks.speed.parts", spec]
    extra = dict(MEMORY_ENVIRONMENT) if arguments["kind"].endswith("memory") else {}
    if arguments["device"] == "cpu":
        extra["ACCELERATE_USE_CPU"] = "true"  # the training loop takes a GPU if it finds one
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | extra)
    return json.loads(done.stdout.splitlines()[-1])


def _shown(part: Mapping[str, Any]) -> str:
    """One line about a part."""
    if "seconds" in part:
        return ", ".join(f"{way} {median(times):.3g} s" for way, times in part["seconds"].items())
    peaks = part["peak"] if isinstance(part["peak"], dict) else {"peak": part["peak"]}
    return ", ".join(f"{way} {peak:.0f} MiB" for way, peak in peaks.items())


def _key(sizes: Sizes, device: str, arguments: Mapping[str, Any]) -> str:
    """Hash of everything that decides the figures of a part: sizes, code, versions and machine."""
    facts = [
        dataclasses.asdict(sizes),
        arguments,
        code_hash(parts, networks, meters),
        source_hash(modeling_tgdfer),
        versions(PACKAGES),
        _machine(device, sizes),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _machine(device: str, sizes: Sizes) -> str:
    """The machine of a part in words."""
    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}, bf16"
    return f"{machine().removesuffix(' and a GPU')}, {sizes.threads} threads, fp32"
