"""The parts of which `speed.py` is made: each measures one thing, in a process of its own, with random weights."""

import itertools
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

import tgdfer
from tgdfer import TGDFERConfig, TGDFERForVideoClassification
from tgdfer.training.data.batches import EpochSampler
from tgdfer.training.features import FeatureClips, FrameFeatures

# The config of openai/clip-vit-base-patch16, as its checkpoint has it.
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
        frames: frames a clip, for inference.
        train_frames: frames a clip, for training.
        batches: clips a batch.
        epoch_clips: clips of an epoch on cached features.
        epoch_batch: clips a step on cached features.
        growth: sizes over which the cost after CLIP is followed; one grows, the others stay at `usual`.
        usual: frames, classes, and descriptions a class.
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
        title: for people.
        trains: what of CLIP is trained: "lora", "vision" (its tower whole) or "all".
        context: whether there is a learnable context, so that every step reads the class texts.
        cut: whether prompts end with the longest one, and not with the text tower's window.
        checkpointing: whether activations are computed again on the way back, and not kept.
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


def parts(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """The arguments of `measure` for each part, by name."""
    found: dict[str, dict[str, Any]] = {}
    for frames, batch in itertools.product(sizes.frames, sizes.batches):
        found[f"inference-{frames}x{batch}"] = {"kind": "inference", "frames": frames, "batch": batch}
    for axis, training in itertools.product(sizes.growth, (False, True)):
        name = f"{axis}-{'training' if training else 'inference'}"
        found[f"growth-{name}"] = {"kind": "growth", "axis": axis, "training": training}
        found[f"growth-memory-{name}"] = {"kind": "growth-memory", "axis": axis, "training": training}
    for batch, way in itertools.product(sizes.batches, WAYS):
        found[f"training-memory-{way}-{batch}"] = {"kind": "training-memory", "way": way, "batch": batch}
    for way in ("lora", "context"):
        found[f"epoch-{way}"] = {"kind": "epoch", "way": way, "batch": max(sizes.batches)}
    for batch, way in itertools.product(sizes.batches, WAYS):
        found[f"training-{way}-{batch}"] = {"kind": "training", "way": way, "batch": batch}
    return found


# A process that measures memory gives every large tensor back to the system at once: what it holds is then what is in
# use, and not what its allocator keeps in reserve.
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}


def measure(sizes: Sizes, device: str, kind: str, **arguments: Any) -> dict[str, Any]:
    """Measures a part: `seconds` of each thing that is timed, a list of repetitions; or `peak` MiB of memory."""
    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "inference": _inference,
        "training": _training,
        "training-memory": _training_memory,
        "epoch": _epoch,
        "growth": _growth,
        "growth-memory": _growth_memory,
    }
    return measures[kind](sizes, torch.device(device), **arguments)


def _inference(sizes: Sizes, device: torch.device, frames: int, batch: int) -> dict[str, Any]:
    """The network from pixels, its class texts cached, beside its own vision tower on the same frames."""
    model = network(sizes, device, classes=_emotions()).eval()
    tower = model.tgdfer.clip.vision_model
    if device.type == "cuda":
        model.bfloat16()
    pixels = _pixels(sizes, device, batch, frames).to(model.dtype)
    ways = {"tower": lambda: tower(pixels.flatten(0, 1)), "network": lambda: model(pixel_values_videos=pixels)}
    with torch.inference_mode():
        return {"seconds": in_turns(ways, sizes.repetitions, device)}


