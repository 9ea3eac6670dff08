"""The report about explanations, written from the results alone."""

from pathlib import Path
from typing import Any

from benchmarks.harness.comparison import Figure
from benchmarks.harness.results import Results, means_over_runs, parts_without_clips, read_results, runs_of
from benchmarks.harness.tables import (
    faithfulness_table,
    how_it_was_run,
    markdown_table,
    paragraph,
    percent,
    write_report,
)

WORDS = {
    "named": "clips with a named description",
    "precision": "named first",
    "base_rate": "random, any label, same clips",
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


def write_explanation_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report and its figures.

    Args:
        work: folder of the results.
        path: the Markdown file.
        figures: the JSON file.

    Raises:
        UserError: if nothing is measured yet, or the results cannot be read.
    """
    (results,) = read_results(work, ["tgdfer", "trained"])
    faithful = f"## What happens without these frames\n\n{faithfulness_table(results)}"
    sections = [_head(results), _words(results), _frames(results), faithful, _how(results)]
    write_report(path, sections, figures, _facts(results))


def _facts(results: Results) -> dict[str, Any]:
    """Everything that the report says, without the values of single clips."""
    groups = ("figures", "words", "frames", "faithful")
    return {
        "clips": results.clips,
        "rows": {
            name: {field: state[field] for field in ("title", "key", "config")}
            | {
                "figures": {group: means_over_runs(state, group) for group in groups},
                "parts": parts_without_clips(state),
            }
            for name, state in results.rows.items()
        },
    }


def _head(results: Results) -> str:
    clips, people = (results.clips["test"][name] for name in ("clips", "people"))
    about = (
        "An explanation names the frames that an answer rests on, and the descriptions that the face fits in them,"
        " more than in the rest of the clip. Of rendered faces it is known which action units are active in every"
        f" frame, so both can be checked: on {clips} clips of {people} people who are in no training clip."
        " In percent; mean ± standard deviation over seeds."
    )
    return f"""# Are the explanations true?

Written by `python -m benchmarks.explanation` from the results; change it there.

{paragraph(about)}"""


def _words(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := means_over_runs(results.rows[name], "words"))}
    rows = []
    for name, figures in measured.items():
        cells = [percent(figures.get(kind)) for kind in WORDS]
        rows.append([results.rows[name]["title"], *cells, _ratio(figures.get("precision"), figures.get("base_rate"))])
    about = (
        "Of the action units that a description names, the share that is active in the quarter of the frames with the"
        " highest relevance for the predicted label. Situations name no action unit, and neutral says what a face does"
        " not do: both are left out."
    )
    table = markdown_table(["descriptions", *WORDS.values(), "named first : any label, same clips"], rows)
    examples = "\n".join(f"- {sentence}" for sentence in _examples(results))
    return f"## What the words say\n\n{paragraph(about)}\n\n{table}" + (
        f"\n\nThe first clip of each label, as TG-DFER explains it:\n\n{examples}" if examples else ""
    )


def _frames(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := means_over_runs(results.rows[name], "frames"))}
    rows = [
        [results.rows[name]["title"], *(percent(figures.get(kind)) for kind in FRAMES)]
        for name, figures in measured.items()
    ]
    about = (
        "Frames in the spans that an explanation names, against those that truly show the expression at half of its"
        " intensity or more; clips that are not neutral and rightly labelled."
    )
    return f"## When\n\n{paragraph(about)}\n\n{markdown_table(['descriptions', *FRAMES.values()], rows)}"


def _how(results: Results) -> str:
    return f"""## How it is measured

- TG-DFER is trained by the training loop with its defaults on frozen features, the best epoch on people held out of
  train. Shuffled: the descriptions of the emotions change places between labels, so that each label is learnt, and
  explained, by words of others. Class words: trained on the names of the labels alone, and then explained by the
  descriptions, which have no part in its answers.
- An action unit is active from an intensity of 0.35 on, on top of the resting face.
- Named first: the first description that `TGDFERProcessor.explain` names: of those that fit the frames of its spans
  better than the other frames of the clip (gain), and clearly better than they fit clips in general where the model
  is calibrated, the one with the highest cosine there. It is compared with random ones in the clips that have one.
  Best of the label: what no choice among its descriptions can pass.
- Where there is a row of a model by its name, it was trained elsewhere, and is measured as it is.
- Frames count by their relevance, or by the log-probability of the label in the frame for heads that have no
  relevance. Random frames are the mean of ten draws.
- Both linear heads choose rate and epochs by five-fold cross-validation over people in train.

{how_it_was_run([results])}"""


def _examples(results: Results) -> list[str]:
    """The explanations of the first run of TG-DFER for the first clip of each label."""
    runs = list(runs_of(results.rows["tgdfer"]).values()) if "tgdfer" in results.rows else []
    if not runs:
        return []
    labels = results.truth.labels
    return [f"{label}: *{runs[0]['sentences'][labels.index(label)]}*" for label in sorted(set(labels))]


def _ratio(one: Figure, other: Figure) -> str:
    return f"{one[0] / other[0]:.2f}" if one and other and other[0] else ""
