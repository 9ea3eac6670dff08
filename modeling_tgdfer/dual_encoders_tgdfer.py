"""Supported dual encoders of images and texts, and the code that depends on the type of a tower.

`config.clip_config` is the configuration of a dual encoder, and `TGDFERModel.clip` is the network. Where possible, the
code inspects the modules of a tower instead of its `model_type`. In this way, LoRA finds the blocks and projections of
any tower.
"""

import hashlib
import re
from collections.abc import Collection, Iterator
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

from .configuration_tgdfer import BASIC_EMOTIONS

DUAL_ENCODERS: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPModel,
    "siglip": SiglipModel,  # also SigLIP 2 of fixed resolution
    "vision-text-dual-encoder": VisionTextDualEncoderModel,
}
# Text towers whose `forward` accepts embeddings instead of tokens. Those of CLIP and SigLIP do not.
BERT_LIKE = ("bert", "roberta", "xlm-roberta")
# Text towers of a `VisionTextDualEncoderModel`.
TEXT_TOWERS = ("clip_text_model", *BERT_LIKE)


def require_dual_encoder(config: dict[str, Any], name: Any) -> None:
    """Checks that the configuration of a checkpoint is that of a supported dual encoder.

    Args:
        config (`dict[str, Any]`): Contents of the `config.json`.
        name (`Any`): Name of the checkpoint for messages.

    Raises:
        ValueError: If the dual encoder is not supported.
    """
    kind = config.get("model_type")
    if kind == "siglip2":
        raise ValueError(
            f"{name} is a SigLIP 2 of flexible resolution (NaFlex), whose images have no fixed size; start from one "
            "of fixed resolution, such as google/siglip2-base-patch16-224."
        )
    if kind not in DUAL_ENCODERS:
        raise ValueError(
            f"{name} is not a supported dual encoder (its `model_type` is {kind}). Give the Hub id or folder of a "
            "CLIPModel, SiglipModel or VisionTextDualEncoderModel, such as openai/clip-vit-base-patch16."
        )
    if kind == "vision-text-dual-encoder":
        towers: Any = VisionTextDualEncoderConfig.from_dict(config)
        if towers.text_config.model_type not in TEXT_TOWERS:
            raise ValueError(
                f"The text tower of {name} is of type {towers.text_config.model_type}, which is not supported; use a "
                "text tower of CLIP, BERT, RoBERTa or XLM-RoBERTa."
            )
        if getattr(towers.vision_config, "hidden_size", None) is None:
            raise ValueError(
                f"The config of the vision tower of {name} lacks the width of its pooled output; set "
                "`hidden_size` in its `vision_config`."
            )


def build_dual_encoder(config: Any) -> PreTrainedModel:
    """Builds the network of a configuration with random weights."""
    require_dual_encoder(config.to_dict(), "`clip_config`")
    with torch.device("meta") if _EMPTY.get() else nullcontext():
        return DUAL_ENCODERS[config.model_type]._from_config(config)


_EMPTY: ContextVar[bool] = ContextVar("empty", default=False)


@contextmanager
def empty_dual_encoders() -> Iterator[None]:
    """Context manager in which dual encoders are built without weights. The caller replaces them by loaded ones."""
    token = _EMPTY.set(True)
    try:
        yield
    finally:
        _EMPTY.reset(token)


def embedding_width(config: Any) -> int:
    """Returns the width D of the joint space. SigLIP has no projection, so it is the width of its vision tower."""
    return config.vision_config.hidden_size if config.model_type == "siglip" else config.projection_dim


# Images.


def encode_images(clip: Any, pixels: Tensor) -> Tensor:
    """Encodes images in the joint space: (N, 3, H, W) -> (N, D).

    Raises:
        ValueError: If the vision tower does not pool its output to one vector per image.
    """
    # Convolutions on a CPU are 1.5 times as fast in this layout. It makes no difference for a ViT.
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
    """Returns the index of the first text token of a prompt. Texts of SigLIP have no start token."""
    return 0 if config.model_type == "siglip" else 1


def text_length(config: Any) -> int | None:
    """Returns the number of tokens to which every text must be padded, or None if padding makes no difference.

    SigLIP attends to padding, because it was trained without a mask, and pools the last token.
    """
    return config.text_config.max_position_embeddings if config.model_type == "siglip" else None


