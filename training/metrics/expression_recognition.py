"""WAR, UAR, the recall of each class and the confusion matrix, as a module for `evaluate.load`.

Example:
    ```python
    metric = evaluate.load("path/to/expression_recognition.py")
    metric.compute(predictions=["fear"], references=["anger"], labels=["anger", "fear"])
    ```
"""

import datasets
import evaluate

from tgdfer.training.metrics import recognition_figures


class ExpressionRecognition(evaluate.Metric):
    """WAR, UAR, recall of each class and confusion matrix, which papers on facial expression recognition report."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="WAR (accuracy) and UAR (mean recall over the classes) of clips that are labelled by name.",
            citation="",
            inputs_description=(
                "predictions, references: the predicted and the true label of each clip, by name. labels: the names of"
                " all classes, in the order of the confusion matrix."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str], labels: list[str]) -> dict:
        """Compares predicted and true labels; see `tgdfer.training.metrics.recognition_figures`."""
        return recognition_figures(predictions, references, labels)
