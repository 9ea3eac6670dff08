"""Tables of how true explanations are: `docs/explanation.md`, from the results alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.baselines.report import Results, how_it_was_run, percent, read_results
from benchmarks.harness.comparison import mean_and_spread
from benchmarks.harness.runner import runs_of
from tgdfer.training.files import write_text

WORDS = {
    "explained": "named first",
    "cosine": "highest cosine",
    "gain": "largest gain",
    "same_class": "random, same label",
    "any_class": "random, any label",
    "best": "best of the label",
}
FRAMES = {
    "right": "frames named that show it",
    "found": "frames that show it and are named",
    "chance": "frames that show it",
}
FAITHFUL = {
    "without_top": "without the top quarter",
    "without_random": "without a random quarter",
    "top_alone": "the top quarter alone",
    "random_alone": "a random quarter alone",
}

Figure = tuple[float, float | None] | None


def write_explanation_report(work: Path, path: Path) -> None:
    """Writes the report, with its figures (`.json`) beside it.

    Args:
        work: folder of the results, which rows of `explanation.explanation_rows` were run into.
        path: the file.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    (results,) = read_results(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".json"), json.dumps(_facts(results), indent=1) + "\n")
    sections = [_head(results), _words(results), _frames(results), _faithful(results), _how(results)]
    write_text(path, "\n\n".join(sections) + "\n")


def _facts(results: Results) -> dict[str, Any]:
    """All that the report says, without what is said of single clips."""
    left_out = ("predicted", "scores", "sentences")
    return {
        "clips": results.clips,
        "rows": {
            name: {field: state[field] for field in ("title", "key", "config")}
            | {
                "figures": {group: _means(state, group) for group in ("figures", "words", "frames", "faithful")},
                "parts": {
                    part: {field: value for field, value in found.items() if field not in left_out}
                    for part, found in state["parts"].items()
                },
            }
            for name, state in results.rows.items()
        },
    }


def _means(state: Mapping[str, Any], group: str) -> dict[str, Figure]:
    """Mean and spread over the seeds of every figure of a group; nothing of a row that does not have it."""
    runs = [run[group] for run in runs_of(dict(state)).values() if group in run]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: mean_and_spread([run.get(name) for run in runs]) for name in names}


def _head(results: Results) -> str:
    clips, people = (results.clips["test"][name] for name in ("clips", "people"))
    about = (
        "An explanation names the frames that an answer rests on, and the descriptions that the face fits in them,"
        " more than in the rest of the clip. Of rendered faces it is known which action units are active in every"
        f" frame, so both can be checked: on {clips} clips of {people} people who are in no training clip."
        " In percent; mean ± standard deviation over seeds."
    )
    return f"""# Are the explanations true?

Written by `python -m benchmarks.harness explain` from the results; change it there.

{fill(about, 119)}"""


def _words(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := _means(results.rows[name], "words"))}
    rows = []
    for name, figures in measured.items():
        cells = [percent(figures.get(kind)) for kind in WORDS]
        rows.append([results.rows[name]["title"], *cells, _ratio(figures.get("explained"), figures.get("any_class"))])
    about = (
        "Of the action units that a description names, the share that is active in the quarter of the frames with the"
        " highest relevance for the predicted label. Situations name no action unit, and neutral says what a face does"
        " not do: both are left out."
    )
    table = _table(["descriptions", *WORDS.values(), "named first : any label"], rows)
    examples = "\n".join(f"- {sentence}" for sentence in _examples(results))
    return f"## What the words say\n\n{fill(about, 119)}\n\n{table}" + (
        f"\n\nThe first clip of each label, as TG-DFER explains it:\n\n{examples}" if examples else ""
    )


def _frames(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := _means(results.rows[name], "frames"))}
    rows = [
        [results.rows[name]["title"], *(percent(figures.get(kind)) for kind in FRAMES)]
        for name, figures in measured.items()
    ]
    about = (
        "Frames in the spans that an explanation names, against those that truly show the expression at half of its"
        " intensity or more; clips that are not neutral and rightly labelled."
    )
    return f"## When\n\n{fill(about, 119)}\n\n{_table(['descriptions', *FRAMES.values()], rows)}"


def _faithful(results: Results) -> str:
    return f"## What happens without these frames\n\n{faithful_table(results)}"


def faithful_table(results: Results) -> str:
    """What becomes of the answers of all rows that score frames, without these frames and with these alone."""
    rows = []
    for state in results.rows.values():
        if figures := _means(state, "faithful"):
            cells = [percent(state["figures"]["uar"]), percent(figures.get("all"))]
            rows.append([state["title"], *cells, *(_times(figures.get(kind)) for kind in FAITHFUL)])
    about = (
        "Probability of the predicted label with all frames, and what it is multiplied by when frames are taken away:"
        " those with the highest score for that label, or as many random ones. What an answer rests on must be missed"
        " (below the random frames beside it), and must do alone (above them; above 1 where the other frames speak"
        " against it)."
    )
    return f"{fill(about, 119)}\n\n{_table(['method', 'UAR', 'probability', *FAITHFUL.values()], rows)}"


def _how(results: Results) -> str:
    return f"""## How it is measured

- TG-DFER is trained by the training loop with its defaults on frozen features, the best epoch on people held out of
  train. Shuffled: the descriptions of the emotions change places between labels, so that each label is learnt, and
  explained, by words of others. Class words: trained on the names of the labels alone, and then explained by the
  descriptions, which have no part in its answers.
- An action unit is active from an intensity of 0.35 on, on top of the resting face.
- Named first: the first description that `TGDFERProcessor.explain` names: of those that fit the frames of its spans
  better than the other frames of the clip (gain), the one with the highest cosine there. Best of the label: what no
  choice among its descriptions can pass.
- Frames count by their relevance, or by the log-probability of the label in the frame for heads that have no
  relevance. Random frames are the mean of ten draws.
- Both linear heads choose rate and epochs by five-fold cross-validation over people in train.

{how_it_was_run([results])}"""


def _examples(results: Results) -> list[str]:
    """What the first run of TG-DFER says of the first clip of each label."""
    runs = list(runs_of(results.rows["tgdfer"]).values()) if "tgdfer" in results.rows else []
    if not runs:
        return []
    labels = results.truth.labels
    return [f"{label}: *{runs[0]['sentences'][labels.index(label)]}*" for label in sorted(set(labels))]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _times(figure: Figure) -> str:
    if figure is None:
        return ""
    mean, spread = figure
    return f"{mean:.2f}" + ("" if spread is None else f" ±{spread:.2f}")


def _ratio(one: Figure, other: Figure) -> str:
    return f"{one[0] / other[0]:.2f}" if one and other and other[0] else ""
