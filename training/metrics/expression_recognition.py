"""WAR, UAR, recall of every class and the confusion matrix, as a module for `evaluate.load`."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import confusion_matrix


class ExpressionRecognition(evaluate.Metric):
    """The figures that papers on facial expression recognition report."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="WAR (accuracy) and UAR (mean recall of the classes) of clip labels given by name.",
            citation="",
            inputs_description=(
                "predictions, references: names of the classes, one a clip. labels: the names of all classes, in the"
                " order of the confusion matrix."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str], labels: list[str]) -> dict:
        """Compares predicted and true labels.

        Args:
            predictions: predicted label of each clip.
            references: true label of each clip.
            labels: all K classes, also those that no clip has.

        Returns:
            `war` and `uar` (0 to 1), `recall` (label to 0..1, None for a class without clips, which `uar` leaves
            out) and `confusion_matrix` (K rows of true classes, K columns of predicted ones, counts).

        Raises:
            ValueError: if a clip has a label that is not among `labels`.
        """
        unknown = sorted({*predictions, *references} - set(labels))
        if unknown:
            raise ValueError(f"Labels that are not among the classes: {', '.join(unknown)}.")
        matrix = confusion_matrix(references, predictions, labels=labels)
        support = matrix.sum(axis=1)
        present = support > 0
        recall = np.diag(matrix)[present] / support[present]
        return {
            "war": float(np.trace(matrix) / matrix.sum()),
            "uar": float(recall.mean()),
            "recall": dict.fromkeys(labels)
            | {label: float(value) for label, value in zip(np.asarray(labels)[present].tolist(), recall, strict=True)},
            "confusion_matrix": matrix.tolist(),
        }
