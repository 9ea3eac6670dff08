"""The networks, batches and training steps that the speed benchmark measures, with random weights."""

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
    """How much is measured.

    Attributes:
        clip: fields of the `CLIPConfig`.
        frames: numbers of frames per clip, for inference.
        train_frames: frames per clip, for training.
        batches: numbers of clips per batch.
        epoch_clips: clips of an epoch on cached features.
        epoch_batch: clips per step on cached features.
        growth: sizes at which the cost after CLIP is measured. One of them grows, and the others stay at `usual`.
        usual: number of frames, classes, and descriptions per class.
        repetitions: how often each thing is timed.
        threads: threads on the CPU.
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
class Way:
    """A way to train the network end to end.

    Attributes:
        title: name in reports.
        trains: what is trained of CLIP: "lora", "vision" (the whole vision tower), "all", or nothing ("").
        context: whether there is a learnable context, so that every step encodes the class texts.
        cut: whether prompts are padded to the longest one instead of to the window of the text tower.
        checkpointing: whether activations are computed again in the backward pass instead of being kept.
    """

    title: str
    trains: str
    context: bool = False
    cut: bool = True
    checkpointing: bool = False


WAYS = {
    "lora": Way("LoRA on the last four vision blocks", "lora"),
    "lora-checkpointing": Way("the same, gradient checkpointing", "lora", checkpointing=True),
    "context": Way("LoRA and learnable context", "lora", context=True),
    "context-uncut": Way("the same, prompts of 77 tokens", "lora", context=True, cut=False),
    "vision": Way("vision tower whole", "vision"),
    "vision-checkpointing": Way("the same, gradient checkpointing", "vision", checkpointing=True),
    "all": Way("both towers whole, learnable context", "all", context=True),
}


# A shallow CLIP for measuring what comes after it, so that thousands of texts are encoded at no cost.
SHALLOW = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def network(
    sizes: Sizes,
    device: torch.device,
    classes: Mapping[str, Sequence[str]],
    context: bool = False,
    cut: bool = True,
) -> TGDFERForVideoClassification:
    """A network with random weights and a frozen CLIP."""
    prompts = _prompts(sizes, classes, cut)
    config = TGDFERConfig(
        clip_config=CLIPConfig(**sizes.clip),
        context="shared" if context else "none",
        context_length=prompts["context_length"],
        num_frames=sizes.train_frames,
    )
    model = TGDFERForVideoClassification(config)
    model.set_classes(prompts)
    model.freeze_clip()
    return _moved(model, device)


def _moved(model: TGDFERForVideoClassification, device: torch.device) -> TGDFERForVideoClassification:
    nn.Module.to(model, device)  # the stub of `PreTrainedModel.to` does not name its arguments
    return model


def emotions() -> dict[str, Sequence[str]]:
    """The built-in descriptions of the seven basic emotions."""
    return dict(tgdfer.built_in_descriptions())


def _prompts(sizes: Sizes, classes: Mapping[str, Sequence[str]], cut: bool) -> dict[str, Any]:
    """Prompts like those of `TGDFERProcessor.class_prompts`, of random tokens.

    Each word and each punctuation mark counts as one token, as common words do in the vocabulary of CLIP.
    """
    text = sizes.clip["text_config"]
    begin, end = text["vocab_size"] - 2, text["vocab_size"] - 1
    context = _tokens("a photo of a face:")
    window = text["max_position_embeddings"]
    lengths = [[min(context + _tokens(words), window - 2) for words in several] for several in classes.values()]
    longest = max(itertools.chain(*lengths)) + 2 if cut else window
    ids = torch.full((len(lengths), len(lengths[0]), longest), end)
    for row, column in itertools.product(*map(range, ids.shape[:2])):
        length = lengths[row][column]
        ids[row, column, : length + 1] = torch.cat([torch.tensor([begin]), torch.randint(3, begin, (length,))])
    mask = torch.ones(ids.shape[:2], dtype=torch.bool)
    return {"labels": list(classes), "input_ids": ids, "description_mask": mask, "context_length": context}


def _tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def pixels_of(sizes: Sizes, device: torch.device, batch: int, frames: int) -> Tensor:
    side = sizes.clip["vision_config"]["image_size"]
    return torch.randn(batch, frames, 3, side, side, device=device)


def training_batch(sizes: Sizes, device: torch.device, clips: int) -> dict[str, Tensor]:
    """A batch of random clips for training."""
    pixels = pixels_of(sizes, device, clips, sizes.train_frames)
    return {"pixel_values_videos": pixels, "labels": torch.arange(clips, device=device) % len(emotions())}


def cached_clips(sizes: Sizes) -> FeatureDataset:
    """Random cached features of an epoch, as the training loop reads them."""
    shape = (1, sizes.epoch_clips, sizes.train_frames)
    features = FrameFeatures(
        features=torch.randn(*shape, sizes.clip["projection_dim"]).half(),
        frame_mask=torch.ones(shape, dtype=torch.bool),
        timestamps=torch.arange(sizes.train_frames).div(8.0).expand(shape).contiguous(),
    )
    targets = [number % len(emotions()) for number in range(sizes.epoch_clips)]
    return FeatureDataset(features, range(sizes.epoch_clips), targets, training=True, seed=0)


class Step:
    """A step of the training loop: forward, backward, clipping, AdamW."""

    def __init__(
        self, sizes: Sizes, device: torch.device, way: Way, classes: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.model = network(sizes, device, classes or emotions(), way.context, way.cut)
        clip = self.model.tgdfer.clip
        if way.trains == "lora":
            self.model.attach_lora()
            _moved(self.model, device)
        elif way.trains:
            trained: nn.Module = clip.vision_model if way.trains == "vision" else clip
            trained.requires_grad_()
        if way.checkpointing:
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
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
