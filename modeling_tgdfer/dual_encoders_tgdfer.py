"""Dual encoders of images and texts that a model may stand on, and all that is known about kinds of towers.

`config.clip_config` holds the configuration of any of them, and `TGDFERModel.clip` is the network. A tower is known by
its structure where that is enough: LoRA finds blocks and their projections in networks that this file never names.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPModel
from transformers.models.siglip.modeling_siglip import SiglipModel
from transformers.models.vision_text_dual_encoder.configuration_vision_text_dual_encoder import (
    VisionTextDualEncoderConfig,
)
from transformers.models.vision_text_dual_encoder.modeling_vision_text_dual_encoder import VisionTextDualEncoderModel

DUAL_ENCODERS: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPModel,
    "siglip": SiglipModel,  # SigLIP 2 too, at fixed resolution
    "vision-text-dual-encoder": VisionTextDualEncoderModel,
}
# These pass embeddings in place of tokens through their `forward`. The towers of CLIP and SigLIP do not.
BERT_LIKE = ("bert", "roberta", "xlm-roberta")
# Text towers of a `VisionTextDualEncoderModel`.
TEXT_TOWERS = ("clip_text_model", *BERT_LIKE)


def require_dual_encoder(config: dict[str, Any], name: Any) -> None:
    """Refuses a checkpoint whose configuration, read as a dictionary, is not one of a dual encoder that is supported.

    Raises:
        ValueError: It is not; the sentence names `name` and the remedy.
    """
    kind = config.get("model_type")
    if kind == "siglip2":
        raise ValueError(
            f"{name} is a SigLIP 2 of flexible resolution (NaFlex), whose pictures have no fixed size: start from one "
            "of fixed resolution, such as google/siglip2-base-patch16-224."
        )
    if kind not in DUAL_ENCODERS:
        raise ValueError(
            f"{name} is a checkpoint of {kind or 'another program'}: give the Hub id or folder of a CLIP, "
            "such as openai/clip-vit-base-patch16."
        )
    if kind == "vision-text-dual-encoder":
        towers: Any = VisionTextDualEncoderConfig.from_dict(config)
        if towers.text_config.model_type not in TEXT_TOWERS:
            raise ValueError(
                f"The text tower of {name} is of type {towers.text_config.model_type}, which cannot take learnt "
                "context; use a text tower of CLIP, BERT, RoBERTa or XLM-RoBERTa."
            )
        if getattr(towers.vision_config, "hidden_size", None) is None:
            raise ValueError(
                f"The config of the vision tower of {name} does not say how wide its pooled output is; set "
                "`hidden_size` in its `vision_config`."
            )


def build_dual_encoder(config: Any) -> PreTrainedModel:
    """The network of a configuration, with random weights."""
    require_dual_encoder(config.to_dict(), "`clip_config`")
    with torch.device("meta") if _EMPTY.get() else nullcontext():
        return DUAL_ENCODERS[config.model_type]._from_config(config)


_EMPTY: ContextVar[bool] = ContextVar("empty", default=False)


@contextmanager
def empty_dual_encoders() -> Iterator[None]:
    """Dual encoders that are built within have no weights, because others are about to take their place."""
    token = _EMPTY.set(True)
    try:
        yield
    finally:
        _EMPTY.reset(token)


def embedding_width(config: Any) -> int:
    """Width D of the joint space; SigLIP has no projection, so that it is the width of its vision tower."""
    return config.vision_config.hidden_size if config.model_type == "siglip" else config.projection_dim


# Images.


def encode_images(clip: Any, pixels: Tensor) -> Tensor:
    """Images in the joint space: (N, 3, H, W) -> (N, D).

    Raises:
        ValueError: The vision tower does not pool its output to one vector for each image.
    """
    # Convolutions on a CPU run half as fast again in this layout; it changes nothing for a ViT.
    pixels = pixels.to(clip.logit_scale.dtype, memory_format=torch.channels_last)
    pooled = clip.vision_model(pixel_values=pixels).pooler_output
    if pooled is None or pooled.ndim != 2:
        raise ValueError(
            f"The vision tower, a {type(clip.vision_model).__name__}, gives "
            f"{'no pooled output' if pooled is None else f'a pooled output of shape {tuple(pooled.shape)}'}; use a "
            "tower that pools each image to one vector."
        )
    return clip.visual_projection(pooled) if hasattr(clip, "visual_projection") else pooled


# Texts.


def context_start(config: Any) -> int:
    """Where a prompt's text starts: the texts of SigLIP have no token of their beginning."""
    return 0 if config.model_type == "siglip" else 1


