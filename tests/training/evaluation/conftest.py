"""A model with random weights, and what it says about small clips."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A model of three classes with random weights and its processor, as `save_pretrained` writes them."""
    import torch

    from tgdfer import TGDFERForVideoClassification, TGDFERProcessor

    folder = tmp_path_factory.mktemp("model")
    descriptions = {"happiness": ["a smile"], "neutral": ["at rest"], "sadness": ["a frown"]}
    processor = TGDFERProcessor.from_clip(str(clip_folder), descriptions, num_frames=4)
    model = TGDFERForVideoClassification.from_clip(str(clip_folder), processor.class_prompts(), num_frames=4)
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