def encode_texts(clip: Any, ids: Tensor, embeds: Tensor) -> Tensor:
    """Encodes texts in the joint space. The result is not normalised.

    Args:
        clip (`PreTrainedModel`): The dual encoder.
        ids (`Tensor` of shape `(N, L)`): Tokens, padded on the right.
        embeds (`Tensor` of shape `(N, L, C)`): Embeddings of the tokens, or learned embeddings, without positions.

    Returns:
        `Tensor` of shape `(N, D)`: The texts.
    """
    tower = clip.text_model
    if tower.config.model_type in BERT_LIKE:
        mask = (ids != tower.config.pad_token_id).long()
        return clip.text_projection(tower(inputs_embeds=embeds, attention_mask=mask).pooler_output)
    hidden = tower.embeddings(inputs_embeds=embeds)
    if tower.config.model_type == "siglip_text_model":
        hidden = tower.encoder(inputs_embeds=hidden).last_hidden_state
        return tower.head(tower.final_layer_norm(hidden)[:, -1])
    # CLIP needs no padding mask, because its attention is causal and the output is taken at the first EOS. The last
    # argument is passed by position, because its name differs between versions of transformers.
    mask = create_causal_mask(tower.config, hidden, None, None)
    hidden = tower.encoder(inputs_embeds=hidden, attention_mask=mask, is_causal=True).last_hidden_state
    hidden = tower.final_layer_norm(hidden)
    # The configs of OpenAI have an EOS id of 2 although EOS is the highest id. CLIP uses the argmax in this case.
    is_eos = ids if tower.eos_token_id == 2 else (ids == tower.eos_token_id).int()
    ends = is_eos.argmax(-1).to(hidden.device)
    return clip.text_projection(hidden[torch.arange(ids.shape[0], device=hidden.device), ends])


def drop_text_inputs(kwargs: Any) -> None:
    """Removes text inputs, such as `input_ids`. Some models of peft always pass them, as None, to the wrapped model.

    Raises:
        ValueError: If one of them is not None.
    """
    for name in ("input_ids", "attention_mask", "inputs_embeds", "position_ids", "token_type_ids"):
        if kwargs.pop(name, None) is not None:
            raise ValueError(f"`{name}` is not an input of TG-DFER; give `pixel_values_videos` and `frame_mask`.")


# Cache of the class texts.


class TextCache:
    """Cache of the encoded descriptions. It also holds the state of the weights that encoded them."""

    def __init__(self) -> None:
        self.description_embeds: Tensor | None = None  # (K, M, D)
        self._states: list[Any] = []
        self._sums: Tensor | None = None
        # The memory of the weights. It stays in use, so that other weights cannot get the same address.
        self._bits: list[Tensor] = []

    def drop_if_changed(self, model: Any, weights: list[Tensor]) -> None:
        """Drops the descriptions if the weights that encoded them have changed.

        Version counters do not count writes through `.data`, so the contents are compared as well. In training, the
        contents are not compared, because that would synchronise a GPU at every step. The texts are then cached only
        if the weights are frozen.
        """
        adapters = [_adapter_state(module) for module in model.clip.modules() if _is_adapted(module)]
        states = [*map(_state, weights), *adapters]
        same = self._states == states
        bits = self._bits if same else [_bits(weight) for weight in weights]
        sums = None
        if not model.training:  # The weights may lie on several devices.
            sums = torch.stack([memory.sum(dtype=torch.int64).to(bits[0].device) for memory in bits])
        if same and (sums is None or self._sums is None or torch.equal(sums, self._sums)):
            return
        self.__init__()  # type: ignore[misc]
        self._states, self._sums, self._bits = states, sums, bits


def text_weights(model: Any) -> list[Tensor]:
    """Returns the parameters and buffers of a `TGDFERModel` that encode its descriptions."""
    modules = (model.text_guidance.context, model.clip.text_model, getattr(model.clip, "text_projection", None))
    tensors = [tensor for module in modules if module is not None for tensor in module.parameters()]
    return [*tensors, *model.text_guidance.buffers()]


def can_detect_changes(model: nn.Module, weights: list[Tensor]) -> bool:
    """Whether changes of the weights can be detected. They cannot in replicas, or in offloaded or sharded models."""
    if torch.compiler.is_compiling():
        return True
    plain = all(
        type(weight) in (Tensor, nn.Parameter) and not weight.is_meta and weight.is_contiguous() for weight in weights
    )
    return plain and not getattr(model, "_is_replica", False)


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Returns the address, dtype, device and version of a tensor. Inference tensors have no version."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.dtype, tensor.device, version


def _is_adapted(module: Any) -> bool:
    """Whether a module is a layer of peft, which wraps a layer, or a module that peft trains, which wraps its copy."""
    return hasattr(module, "base_layer") or hasattr(module, "modules_to_save")


