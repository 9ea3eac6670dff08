"""The tables that `tgdfer evaluate` prints."""

from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table


def print_metrics(metrics: dict[str, Any]) -> None:
    """Prints the metrics of `evaluate_model` as tables, in percent: of classes, of groups, and of all clips."""
    name = f" ({metrics['split_in_dataset']} in the data set)" if "split_in_dataset" in metrics else ""
    place = escape(f"{metrics['dataset']}, {metrics['split']}{name}: {metrics['num_clips']} clips")
    get_console().print(_class_table(metrics, place))
    for attribute, groups in metrics.get("groups", {}).items():
        get_console().print(_group_table(attribute, groups))
    get_console().print(_summary(metrics, place))
    shared = metrics.get("shared_labels")
    if shared:
        interval = _range(shared["intervals"]["uar"])
        get_console().print(
            f"If the model may only answer with the {len(shared['matched'])} shared labels, the UAR is"
            f" {_percent(shared['uar'])} %{interval and f' ({interval})'}, and the WAR {_percent(shared['war'])} %.",
            highlight=False,
        )


def _class_table(metrics: dict[str, Any], place: str) -> Table:
    table = Table(title=place, caption="in percent, except the numbers of clips")
    for name in ("class", "clips", "recall", "95% interval", "precision", "F1"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for label, figures in metrics["per_class"].items():
        cells = [_percent(figures[name]) for name in ("recall", "precision", "f1")]
        interval = _range(figures["recall_interval"])
        table.add_row(escape(label), str(figures["num_clips"]), cells[0], interval, *cells[1:])
    return table


def _group_table(attribute: str, groups: dict[str, Any]) -> Table:
    table = Table(title=escape(f"By {attribute}"), caption="in percent, except the numbers of clips")
    for name in (escape(attribute), "clips", "UAR", "95% interval", "WAR", "95% interval"):
        table.add_column(name, justify="left" if name == escape(attribute) else "right")
    for group, figures in groups.items():
        cells = [
            text for name in ("uar", "war") for text in (_percent(figures[name]), _range(figures["intervals"][name]))
        ]
        table.add_row(escape(group), str(figures["num_clips"]), *cells)
    return table


def _summary(metrics: dict[str, Any], place: str) -> Table:
    baseline, intervals = metrics.get("baseline", {}), metrics["intervals"]
    kind = " (zero-shot)" if "zero_shot" in metrics else ""
    table = Table(
        title=place + kind,
        caption=f"in percent; intervals: bootstrap over {intervals['units']} {intervals['over']}",
    )
    for name in ("", "model", "95% interval", *(["baseline"] if baseline else []), "random"):
        table.add_column(name, justify="right" if name else "left")

    def add(title: str, name: str, random: float | None = None, style: str = "", unit: float = 100) -> None:
        cells = [_percent(metrics[name], unit), _range(intervals.get(name))]
        others = [baseline.get(name), random] if baseline else [random]
        table.add_row(title, *cells, *(_percent(value, unit) for value in others), style=style)

    add("UAR (mean recall)", "uar", 1 / len(metrics["labels"]), "bold")
    add("WAR (accuracy)", "war", style="bold")
    if metrics["frame_ap"] is not None:
        add("frame AP", "frame_ap", metrics["random_frame_ap"], "bold")
        add("pointing", "pointing", metrics["random_pointing"], "bold")
    if metrics["activity_gain"] is not None:
        add("activity gain (a ratio)", "activity_gain", 1.0, unit=1)
    table.add_section()
    add("calibration error" + ("" if metrics["calibrated"] else " (not calibrated)"), "ece")
    scaling, blank = metrics["temperature_scaling"], [""] * (2 if baseline else 1)
    rows = {"before": "  without temperature scaling", "cross_fitted": "  scaled on other folds of these clips"}
    for name, title in rows.items():
        if name in scaling and not (name == "before" and not metrics["calibrated"]):
            table.add_row(title, _percent(scaling[name]["ece"]), _range(scaling[name]["interval"]), *blank)
    if "coverage" in metrics:
        add(f"clips answered (at least {metrics['unsure_below']:.0%} sure)", "coverage")
        add("WAR of these clips", "covered_war")
    return table


def _percent(value: float | None, unit: float = 100) -> str:
    """Formats a value. Empty if it is None."""
    return "" if value is None else f"{unit * value:.1f}"


def _range(interval: Any) -> str:
    """Formats the ends of an interval. Empty if it is None."""
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
