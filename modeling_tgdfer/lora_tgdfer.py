"""LoRA: attaching it to the towers of CLIP, merging it, and the fields of peft's `LoraConfig` that can be set."""

import copy
import difflib
import functools
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from .configuration_tgdfer import TGDFERConfig
from .dual_encoders_tgdfer import blocks_of, fingerprint, lora_targets

# Name of our LoRA in peft. It differs from "default", which peft uses for LoRA that is added without a name.
LORA_NAME = "tgdfer"


def _is_number(value: Any, kind: Any = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and 0 < value < math.inf


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)
    )


def _are_layers(value: Any) -> bool:
    layers = value if isinstance(value, list | tuple) else [value]
    return bool(layers) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in layers)


def _is_pattern(value: Any, kind: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and _is_number(v, kind) for k, v in value.items())


_BOOL = ("true or false", lambda value: isinstance(value, bool))
_TEXTS = ("a text or a list of texts", _is_text_or_texts)
# Fields of `LoraConfig` that a config may set: what their values must be, in words and as a test.
LORA_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "r": ("a whole number above 0", lambda value: _is_number(value, int)),
    "lora_alpha": ("a number above 0", _is_number),
    "lora_dropout": ("at least 0 and below 1", lambda value: value == 0 or (_is_number(value) and value < 1)),
    "target_modules": _TEXTS,
    "exclude_modules": _TEXTS,
    "layers_to_transform": ("the index of a layer or a list of such indices", _are_layers),
    "layers_pattern": _TEXTS,
    "rank_pattern": ("a mapping of module names to ranks", lambda value: _is_pattern(value, int)),
    "alpha_pattern": ("a mapping of module names to numbers", lambda value: _is_pattern(value, (int, float))),
    "bias": ("none, all or lora_only", lambda value: value in ("none", "all", "lora_only")),
    "use_rslora": _BOOL,
    "use_dora": _BOOL,
    "lora_bias": _BOOL,
    "init_lora_weights": (
        "true, false, gaussian or orthogonal, because the others change the weights of CLIP, need a pass over the data"
        " or freeze a part of LoRA",
        lambda value: isinstance(value, bool) or value in ("gaussian", "orthogonal"),
    ),
}
_BY_PEFT = "peft sets it itself"
_QUANTISED = "CLIP is not quantised here"
_NEEDS_DATA = "it starts from statistics of the data, which are not computed here"
_CHANGES_CLIP = "it changes the weights of CLIP before training, so that an adapter would no longer fit its CLIP"
_SERVING = "it is for serving many adapters of a language model"
# Fields of `LoraConfig` that make no sense for the towers, with the reason.
REFUSED_LORA_FIELDS = {
    "task_type": "it is for the heads of peft, and TG-DFER has its own head",
    "peft_type": _BY_PEFT,
    "auto_mapping": _BY_PEFT,
    "peft_version": _BY_PEFT,
    "base_model_name_or_path": "the config records the CLIP in `clip_name`",
    "revision": "the config records the commit of the CLIP in `clip_revision`",
    "inference_mode": "LoRA is trained here, and merged for inference",
    "fan_in_fan_out": "it is for the layers of GPT-2, which store their weights transposed",
    "modules_to_save": "it copies whole modules; train them in place with `--unfreeze` of `tgdfer train`",
    "megatron_config": "the towers are not parallelised with Megatron",
    "megatron_core": "the towers are not parallelised with Megatron",
    "trainable_token_indices": "the learned context before the descriptions takes the place of trained tokens",
    "loftq_config": _QUANTISED,
    "use_qalora": _QUANTISED,
    "qalora_group_size": _QUANTISED,
    "eva_config": _NEEDS_DATA,
    "corda_config": _NEEDS_DATA,
    "lora_ga_config": _NEEDS_DATA,
    "velora_config": "it changes what is kept for the backward pass; gradient checkpointing also saves memory",
    "alora_invocation_tokens": "it is for language models that generate tokens",
    "monteclora_config": "it needs samples and a term of the loss that are not computed here",
    "kasa_config": _CHANGES_CLIP,
    "layer_replication": "it repeats layers, so that LoRA could not be merged",
    "runtime_config": "it is for a CLIP that is offloaded from the GPU",
    "target_parameters": "it is for parameters outside linear layers and convolutions, which the towers do not adapt",
    "use_bdlora": _SERVING,
    "arrow_config": _SERVING,
    "ensure_weight_tying": "the towers share no weights",
}


