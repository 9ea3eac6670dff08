"""Report on fairness, with a table for each factor."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.fairness.measure import GroupFigures
from benchmarks.harness.provenance import machine
from benchmarks.harness.tables import interval, markdown_table, paragraph, percent_with_interval, write_report
from tgdfer.training.provenance import commit

# Figures by the names of factor and group.
FactorFigures = Mapping[str, Mapping[str, GroupFigures]]


def factor_table(factor: str, groups: Mapping[str, GroupFigures]) -> str:
    """Formats the figures of the groups of a factor in percent, with their differences to the first group."""
    labels = list(next(iter(groups.values())).recall)
    reference = next(iter(groups))
    head = [factor, "UAR", f"minus {reference}", "ECE", f"minus {reference}", *labels]
    rows = [
        [
            group,
            percent_with_interval(figures.uar),
            interval(figures.uar_difference),
            percent_with_interval(figures.ece),
            interval(figures.ece_difference),
            *(f"{100 * figures.recall[label]:.0f}" for label in labels),
        ]
        for group, figures in groups.items()
    ]
    return markdown_table(head, rows)


def weaker_groups(measured: FactorFigures) -> list[str]:
    """Returns a line for each group whose UAR is lower than that of the reference, with an interval below zero."""
    lines = []
    for factor, groups in measured.items():
        reference = next(iter(groups))
        for group, figures in groups.items():
            if figures.uar_difference and figures.uar_difference[2] < 0:
                lines.append(f"{factor}, {group}: {interval(figures.uar_difference)} compared with {reference}")
    return lines


def write_fairness_report(
    measured: FactorFigures, model: str, people: int, path: Path, figures: Path, command: str
) -> None:
    """Writes the report and its figures.

    Args:
        measured (`FactorFigures`): Figures by factor and group.
        model (`str`): Name of the model.
        people (`int`): Number of rendered people.
        path (`Path`): Path of the Markdown file.
        figures (`Path`): Path of the JSON file.
        command (`str`): Command line that is written into both files.
    """
    run = {"command": command, "commit": commit(), "machine": machine()}
    introduction = (
        f"{model} predicts the same expressions of {people} rendered people on faces that differ in only one"
        " attribute. The people are not in any training data. UAR is the mean recall of the seven emotions, and ECE"
        " is the expected calibration error with 15 bins. Both are in percent, and differences are in percentage"
        " points. Intervals are 95% intervals from 2,000 bootstrap draws of people. The ECE of a draw is on average"
        " higher than that of all people, so its intervals are moved by the mean difference. The last columns are"
        " recalls in percent."
    )
    limits = (
        "Rendered faces are drawings. They show whether a model classifies the same movement differently on another"
        " face, but not how well it classifies real people. The real photographs of the other benchmarks have no"
        " labels of these attributes, so fairness is not measured on them. There are only a few kinds of skin, age,"
        " glasses and beard, and other differences between people are not varied."
    )
    weaker = weaker_groups(measured)
    listed = (
        "\n".join(f"- {line}" for line in weaker) or "No group has a significantly lower UAR than its reference group."
    )
    tables = [f"## {factor.capitalize()}\n\n{factor_table(factor, groups)}" for factor, groups in measured.items()]
    head = "# Fairness\n\nThe command below generates this page. Change the text in its code."
    provenance = f"Command: `{run['command']}`. Commit: `{run['commit']}`. Machine: {run['machine']}."
    only_uar = (
        "Only the UAR was tested. The recalls of single emotions differ more between groups, as the tables show."
    )
    weak = f"## Groups with lower UAR\n\n{listed}\n\n{only_uar}"
    contents = {
        "model": model,
        "people": people,
        "groups": {
            factor: {group: asdict(group_figures) for group, group_figures in groups.items()}
            for factor, groups in measured.items()
        },
        **run,
    }
    sections = [head, paragraph(introduction), *tables, weak, paragraph(limits), paragraph(provenance)]
    write_report(path, sections, figures, contents)
