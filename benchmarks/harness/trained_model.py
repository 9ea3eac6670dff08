"""A trained TG-DFER that is measured beside the other rows, as it is: with its own classes and their words."""

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
        source: folder of a run or of a model, Hub id, or the name of a model in the package.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.name = Path(source).name if Path(source).is_dir() else source
        self.title = f"TG-DFER, {self.name}"

    @cached_property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
        """The model in `eval` mode, and its processor.

        Raises:
            UserError: if it cannot be read or is no TG-DFER model.
        """
        return load_trained(self.source)

    @property
    def classes(self) -> list[str]:
        """Names of its classes, in the order of its logits."""
        return [name for _, name in sorted(self.network[0].config.id2label.items())]

    def places(self, classes: Sequence[str]) -> list[int]:
        """Indices of these classes among its own.

        Raises:
            UserError: if it lacks one of them.
        """
        own = self.classes
        if missing := [label for label in classes if label not in own]:
            raise UserError(
                f"The model {self.name} does not know {', '.join(missing)}, so it cannot be measured on these"
                f" pictures: name one that was trained with {', '.join(classes)}."
            )
        return [own.index(label) for label in classes]

    def video_processor(self, like: TGDFERVideoProcessor) -> TGDFERVideoProcessor:
        """Its video processor for clips that are faces already, which it does not crop again.

        Args:
            like: video processor of the other rows, whose frames are taken.
        """
        processor = copy.copy(self.network[1].video_processor)
        processor.face_crop, processor.sampling, processor.stride = "none", like.sampling, like.stride
        return processor

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities (N, K) of its classes, from its logits (N, K)."""
        return at_temperature(logits.float(), self.network[0].config).softmax(-1)

    def confidence(self, probabilities: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """How sure it is of its answers, among all of its classes, for the report.

        Args:
            probabilities: (N, K).
            labels: true label of each clip.

        Returns:
            `confidence`, the probability of each answer; `right`, whether it is right; and `unsure_below`.
        """
        best = probabilities.max(-1)
        answers = [self.classes[index] for index in best.indices.tolist()]
        return {
            "confidence": best.values.tolist(),
            "right": [answer == label for answer, label in zip(answers, labels, strict=True)],
            "unsure_below": self.network[0].config.unsure_below,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights, its calibration and its descriptions."""
        config, processor = self.network[0].config, self.network[1]
        facts = [config.temperature, config.unsure_below, config.description_references, processor.descriptions]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, weight in sorted(self.network[0].state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()
