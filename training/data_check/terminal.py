"""Printing the report of `tgdfer data check`."""

from typing import Any

from rich import get_console
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# Names that are printed for each finding. The report contains all of them.
_SHOWN = 3
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_check(report: dict[str, Any], console: Console | None = None) -> None:
    """Prints the clips by class and split, the findings, and whether there are errors.

    Args:
        report (`dict[str, Any]`): Report of `check_dataset`.
        console (`Console`, *optional*): Where to print. By default the console of the program.
    """
    console = console or get_console()
    console.print(_clip_table(report))
    for finding in report["findings"]:
        severity = finding["severity"]
        console.print(
            f"[{_STYLES[severity]}]{severity:>7}[/]  {escape(finding['message'])}", highlight=False, soft_wrap=True
        )
        for name in finding["names"][:_SHOWN]:
            console.print(Padding(Text(name, style="dim"), (0, 0, 0, 11)))
        if (more := len(finding["names"]) - _SHOWN) > 0:
            console.print(f"           and {more:,} more", style="dim", highlight=False)
    errors = report["num_errors"]
    checks = "1 check" if errors == 1 else f"{errors} checks"
    message = f"[bold red]{checks} found errors.[/]" if errors else "[bold green]No errors.[/]"
    console.print(f"{message} It took {report['seconds']:.1f} s.", highlight=False)


def _clip_table(report: dict[str, Any]) -> Table:
    fold = f", fold {report['fold']}" if report["fold"] else ""
    table = Table(title=f"{escape(str(report['dataset']))}{fold}")
    table.add_column("")
    splits, published = list(report["clips"]), report["published_clips"] or {}
    for split in splits:
        table.add_column(split, justify="right")
        if split in published or report["sizes"][split]["published"] is not None:
            table.add_column("published", justify="right", style="dim")
    labels = sorted({label for counts in report["clips"].values() for label in counts})
    for label in labels:
        row = [escape(label)]
        for split in splits:
            row.append(_number(report["clips"][split].get(label, 0)))
            if split in published or report["sizes"][split]["published"] is not None:
                row.append(_number(published.get(split, {}).get(label)))
        table.add_row(*row)
    table.add_section()
    row = ["clips that can be used"]
    listed = ["clips that are listed"]
    for split in splits:
        size = report["sizes"][split]
        row.append(_number(size["usable"]))
        listed.append(_number(size["found"]))
        if split in published or size["published"] is not None:
            row.append("")
            listed.append(_number(size["published"]))
    table.add_row(*row)
    table.add_row(*listed, style="bold")
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