def _training(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """A training step from pixels, beside CLIP's vision tower alone on the same frames, without gradient."""
    step, clips = _Step(sizes, device, WAYS[way]), _batch(sizes, device, batch)
    tower = CLIPVisionModel._from_config(CLIPConfig(**sizes.clip).vision_config).eval().to(device)

    def look() -> None:
        with torch.inference_mode(), _precision(device):
            tower(clips["pixel_values_videos"].flatten(0, 1))

    return {"seconds": in_turns({"tower": look, "step": lambda: step(clips)}, sizes.repetitions, device)}


def _training_memory(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """Peak memory of training: weights, gradients, state of the optimizer and activations."""
    before = peak_memory(device)
    step, clips = _Step(sizes, device, WAYS[way]), _batch(sizes, device, batch)
    for _ in range(2):  # the first brings the optimizer its state
        step(clips)
    return {"peak": peak_memory(device) - before}


def _epoch(sizes: Sizes, device: torch.device, way: str, batch: int) -> dict[str, Any]:
    """An epoch of everything after CLIP on cached features, beside a training step from pixels."""
    after = _Step(sizes, device, Way("", "", WAYS[way].context))
    data = _cached_clips(sizes)

    def epoch() -> None:
        loader = torch.utils.data.DataLoader(data, sizes.epoch_batch, sampler=EpochSampler(data.targets, 0, False))
        for clips in loader:
            after({name: tensor.to(device) for name, tensor in clips.items()})

    step, clips = _Step(sizes, device, WAYS[way]), _batch(sizes, device, batch)
    ways = {"epoch": epoch, "step": lambda: step(clips)}
    return {"seconds": in_turns(ways, sizes.repetitions, device), "batch": batch}


def _growth(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """What comes after CLIP, on features, while `axis` grows: a forward, or a training step."""
    runs = {size: _after_clip(sizes, device, axis, size, training) for size in sizes.growth[axis]}
    # They are short, so more rounds.
    return {"seconds": in_turns(runs, 4 * sizes.repetitions, device), "batch": max(sizes.batches)}


def _growth_memory(sizes: Sizes, device: torch.device, axis: str, training: bool) -> dict[str, Any]:
    """The peak memory of the same, with the weights of what comes after CLIP."""
    _after_clip(sizes, device, axis, 1, training)()  # what is loaded late is loaded
    before = memory(device)
    peaks: dict[int, float] = {}
    for size in sorted(sizes.growth[axis]):  # ascending, because the peak of a process never falls
        _after_clip(sizes, device, axis, size, training)()
        peaks[size] = peak_memory(device) - before
    return {"peak": peaks}


def _after_clip(sizes: Sizes, device: torch.device, axis: str, size: int, training: bool) -> Callable[[], Any]:
    """A pass of what comes after CLIP on features of which there are `size` along `axis`."""
    amount = {**sizes.usual, axis: size}
    classes = {f"class {number}": ["a face"] * amount["descriptions"] for number in range(amount["classes"])}
    features = torch.randn(max(sizes.batches), amount["frames"], sizes.clip["projection_dim"], device=device)
    shallow = {tower: sizes.clip[tower] | _SHALLOW for tower in ("vision_config", "text_config")}
    sizes = Sizes(**{**vars(sizes), "clip": {**sizes.clip, **shallow}})
    if training:
        step = _Step(sizes, device, Way("", ""), classes)
        labels = torch.arange(len(features), device=device) % len(classes)
        return lambda: step({"frame_features": features, "labels": labels})
    model = network(sizes, device, classes).eval()
    if device.type == "cuda":
        model.bfloat16()
    features = features.to(model.dtype)

    def look() -> None:
        with torch.inference_mode():
            model(frame_features=features)

    look()  # reads the texts
    return look


# What is measured on.

# For what comes after CLIP: it does not know how deep CLIP is, and thousands of texts are read at no cost.
_SHALLOW = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def network(
    sizes: Sizes,
    device: torch.device,
    classes: Mapping[str, Sequence[str]],
    context: bool = False,
    cut: bool = True,
) -> TGDFERForVideoClassification:
    """A network of random weights with its CLIP frozen."""
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
    return model.to(device)


def _emotions() -> dict[str, Sequence[str]]:
    """The built-in words of the seven basic emotions."""
    return dict(tgdfer.built_in_descriptions())


def _prompts(sizes: Sizes, classes: Mapping[str, Sequence[str]], cut: bool) -> dict[str, Any]:
    """Prompts like those of `TGDFERProcessor.class_prompts`, of random tokens.

    A word or a mark counts as one token: CLIP's vocabulary has the common words whole, so that lengths are right.
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


def _pixels(sizes: Sizes, device: torch.device, batch: int, frames: int) -> Tensor:
    side = sizes.clip["vision_config"]["image_size"]
    return torch.randn(batch, frames, 3, side, side, device=device)


def _batch(sizes: Sizes, device: torch.device, clips: int) -> dict[str, Tensor]:
    """A batch for training."""
    pixels = _pixels(sizes, device, clips, sizes.train_frames)
    return {"pixel_values_videos": pixels, "labels": torch.arange(clips, device=device) % len(_emotions())}


def _cached_clips(sizes: Sizes) -> FeatureClips:
    """Cached features of an epoch, as training reads them."""
    shape = (1, sizes.epoch_clips, sizes.train_frames)
    features = FrameFeatures(
        features=torch.randn(*shape, sizes.clip["projection_dim"]).half(),
        frame_mask=torch.ones(shape, dtype=torch.bool),
        timestamps=torch.arange(sizes.train_frames).div(8.0).expand(shape).contiguous(),
    )
    targets = [number % len(_emotions()) for number in range(sizes.epoch_clips)]
    return FeatureClips(features, range(sizes.epoch_clips), targets, training=True, seed=0)


class _Step:
    """A training step, as the training loop takes it: forward, back, clipped, AdamW."""

    def __init__(
        self, sizes: Sizes, device: torch.device, way: Way, classes: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.model = network(sizes, device, classes or _emotions(), way.context, way.cut)
        clip = self.model.tgdfer.clip
        if way.trains == "lora":
            self.model.attach_lora()
            self.model.to(device)
        elif way.trains:
            trained: nn.Module = clip.vision_model if way.trains == "vision" else clip
            trained.requires_grad_()
        if way.checkpointing:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        self.device = device
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-5)

    def __call__(self, batch: Mapping[str, Tensor]) -> None:
        with _precision(self.device):
            loss = self.model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


# How it is measured.


def _precision(device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def in_turns(ways: Mapping[Any, Callable[[], Any]], repetitions: int, device: torch.device) -> dict[Any, list[float]]:
    """Seconds of each way, taken in turns (A B A B), so that what else the machine does meets them alike.

    Args:
        ways: what is timed.
        repetitions: rounds that count; one before them does not.
        device: where it runs.
    """
    for way in ways.values():
        way()
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            _wait(device)
            start = time.perf_counter()
            way()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device: torch.device) -> float:
    """MiB in use now: of this process, or of what it has allocated on a GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return dict(_resident()).get("VmRSS", peak_memory(device))


def peak_memory(device: torch.device) -> float:
    """Most MiB that were in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    # On Linux not from getrusage, by which a process begins with the peak of the one that started it.
    return dict(_resident()).get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def _resident() -> Iterator[tuple[str, float]]:
    """What Linux says of the memory of this process, in MiB."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if match := re.fullmatch(r"(VmHWM|VmRSS):\s+(\d+) kB", line):
            yield match[1], int(match[2]) / 1024
