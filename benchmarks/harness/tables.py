"""Formats the Markdown of reports: paragraphs, table cells, tables, and the provenance of the figures."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.harness.comparison import Figure
from benchmarks.harness.results import Results, means_over_runs
from tgdfer.training.files import write_text
from tgdfer.training.metrics.bootstrap import Interval

# Replaces spaces at which `paragraph` must not break a line.
NO_BREAK = "\N{NO-BREAK SPACE}"

# Titles of the columns of `faithfulness_table`, by the keys of the result of `faithfulness`.
FAITHFULNESS = {
    "without_top": "without the top quarter",
    "without_random": "without a random quarter",
    "top_alone": "the top quarter alone",
    "random_alone": "a random quarter alone",
}


def paragraph(text: str, first_indent: str = "", indent: str = "") -> str:
    """Wraps a text into lines of at most 119 characters.

    Code between backticks is kept on one line, even if it is longer, so that commands can be copied.

    Args:
        text (`str`): Text of the paragraph, in Markdown.
        first_indent (`str`, *optional*, defaults to `""`): Start of the first line, such as the dash of a list item.
        indent (`str`, *optional*, defaults to `""`): Start of the other lines.
    """
    unbreakable = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", NO_BREAK), text)
    lines = fill(
        unbreakable,
        119,
        initial_indent=first_indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines.replace(NO_BREAK, " ")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a table. The first column is left-aligned text, and the other columns are right-aligned figures."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def percent(figure: Figure) -> str:
    """Formats mean and standard deviation of a figure between 0 and 1 in percent. None gives an empty string."""
    return _with_spread(figure, 100, 1)


def percent_with_interval(figure: Interval) -> str:
    """Formats a figure between 0 and 1 with its interval in percent. None gives an empty string."""
    if figure is None:
        return ""
    value, low, high = (100 * number for number in figure)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def factor(figure: Figure) -> str:
    """Formats mean and standard deviation of a factor. None gives an empty string."""
    return _with_spread(figure, 1, 2)


def _with_spread(figure: Figure, scale: int, digits: int) -> str:
    if figure is None:
        return ""
    mean, spread = figure
    return f"{scale * mean:.{digits}f}" + ("" if spread is None else f" ±{scale * spread:.{digits}f}")


def interval(difference: Interval) -> str:
    """Formats a difference between two rows with its interval, in percentage points. None gives an empty string."""
    if difference is None:
        return ""
    value, low, high = (100 * number for number in difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def describe_clips(results: Results, spread_over: str) -> str:
    """Describes the size of a data set and the values of its table.

    Args:
        results (`Results`): Results on the data set.
        spread_over (`str`): The runs over which the standard deviation is computed, such as "seeds".
    """
    train, test = results.clips["train"], results.clips["test"]
    return paragraph(
        f"{train['labels']} labels. Training uses {train['clips']} clips of {train['people']} people, and testing uses"
        f" {test['clips']} clips of {test['people']} other people. Values are in percent, as mean ± standard deviation"
        f" over {spread_over}."
    )


def unfinished_rows(results: Results) -> list[str]:
    """Returns lines that name the unfinished rows. The list is empty if all rows are finished."""
    return ["", f"Unfinished rows: {', '.join(results.unfinished)}."] if results.unfinished else []


def faithfulness_table(results: Results) -> str:
    """Formats the faithfulness of all rows that score frames; see `faithfulness`."""
    rows = []
    for state in results.rows.values():
        if figures := means_over_runs(state, "faithful"):
            cells = [percent(state["figures"]["uar"]), percent(figures.get("all"))]
            rows.append([state["title"], *cells, *(factor(figures.get(kind)) for kind in FAITHFULNESS)])
    explanation = (
        "The table gives the probability of the predicted label with all frames, and the factor by which it changes"
        " when frames are removed. The top frames are those with the highest scores for that label. They are compared"
        " with equally many random frames. If a prediction depends on the top frames, the factor without them is lower"
        " than without random frames, and the factor with the top frames alone is higher than with random frames"
        " alone. A factor above 1 means that the removed frames speak against the label."
    )
    return (
        f"{paragraph(explanation)}\n\n{markdown_table(['method', 'UAR', 'probability', *FAITHFULNESS.values()], rows)}"
    )


def how_it_was_run(results: Sequence[Results]) -> str:
    """Returns a sentence with the commands, the commits, the machines and the total time of all rows."""
    parts = [part for dataset in results for state in dataset.rows.values() for part in state["parts"].values()]
    commands = _unique(f"`{part['command']}`" for part in parts)
    commits = _unique(f"`{part['commit']}`" for part in parts if part["commit"]) or "unknown"
    machines = _unique(part["machine"] for part in parts)
    minutes = sum(part["seconds"] for part in parts) / 60
    return f"Command: {commands}. Commit: {commits}. Machine: {machines}; {minutes:.0f} minutes in all."


def _unique(values: Iterable[str]) -> str:
    """Returns the different values, separated by commas."""
    return ", ".join(dict.fromkeys(values))


def write_report(path: Path, sections: Sequence[str], figures: Path, contents: Mapping[str, Any]) -> None:
    """Writes the sections of a report as Markdown, and its figures as JSON.

    Args:
        path (`Path`): Path of the Markdown file.
        sections (`Sequence[str]`): Paragraphs, tables and chapters, in their order.
        figures (`Path`): Path of the JSON file.
        contents (`Mapping[str, Any]`): Contents of the JSON file.
    """
    for file in (path, figures):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(figures, json.dumps(contents, indent=1) + "\n")
    write_text(path, "\n\n".join(sections) + "\n")
