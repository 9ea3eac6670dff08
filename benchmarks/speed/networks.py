"""Networks with random weights, random batches, and training steps for the speed benchmark."""

import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPConfig

import tgdfer
from tgdfer import TGDFERConfig, TGDFERForVideoClassification
from tgdfer.training.features import FeatureDataset, FrameFeatures

# The configuration of openai/clip-vit-base-patch16.
VIT_B_16 = {
    "projection_dim": 512,
    "text_config": {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    "vision_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    },
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measured networks and batches.

    Attributes:
        clip (`Mapping[str, Any]`, *optional*): Fields of the `CLIPConfig`.
        frames (`Sequence[int]`, *optional*, defaults to `(8, 16)`): Numbers of frames per clip for inference.
        train_frames (`int`, *optional*, defaults to `16`): Number of frames per clip for training.
        batches (`Sequence[int]`, *optional*, defaults to `(1, 4)`): Numbers of clips per batch.
        epoch_clips (`int`, *optional*, defaults to `600`): Number of clips in an epoch on cached features.
        epoch_batch (`int`, *optional*, defaults to `16`): Number of clips per step on cached features.
        growth (`Mapping[str, Sequence[int]]`, *optional*): Sizes at which the part of the network after CLIP is
            measured. One size grows, and the others stay at `usual`.
        usual (`Mapping[str, int]`, *optional*): Default number of frames, classes, and descriptions per class.
        repetitions (`int`, *optional*, defaults to `5`): Number of times that each measurement is repeated.
        threads (`int`, *optional*, defaults to `2`): Number of threads on the CPU.
    """

    clip: Mapping[str, Any] = field(default_factory=lambda: VIT_B_16)
    frames: Sequence[int] = (8, 16)
    train_frames: int = 16
    batches: Sequence[int] = (1, 4)
    epoch_clips: int = 600
    epoch_batch: int = 16
    growth: Mapping[str, Sequence[int]] = field(
        default_factory=lambda: {
            "frames": (8, 16, 32, 64, 128, 256, 512),
            "classes": (7, 11, 25, 50, 100, 250, 500, 1000),
            "descriptions": (1, 2, 5, 10, 25, 50, 100),
        }
    )
    usual: Mapping[str, int] = field(default_factory=lambda: {"frames": 16, "classes": 7, "descriptions": 5})
    repetitions: int = 5
    threads: int = 2


@dataclass(frozen=True)
class TrainingMode:
    """A mode of training the network end to end.

    Attributes:
        title (`str`): Name in reports.
        trained_clip (`str`): Trained part of CLIP: "lora", "vision" (the full vision tower), "all", or "" for none.
        context (`bool`, *optional*, defaults to `False`): Whether the context is learnable, so that every step encodes
            the class texts.
        trim_prompts (`bool`, *optional*, defaults to `True`): Whether prompts are padded to the length of the longest
            one, and not to that of the text tower.
        checkpointing (`bool`, *optional*, defaults to `False`): Whether gradient checkpointing is used.
    """

    title: str
    trained_clip: str
    context: bool = False
    trim_prompts: bool = True
    checkpointing: bool = False


TRAINING_MODES = {
    "lora": TrainingMode("LoRA on the last four vision blocks", "lora"),
    "lora-checkpointing": TrainingMode("the same, gradient checkpointing", "lora", checkpointing=True),
    "context": TrainingMode("LoRA and learnable context", "lora", context=True),
    "context-uncut": TrainingMode("the same, prompts of 77 tokens", "lora", context=True, trim_prompts=False),
    "vision": TrainingMode("full vision tower", "vision"),
    "vision-checkpointing": TrainingMode("the same, gradient checkpointing", "vision", checkpointing=True),
    "all": TrainingMode("both full towers, learnable context", "all", context=True),
}


# A tiny CLIP for measuring the part of the network after it. Encoding thousands of texts with it takes almost no time.
SHALLOW = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def network(
    sizes: Sizes,
    device: torch.device,
    classes: Mapping[str, Sequence[str]],
    context: bool = False,
    trim_prompts: bool = True,
) -> TGDFERForVideoClassification:
    """Returns a network with random weights and a frozen CLIP.

    Args:
        sizes (`Sizes`): Sizes of the network.
        device (`torch.device`): Device of the network.
        classes (`Mapping[str, Sequence[str]]`): Descriptions of each class.
        context (`bool`, *optional*, defaults to `False`): As in `TrainingMode`.
        trim_prompts (`bool`, *optional*, defaults to `True`): As in `TrainingMode`.
    """
    prompts = _prompts(sizes, classes, trim_prompts)
    config = TGDFERConfig(
        clip_config=CLIPConfig(**sizes.clip),
        context="shared" if context else "none",
        context_length=prompts["context_length"],
        num_frames=sizes.train_frames,
    )
    model = TGDFERForVideoClassification(config)
    model.set_classes(prompts)
    model.freeze_clip()
    return _to_device(model, device)


def _to_device(model: TGDFERForVideoClassification, device: torch.device) -> TGDFERForVideoClassification:
    nn.Module.to(model, device)  # The type annotation of `PreTrainedModel.to` lacks the arguments.
    return model


def emotions() -> dict[str, Sequence[str]]:
    """Returns the built-in descriptions of the seven basic emotions."""
    return dict(tgdfer.built_in_descriptions())


def _prompts(sizes: Sizes, classes: Mapping[str, Sequence[str]], trim: bool) -> dict[str, Any]:
    """Returns prompts of random tokens in the format of `TGDFERProcessor.class_prompts`.

    Each word and each punctuation mark counts as one token, like common words in the vocabulary of CLIP.
    """
    text = sizes.clip["text_config"]
    begin, end = text["vocab_size"] - 2, text["vocab_size"] - 1
    context = _tokens("a photo of a face:")
    window = text["max_position_embeddings"]
    lengths = [[min(context + _tokens(text), window - 2) for text in texts] for texts in classes.values()]
    longest = max(itertools.chain(*lengths)) + 2 if trim else window
    ids = torch.full((len(lengths), len(lengths[0]), longest), end)
    for row, column in itertools.product(*map(range, ids.shape[:2])):
        length = lengths[row][column]
        ids[row, column, : length + 1] = torch.cat([torch.tensor([begin]), torch.randint(3, begin, (length,))])
    mask = torch.ones(ids.shape[:2], dtype=torch.bool)
    return {"labels": list(classes), "input_ids": ids, "description_mask": mask, "context_length": context}


def _tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def random_pixels(sizes: Sizes, device: torch.device, batch: int, frames: int) -> Tensor:
    """Returns random frames (B, T, 3, H, W)."""
    side = sizes.clip["vision_config"]["image_size"]
    return torch.randn(batch, frames, 3, side, side, device=device)


def training_batch(sizes: Sizes, device: torch.device, clips: int) -> dict[str, Tensor]:
    """Returns a training batch of random clips."""
    pixels = random_pixels(sizes, device, clips, sizes.train_frames)
    return {"pixel_values_videos": pixels, "labels": torch.arange(clips, device=device) % len(emotions())}


def cached_clips(sizes: Sizes) -> FeatureDataset:
    """Returns random cached features of an epoch, in the format of the training loop."""
    shape = (1, sizes.epoch_clips, sizes.train_frames)
    features = FrameFeatures(
        features=torch.randn(*shape, sizes.clip["projection_dim"]).half(),
        frame_mask=torch.ones(shape, dtype=torch.bool),
        timestamps=torch.arange(sizes.train_frames).div(8.0).expand(shape).contiguous(),
    )
    targets = [number % len(emotions()) for number in range(sizes.epoch_clips)]
    return FeatureDataset(features, range(sizes.epoch_clips), targets, training=True, seed=0)


class Step:
    """A training step: forward pass, backward pass, gradient clipping and AdamW.

    Args:
        sizes (`Sizes`): Sizes of the network.
        device (`torch.device`): Device of the network.
        mode (`TrainingMode`): The training mode.
        classes (`Mapping[str, Sequence[str]]`, *optional*): Descriptions of each class. None uses the built-in
            descriptions.
    """

    def __init__(
        self,
        sizes: Sizes,
        device: torch.device,
        mode: TrainingMode,
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.model = network(sizes, device, classes or emotions(), mode.context, mode.trim_prompts)
        clip = self.model.tgdfer.clip
        if mode.trained_clip == "lora":
            self.model.attach_lora()
            _to_device(self.model, device)
        elif mode.trained_clip:
            trained: nn.Module = clip.vision_model if mode.trained_clip == "vision" else clip
            trained.requires_grad_()
        if mode.checkpointing:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        self.device = device
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-5)

    def __call__(self, batch: Mapping[str, Tensor]) -> None:
        with precision(self.device):
            loss = self.model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def precision(device: torch.device) -> AbstractContextManager:
    """Returns a context in which a GPU computes in bfloat16, and a CPU in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