def text_length(config: Any) -> int | None:
    """Tokens that every text is padded to; None where padding makes no difference.

    SigLIP sees padding, because it was trained without a mask, and pools the last token.
    """
    return config.text_config.max_position_embeddings if config.model_type == "siglip" else None


def encode_texts(clip: Any, ids: Tensor, embeds: Tensor) -> Tensor:
    """Texts in the joint space, of any length.

    Args:
        clip: The dual encoder.
        ids: (N, L) tokens, padded on the right.
        embeds: (N, L, C) embeddings of the tokens, before positions are added; some may be learnt.

    Returns:
        (N, D).
    """
    tower = clip.text_model
    if tower.config.model_type in BERT_LIKE:
        mask = (ids != tower.config.pad_token_id).long()
        return clip.text_projection(tower(inputs_embeds=embeds, attention_mask=mask).pooler_output)
    hidden = tower.embeddings(inputs_embeds=embeds)
    if tower.config.model_type == "siglip_text_model":
        hidden = tower.encoder(inputs_embeds=hidden).last_hidden_state
        return tower.head(tower.final_layer_norm(hidden)[:, -1])
    # CLIP needs no mask of padding: it is causal, and read at the first EOS.
    # By position, because the name of the last one, a cache, differs between the versions of transformers.
    mask = create_causal_mask(tower.config, hidden, None, None)
    hidden = tower.encoder(inputs_embeds=hidden, attention_mask=mask, is_causal=True).last_hidden_state
    hidden = tower.final_layer_norm(hidden)
    # OpenAI's configs say that EOS is 2 although it is the highest id; CLIP reads them by argmax, and so do we.
    is_eos = ids if tower.eos_token_id == 2 else (ids == tower.eos_token_id).int()
    ends = is_eos.argmax(-1).to(hidden.device)
    return clip.text_projection(hidden[torch.arange(ids.shape[0], device=hidden.device), ends])


def drop_text_inputs(kwargs: Any) -> None:
    """Drops the inputs of language models that peft passes as None to models of its task types.

    Raises:
        ValueError: If one of them is not None.
    """
    for name in ("input_ids", "attention_mask", "inputs_embeds", "position_ids", "token_type_ids"):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"`{name}` is not an input of TG-DFER: give `pixel_values_videos` and `frame_mask`.")


# Reading the class texts once.


class TextsRead:
    """Single descriptions that were read once, with the weights they were read with."""

    def __init__(self) -> None:
        self.description_embeds: Tensor | None = None  # (K, M, D)
        self._read_with: list[Any] = []
        self._sums: Tensor | None = None
        # Other weights could come to lie at the same address if these were freed.
        self._held: list[Tensor] = []

    def drop_if_changed(self, model: Any, readers: list[Tensor]) -> None:
        """Drops the descriptions where something that they were read with is not as it was.

        Writes are counted, except those through `.data`, so the contents are compared, too. In training they are not:
        the texts are kept only if their readers are frozen, and a GPU would have to wait at every step.
        """
        adapters = [_adapter_state(module) for module in model.clip.modules() if hasattr(module, "lora_A")]
        read_with = [*map(_state, readers), *adapters]
        sums = None if model.training else torch.stack([_sum_of_bits(reader) for reader in readers])
        same = self._read_with == read_with and (sums is None or self._sums is None or torch.equal(sums, self._sums))
        if same:
            return
        self.__init__()  # type: ignore[misc]
        self._read_with, self._sums, self._held = read_with, sums, [reader.detach() for reader in readers]


