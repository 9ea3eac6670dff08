"""The weak points of a model, named by the numbers that were measured."""

from collections.abc import Iterator

from tgdfer.model_card.intervals import percent, percent_range
from tgdfer.model_card.markdown import Markdown, code, escape, join
from tgdfer.model_card.measured import DatasetResults

# A class is weak if the model finds less than this share of its clips, or if less than this share of the clips that
# it calls so are of the class. A model is also weak if it gives a label to less than this share of the clips.
WEAK = 0.7
# Classes with fewer clips are called hardly known.
FEW = 30
# Calibration errors above this are named.
MISCALIBRATED = 0.1
# Differences between the UAR of groups of clips above this are named.
UNEQUAL = 0.05
# A mistake is named if it happens to at least this share of the clips of a class.
FREQUENT = 0.1


def weak_points(results: DatasetResults) -> list[Markdown]:
    """Describes what a model is worst at on a data set.

    Args:
        results (`DatasetResults`): Results on the data set.

    Returns:
        `list[Markdown]`: Sentences. At least the class with the lowest recall is named, or the label with the lowest
        average precision if clips have several labels.
    """
    return [
        *_classes_with_low_recall(results),
        *_labels_with_low_precision(results),
        *_unreliable_answers(results),
        *_rare_classes(results),
        *_probabilities(results),
        *_unequal_groups(results),
    ]


def _classes_with_low_recall(results: DatasetResults) -> Iterator[Markdown]:
    """Names the classes of which the model finds few clips, with the most frequent mistake."""
    labels = results.metrics.get("labels") or []
    counts = sorted(results.class_counts.items(), key=lambda item: item[1][0] / item[1][1])
    weak = [item for item in counts if item[1][0] / item[1][1] < WEAK]
    for label, (correct, total) in weak or counts[:1]:
        row = results.matrix[labels.index(label)]
        mistakes = {other: number for other, number in zip(labels, row, strict=True) if other != label}
        interval = percent_range(results.recall_interval(label))
        text = f"It finds {_share(correct, total)} of the {escape(label)} clips"
        text += f" (95% interval {interval})." if interval else ", which show too few people for an interval."
        if mistakes and max(mistakes.values()) >= max(FREQUENT * total, 1):
            other = max(mistakes, key=lambda name: mistakes[name])
            text += f" Its most frequent mistake calls {_share(mistakes[other], total)} of them {escape(other)}."
        yield Markdown(text)


def _labels_with_low_precision(results: DatasetResults) -> Iterator[Markdown]:
    """Names the labels of clips with several labels that the model ranks badly."""
    counts, total = results.metrics.get("clips_with") or {}, results.metrics.get("num_clips")
    measured = results.metrics.get("average_precision") or {}
    known = {label: measured[label] for label, count in counts.items() if count and measured.get(label) is not None}
    ranked = sorted(known.items(), key=lambda item: item[1])
    for label, precision in [item for item in ranked if item[1] < WEAK] or ranked[:1]:
        frequency = f" {_share(counts[label], total)} of the clips have this label." if total else ""
        yield Markdown(f"The average precision of {escape(label)} is {percent(precision)}.{frequency}")


def _unreliable_answers(results: DatasetResults) -> Iterator[Markdown]:
    """Names the answers that are often wrong."""
    matrix = results.matrix
    for index, label in enumerate(results.metrics["labels"] if matrix else []):
        answers = sum(row[index] for row in matrix)
        correct = matrix[index][index]
        if answers and sum(matrix[index]) and correct / answers < WEAK:
            yield Markdown(
                f"Of the clips that it calls {escape(label)}, {_share(correct, answers)} are {escape(label)}."
            )


def _rare_classes(results: DatasetResults) -> Iterator[Markdown]:
    """Names the classes with too few clips to know their recall, and those without any."""
    counts = results.class_counts
    few = [f"{escape(label)} ({total})" for label, (_, total) in counts.items() if total < FEW]
    if few:
        yield Markdown(
            f"These classes have fewer than {FEW} clips, so their recall is hardly known: {', '.join(few)}."
        )
    missing = [label for label in results.metrics.get("labels") or [] if label not in counts]
    if counts and missing:
        yield Markdown(f"These classes have no clips, so nothing is known about them here: {join(missing)}.")


def _probabilities(results: DatasetResults) -> Iterator[Markdown]:
    """Says by how much the probabilities are wrong and how often the model is unsure, if it is much."""
    error, coverage = results.metrics.get("ece"), results.metrics.get("coverage")
    if coverage is not None and coverage < WEAK:
        yield Markdown(f'It answers "unsure" for {100 * (1 - coverage):.0f}% of the clips.')
    if error is not None and error > MISCALIBRATED:
        yield Markdown(
            f"Its probabilities differ from the share of correct answers by {100 * error:.0f} points on average."
        )


def _unequal_groups(results: DatasetResults) -> Iterator[Markdown]:
    """Names the groups of clips with the lowest and the highest UAR, if they differ much."""
    for attribute, groups in results.groups.items():
        scores = {group: figures["uar"] for group, figures in groups.items() if figures.get("uar") is not None}
        if len(scores) > 1:
            low, high = (choose(scores, key=lambda group: scores[group]) for choose in (min, max))
            if scores[high] - scores[low] > UNEQUAL:
                yield Markdown(
                    f"By {code(attribute)}, the UAR is lowest for {escape(low)} ({100 * scores[low]:.0f}%) and highest"
                    f" for {escape(high)} ({100 * scores[high]:.0f}%)."
                )


def _share(count: int, total: int) -> str:
    """Formats a share with its counts."""
    return f"{100 * count / total:.0f}% ({count} of {total})"