def _adapter_state(module: Any) -> tuple[Any, ...]:
    """Returns the adapters of a peft layer that are active or merged, and the scaling of all its adapters."""
    merged, scaling = getattr(module, "merged_adapters", ()), getattr(module, "scaling", None) or {}
    return module.disable_adapters, *module.active_adapters, *merged, *scaling.items()


def _bits(tensor: Tensor) -> Tensor:
    """Returns the memory of a contiguous tensor as integers. Unlike a sum of floats, their sum has no rounding."""
    flat = tensor.detach().flatten().view(torch.uint8)
    aligned = flat.numel() % 8 == 0 and flat.storage_offset() % 8 == 0
    return flat.view(torch.int64) if aligned else flat


# Freezing and LoRA.


def set_mode(clip: nn.Module, training: bool) -> None:
    """Applies `train` or `eval` mode to the dropout of LoRA and to the layers with gradient checkpointing.

    All other layers of the frozen network stay in `eval` mode, without dropout or updates of statistics.
    """
    clip.eval()
    for module in clip.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = training  # only this flag, not those of its submodules
        elif hasattr(module, "lora_dropout"):
            module.lora_dropout.train(training)


def set_timm_checkpointing(clip: Any, enable: bool) -> None:
    """Switches gradient checkpointing of a timm tower on or off, which transformers cannot do."""
    for module in clip.modules():
        if hasattr(module, "timm_model") and module.supports_gradient_checkpointing:
            module.timm_model.set_grad_checkpointing(enable)


def blocks_of(tower: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns the names and modules of the repeated blocks of a tower, such as Transformer layers, in order.

    A block is an innermost member of a `ModuleList` or `Sequential` that contains linear layers or convolutions. It is
    not a `ModuleList` or `Sequential` itself.
    """
    found: dict[str, nn.Module] = {}
    for name, container in tower.named_modules():
        if isinstance(container, nn.ModuleList | nn.Sequential):
            for index, member in container.named_children():
                # A LoRA layer contains linear layers, but it replaces a single one, so it is not a block.
                no_block = isinstance(member, nn.ModuleList | nn.Sequential) or hasattr(member, "base_layer")
                if not no_block and any(_is_adaptable(inner) for inner in list(member.modules())[1:]):
                    found[f"{name}.{index}"] = member
    outer = {name for name in found for other in found if other.startswith(f"{name}.")}
    return [(name, block) for name, block in found.items() if name not in outer]


def lora_targets(tower: nn.Module, count: int, name: str) -> list[str]:
    """Returns the names of the modules in the last `count` blocks that LoRA adapts.

    These are the projections of the attention. In blocks without attention, they are all linear layers and all
    convolutions except depthwise convolutions.

    Args:
        tower (`nn.Module`): The tower.
        count (`int`): Number of blocks.
        name (`str`): Name of the tower for messages, "vision" or "text".

    Returns:
        `list[str]`: Names relative to the tower.

    Raises:
        ValueError: If the tower has fewer blocks.
    """
    blocks = blocks_of(tower)
    if count > len(blocks):
        field = "lora_text_layers" if name == "text" else "lora_layers"
        raise ValueError(f"`{field}` is {count}, but the {name} tower has {len(blocks)} blocks; lower `{field}`.")
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


_LORA = re.compile(r"\.(?:base_layer|lora_)")  # modules of an earlier `attach_lora`


def _is_adaptable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _base_weights(clip: nn.Module, without: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yields the names and weights of a CLIP without LoRA, and without some weights."""
    for name, weight in clip.state_dict().items():
        if "lora_" not in name and name not in without:
            yield name.replace(".base_layer.", "."), weight


def fingerprint(clip: nn.Module, without: Collection[str] = ()) -> str:
    """Computes the SHA-256 of all weights of a CLIP in float32. LoRA changes the result only after merging.

    Args:
        clip (`nn.Module`): The CLIP.
        without (`Collection[str]`, *optional*): Names of weights that are left out.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(_base_weights(clip, without)):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.float().cpu().flatten().numpy().data)
    return digest.hexdigest()


def label_prompts(tokenizer: Any, length: int | None) -> dict[str, Any]:
    """Tokenizes the names of the basic emotions without context, padded to `length` if it is given."""
    padding = {"padding": "max_length", "max_length": length} if length else {"padding": True}
    tokens = tokenizer(list(BASIC_EMOTIONS), padding_side="right", return_tensors="pt", **padding)
    ids = tokens.input_ids.unsqueeze(1)
    mask = torch.ones(ids.shape[:2], dtype=torch.bool)
    return {"labels": list(BASIC_EMOTIONS), "input_ids": ids, "description_mask": mask, "context_length": 0}