def text_readers(model: Any) -> list[Tensor]:
    """What the single descriptions of a `TGDFERModel` are read with."""
    modules = (model.text_guidance.context, model.clip.text_model, getattr(model.clip, "text_projection", None))
    tensors = [tensor for module in modules if module is not None for tensor in module.parameters()]
    return [*tensors, *model.text_guidance.buffers()]


def can_be_watched(model: nn.Module, readers: list[Tensor]) -> bool:
    """Whether changes of the readers can be seen: not in replicas of `DataParallel`, offloaded or sharded weights."""
    if torch.compiler.is_compiling():
        return True
    plain = all(type(reader) in (Tensor, nn.Parameter) and not reader.is_meta for reader in readers)
    return plain and not getattr(model, "_is_replica", False)


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor lies, as what, and how often it was written to, which inference tensors do not count."""
    written = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.dtype, tensor.device, written


def _adapter_state(module: Any) -> tuple[Any, ...]:
    """Which adapters of a layer of peft are used, and how strongly."""
    return module.disable_adapters, *module.active_adapters, *module.merged_adapters, *module.scaling.items()


@torch.no_grad()
def _sum_of_bits(tensor: Tensor) -> Tensor:
    """Sum of a tensor's memory as integers: unlike a sum of numbers, it has no rounding that would hide a change."""
    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    aligned = flat.numel() % 8 == 0 and flat.storage_offset() % 8 == 0
    return (flat.view(torch.int64) if aligned else flat).sum(dtype=torch.int64)


# Freezing and LoRA.


def set_mode(clip: nn.Module, training: bool) -> None:
    """Keeps a frozen network as in `eval` mode: running statistics stay, and nothing is dropped.

    In training only two things follow the mode: dropout of LoRA, and layers that can recompute their activations.
    """
    clip.eval()
    for module in clip.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = training  # this flag alone, not those of the modules inside
        elif hasattr(module, "lora_dropout"):
            module.lora_dropout.train(training)


def set_timm_checkpointing(clip: Any, enable: bool) -> None:
    """Recomputes activations of a timm tower in the backward pass, which transformers does not reach from outside."""
    for module in clip.modules():
        if hasattr(module, "timm_model") and module.supports_gradient_checkpointing:
            module.timm_model.set_grad_checkpointing(enable)


def blocks_of(tower: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of a tower with their names, from the input on: layers of a Transformer, residual blocks.

    They are the smallest members of lists and sequences that have matrices or convolutions inside.
    """
    found: dict[str, nn.Module] = {}
    for name, container in tower.named_modules():
        if isinstance(container, nn.ModuleList | nn.Sequential):
            for index, member in container.named_children():
                # A layer of LoRA has matrices inside, and stands in for one.
                no_block = isinstance(member, nn.ModuleList | nn.Sequential) or hasattr(member, "base_layer")
                if not no_block and any(_is_adaptable(inner) for inner in list(member.modules())[1:]):
                    found[f"{name}.{index}"] = member
    outer = {name for name in found for other in found if other.startswith(f"{name}.")}
    return [(name, block) for name, block in found.items() if name not in outer]


def lora_targets(tower: nn.Module, count: int, name: str) -> list[str]:
    """Names of the modules of the last `count` blocks that LoRA adapts.

    These are the projections of attention. In blocks without attention they are all convolutions and matrices, except
    depthwise convolutions.

    Raises:
        ValueError: The tower, which is called `name` in the sentence, has fewer blocks.
    """
    blocks = blocks_of(tower)
    if count > len(blocks):
        raise ValueError(f"LoRA is asked for on {count} blocks, but the {name} tower has {len(blocks)}.")
    targets = []
    for prefix, block in blocks[len(blocks) - count :]:
        inside = [
            path
            for path, module in block.named_modules()
            if _is_adaptable(getattr(module, "base_layer", module)) and not _LORA.search(path)
        ]
        attention = [path for path in inside if "attn" in path or "attention" in path]
        targets += [f"{prefix}.{path}" for path in attention or inside]
    return targets


_LORA = re.compile(r"\.(?:base_layer|lora_)")  # of an earlier `attach_lora`


def _is_adaptable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
