"""Report on explanations, written from the stored results."""

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

# Titles of the columns of the tables, by the names of the figures.
DESCRIPTION_COLUMNS = {
    "named": "emotional clips with a named description",
    "precision": "named first",
    "base_rate": "random, any label, same clips",
    "cosine": "highest cosine",
    "gain": "largest gain",
    "same_class": "random, same label",
    "any_class": "random, any label",
    "best": "best of the label",
}
RATIONALE_COLUMNS = {
    "right": "right answers, consistent",
    "wrong": "wrong answers, consistent",
    "wrong_for_truth": "wrong answers, support the true label",
    "described": "clips with a named description",
    "reliability": "descriptions that suggest their own label",
}
FRAME_COLUMNS = {
    "right": "share of named frames that show the expression",
    "found": "share of frames with the expression that are named",
    "chance": "share of all frames that show the expression",
}


def write_explanation_report(work: Path, path: Path, figures: Path) -> None:
    """Writes the report and its figures.

    Args:
        work (`Path`): Folder of the results.
        path (`Path`): Path of the Markdown file.
        figures (`Path`): Path of the JSON file.

    Raises:
        UserError: If nothing has been measured yet, or the results cannot be read.
    """
    (results,) = read_results(work, ["tgdfer", "trained"])
    faithful = f"## Do the predictions depend on these frames?\n\n{faithfulness_table(results)}"
    sections = [_introduction(results), _descriptions(results), *_rationales(results), _frames(results), faithful]
    sections.append(_methods(results))
    write_report(path, sections, figures, _published_figures(results))


def _published_figures(results: Results) -> dict[str, Any]:
    """Returns all figures of the report, without the fields with one value per clip."""
    groups = ("figures", "words", "rationale", "frames", "faithful")
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


def _introduction(results: Results) -> str:
    clips, people = (results.clips["test"][name] for name in ("clips", "people"))
    introduction = (
        "An explanation names the frames on which a prediction depends. It also names descriptions that fit the face"
        " better in these frames than in the rest of the clip. For rendered faces the active action units of every"
        f" frame are known, so both can be checked. The test uses {clips} clips of {people} people who are not in the"
        " training clips. Values are in percent, as mean ± standard deviation over seeds."
    )
    return f"""# Are the explanations true?

`python -m benchmarks.explanation` generates this page. Change the text there.

{paragraph(introduction)}"""


def _descriptions(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := means_over_runs(results.rows[name], "words"))}
    rows = []
    for name, figures in measured.items():
        cells = [percent(figures.get(kind)) for kind in DESCRIPTION_COLUMNS]
        rows.append([results.rows[name]["title"], *cells, _ratio(figures.get("precision"), figures.get("base_rate"))])
    introduction = (
        "The score of a description is the share of its action units that are active in the quarter of the frames with"
        " the highest relevance for the predicted label. Descriptions of situations are excluded, because they mention"
        " no action units. Descriptions of neutral are excluded, because they say what a face does not do,"
        " and so are clips that are predicted as neutral."
    )
    ratio = "ratio of named first to random, any label, same clips"
    table = markdown_table(["descriptions", *DESCRIPTION_COLUMNS.values(), ratio], rows)
    examples = "\n".join(f"- {sentence}" for sentence in _examples(results))
    return f"## Are the descriptions true?\n\n{paragraph(introduction)}\n\n{table}" + (
        f"\n\nExplanations by TG-DFER for the first clip of each label:\n\n{examples}" if examples else ""
    )


def _rationales(results: Results) -> list[str]:
    """Returns the chapter on the sentences of explanations. It is empty if no row was measured with the verifier."""
    measured = {name: means_over_runs(state, "rationale") for name, state in results.rows.items()}
    rows = [
        [results.rows[name]["title"], *(percent(figures.get(kind)) for kind in RATIONALE_COLUMNS)]
        for name, figures in measured.items()
        if figures
    ]
    if not rows:
        return []
    introduction = (
        "An explanation is consistent if each of its descriptions suggests the answer to a reader who knows the other"
        " descriptions ([the verifier](../reference/neighbours.md#consistent-rationale)). A description suggests at"
        " most two labels. If explanations of wrong answers are consistent as often as those of right answers, then"
        " consistency says nothing about whether an answer is right."
    )
    table = markdown_table(["descriptions", *RATIONALE_COLUMNS.values()], rows)
    return [f"## Do the descriptions support the answer?\n\n{paragraph(introduction)}\n\n{table}"]


def _frames(results: Results) -> str:
    measured = {name: figures for name in results.rows if (figures := means_over_runs(results.rows[name], "frames"))}
    rows = [
        [results.rows[name]["title"], *(percent(figures.get(kind)) for kind in FRAME_COLUMNS)]
        for name, figures in measured.items()
    ]
    introduction = (
        "The named frames are the frames in the time spans of an explanation. They are compared with the frames in"
        " which the expression has at least half of its full intensity. Only clips that are not neutral and that are"
        " classified correctly are counted."
    )
    table = markdown_table(["descriptions", *FRAME_COLUMNS.values()], rows)
    return f"## Are the named frames true?\n\n{paragraph(introduction)}\n\n{table}"


def _methods(results: Results) -> str:
    return f"""## Methods

- **TG-DFER** is trained on frozen features with the default settings. The best epoch is selected on people held out of
  the training split.
- **Shuffled descriptions:** the descriptions of the emotions are exchanged between the labels. Each label is trained
  and explained with descriptions of other labels.
- **Class words:** the model is trained only on the names of the labels, and explained with the descriptions. The
  descriptions do not influence its predictions.
- An action unit is active if its intensity is at least 0.35 above that of the resting face.
- **Named first** is the first description that an explanation names. It fits the frames of the spans better
  than the other frames of the clip (gain). If the model is calibrated, it also fits them clearly better than it fits
  clips in general. Of these descriptions, it has the highest cosine. It is compared with random descriptions in the
  clips for which a description is named.
- **Best of the label** is an upper bound: the description with the highest score among those of the label.
- A row with the name of a model is a trained model that is measured without further training.
- The top frames are those with the highest relevance. Heads without relevance use the log-probability of the label in
  the frame. The values for random frames are the mean of ten draws.
- Both linear heads use five-fold cross-validation over people of the training split to select the learning rate and
  the number of epochs.

{how_it_was_run([results])}"""


def _examples(results: Results) -> list[str]:
    """Returns the explanations by the first run of TG-DFER for the first clip of each label."""
    runs = list(runs_of(results.rows["tgdfer"]).values()) if "tgdfer" in results.rows else []
    if not runs:
        return []
    labels = results.truth.labels
    return [f"{label}: *{runs[0]['sentences'][labels.index(label)]}*" for label in sorted(set(labels))]


def _ratio(numerator: Figure, denominator: Figure) -> str:
    return f"{numerator[0] / denominator[0]:.2f}" if numerator and denominator and denominator[0] else ""