def check_lora_options(name: str, options: Mapping[str, Any] | None) -> None:
    """Checks the fields of `LoraConfig` in a config.

    Args:
        name (`str`): Name of the field of `TGDFERConfig` for messages.
        options (`Mapping[str, Any]`, *optional*): Fields of `LoraConfig`.

    Raises:
        ValueError: If a field does not exist, makes no sense here, or has a value that is not allowed.
    """
    for field, value in (options or {}).items():
        if field in REFUSED_LORA_FIELDS:
            raise ValueError(f"`{name}` cannot set {field!r}: {REFUSED_LORA_FIELDS[field]}.")
        if field not in LORA_FIELDS:
            similar = difflib.get_close_matches(str(field), LORA_FIELDS, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"known are: {', '.join(LORA_FIELDS)}."
            raise ValueError(f"`{name}` has the unknown field {field!r}; {hint}")
        words, is_allowed = LORA_FIELDS[field]
        if not is_allowed(value):
            raise ValueError(f"`{name}` has the value {value!r} for {field!r}; it must be {words}.")


def lora_fields(config: TGDFERConfig, clip: Any, tower: str) -> dict[str, Any]:
    """Returns the fields of `LoraConfig` for a tower. They are empty if the config adapts no module of it.

    Args:
        config (`TGDFERConfig`): The config. `lora_options` and `lora_text_options` override its other fields.
        clip (`PreTrainedModel`): The dual encoder.
        tower (`str`): "vision" or "text".

    Raises:
        ValueError: If an option is not valid, or has nothing to adapt.
    """
    infix = "text_" if tower == "text" else ""
    name, layers = f"lora_{infix}options", f"lora_{infix}layers"
    options, count = dict(getattr(config, name) or {}), getattr(config, layers)
    check_lora_options(name, options)
    module = getattr(clip, f"{tower}_model")
    if "target_modules" not in options:
        # Which of the layers are adapted is then not decided by their number.
        count = len(blocks_of(module)) if "layers_to_transform" in options else count
        if not count:
            if options:
                raise ValueError(
                    f"`{name}` is set, but `{layers}` is 0, so LoRA adapts nothing in the {tower} tower; set "
                    f"`{layers}` or the field 'target_modules'."
                )
            return {}
        options["target_modules"] = lora_targets(module, count, tower)
    fields = {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout}
    return fields | options


class _KeepsLora:
    """Mixin for layers of peft that keeps the LoRA of TG-DFER active when other adapters are activated.

    Without it, `get_peft_model` would deactivate our LoRA.
    """

    def set_adapter(self, adapter_names: str | list[str], *args: Any, **kwargs: Any) -> None:
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        layer: Any = super()
        layer.set_adapter([*(name for name in names if name != LORA_NAME), LORA_NAME], *args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # pickle would look for the derived class in a module, so it gets the class of peft instead.
        reduced: Any = super().__reduce_ex__(protocol)
        return _without_init, (type(self).__bases__[1],), *reduced[2:]


@functools.cache
def _with_kept_lora(layer: Any) -> Any:
    """Derives a class from a class of peft layers. It keeps the LoRA of TG-DFER active."""
    return type(f"TGDFER{layer.__name__}", (_KeepsLora, layer), {})


def _without_init(layer: Any) -> Any:
    """Makes an empty layer of the class derived from `layer`, which pickle and copy then fill."""
    derived = _with_kept_lora(layer)
    return derived.__new__(derived)


def _is_lora(module: nn.Module) -> bool:
    # If peft was not imported, no module can be an instance of its classes.
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.LoraLayer)


def _inject(tower: Any, fields: Mapping[str, Any], name: str) -> None:
    """Replaces modules of a tower by layers of peft with LoRA.

    Args:
        tower: The tower.
        fields: Fields of `LoraConfig`.
        name: Field of `TGDFERConfig` for messages.

    Raises:
        ImportError: If peft is not installed.
        ValueError: If the fields do not fit the tower.
    """
    # peft is slow to import. It is needed only in training, because LoRA is merged in published models.
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs peft: `pip install peft`.") from error
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**fields), tower, LORA_NAME)
    except ValueError as error:
        raise ValueError(f"`{name}` does not fit the tower: {error}") from error
    adapted = [path for path, module in tower.named_modules() if _is_lora(module)]
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in fields.get(field) or {}:
            if not any(re.match(rf"(.*\.)?({pattern})$", path) for path in adapted):
                raise ValueError(f"`{name}` has {pattern!r} in {field!r}, but no module with LoRA has this name.")
    for module in tower.modules():
        if _is_lora(module):
            # Classes that are registered with peft (`_register_custom_module`, which is private) would replace its
            # choice of a layer, but ours has to derive from that layer. So the class is changed afterwards.
            layer: Any = type(module)
            module.__class__ = _with_kept_lora(layer)
            for inner in module.modules():
                inner._is_hf_initialized = True  # otherwise transformers initialises LoRA again


