"""The report of the live page."""

from typing import Any

from benchmarks.harness.tables import markdown_table, paragraph

# Targets on two cores: frames per second that are shown, and seconds of latency.
TARGET_FPS, TARGET_LATENCY = 15, 1.0


def report(measured: dict[str, Any]) -> str:
    """Returns the report in Markdown.

    Args:
        measured (`dict[str, Any]`): The figures that `python -m benchmarks.live pace` and `memory` write. One of the
            two parts may be missing.
    """
    lines = [
        "# The live page",
        "",
        paragraph(
            "These are measurements of [`tgdfer live`](../guides/live.md) with `tgdfer-tiny`. The page is open in"
            " headless Chromium on the same machine, which draws it without a GPU. Chromium shares the CPU cores with"
            " the command."
        ),
    ]
    if "pace" in measured:
        lines += ["", *_pace_lines(measured["pace"])]
    if "memory" in measured:
        lines += ["", *_memory_lines(measured["memory"])]
    return "\n".join(lines) + "\n"


def _provenance(part: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in part["versions"].items())
    return f"on {part['machine']} at commit `{(part['commit'] or 'unknown')[:7]}` ({packages})"


def _pace_lines(pace: dict[str, Any]) -> list[str]:
    rows = pace["rows"]
    loads = [row["load"] for row in rows if row["load"] is not None]
    fast = sum(row["shown_fps"] >= TARGET_FPS for row in rows)
    early = sum(row["p95"] < TARGET_LATENCY for row in rows)
    load = ""
    if loads:
        load = (
            f" The load average of the machine, which includes the command and Chromium, was {min(loads):.1f} to"
            f" {max(loads):.1f}."
        )
    table = markdown_table(
        [
            "video, source and detector",
            "frames/s of the video",
            "shown frames/s",
            "seconds below 15",
            "answers/s",
            "latency, median",
            "latency, p95",
            "CPU cores",
            "load",
        ],
        [
            [
                f"`{row['video']}`, {row['source']}, {row['detector']}",
                f"{row['fps']:.0f}",
                f"{row['shown_fps']:.1f}",
                f"{row['slow_seconds']:.0%}",
                f"{row['answers_per_second']:.1f}",
                f"{row['median']:.2f} s",
                f"{row['p95']:.2f} s",
                f"{row['cpu_share']:.2f}",
                "" if row["load"] is None else f"{row['load']:.1f}",
            ]
            for row in rows
        ],
    )
    exits = sorted({f"exit code {row['exit_code']} and the sentence “{row['sentence']}”" for row in rows})
    slowest = max(row["closing_seconds"] for row in rows)
    return [
        "## Speed and latency",
        "",
        paragraph(
            f"Each row is measured for {pace['seconds']:g} seconds {_provenance(pace)}. A frame is shown when the page"
            " has drawn it. The latency is the time from the capture of a frame to the moment at which the page shows"
            " the answer for the window that ends with this frame. CPU cores are those that the command uses on"
            f" average, without Chromium.{load} Command:"
        ),
        f"`{pace['command']}`",
        "",
        table,
        "",
        paragraph(
            f"The targets are {TARGET_FPS} shown frames per second ({fast} of {len(rows)} rows reach it) and a latency"
            f" (95th percentile) below {TARGET_LATENCY:g} s ({early} of {len(rows)})."
        ),
        "",
        paragraph(
            "After the page was closed, the command ended by itself, at the latest after"
            f" {slowest:.1f} s, with {' or '.join(exits)}"
        ),
    ]


def _memory_lines(memory: dict[str, Any]) -> list[str]:
    megabytes = {name: memory[name] / 1e6 for name in ("peak", "settled", "end", "per_hour")}
    return [
        "## Memory",
        "",
        paragraph(
            f"`{memory['video']}` was repeated and played in real time for {memory['minutes']:.0f} minutes"
            f" {_provenance(memory)}. The classes were changed {memory['changes']} times. The values are the resident"
            " memory of the command, measured every ten seconds. Command:"
        ),
        f"`{memory['command']}`",
        "",
        markdown_table(
            ["", "MB"],
            [
                ["two minutes from the third on", f"{megabytes['settled']:.0f}"],
                ["the last two minutes", f"{megabytes['end']:.0f}"],
                ["peak", f"{megabytes['peak']:.0f}"],
                ["growth per hour", f"{megabytes['per_hour']:+.1f}"],
            ],
        ),
    ]
