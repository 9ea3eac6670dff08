"""A trained TG-DFER model that is measured without further training, with its own classes and descriptions."""

import copy
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.explanation_tgdfer import at_temperature
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained


class TrainedModel:
    """A trained model.

    Args:
        source (`str`): Folder of a run or of a model, Hub id, or name of a model in the package.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.name = Path(source).name if Path(source).is_dir() else source
        self.title = f"TG-DFER, {self.name}"

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """The model in `eval` mode, and its processor.

        Raises:
            UserError: If the model cannot be read, or is not a TG-DFER model.
        """
        return load_trained(self.source)

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the model, in the order of its logits."""
        return self.network[0].config.class_names

    def class_indices(self, classes: Sequence[str]) -> list[int]:
        """Returns the indices of `classes` in the logits of the model.

        Raises:
            UserError: If the model lacks one of the classes.
        """
        own = self.classes
        if missing := [label for label in classes if label not in own]:
            raise UserError(
                f"The model {self.name} lacks the classes {', '.join(missing)}, so it cannot be measured on these"
                f" images: choose a model that was trained with {', '.join(classes)}."
            )
        return [own.index(label) for label in classes]

    def video_processor(self, reference: TGDFERVideoProcessor) -> TGDFERVideoProcessor:
        """Returns the video processor of the model for clips of cropped faces. It does not crop again.

        Args:
            reference (`TGDFERVideoProcessor`): Video processor of the other rows. The same frames are sampled.
        """
        processor = copy.copy(self.network[1].video_processor)
        processor.face_crop, processor.sampling, processor.stride = "none", reference.sampling, reference.stride
        return processor

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns the calibrated probabilities (N, K) of the classes, given the logits (N, K)."""
        return at_temperature(logits.float(), self.network[0].config).softmax(-1)

    def confidence(self, probabilities: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """Returns the confidence of the predictions among all classes of the model, for the report.

        Args:
            probabilities (`torch.Tensor` of shape `(N, K)`): Probabilities of the classes.
            labels (`Sequence[str]`): True label of each clip.

        Returns:
            `confidence` is the probability of each predicted class, `right` is whether the prediction is correct, and
            `unsure_below` is the threshold of the model for uncertain predictions.
        """
        best = probabilities.max(-1)
        predicted = [self.classes[index] for index in best.indices.tolist()]
        return {
            "confidence": best.values.tolist(),
            "right": [name == label for name, label in zip(predicted, labels, strict=True)],
            "unsure_below": self.network[0].config.unsure_below,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the calibration and the descriptions of the model."""
        config, processor = self.network[0].config, self.network[1]
        settings = [config.temperature, config.unsure_below, config.description_references, processor.descriptions]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, weight in sorted(self.network[0].state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()
