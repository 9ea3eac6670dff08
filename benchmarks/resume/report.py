"""The report of the benchmark of resumed trainings."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness.provenance import machine, versions
from benchmarks.harness.tables import markdown_table, paragraph
from benchmarks.resume.measure import Outcome, Setting
from tgdfer.training.files import write_text
from tgdfer.training.provenance import commit


def write_resume_report(
    outcomes: Mapping[str, tuple[Setting, Outcome]], command: str, out: Path, figures: Path
) -> None:
    """Writes the report and its figures.

    Args:
        outcomes (`Mapping[str, tuple[Setting, Outcome]]`): Each setting with its outcome, by its title.
        command (`str`): Command that measured the outcomes.
        out (`Path`): Markdown file of the report.
        figures (`Path`): JSON file of the figures.
    """
    facts: dict[str, Any] = {"commit": commit(), "machine": machine()}
    facts["versions"] = versions(("torch", "transformers", "accelerate"))
    content = {title: {"options": dict(one.options), **asdict(outcome)} for title, (one, outcome) in outcomes.items()}
    write_text(figures, json.dumps({"command": command, **facts, "settings": content}, indent=2) + "\n")
    header = ["training", "steps", "checkpoint every", "runs", "kills", "while saving", "steps repeated, most"]
    rows = [
        [
            title,
            str(outcome.steps),
            f"{setting.options['checkpoint_every']} steps",
            str(len(outcome.identical)),
            str(len(outcome.killed_after)),
            str(outcome.while_saving),
            str(max(outcome.repeated)),
            f"{sum(outcome.identical)} of {len(outcome.identical)}",
            f"{sum(outcome.same_rows)} of {len(outcome.same_rows)}",
        ]
        for title, (setting, outcome) in outcomes.items()
    ]
    kills = [
        f"- {title}: {', '.join(map(str, sorted(outcome.killed_after)))}" for title, (_, outcome) in outcomes.items()
    ]
    version_text = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        "# Killed and resumed trainings",
        "",
        paragraph(
            "`tgdfer train` runs in a process of its own, which is killed with SIGKILL (`kill -9`) at random steps."
            " After each kill, the run is resumed with `--resume`. A run is killed several times, and then trains to"
            " its end. It is compared with a run of the same configuration that was never interrupted. The clips are"
            " rendered faces, and all processes compute with one thread on a CPU."
        ),
        "",
        markdown_table([*header, "identical results", "identical logs"], rows),
        "",
        paragraph(
            '"While saving" counts the kills that left an unfinished checkpoint or model. "Steps repeated" are logged'
            " steps after the last checkpoint, which were trained again. Results are identical if each weight of the"
            " best and of the last model, and the loss and the validation figures of each epoch, have the same bits."
            " Logs are identical if `log.jsonl` and `steps.jsonl` have the same rows, apart from times and memory."
        ),
        "",
        "Last logged step at each kill:",
        "",
        *kills,
        "",
        paragraph(
            f"Measured on {machine()} at commit `{(facts['commit'] or 'unknown')[:7]}` ({version_text}). Command:"
            f" `{command}`"
        ),
    ]
    write_text(out, "\n".join(lines) + "\n")
