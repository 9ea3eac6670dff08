"""How well frame scores find the frames that show the emotion, as a module for `evaluate.load`.

Example:
    ```python
    metric = evaluate.load("path/to/frame_localisation.py")
    metric.compute(predictions=[[0.1, 0.7, 0.2]], references=[[0.0, 0.9, 0.4]], threshold=0.5)
    ```
"""

import datasets
import evaluate

from tgdfer.training.metrics import localisation_figures


class FrameLocalisation(evaluate.Metric):
    """Frame AP and pointing over the clips that have frames with and without the emotion."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Frame AP: average precision of the frame scores against intensity >= threshold, mean over clips."
                " Pointing: share of the clips whose top frame reaches the threshold. Clips whose frames all reach the"
                " threshold, or all do not, are left out."
            ),
            citation="",
            inputs_description=(
                "predictions, references: for each clip, the scores and the intensities of its frames. threshold:"
                " intensity from which a frame shows the emotion (0.5 by default)."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[list[float]], threshold: float = 0.5) -> dict:
        """Compares the ranking of frames with the truth; see `tgdfer.training.metrics.localisation_figures`."""
        return localisation_figures(predictions, references, threshold)
