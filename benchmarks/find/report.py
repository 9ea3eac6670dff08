"""The report on the search: average precision in rendered videos and among photographs, and time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.find.long_search import PHRASES, SearchTime
from benchmarks.find.measure import Retrieval, means
from benchmarks.find.phrases import EMOTIONS, MIN_SHARE
from benchmarks.find.videos import VISIBLE, Videos
from benchmarks.harness.provenance import machine
from benchmarks.harness.tables import markdown_table, paragraph, write_report
from tgdfer.training.metrics.bootstrap import Interval
from tgdfer.training.provenance import commit

# Targets: mean average precision over the action units, and the lowest average precision as a multiple of chance.
TARGET, TARGET_LIFT = 0.6, 2.0
# Number of pairs of action units in the table.
_PAIRS = 12


@dataclass(frozen=True)
class Measured:
    """Everything that the benchmark measures.

    Attributes:
        model (`str`): Name of the model.
        videos (`Videos`): The rendered videos.
        units (`Mapping[str, Retrieval]`): The action units.
        interval (`Interval`): Mean average precision over the action units with its 95 % interval.
        pairs (`Mapping[str, Retrieval]`): Pairs of action units, searched by one phrase.
        lower (`Mapping[str, float]`): Average precision of the lower score of two phrases, for each pair.
        moments (`Mapping[str, Mapping[str, Any]]`): Number of moments, and of right moments, of each action unit.
        photographs (`Mapping[str, Retrieval]`): The phrases for photographs. Empty if they were not measured.
        time (`SearchTime`): Time of a search.
    """

    model: str
    videos: Videos
    units: Mapping[str, Retrieval]
    interval: Interval
    pairs: Mapping[str, Retrieval]
    lower: Mapping[str, float]
    moments: Mapping[str, Mapping[str, Any]]
    photographs: Mapping[str, Retrieval]
    time: SearchTime


def unit_table(found: Mapping[str, Retrieval]) -> str:
    """Formats the average precision of phrases in percent, with the mean in the last row."""
    return retrieval_table("action unit", found)


def retrieval_table(kind: str, found: Mapping[str, Retrieval], lower: Mapping[str, float] | None = None) -> str:
    """Formats retrievals in percent, with their mean over all of `found`.

    Args:
        kind (`str`): Head of the first column.
        found (`Mapping[str, Retrieval]`): The rows.
        lower (`Mapping[str, float]`, *optional*): Values of a column for the lower score of two phrases.
    """
    head = [kind, "phrase", "AP", *(["lower score of two phrases"] if lower else [])]
    head += ["phrases of the others", "chance", "AP / chance"]
    rows = [
        [
            name,
            one.phrase,
            _percent(one.precision),
            *([_percent(lower[name])] if lower else []),
            _percent(one.other_words),
            _percent(one.chance),
            f"{one.lift:.1f}",
        ]
        for name, one in found.items()
    ]
    total = means(found)
    of_lower = [_percent(sum(lower[name] for name in found) / len(found))] if lower else []
    values = [_percent(total["precision"]), *of_lower, _percent(total["other_words"]), _percent(total["chance"])]
    rows.append(["**mean**", "", *values, f"{total['precision'] / total['chance']:.1f}"])
    return markdown_table(head, rows)


def write_find_report(measured: Measured, command: str, path: Path, figures: Path) -> None:
    """Writes the report and its figures.

    Args:
        measured (`Measured`): The figures.
        command (`str`): Command line that is written into both files.
        path (`Path`): The Markdown file.
        figures (`Path`): The JSON file.
    """
    run = {"command": command, "commit": commit(), "machine": machine(), "model": measured.model}
    sections = [*_video_sections(measured), *_pair_sections(measured), *_photograph_sections(measured)]
    sections += [*_time_sections(measured.time), "## How it is measured", paragraph(_method(measured, run))]
    contents = {
        "run": run,
        "videos": asdict(measured.videos),
        "units": _plain(measured.units),
        "mean": means(measured.units),
        "interval": measured.interval,
        "pairs": _plain(measured.pairs),
        "lower_score_of_pairs": dict(measured.lower),
        "moments": dict(measured.moments),
        "photographs": _plain(measured.photographs),
        "time": asdict(measured.time),
    }
    write_report(path, sections, figures, contents)


def _video_sections(measured: Measured) -> list[str]:
    total = means(measured.units)
    low = [name for name, one in measured.units.items() if one.lift < TARGET_LIFT]
    reached = total["precision"] >= TARGET
    value, lower, upper = measured.interval or (total["precision"], float("nan"), float("nan"))
    about = (
        f"`tgdfer find` searches videos for phrases ([guide](../guides/find.md)). This report measures"
        f" `{measured.model}` on {measured.videos.videos} rendered videos of {measured.videos.seconds:g} seconds. Each"
        " video shows another person, who is in no other data set. The action units of every frame are known. Average"
        " precision (AP) tells how well the frames of all videos are ranked by their score for a phrase. The ranking"
        " is compared with chance, which is the share of the frames that show the action unit, and with the same"
        f" search for the phrases of the other action units. All values are in percent, except AP / chance. Written by"
        " `python -m benchmarks.find`; change it there."
    )
    verdict = (
        f"The mean AP over {len(measured.units)} action units is {_percent(value)} (95 % interval {_percent(lower)} to"
        f" {_percent(upper)}, bootstrap over people). The target of {_percent(TARGET)} is"
        f" {'reached' if reached else 'missed'}. "
        + (
            f"The target of twice the chance for every action unit is missed for {', '.join(low)}."
            if low
            else "Every action unit has at least twice the AP of chance."
        )
        + " [Experiments](../experiments.md#searching-for-phrases) has what was tried, and the likely cause of low"
        " values."
    )
    found = sum(one["moments"] for one in measured.moments.values())
    right = sum(one["right"] for one in measured.moments.values())
    none = [name for name, one in measured.moments.items() if not one["moments"]]
    moments = (
        f"With the default settings, a search returns at most five moments of each phrase. Of these {found} moments,"
        f" {right} ({_percent(right / max(found, 1))} %) show the action unit in their best frame."
        + (f" There is no match for {', '.join(none)}." if none else "")
    )
    return [
        "# Searching for phrases",
        paragraph(about),
        paragraph(verdict),
        unit_table(measured.units),
        paragraph(moments),
    ]


def _pair_sections(measured: Measured) -> list[str]:
    total = means(measured.pairs)
    often = sorted(measured.pairs, key=lambda name: -measured.pairs[name].chance)[:_PAIRS]
    text = (
        f"{len(measured.pairs)} pairs of action units are visible together in at least {100 * MIN_SHARE:g} % of the"
        " frames. They are searched by one phrase that joins both, and by two phrases, of which the lower score"
        f" counts. Over all pairs, the mean AP is {_percent(total['precision'])} with one phrase and"
        f" {_percent(sum(measured.lower.values()) / len(measured.lower))} with two. The phrases of the other pairs,"
        f" many of which share an action unit, have {_percent(total['other_words'])}, and chance has"
        f" {_percent(total['chance'])}. The table shows the {len(often)} most frequent pairs."
    )
    table = retrieval_table("pair", {name: measured.pairs[name] for name in often}, measured.lower)
    return ["## Two action units at once", paragraph(text), table]


def _photograph_sections(measured: Measured) -> list[str]:
    if not measured.photographs:
        return []
    first = [measured.photographs[phrases[0]].precision for phrases in EMOTIONS.values()]
    text = (
        "The test photographs of FER2013 with a clear majority of the votes of FER+ are ranked by three everyday"
        " phrases for each emotion, which are not in the built-in descriptions. The first phrase of each emotion was"
        f" measured first, and these have a mean AP of {_percent(sum(first) / len(first))}. The others were added"
        " afterwards to show how much the wording matters. The small text encoder was trained with captions about"
        " faces, and knows few other words: it may misunderstand a phrase completely. There are few photographs of"
        " contempt (9), disgust (7) and fear (50)."
    )
    rows = [
        [
            phrase,
            one.phrase,
            _percent(one.precision),
            _percent(one.other_words),
            _percent(one.chance),
            f"{one.lift:.1f}",
        ]
        for phrase, one in measured.photographs.items()
    ]
    total = means(measured.photographs)
    rows.append(["**mean**", "", *(_percent(total[name]) for name in ("precision", "other_words", "chance")), ""])
    head = ["phrase", "emotion", "AP", "phrases of the others", "chance", "AP / chance"]
    return ["## Photographs", paragraph(text), markdown_table(head, rows)]


def _time_sections(time: SearchTime) -> list[str]:
    text = (
        f"A search for {len(PHRASES)} phrases in {time.hours:.0f} hours of video ({time.frames:,} frames) whose"
        f" indexes are cached takes {time.seconds:.2f} seconds (the fastest of five searches; the slowest took"
        f" {time.slowest:.2f}), and {time.cpu_seconds:.2f} seconds of processor time, with {time.threads} thread"
        f"{'s' * (time.threads > 1)}. This includes reading the indexes from disk, but not starting Python and loading"
        f" the model. An index takes {time.megabytes:.1f} MB per hour in which one person is visible, at 8 frames per"
        " second: an embedding of 192 numbers in half precision, times, number and box for each face."
    )
    return ["## Time and size", paragraph(text)]


def _method(measured: Measured, run: Mapping[str, Any]) -> str:
    return (
        f"An action unit is visible from an intensity of {VISIBLE:g} (of 1), which is the limit of the captions of"
        " `clip-tiny-faces`. All other frames count as wrong. The videos are read by the pipeline with its default"
        " settings. The phrases of the action units were written before anything was measured, and the method and the"
        " minimum score were chosen on other rendered people. Phrases of the others: the mean AP of the phrases of all"
        f" other rows. Command: `{run['command']}`. Commit: `{run['commit'] or 'unknown'}`. Machine: {run['machine']}."
    )


def _plain(found: Mapping[str, Retrieval]) -> dict[str, Any]:
    return {name: asdict(one) | {"lift": one.lift} for name, one in found.items()}


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
