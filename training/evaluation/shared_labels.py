"""Evaluation on a data set whose labels are not those of the model: the clips whose label both have are measured."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.errors import UserError
from tgdfer.training.measure import ClipPrediction, clip_outcomes
from tgdfer.training.metrics import recognition_figures
from tgdfer.training.metrics.intervals import metric_intervals


@dataclass(frozen=True)
class LabelMatch:
    """Which labels of a split are classes of a model. Names and aliases ("happy", "joy") match.

    Attributes:
        matched (`dict[str, str]`): Class of the model for each label of the split that it has.
        left_out (`dict[str, int]`): Number of clips of each label that is not a class of the model.
        only_model (`list[str]`): Classes of the model of which the split has no clips.
    """

    matched: dict[str, str]
    left_out: dict[str, int]
    only_model: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether the labels of the split are the classes of the model, with the same names."""
        return not self.left_out and not self.only_model and all(one == other for one, other in self.matched.items())

    def __str__(self) -> str:
        renamed = [f"{label} (in the model: {name})" for label, name in self.matched.items() if label != name]
        same = [label for label, name in self.matched.items() if label == name]
        text = f"{len(self.matched)} labels are in the data set and in the model: {', '.join(same + renamed)}."
        if self.left_out:
            counts = ", ".join(f"{label}: {count}" for label, count in self.left_out.items())
            number = sum(self.left_out.values())
            clips = "1 clip is" if number == 1 else f"{number} clips are"
            text += f" {clips} left out, because the model does not have their label ({counts})."
        if self.only_model:
            text += f" The data set has no clips of {', '.join(self.only_model)}."
        return text


def match_labels(labels: Sequence[str], classes: Sequence[str], place: str) -> LabelMatch:
    """Matches the labels of clips with the classes of a model, by name and by alias.

    Args:
        labels (`Sequence[str]`): Canonical label of each clip.
        classes (`Sequence[str]`): Names of the classes of the model.
        place (`str`): Name of the split in messages.

    Raises:
        UserError: If fewer than two labels are shared, or a label matches several classes.
    """
    counts, matched = Counter(labels), dict[str, str]()
    for label in sorted(counts):
        same = [name for name in classes if name == label] or [
            name for name in classes if canonical_label(name) == label
        ]
        if len(same) > 1:
            raise UserError(
                f"The classes {' and '.join(map(repr, same))} of the model both mean {label!r}, a label of {place}:"
                " give one of them another name."
            )
        if same:
            matched[label] = same[0]
    if len(matched) < 2:
        shared = f"only {next(iter(matched))!r}" if matched else "none"
        raise UserError(
            f"Of the labels of {place} ({', '.join(sorted(counts))}), the model has {shared}, but at least two are"
            f" needed: its classes are {', '.join(classes)}."
        )
    left_out = {label: count for label, count in sorted(counts.items()) if label not in matched}
    return LabelMatch(matched, left_out, [name for name in classes if name not in matched.values()])


def select_shared(clips: LabelledClips, match: LabelMatch) -> LabelledClips:
    """Returns the clips whose label the model has, with the names of its classes as labels."""
    shared = clips.select([row for row, label in enumerate(clips.labels) if label in match.matched])
    return replace(shared, labels=[match.matched[label] for label in shared.labels])


def shared_label_facts(
    match: LabelMatch, clips: LabelledClips, predictions: Sequence[ClipPrediction], config: TGDFERConfig
) -> dict[str, Any]:
    """Returns what was matched and left out, and the metrics of answers that are restricted to the shared labels.

    All other metrics of an evaluation let the model answer with any of its classes.

    Args:
        match (`LabelMatch`): The labels that are shared.
        clips (`LabelledClips`): The measured clips.
        predictions (`Sequence[ClipPrediction]`): Prediction for each clip, with its logits.
        config (`TGDFERConfig`): Config of the model.

    Returns:
        `dict[str, Any]`: `matched`, `left_out`, `num_left_out`, `only_model`, and the `war` and `uar` of the
        restricted answers with `intervals`.
    """
    classes = config.class_names
    answers = restricted_answers(predictions, classes, list(match.matched.values()))
    figures = recognition_figures([answer.label for answer in answers], clips.labels, sorted(match.matched.values()))
    intervals = metric_intervals(clip_outcomes(clips.labels, answers, clips.people))
    return {
        "matched": match.matched,
        "left_out": match.left_out,
        "num_left_out": sum(match.left_out.values()),
        "only_model": match.only_model,
        "war": figures["war"],
        "uar": figures["uar"],
        "intervals": {name: intervals[name] for name in ("over", "units", "draws", "war", "uar")},
    }


def restricted_answers(
    predictions: Sequence[ClipPrediction], classes: Sequence[str], allowed: Collection[str]
) -> list[ClipPrediction]:
    """Returns the predictions among some of the classes. The scores are left as they are."""
    columns = [index for index, name in enumerate(classes) if name in set(allowed)]
    best = np.array([prediction.logits for prediction in predictions])[:, columns].argmax(1)
    return [
        replace(prediction, label=classes[columns[index]]) for prediction, index in zip(predictions, best, strict=True)
    ]
