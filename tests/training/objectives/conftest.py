"""A small model with descriptions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tgdfer import TGDFERForVideoClassification, TGDFERProcessor

TEXTS = {"anger": ["brows low", "a hard stare"], "fear": ["eyes wide"], "joy": ["a smile", "raised cheeks", "bright"]}


@pytest.fixture
def make_model(clip_folder: Path) -> Callable[..., TGDFERForVideoClassification]:
    """Gives models with three classes, by the fields of their config."""

    def make(**options: object) -> TGDFERForVideoClassification:
        prompts = TGDFERProcessor.from_clip(clip_folder, TEXTS).class_prompts()
        torch.manual_seed(0)
        model = TGDFERForVideoClassification.from_clip(clip_folder, prompts, **options)
        model.freeze_clip()
        return model

    return make
