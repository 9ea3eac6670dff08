"""Markdown of the reports: cells, tables and the sentence that says how the figures were made."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.harness.comparison import Difference, Figure
from benchmarks.harness.results import Results, means_over_runs
from tgdfer.training.files import write_text

# Stands for a space at which `paragraph` does not break a line.
NO_BREAK = "\N{NO-BREAK SPACE}"

# Columns of `faithfulness_table`, by the names that `faithfulness` gives them.
FAITHFULNESS = {
    "without_top": "without the top quarter",
    "without_random": "without a random quarter",
    "top_alone": "the top quarter alone",
    "random_alone": "a random quarter alone",
}


def paragraph(text: str, initial: str = "", then: str = "") -> str:
    """Breaks a text into lines of at most 119 characters.

    A command between backticks stays on one line, however long it is, so that it can be copied.

    Args:
        text: the text of the paragraph, in Markdown.
        initial: what the first line begins with, such as the dash of a list.
        then: what the other lines begin with.
    """
    together = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", NO_BREAK), text)
    lines = fill(
        together, 119, initial_indent=initial, subsequent_indent=then, break_on_hyphens=False, break_long_words=False
    )
    return lines.replace(NO_BREAK, " ")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose other columns are figures."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def percent(figure: Figure) -> str:
    """Mean and spread of a figure between 0 and 1, in percent; empty if there is none."""
    return _with_spread(figure, 100, 1)


def factor(figure: Figure) -> str:
    """Mean and spread of a factor; empty if there is none."""
    return _with_spread(figure, 1, 2)


def _with_spread(figure: Figure, scale: int, digits: int) -> str:
    if figure is None:
        return ""
    mean, spread = figure
    return f"{scale * mean:.{digits}f}" + ("" if spread is None else f" ±{scale * spread:.{digits}f}")


def interval(difference: Difference) -> str:
    """A difference between two rows with its interval, in points; empty if there is none."""
    if difference is None:
        return ""
    value, low, high = (100 * number for number in difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def about_clips(results: Results, spread_over: str) -> str:
    """Numbers of labels, clips and people of a data set, and what the spread in its table is over."""
    train, test = results.clips["train"], results.clips["test"]
    return paragraph(
        f"{train['labels']} labels; {train['clips']} clips of {train['people']} people to train on, {test['clips']} of"
        f" {test['people']} other people to test on. In percent; mean ± standard deviation over {spread_over}."
    )


def unfinished_rows(results: Results) -> list[str]:
    """Lines that name the rows that are not finished; none if all are."""
    return ["", f"Not measured to the end: {', '.join(results.unfinished)}."] if results.unfinished else []


def faithfulness_table(results: Results) -> str:
    """What becomes of the predictions of all rows that score frames, without these frames and with these alone."""
    rows = []
    for state in results.rows.values():
        if figures := means_over_runs(state, "faithful"):
            cells = [percent(state["figures"]["uar"]), percent(figures.get("all"))]
            rows.append([state["title"], *cells, *(factor(figures.get(kind)) for kind in FAITHFULNESS)])
    about = (
        "Probability of the predicted label with all frames, and what it is multiplied by when frames are taken away:"
        " those with the highest score for that label, or as many random ones. What an answer rests on must be missed"
        " (below the random frames beside it), and must do alone (above them; above 1 where the other frames speak"
        " against it)."
    )
    return f"{paragraph(about)}\n\n{markdown_table(['method', 'UAR', 'probability', *FAITHFULNESS.values()], rows)}"


def how_it_was_run(results: Sequence[Results]) -> str:
    """Commands, commits, machines and minutes of all rows."""
    parts = [part for one in results for state in one.rows.values() for part in state["parts"].values()]
    commands = _once(f"`{part['command']}`" for part in parts)
    commits = _once(f"`{part['commit']}`" for part in parts if part["commit"]) or "unknown"
    machines = _once(part["machine"] for part in parts)
    minutes = sum(part["seconds"] for part in parts) / 60
    return f"Command: {commands}. Commit: {commits}. Machine: {machines}; {minutes:.0f} minutes in all."


def _once(values: Iterable[str]) -> str:
    """Values between commas, each once."""
    return ", ".join(dict.fromkeys(values))


def write_report(path: Path, sections: Sequence[str], figures: Path, facts: Mapping[str, Any]) -> None:
    """Writes the sections of a report as Markdown, and its figures as JSON.

    Args:
        path: the Markdown file.
        sections: paragraphs, tables and chapters, in their order.
        figures: the JSON file.
        facts: its contents.
    """
    for file in (path, figures):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(figures, json.dumps(facts, indent=1) + "\n")
    write_text(path, "\n\n".join(sections) + "\n")