class AdaptedModel(PreTrainedModel):
    """Base class that freezes CLIP, and attaches and merges LoRA."""

    config: TGDFERConfig

    def freeze_clip(self) -> None:
        """Freezes CLIP except for LoRA and the biases that LoRA trains. Every method that loads a model calls it."""
        biases = self.lora_biases
        for name, parameter in self.base_model.clip.named_parameters():
            parameter.requires_grad_("lora_" in name or name in biases)

    @property
    def has_lora(self) -> bool:
        """Whether LoRA is attached and not merged."""
        return any(_is_lora(module) for module in self.modules())

    @property
    def lora_biases(self) -> set[str]:
        """Names in CLIP of the biases that are trained with LoRA, as the field `bias` of `LoraConfig` sets."""
        names: set[str] = set()
        for tower, fields in (self.base_model.__dict__.get("_attached_lora") or {}).items():
            module = getattr(self.base_model.clip, f"{tower}_model")
            kind = fields.get("bias", "none")
            if kind == "all":
                found = [name for name, _ in module.named_parameters() if name.split(".")[-1] == "bias"]
                names |= {f"{tower}_model.{name}" for name in found if "lora_" not in name}
            elif kind == "lora_only":
                layers = [(name, layer) for name, layer in module.named_modules() if _is_lora(layer)]
                names |= {
                    f"{tower}_model.{name}.base_layer.bias"
                    for name, layer in layers
                    if getattr(layer.get_base_layer(), "bias", None) is not None
                }
        return names

    def attach_lora(self) -> None:
        """Attaches LoRA (Hu et al., 2021) to CLIP, as set by the config.

        By default LoRA adapts the attention projections of the last blocks, or the linear layers and convolutions of
        blocks without attention. It starts at zero, so the outputs do not change. All other weights of CLIP are
        frozen. LoRA that is already attached is kept. `lora_options` and `lora_text_options` of the config set other
        fields of peft's `LoraConfig`.

        Raises:
            ImportError: If peft is not installed.
            ValueError: If the config sets more blocks than a tower has, has a field of `LoraConfig` that is not valid,
                or does not match LoRA that is already attached.
        """
        base: Any = self.base_model
        wanted = {tower: lora_fields(self.config, base.clip, tower) for tower in ("vision", "text")}
        wanted = {tower: fields for tower, fields in wanted.items() if fields}
        if any(_is_lora(module) for module in base.clip.modules()):
            if base.__dict__.get("_attached_lora") != wanted:
                raise ValueError(
                    "The attached LoRA does not match the config (`lora_layers`, `lora_text_layers`, `lora_options`, "
                    "`lora_text_options`, `lora_rank`); call `merge_lora` first, or leave these fields as they were."
                )
            return
        if not wanted:
            return
        for tower, fields in wanted.items():
            name = "lora_text_options" if tower == "text" else "lora_options"
            _inject(getattr(base.clip, f"{tower}_model"), fields, name)
        base.__dict__["_attached_lora"] = wanted
        is_new = not self.config.lora_attached  # not while a model with LoRA is loaded
        self.config.lora_attached = True
        self.freeze_clip()
        # An adapter contains the trained biases. Its CLIP is later recognised by its other weights.
        if is_new and self.lora_biases and self.config.clip_frozen_sha256 is None:
            started_here = fingerprint(base.clip) == self.config.clip_sha256
            self.config.clip_frozen_sha256 = fingerprint(base.clip, self.lora_biases) if started_here else None

    def merge_lora(self) -> None:
        """Merges LoRA into the weights that it adapts. The outputs do not change."""
        for name, module in list(self.named_modules()):
            if _is_lora(module):
                module.merge(safe_merge=True)
                self.set_submodule(name, module.get_base_layer())
        clip: Any = self.base_model.clip
        for module in (self, clip, clip.vision_model, clip.text_model):
            module.__dict__.pop("peft_config", None)
        self._hf_peft_config_loaded = False  # otherwise transformers would look for adapters when it saves
        self.forget_lora()
        self.base_model.train(self.base_model.training)  # drops the cached class texts

    def forget_lora(self) -> None:
        """Records that LoRA is not attached. peft's `merge_and_unload` merges it without telling the model."""
        self.base_model.__dict__.pop("_attached_lora", None)
        self.config.lora_attached, self.config.clip_frozen_sha256 = False, None

    def add_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Adds an adapter as `PreTrainedModel.add_adapter`.

        Raises:
            ValueError: If the LoRA of TG-DFER is attached, because transformers cannot save both.
        """
        if self.config.lora_attached:
            raise ValueError("LoRA is attached already; call `merge_lora` first, or use `peft.get_peft_model`.")
        super().add_adapter(*args, **kwargs)

    def merged_copy(self, state_dict: Mapping[str, Tensor] | None = None) -> Self:
        """Copies the model, with the weights of `state_dict` if it is given, and merges LoRA in the copy."""
        if state_dict is None:
            merged = copy.deepcopy(self)
        else:  # Sharded weights of this model could not be copied.
            with torch.device("meta"):
                merged = type(self)(copy.deepcopy(self.config))
            merged.load_state_dict(state_dict, assign=True)
        merged.merge_lora()
        return merged
