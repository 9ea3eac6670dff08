"""The report on fairness: a table for each factor."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.fairness.measure import GroupFigures
from benchmarks.harness.comparison import Difference
from benchmarks.harness.provenance import commit, machine
from benchmarks.harness.tables import interval, markdown_table, paragraph, write_report

Found = Mapping[str, Mapping[str, GroupFigures]]


def factor_table(factor: str, groups: Mapping[str, GroupFigures]) -> str:
    """Figures of the groups of a factor, in percent; the differences are to the first group."""
    labels = list(next(iter(groups.values())).recall)
    reference = next(iter(groups))
    head = [factor, "UAR", f"minus {reference}", "ECE", f"minus {reference}", *labels]
    rows = [
        [
            group,
            _value(of_group.uar),
            interval(of_group.uar_difference),
            _value(of_group.ece),
            interval(of_group.ece_difference),
            *(f"{100 * of_group.recall[label]:.0f}" for label in labels),
        ]
        for group, of_group in groups.items()
    ]
    return markdown_table(head, rows)


def weaker_groups(found: Found) -> list[str]:
    """Sentences about the groups whose UAR is lower than that of the reference, by an interval without zero."""
    said = []
    for factor, groups in found.items():
        reference = next(iter(groups))
        for group, of_group in groups.items():
            if of_group.uar_difference and of_group.uar_difference[2] < 0:
                said.append(f"{factor}, {group}: {interval(of_group.uar_difference)} against {reference}")
    return said


def write_fairness_report(found: Found, model: str, people: int, path: Path, figures: Path, command: str) -> None:
    """Writes the report and its figures.

    Args:
        found: figures by factor and group.
        model: name of the model.
        people: number of rendered people.
        path: the Markdown file.
        figures: the JSON file.
        command: the command, which is written into both.
    """
    run = {"command": command, "commit": commit(), "machine": machine()}
    about = (
        f"The same expressions of {people} rendered people whom no training has seen, on faces that differ in one"
        f" respect only; answered by {model}. UAR is the mean of the recalls of the seven emotions, ECE the expected"
        " calibration error with 15 bins; both in percent, differences in points, with 95 % intervals by 2,000"
        " bootstrap draws of people. The last columns are recalls in percent."
    )
    limits = (
        "Rendered faces are drawings: they show whether a model reads the same movement differently on another face,"
        " and not how it reads people. The real photographs of the other benchmarks carry no such labels, so nothing"
        " is measured on them. Skin, age, glasses and beard are drawn in few kinds; other differences between people"
        " are not varied."
    )
    weaker = weaker_groups(found)
    listed = "\n".join(f"- {line}" for line in weaker) or "No group is weaker than its reference beyond chance."
    tables = [f"## {factor.capitalize()}\n\n{factor_table(factor, groups)}" for factor, groups in found.items()]
    head = "# Fairness\n\nWritten by the command below; change it there."
    how = f"Command: `{run['command']}`. Commit: `{run['commit']}`. Machine: {run['machine']}."
    weak = f"## Where it is weaker\n\n{listed}"
    facts = {
        "model": model,
        "people": people,
        "groups": {
            factor: {group: asdict(of_group) for group, of_group in groups.items()} for factor, groups in found.items()
        },
        **run,
    }
    write_report(path, [head, paragraph(about), *tables, weak, paragraph(limits), paragraph(how)], figures, facts)


def _value(figure: Difference) -> str:
    """A figure with its interval, in percent; empty if there is none."""
    if figure is None:
        return ""
    value, low, high = (100 * number for number in figure)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
