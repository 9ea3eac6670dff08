"""Mean average precision of the emotional segments of videos, as a module for `evaluate.load`.

Example:
    ```python
    metric = evaluate.load("path/to/segment_localisation.py")
    found = {"start": 0.4, "end": 2.0, "label": "fear", "confidence": 0.8}
    metric.compute(predictions=[[found]], references=[[{"start": 0.5, "end": 2.1, "label": "fear"}]])
    ```
"""

from collections.abc import Sequence

import datasets
import evaluate

from tgdfer.training.metrics import THRESHOLDS, mean_average_precision


class SegmentLocalisation(evaluate.Metric):
    """Mean average precision of labelled segments, at several overlaps in time."""

    def _info(self) -> evaluate.MetricInfo:
        segment = {
            "start": datasets.Value("float32"),
            "end": datasets.Value("float32"),
            "label": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=(
                "mAP: the predicted segments of a class are ranked by confidence over all videos. One is correct if it"
                " overlaps a true segment of its class that no other has taken: their intersection over union in time"
                " reaches the threshold. Average precision, mean over the classes that occur."
            ),
            citation="",
            inputs_description=(
                "predictions, references: for each video, its segments with start and end in seconds and a label;"
                " predictions also have a confidence. thresholds: values that the overlap must reach."
            ),
            features=datasets.Features(
                {
                    "predictions": [{**segment, "confidence": datasets.Value("float32")}],
                    "references": [segment],
                }
            ),
        )

    def _compute(
        self, predictions: list[list[dict]], references: list[list[dict]], thresholds: Sequence[float] = THRESHOLDS
    ) -> dict:
        """Compares segments with the truth; see `tgdfer.training.metrics.mean_average_precision`."""
        return mean_average_precision(predictions, references, thresholds)
