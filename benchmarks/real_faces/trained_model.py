"""A trained TG-DFER that is measured beside the other rows, as it is: with its own classes and their words."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.errors import UserError
from tgdfer.training.models import load_trained


class TrainedModel:
    """A trained model.

    Args:
        source: folder of a run or of a model, or Hub id.
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

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.network[0].state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()
